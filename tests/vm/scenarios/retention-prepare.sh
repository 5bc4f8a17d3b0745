# about: an empty disk becomes the retention volume, by its id, at every boot; while it is missing it is waited for
# timeout: 900
# disk: ret size=512M wwn=0x6000c29a00000c01 paths=2
# disk: replica size=64M wwn=0x6000c29a00000c02
# boots: 3
. "$LAB/in/replication.sh"
id=36000c29a00000c01

# What prepare may change: fstab, the file system and its mount, maps, and what is kept of it.
standing() {
    ls -l --full-time /etc/fstab* /etc/multipath* /etc/multipath/* /var/lib/master-target /mnt/retention 2>&1 || true
    sha256sum /etc/fstab /mnt/retention/retention-volume 2>&1 || true
    dmsetup ls
    grep /mnt/retention /proc/self/mountinfo || true
    blkid -p -o full "/dev/$(disk_of ret 0)" || true
}
is_mounted() { [ "$(findmnt -no SOURCE /mnt/retention)" = /dev/mapper/$id ]; }

# The options that systemd 229 has for entries of fstab, besides those of mount itself.
known_to_229() {
    local option
    for option in $(grep " /mnt/retention " /etc/fstab | cut -d ' ' -f 4 | tr , ' '); do
        case $option in
            rw | ro | nofail | noauto | errors=remount-ro) ;;
            x-systemd.requires=* | x-systemd.device-timeout=* | x-systemd.automount | x-systemd.idle-timeout=*) ;;
            x-systemd.requires-mounts-for=*) ;;
            *) echo "systemd 229 does not know $option" && return 1 ;;
        esac
    done
}

case $BOOT in
    1)
        printf '# an old comment\t\n\nLABEL=none\t/srv/my\\040data   ext4  noauto,nofail\t0 0\n' >>/etc/fstab
        keep_fstab
        before="$(standing) $(host sha256 ret)"
        check "dry run" mtctl retention prepare $id --dry-run
        note "$output"
        shown=$output
        check "it shows what it would do" grep -q "make an ext4 on the empty disk" <<<"$shown"
        check "and the entry" grep -qF -- "$(fstab_line $id)" <<<"$shown"
        expect_eq "and does nothing" "$before" "$(standing) $(host sha256 ret)"

        mount_retention ret
        is_prepared ret
        check "the entry is this one" grep -qxF "$(fstab_line $id)" /etc/fstab
        check "over both paths" works_over $id 2
        expect_eq "its label" mt-retention "$(blkid -s LABEL -o value /dev/mapper/$id)"
        on_errors() { tune2fs -l /dev/mapper/$id | sed -n 's/^Errors behavior: *//p'; }
        expect_eq "an error stops it, whoever mounts it" "Remount read-only" "$(on_errors)"
        check "the rest of fstab is as it was" fstab_is_whole
        check "and a copy of it is kept" cmp $FSTAB_BEFORE /etc/fstab.before-master-target*
        before=$(standing)
        check "prepared again" mtctl retention prepare $id --yes --json
        note "$output"
        expect_eq "nothing changes" "$before" "$(standing)"

        check "systemd 229 knows every option" known_to_229
        unit=/run/systemd/generator/mnt-retention.mount
        cat $unit
        check "systemd finds nothing wrong" systemd-analyze --man=no verify $unit
        # A manager that only verifies knows no devices.
        complaints() { grep mnt-retention.mount | grep -v "bound to inactive unit"; }
        fails complaints <<<"$output"
        check "it comes after multipathd" grep -q "^After=.*multipathd.service" $unit
        check "and needs it" grep -q "^Requires=.*multipathd.service" $unit
        check "the boot does not need it" test ! -e /run/systemd/generator/local-fs.target.requires/mnt-retention.mount

        head -c 64M /dev/urandom >/srv/source.raw
        configure_target web01=/dev/mapper/36000c29a00000c02
        check "the daemon starts at boot" systemctl enable --now master-target
        start_source web01 /srv/source.raw
        wait_until 120 item_is web01 protected
        mtctl retention status
        expect_eq "the volume among the disks" "retention" "$(standing_of $id)"
        expect_eq "the replica" "ineligible target" "$(standing_of 36000c29a00000c02)"
        expect_eq "the system's" "ineligible system-disk" "$(standing_of 36000c29000000000)"
        host reboot
        ;;
    2)
        wait_until 60 is_mounted
        is_prepared ret
        wait_until 60 volume_is ready
        wait_until 90 item_is web01 protected
        check "over both paths" works_over $id 2
        note "now the disk is taken out while the machine is off"
        systemctl stop master-target
        umount /mnt/retention
        host detach ret
        host reboot
        ;;
    3)
        check "the machine starts without it" systemctl is-active multi-user.target
        wait_until 60 systemctl is-active master-target
        wait_until 60 volume_is not-mounted
        note "$(volume_field detail)"
        note "web01: $(item_field web01 state): $(item_field web01 detail)"
        fails is_mounted
        no_job() { ! systemctl list-jobs | grep mnt-retention >/dev/null; }
        wait_until 90 no_job
        expect_eq "nothing is written below the mount point" "" "$(ls -A /mnt/retention)"
        host attach ret
        wait_until 120 is_mounted
        wait_until 60 volume_is ready
        wait_until 90 item_is web01 protected
        wait_until 30 works_over $id 2
        mount --bind / /srv
        expect_eq "nothing was written below the mount point" "" "$(ls -A /srv/mnt/retention)"
        umount /srv
        start_source web01 /srv/source.raw
        ends_as_source web01 /srv/source.raw replica
        ;;
esac
