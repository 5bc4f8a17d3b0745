# about: partition maps of MBR, GPT and extended tables, with sectors of 512 and 4096 bytes, made and removed again
# timeout: 600
# disk: mbr size=64M wwn=0x6000c29a00000501
# disk: gpt size=64M wwn=0x6000c29a00000502
# disk: large size=64M wwn=0x6000c29a00000503 sector=4096
# disk: multi size=64M wwn=0x6000c29a00000504 paths=2
# boots: 2
id() { echo "36000c29a0000050$1"; }
maps_of() { dmsetup ls | cut -f 1 | grep "^$(id "$1")-part" | sort | tr '\n' ' ' || true; }

if [ "$BOOT" = 2 ]; then
    note "what a power cut left is found and removed"
    check "unmap" mtctl partitions "$(id 4)" --unmap
    expect_eq "none is left" "" "$(maps_of 4)"
    return 0
fi
sfdisk -q "/dev/$(disk_of mbr)" <<'END'
label: dos
start=2048, size=8M, type=83
start=20480, size=40M, type=5
start=22528, size=8M, type=83
start=45056, size=8M, type=82
END
sfdisk -q "/dev/$(disk_of gpt)" <<'END'
label: gpt
size=8M, name=one
size=16M, name=two
END
printf 'label: gpt\nsize=8M\nsize=16M\n' | sfdisk -q "/dev/$(disk_of large)"
udevadm settle
check "a map over two paths" mtctl disks --map "$(id 4)" --yes
sfdisk -q --no-reread "/dev/mapper/$(id 4)" <<<'size=16M'
udevadm settle

note "$(mtctl partitions "$(id 1)")"
check "MBR" mtctl partitions "$(id 1)" --map
expect_eq "logical partitions are counted from 5" "$(id 1)-part1 $(id 1)-part5 $(id 1)-part6 " "$(maps_of 1)"
check "GPT" mtctl partitions "$(id 2)" --map --read-only
expect_eq "both" "$(id 2)-part1 $(id 2)-part2 " "$(maps_of 2)"
check "sectors of 4096 bytes" mtctl partitions "$(id 3)" --map
check "over two paths" mtctl partitions "$(id 4)" --map

same_place() { # MAP KERNEL-PARTITION
    dd if=/dev/urandom of="/dev/mapper/$1" bs=4096 count=1 oflag=direct status=none
    blockdev --flushbufs "/dev/$2"
    cmp -n 4096 "/dev/mapper/$1" "/dev/$2"
    [ "$(blockdev --getsize64 "/dev/mapper/$1")" = "$(blockdev --getsize64 "/dev/$2")" ]
}
for index in 1 5 6; do
    check "part$index is where the kernel has it" same_place "$(id 1)-part$index" "$(disk_of mbr)$index"
done
for index in 1 2; do
    check "part$index with large sectors" same_place "$(id 3)-part$index" "$(disk_of large)$index"
done
fails dd if=/dev/zero of="/dev/mapper/$(id 2)-part1" bs=4096 count=1 oflag=direct
check "mapped again: nothing changes" mtctl partitions "$(id 1)" --map

mkfs.ext4 -q "/dev/mapper/$(id 1)-part5"
mount "/dev/mapper/$(id 1)-part5" /mnt
fails mtctl partitions "$(id 1)" --unmap
check "the reason is named" grep -q "/mnt" <<<"$output"
umount /mnt
note "the table becomes unreadable"
dd if=/dev/urandom of="/dev/$(disk_of mbr)" bs=1M count=1 oflag=direct status=none
fails mtctl partitions "$(id 1)" --map
check "unmap" mtctl partitions "$(id 1)" --unmap
expect_eq "none is left of MBR" "" "$(maps_of 1)"
check "unmap GPT" mtctl partitions "$(id 2)" --unmap
check "unmap 4096" mtctl partitions "$(id 3)" --unmap
expect_eq "none is left at all" "" "$(maps_of 2)$(maps_of 3)"
note "a hostile table"
host pattern gpt 1
fails mtctl partitions "$(id 2)" --map
host crash
