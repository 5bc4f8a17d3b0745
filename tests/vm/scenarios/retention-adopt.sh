# about: a volume of the old runbook, one under an alias, and the volume of a system that was installed anew are kept
# timeout: 900
# disk: plain size=256M wwn=0x6000c29a00000f01
# disk: alias size=256M wwn=0x6000c29a00000f02 paths=2
. "$LAB/in/retention.sh"

# fill: a folder with files as an old master target left them. What is in it.
fill() {
    mkdir -p /mnt/retention/catalogue
    head -c 5M /dev/urandom >/mnt/retention/catalogue/data
    ln -s data /mnt/retention/catalogue/link
    sync
}
files() { (cd /mnt/retention && find catalogue -printf '%p %m %s %T@ %l\n' && sha256sum catalogue/data); }
# options_added ID OPTIONS REST: an entry that was there, after ours were added.
options_added() {
    echo "/dev/mapper/$1 /mnt/retention ext4 $2,${OPTIONS#rw,nofail,} $3"
}
# file_system_of DEVICE
file_system_of() { blkid -p -s UUID -o value "$1"; }
# gone: nothing is known of the volume any more.
gone() {
    umount /mnt/retention
    cp -p $FSTAB_BEFORE /etc/fstab
    systemctl daemon-reload
    rm -rf /var/lib/master-target/*
}
keep_fstab

note "as the old runbook made it: by the kernel's name"
device=/dev/$(disk_of plain)
mkfs.ext4 -q "$device"
mkdir -p /mnt/retention
echo "$device /mnt/retention ext4 rw 0 0" >>/etc/fstab
systemctl daemon-reload
mount /mnt/retention
fill
before="$(files) $(file_system_of "$device")"
watch_programs mkfs.ext4
check "a dry run" mtctl retention prepare "$(wwid plain)" --dry-run
note "$output"
expect_eq "changes nothing" "$device" "$(findmnt -no SOURCE /mnt/retention)"
note "while a program uses it, it stays as it is"
sleep 600 </mnt/retention/catalogue/data &
reader=$!
fails mtctl retention prepare "$(wwid plain)" --yes
check "it says so" grep -q "is in use" <<<"$output"
note "$output"
expect_eq "it is as it was" "$device" "$(findmnt -no SOURCE /mnt/retention)"
kill $reader
wait $reader || true
mount_retention plain
is_prepared plain
check "its entry keeps what it said" grep -qxF "$(options_added "$(wwid plain)" rw,nofail "0 0")" /etc/fstab
expect_eq "its files are kept" "$before" "$(files) $(file_system_of "/dev/mapper/$(wwid plain)")"
check "the old entry is gone, the rest as it was" fstab_is_whole
check "once more" mtctl retention prepare "$(wwid plain)" --yes
umount /mnt/retention
check "it mounts by its entry" mount /mnt/retention
is_prepared plain

note "a system that was installed anew finds it by its marker"
before="$(files) $(cat /mnt/retention/retention-volume)"
id=$(wwid plain)
gone
check "the map is removed" mtctl disks --unmap "$id" --yes
tune2fs -L mt-retention "/dev/$(disk_of plain)" >/dev/null
mount_retention plain
is_prepared plain
expect_eq "with all that it held" "$before" "$(files) $(cat /mnt/retention/retention-volume)"
gone
check "the map is removed" mtctl disks --unmap "$id" --yes

note "under an alias"
cat >/etc/multipath.conf <<'CONF'
defaults {
    user_friendly_names yes
    find_multipaths no
}
blacklist {
    wwid "^36000c29000000000$"
    wwid "^36000c29a00000f01$"
}
CONF
check "multipathd reads it" systemctl restart multipathd
wait_until 60 test -b /dev/mapper/mpatha
mkfs.ext4 -q /dev/mapper/mpatha
echo "/dev/mapper/mpatha /mnt/retention ext4 defaults,nofail 0 2" >>/etc/fstab
systemctl daemon-reload
mount /mnt/retention
fill
before="$(files) $(file_system_of /dev/mapper/mpatha)"
mount_retention alias
is_prepared alias
check "its entry keeps what it said" grep -qxF "$(options_added "$(wwid alias)" defaults,nofail "0 2")" /etc/fstab
expect_eq "its files are kept" "$before" "$(files) $(file_system_of "/dev/mapper/$(wwid alias)")"
check "the old entry is gone, the rest as it was" fstab_is_whole
expect_eq "mkfs was never called" 0 "$(calls_of mkfs.ext4)"
