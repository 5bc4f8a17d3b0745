# about: an empty disk becomes the retention volume in one command, is there after a restart, and is found after a loss of fstab
# disk: ret size=256M wwn=0x6000c29a00000c01 paths=2
# disk: other size=64M wwn=0x6000c29a00000c02
# boots: 2
# timeout: 300
id=36000c29a00000c01
entry() { awk '$2 == "/mnt/retention"' /etc/fstab; }
source_of() { findmnt -no SOURCE /mnt/retention; }
case $BOOT in
    1)
        root=$(basename "$(findmnt -no SOURCE /)")
        fails mtctl retention prepare "$root" --yes
        note "$output"
        mkfs.ext4 -q -F -L data "/dev/$(disk_of other)"
        fails mtctl retention prepare "$(disk_of other)" --yes
        note "$output"
        before=$(sha256sum /etc/fstab)
        check "a dry run" mtctl retention prepare $id --dry-run
        note "$output"
        expect_eq "fstab after a dry run" "$before" "$(sha256sum /etc/fstab)"
        fails test -e /dev/mapper/$id
        check "the disk is prepared" mtctl retention prepare $id --yes
        note "$output"
        expect_eq "what is mounted" "/dev/mapper/$id" "$(source_of)"
        expect_eq "the label" mt-retention "$(blkid -s LABEL -o value -p /dev/mapper/$id)"
        expect_eq "the device in fstab" "/dev/mapper/$id" "$(entry | cut -d ' ' -f 1)"
        after=$(sha256sum /etc/fstab)
        check "a second run" mtctl retention prepare $id --yes
        note "$output"
        check "has nothing to do" grep -q "nothing to do" <<<"$output"
        expect_eq "fstab after it" "$after" "$(sha256sum /etc/fstab)"
        check "e2fsck has no complaint" bash -c "umount /mnt/retention && e2fsck -fn /dev/mapper/$id"
        check "mounted again" mount /mnt/retention
        host reboot
        ;;
    2)
        wait_until 60 mountpoint -q /mnt/retention
        expect_eq "what is mounted" "/dev/mapper/$id" "$(source_of)"
        check "there is nothing to do" mtctl retention prepare $id --yes
        check "it is good" mtctl check --only retention-mounted --only retention-eligible --only retention-fstab
        note "as after a new installation: neither fstab nor multipath know it"
        marker=$(cat /mnt/retention/retention-volume)
        umount /mnt/retention
        sed -i '/mnt.retention/d' /etc/fstab
        systemctl daemon-reload
        check "unmapped" mtctl disks --unmap $id --yes
        check "it is found again" mtctl retention prepare $id --yes
        note "$output"
        expect_eq "the marker" "$marker" "$(cat /mnt/retention/retention-volume)"
        note "as the old procedure left it: mounted by a name that may be another disk's tomorrow"
        umount /mnt/retention
        check "unmapped" mtctl disks --unmap $id --yes
        sed -i '/mnt.retention/d' /etc/fstab
        other=/dev/$(disk_of other)
        echo "$other /mnt/retention ext4 rw 0 0 # by hand" >>/etc/fstab
        systemctl daemon-reload
        mount /mnt/retention
        echo kept >/mnt/retention/precious
        check "it is adopted" mtctl retention prepare "$other" --yes
        note "$output"
        expect_eq "its file" kept "$(cat /mnt/retention/precious)"
        expect_eq "its entry" "/dev/mapper/36000c29a00000c02" "$(entry | cut -d ' ' -f 1)"
        check "with what a person wrote" grep -q "# by hand" /etc/fstab
        ;;
esac
