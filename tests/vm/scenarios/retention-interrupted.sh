# about: killed before and after every program that it runs, or cut off from power, prepare goes on where it stopped
# timeout: 900
# disk: one size=256M wwn=0x6000c29a00000e01
# disk: two size=2G wwn=0x6000c29a00000e02
# disk: three size=256M wwn=0x6000c29a00000e03
# boots: 3
. "$LAB/in/retention.sh"

programs="mkfs.ext4 multipathd multipath systemctl mount umount udevadm blkid dmsetup e2fsck dumpe2fs tune2fs
debugfs kpartx"

# start_over: the volume that is there is forgotten.
start_over() {
    ! mountpoint -q /mnt/retention || umount /mnt/retention
    cp -p $FSTAB_BEFORE /etc/fstab
    rm -f /etc/fstab.before-master-target*
    systemctl daemon-reload
}

# stop_in DISK CALL COMMAND: prepare of the disk stops for good in this call, after the command.
stop_in() {
    watch_programs mkfs.ext4 systemctl
    cat >$HOOK <<END
half() { # what it writes first reaches the disk, and no more
    run &
    while [ "\$(sed -n 's/^wchar: //p' "/proc/\$!/io")" -lt 200000 ]; do :; done
    kill -STOP \$!
    sync
}
case \$call in
    $2) $3; touch /run/lab/stopped; sleep infinity ;;
esac
END
    mtctl retention prepare "$(wwid "$1")" --yes &
    wait_until 60 test -e /run/lab/stopped
}

case $BOOT in
    1)
        keep_fstab
        # shellcheck disable=SC2086
        watch_programs $programs
        cat >$HOOK <<'END'
# The same call counts once, whatever UUID it names.
call=$(sed -E 's/[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}/UUID/g' <<<"$call")
for moment in before after; do
    if ! grep -sqxF "$moment $call" /run/lab/killed; then
        echo "$moment $call" >>/run/lab/killed
        [ $moment = before ] || (run)
        kill -KILL $PPID
        exit 1
    fi
done
END
        status=137
        for ((runs = 1; status == 137 && runs < 100; runs++)); do
            status=0
            _run mtctl retention prepare "$(wwid one)" --yes || status=$?
            if [ $status != 137 ]; then
                note "$output"
                continue
            fi
            note "killed $(tail -n 1 /run/lab/killed)"
            check "fstab is whole" fstab_is_whole
        done
        expect_eq "in the end it is done" 0 $status
        check "after many kills" test $runs -ge 8
        is_prepared one
        check "fstab is whole" fstab_is_whole
        check "the entry is this one" grep -qxF "$(fstab_line "$(wwid one)")" /etc/fstab
        note "mkfs.ext4 was called $(calls_of mkfs.ext4) times"
        rm $HOOK
        echo kept >/mnt/retention/file
        before=$(calls_of mkfs.ext4)
        check "once more" mtctl retention prepare "$(wwid one)" --yes
        expect_eq "the volume stays" "kept $before" "$(cat /mnt/retention/file) $(calls_of mkfs.ext4)"

        note "now the power is cut in the middle of mkfs"
        start_over
        stop_in two 'mkfs.ext4*' half
        host crash
        ;;
    2)
        check "the machine starts" systemctl is-active multi-user.target
        check "fstab is whole" fstab_is_whole
        note "$(blkid -p "/dev/$(disk_of two)" || true)"
        check "prepare goes on" mtctl retention prepare "$(wwid two)" --yes
        note "$output"
        is_prepared two
        check "the file system is sound" eval "umount /mnt/retention && e2fsck -fn /dev/mapper/$(wwid two)"

        note "now it is cut right after fstab was written"
        start_over
        stop_in three 'systemctl*daemon-reload*' true
        check "the entry is there" grep -qxF "$(fstab_line "$(wwid three)")" /etc/fstab
        host crash
        ;;
    3)
        check "the machine starts" systemctl is-active multi-user.target
        check "fstab is whole" fstab_is_whole
        check "the entry is there" grep -qxF "$(fstab_line "$(wwid three)")" /etc/fstab
        # The entry may be mounted late in the boot, and is checked before: until then the disk is in use.
        wait_until 120 eval "systemctl list-jobs | grep -F 'No jobs'"
        check "prepare goes on" mtctl retention prepare "$(wwid three)" --yes
        note "$output"
        is_prepared three
        ;;
esac
