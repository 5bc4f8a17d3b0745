# about: upgraded while it replicates, nothing is lost or compared anew; a version that cannot read the state is refused; an upgrade that was cut off is mended
# packages: none
# timeout: 900
# boots: 2
# disk: replica size=64M wwn=0x6000c29a00000e01
# disk: ret size=2G wwn=0x6000c29a00000e02
. "$LAB/in/replication.sh"
. "$LAB/in/configuration-server.sh"
. "$LAB/in/packages.sh"

id=36000c29a00000e01
# How often a sync has begun.
syncs() { journalctl --no-pager --unit master-target | grep -c "sync started" || true; }
format() { cat /var/lib/master-target/state-format; }
# ready: the daemon that runs is of the version that is installed.
ready() {
    mtctl version --json | python3 -c "
import json, sys
sys.exit(json.load(sys.stdin)['daemon']['version'] != '$(version_of master-target)')"
}

case $BOOT in
    1)
        check "installed" install_packages "$LAB/in/packages"
        register_all
        mount_retention ret
        head -c 64M /dev/urandom >/srv/web01.raw
        protect web01 $id 64MiB
        start_source web01 /srv/web01.raw
        wait_until 120 item_is web01 protected
        # As the first versions left it.
        systemctl stop master-target
        rm /var/lib/master-target/state-format
        systemctl start master-target
        wait_until 60 item_is web01 protected
        expect_eq "the state has its format" 1 "$(format)"

        note "upgraded under load, the configuration server first"
        expect_eq "it was synchronised once" 1 "$(syncs)"
        start_load 40 60
        sleep 5
        check "the configuration server is upgraded" install_packages "$LAB/in/later" master-target-configserver
        check "the master target is upgraded" install_packages "$LAB/in/later" master-target
        note "$output"
        wait_until 60 ready
        expect_eq "the state was brought to the new format" "2 moved" "$(format) $(cat /var/lib/master-target/later)"
        check "the load saw no error" wait $load
        wait_until 60 item_is web01 protected
        expect_eq "nothing was compared anew" 1 "$(syncs)"
        wait_until 60 is_linked
        check "the source agent is upgraded" install_packages "$LAB/in/later" master-target-source
        wait_until 60 is_level web01
        fails systemctl is-enabled mt-source

        note "back to a version that cannot read this"
        fails install_packages "$LAB/in/packages" master-target
        note "$output"
        check "it says why" grep -F "cannot be read by this version" <<<"$output"
        expect_eq "what is installed is the later one" 99.0.0 "$(version_of master-target)"
        check "it works" systemctl is-active master-target
        check "the item goes on" item_is web01 protected
        note "and a daemon of that version does not start on it"
        dpkg-deb --extract "$LAB"/in/packages/master-target_*_amd64.deb /srv/old
        sed 's#^\#listen = .*#listen = "127.0.0.1:9444"#; s#^\#socket = .*#socket = "/run/old.sock"#' \
            /etc/master-target/mtd.toml >/srv/old.toml
        fails /srv/old/usr/bin/mtd --config /srv/old.toml
        note "$output"
        check "it says why" grep -F "has format 2" <<<"$output"

        note "a power cut in the middle of an installation"
        dd if=/dev/urandom of=/dev/nbd0 bs=64k count=64 oflag=direct status=none
        dpkg --unpack "$LAB"/in/later/master-target_*_amd64.deb
        sync
        host crash
        ;;
    2)
        expect_eq "it is half installed" "install ok unpacked" \
            "$(dpkg-query --show --showformat='${Status}' master-target)"
        check "dpkg goes on" dpkg --configure --pending
        wait_until 60 ready
        wait_until 120 is_known web01
        show_identity
        start_source web01 /srv/web01.raw
        wait_until 120 item_is web01 protected
        ends_as_source web01 /srv/web01.raw replica
        check "no unit has failed" test -z "$(systemctl --failed --no-legend)"
        ;;
esac
