# about: multipath never claims the disk that the machine runs from, also when it is asked to, and also after a restart
# disk: data size=32M wwn=0x6000c29a00000601
# boots: 2
root=$(lsblk -no PKNAME "$(findmnt -no SOURCE /)" | head -n 1)
root=${root:-sda}
root_id=$(mtctl disks "$root" --json | python3 -c "import json, sys; print(json.load(sys.stdin)['disks'][0]['scsi_id'] or '')")
claimed() { ls "/sys/block/$root/holders" | grep -q .; }
if [ "$BOOT" = 1 ]; then
    fails mtctl disks --map "$root" --yes
    note "$output"
    [ -z "$root_id" ] || fails mtctl disks --map "$root_id" --yes
    check "another disk is mapped" mtctl disks --map 36000c29a00000601 --yes
    check "multipathd reads everything again" systemctl restart multipathd
    sleep 5
    fails claimed
    check "mtctl check agrees" mtctl check --only multipath-root-disk
    host reboot
fi
wait_until 60 test -b /dev/mapper/36000c29a00000601
fails claimed
expect_eq "the role of the root disk" system "$(mtctl disks "$root" --json | python3 -c "
import json, sys
print(json.load(sys.stdin)['disks'][0]['role'])")"
