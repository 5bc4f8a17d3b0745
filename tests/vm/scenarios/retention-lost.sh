# about: the retention volume goes away, stops, or another one is in its place: items pause, and go on by themselves
# timeout: 900
# disk: replica size=64M wwn=0x6000c29a00001101
# disk: ret size=1G wwn=0x6000c29a00001102 paths=2
# disk: other size=256M wwn=0x6000c29a00001103
. "$LAB/in/replication.sh"

id=$(wwid ret)
keep_fstab
mount_retention other
umount /mnt/retention
cp -p $FSTAB_BEFORE /etc/fstab
systemctl daemon-reload
mount_retention ret
head -c 64M /dev/urandom >/srv/source.raw
configure_target web01=/dev/mapper/"$(wwid replica)"
check "the replica's disk is mapped" mtctl disks --map "$(wwid replica)" --yes
check "the daemon starts" systemctl start master-target
start_source web01 /srv/source.raw
wait_until 120 item_is web01 protected
bookmark web01 begin

# goes_on: the volume is in use, and what is written now becomes a recovery point.
goes_on() {
    wait_until 180 volume_is ready
    wait_until 120 item_is web01 protected
    bookmark web01 "after-$1"
    check "points from before are there" eval "mtctl points web01 --bookmarks | grep -w begin"
}

note "both paths go away under load"
start_load 60 40
sleep 5
host detach ret
wait_until 90 volume_is lost
note "$(volume_field detail)"
note "web01: $(item_field web01 state): $(item_field web01 detail)"
sleep 5
host attach ret
goes_on lost
wait_until 60 works_over "$id" 2
check "the load saw nothing" wait "$load"

note "the kernel stops the file system after an error"
start_load 40 40
sleep 3
echo 1 >"/sys/fs/ext4/$(basename "$(readlink -f "/dev/mapper/$id")")/trigger_fs_error"
wait_until 60 volume_is lost
detail=$(volume_field detail)
note "$detail"
note "a person does what is said there"
commands=${detail#*tells more: }
bash -xc "${commands/e2fsck -f/e2fsck -fy}"
goes_on error
check "the load saw nothing" wait "$load"

note "it is made read-only, which takes a moment in which no file is open"
check "the daemon stops" systemctl stop master-target
mount -o remount,ro /mnt/retention
check "the daemon starts" systemctl start master-target
wait_until 60 volume_is read-only
note "$(volume_field detail)"
start_load 10 40
sleep 5
mount -o remount,rw /mnt/retention
goes_on read-only
check "the load saw nothing" wait "$load"

note "another volume is in its place"
check "the daemon stops" systemctl stop master-target
umount /mnt/retention
mount /dev/mapper/"$(wwid other)" /mnt/retention
check "the daemon starts" systemctl start master-target
wait_until 60 volume_is not-ours
note "$(volume_field detail)"
sleep 5
expect_eq "it is not used" "" "$(find /mnt/retention -name '*.journal')"
note "and one that was never prepared"
umount /mnt/retention
mount -t tmpfs none /mnt/retention
sleep 3
wait_until 60 volume_is not-ours
expect_eq "it is not used" "" "$(ls -A /mnt/retention)"
umount /mnt/retention
check "the right one is back" mount /mnt/retention
goes_on others

ends_as_source web01 /srv/source.raw replica
