# about: the packages, installed as README says and without a network; two machines replicate to an attached disk and a VMDK, across a restart, and come home
# packages: none
# timeout: 900
# boots: 2
# disk: replica size=64M wwn=0x6000c29a00000d01 paths=2
# disk: ret size=2G wwn=0x6000c29a00000d02 paths=2
. "$LAB/in/replication.sh"
. "$LAB/in/configuration-server.sh"
. "$LAB/in/packages.sh"

id=36000c29a00000d01

case $BOOT in
    1)
        note "a fresh machine without a network"
        wait_until 60 sh -c 'ip -4 address show eth0 | grep inet'
        ip link set eth0 down
        cp "$LAB"/in/packages/*.deb /root/
        cd /root
        while read -r command; do
            # shellcheck disable=SC2086
            check "$command" $command
        done < <(commands_of "$LAB/in/README.md" "## Installing")
        cd /
        ifdown eth0 && ifup eth0
        # All on one machine: this port is the master target's.
        sed -i 's/^#listen = .*/listen = "127.0.0.1:9444"/' /etc/master-target/process-server.toml
        check "the process server has another port here" systemctl restart mt-process-server

        expect_eq "what is installed is whole" "" "$(dpkg --verify master-target master-target-source \
            master-target-configserver | grep -v missing || true)"
        check "the master target runs" systemctl is-active master-target
        check "and will at boot" systemctl is-enabled master-target
        check "it says what it waits for" eval "systemctl status master-target | grep -i 'Status:'"
        note "$output"
        wait_until 60 systemctl is-active master-target-configserver
        fails systemctl is-active mt-source
        fails systemctl is-enabled mt-source
        check "the process server runs" systemctl is-active mt-process-server
        check "systemd finds nothing wrong with the units" systemd-analyze --man=no verify \
            /lib/systemd/system/{master-target,master-target-configserver,mt-process-server,mt-source}.service
        for unit in master-target master-target-configserver mt-process-server mt-source; do
            note "exposure of $unit: $(systemd-analyze --no-pager security $unit.service | tail -1)"
        done
        check "old runbooks find the version" grep -x "VERSION=$(dpkg-query -W -f '${Version}' master-target)" \
            /usr/local/.vx_version

        become_ubuntu
        mtctl check || [ $? -eq 3 ]
        register_all
        mount_retention ret
        check "its paths are joined" mtctl disks --map $id --yes
        head -c 64M /dev/urandom >/srv/web01.raw
        head -c 32M /dev/urandom >/srv/db01.raw
        mkdir -p /srv/datastore
        protect web01 $id 64MiB
        protect db01 /srv/datastore 32MiB,format=vmfs
        start_source web01 /srv/web01.raw
        start_source db01 /srv/db01.raw /dev/nbd1
        wait_until 120 item_is web01 protected
        start_load 60 40
        sleep 3
        host reboot
        ;;
    2)
        wait_until 90 systemctl is-active master-target
        for item in web01 db01; do
            wait_until 120 is_known $item
        done
        show_identity
        start_source web01 /srv/web01.raw
        start_source db01 /srv/db01.raw /dev/nbd1
        for item in web01 db01; do
            wait_until 120 item_is $item protected
        done
        dd if=/dev/urandom of=/dev/nbd0 bs=1M count=8 oflag=direct status=none
        dd if=/dev/urandom of=/dev/nbd1 bs=1M count=8 oflag=direct status=none
        ends_as_source web01 /srv/web01.raw replica
        bookmark db01 end
        check "failover" mtctl failover db01 --point end --yes
        check "commit" mtctl commit db01 --yes
        stop_source db01
        expect_eq "the VMDK is what its source is" "$(sha256 /srv/db01.raw)" "$(sha256 /srv/datastore/db01-disk0-flat.vmdk)"
        check "no unit has failed" test -z "$(systemctl --failed --no-legend)"
        ;;
esac
