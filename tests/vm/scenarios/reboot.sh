# about: after a restart, and after a power cut under load, the daemon comes back with its disks and goes on
# disk: replica size=64M wwn=0x6000c29a00000701 paths=2
# disk: ret size=2G wwn=0x6000c29a00000702
# boots: 3
. "$LAB/in/replication.sh"
id=36000c29a00000701
case $BOOT in
    1)
        check "the disk is mapped" mtctl disks --map $id --yes
        mount_retention ret
        echo "/dev/disk/by-id/wwn-0x6000c29a00000702 /mnt/retention ext4 rw,nofail 0 2" >>/etc/fstab
        head -c 64M /dev/urandom >/srv/source.raw
        configure_target web01=/dev/mapper/$id
        check "the daemon starts at boot" systemctl enable --now master-target
        start_source web01 /srv/source.raw
        wait_until 120 item_is web01 protected
        host reboot
        ;;
    2)
        wait_until 90 systemctl is-active master-target
        wait_until 90 item_is web01 protected
        start_source web01 /srv/source.raw
        dd if=/dev/urandom of=/dev/nbd0 bs=64k count=512 oflag=direct status=none
        host crash
        ;;
    3)
        wait_until 90 item_is web01 protected
        start_source web01 /srv/source.raw
        bookmark web01 end
        check "failover" mtctl failover web01 --point end --yes
        check "commit" mtctl commit web01 --yes
        nbd-client -d /dev/nbd0
        systemctl stop mt-source
        expect_eq "the disk is what its source is" "$(sha256sum </srv/source.raw | cut -d ' ' -f 1)" \
            "$(host sha256 replica)"
        ;;
esac
