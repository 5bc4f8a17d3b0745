# about: after a restart and a power cut the daemon goes on with its disks, and multipath never claims the root disk
# disk: replica size=64M wwn=0x6000c29a00000701 paths=2
# disk: ret size=2G wwn=0x6000c29a00000702
# boots: 3
. "$LAB/in/replication.sh"
id=36000c29a00000701
root=$(basename "$(findmnt -no SOURCE /)")
root_claimed() { find "/sys/block/$root/holders" -mindepth 1 | grep . >/dev/null; }
case $BOOT in
    1)
        fails mtctl disks --map "$root" --yes
        note "$output"
        fails mtctl disks --map 36000c29000000000 --yes
        check "the disk is mapped" mtctl disks --map $id --yes
        mount_retention ret
        head -c 64M /dev/urandom >/srv/source.raw
        configure_target web01=/dev/mapper/$id
        check "the daemon starts at boot" systemctl enable --now master-target
        start_source web01 /srv/source.raw
        wait_until 120 item_is web01 protected
        check "multipathd reads everything again" systemctl restart multipathd
        fails root_claimed
        check "mtctl check agrees" mtctl check --only multipath-root-disk
        host reboot
        ;;
    2)
        fails root_claimed
        expect_eq "the role of the root disk" system "$(mtctl disks "$root" --json | python3 -c "
import json, sys
print(json.load(sys.stdin)['disks'][0]['role'])")"
        wait_until 90 systemctl is-active master-target
        wait_until 90 item_is web01 protected
        start_source web01 /srv/source.raw
        dd if=/dev/urandom of=/dev/nbd0 bs=64k count=512 oflag=direct status=none
        host crash
        ;;
    3)
        wait_until 90 item_is web01 protected
        start_source web01 /srv/source.raw
        ends_as_source web01 /srv/source.raw replica
        ;;
esac
