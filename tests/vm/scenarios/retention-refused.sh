# about: a disk that is used, or cannot serve, does not become the retention volume: each kind has its own reason
# timeout: 1200
# disk: mounted size=32M wwn=0x6000c29a00000d01
# disk: swap size=32M wwn=0x6000c29a00000d02
# disk: volume size=32M wwn=0x6000c29a00000d03
# disk: raid size=32M wwn=0x6000c29a00000d04
# disk: fat size=64M wwn=0x6000c29a00000d05
# disk: xfs size=256M wwn=0x6000c29a00000d06
# disk: ext size=32M wwn=0x6000c29a00000d07
# disk: labelled size=32M wwn=0x6000c29a00000d08
# disk: parted size=32M wwn=0x6000c29a00000d09
# disk: target size=32M wwn=0x6000c29a00000d0a
# disk: held size=32M wwn=0x6000c29a00000d0b
# disk: readonly size=32M wwn=0x6000c29a00000d0c
# disk: noid size=32M
# disk: one size=32M wwn=0x6000c29a00000d0d
# disk: two size=32M wwn=0x6000c29a00000d0d
. "$LAB/in/replication.sh"

device() { echo "/dev/$(disk_of "$1")"; }

mkfs.ext4 -q -E lazy_itable_init=0 "$(device mounted)"
mkdir -p /srv/mounted
mount "$(device mounted)" /srv/mounted
mkswap "$(device swap)" >/dev/null
swapon "$(device swap)"
vgcreate -q guestgroup "$(device volume)"
lvcreate -q -n data -L 8M guestgroup
mdadm --create /dev/md7 --run --level=1 --force --raid-devices=1 "$(device raid)"
mkfs.vfat -F 32 -s 1 "$(device fat)" >/dev/null
mkfs.xfs -q -f "$(device xfs)"
mkfs.ext4 -q -L data "$(device ext)"
mkfs.ext4 -q -L mt-retention "$(device labelled)"
sfdisk -q "$(device parted)" <<<'start=2048'
configure_target web01=/dev/mapper/"$(wwid target)"
cat >/run/holder.py <<'HOLDER'
import os, sys, time
disk = os.open(sys.argv[1], os.O_RDWR | os.O_EXCL)
time.sleep(3600)
HOLDER
python3 /run/holder.py "$(device held)" &
holder=$!
modprobe scsi_debug removable=1 dev_size_mb=32
udevadm settle
removable=$(basename /sys/bus/pseudo/drivers/scsi_debug/adapter0/host*/target*/*:0/block/*)
sync
blockdev --setro "$(device readonly)"

disks="mounted swap volume raid fat xfs ext labelled parted target held readonly noid one two"
standing() {
    local disk
    for disk in $disks; do host sha256 "$disk"; done
    sha256sum "/dev/$removable" /etc/fstab
    dmsetup ls
    cat /etc/multipath/conf.d/*.conf 2>&1 || true
}
before=$(standing)
watch_programs mkfs.ext4
echo 'case $call in mkfs*) exit 1 ;; esac' >$HOOK

# refuses DISK PATTERN: it is refused, and the reason has the pattern.
refuses() {
    local status=0
    _run mtctl retention prepare "$1" --yes || status=$?
    note "$1: $output"
    expect_eq "$1 is refused" 1 $status
    check "because of: $2" grep -qiE -- "$2" <<<"$output"
}
refuses "$(wwid mounted)" "mounted at /srv/mounted"
refuses "$(wwid swap)" "swap space"
refuses "$(wwid volume)" "LVM uses it.*guestgroup"
refuses "$(wwid raid)" "software RAID.*md7"
refuses "$(wwid fat)" "FAT file system.*--reformat $(blkid -s UUID -o value "$(device fat)")"
refuses "$(wwid xfs)" "xfs.*$(blkid -s UUID -o value "$(device xfs)")"
refuses "$(wwid ext)" "ext4.*$(blkid -s UUID -o value "$(device ext)")"
refuses "$(wwid labelled)" "no marker.*$(blkid -s UUID -o value "$(device labelled)")"
refuses "$(wwid parted)" "partition table"
refuses "$(wwid target)" "target disk of a replicated item"
refuses "$(wwid held)" "it is locked.*python3"
refuses "$(wwid readonly)" "can only be read"
refuses "$(device noid)" "has no SCSI id"
refuses "$(wwid one)" "$(disk_of one).*$(disk_of two)|$(disk_of two).*$(disk_of one)"
refuses "$(device two)" "$(disk_of one)"
refuses "/dev/$removable" "can be taken out"
refuses 36000c29000000000 "this machine runs from it"
refuses "$(findmnt -no SOURCE /)" "this machine runs from it"
refuses 36000c29affffffff "there is no disk"
note "with the UUID of something else"
other=$(cat /proc/sys/kernel/random/uuid)
fails mtctl retention prepare "$(wwid xfs)" --reformat "$other" --yes
note "$output"
fails mtctl retention prepare "$(wwid ext)" --reformat "$(blkid -s UUID -o value "$(device xfs)")" --yes
note "$output"
fails mtctl retention prepare "$(wwid mounted)" --reformat "$(blkid -s UUID -o value "$(device mounted)")" --yes
note "$output"
expect_eq "nothing is changed" "$before" "$(standing)"
expect_eq "mkfs was never called" 0 "$(calls_of mkfs.ext4)"
fails test -e /var/lib/master-target/retention-prepare.json

# stands DISK STANDING: how it stands, and the rule that failed.
stands() {
    expect_eq "$1 is $2" "$2" "$(standing_of "$(wwid "$1")")"
}
note "what is told of each disk; without the daemon the command fails, and lists them all the same"
fails mtctl retention status
note "$output"
stands mounted "ineligible mounted-elsewhere"
stands swap "ineligible swap"
stands volume "ineligible lvm"
stands raid "ineligible raid"
stands fat "ineligible fat"
stands xfs "ineligible other-file-system"
stands ext "ineligible other-file-system"
stands labelled "ineligible unmarked"
stands parted "ineligible partition-table"
stands target "ineligible target"
stands held "ineligible locked"
stands readonly "ineligible read-only"
stands one "ineligible copies"
# The programs that watch are mounted from it, too.
expect_eq "the system's is refused" "ineligible system-disk mounted-elsewhere" "$(standing_of 36000c29000000000)"
expect_eq "the one without an id is refused" "ineligible no-scsi-id" "$(standing_of_name "$(disk_of noid)")"
check "so is the removable one" grep -qw removable <<<"$(standing_of_name "$removable")"

note "the same disks with other contents"
umount /srv/mounted
mkdir -p /var/lib/master-target
cp -a /var/lib/master-target /run/state
mount "$(device mounted)" /var/lib/master-target
cp -a /run/state/. /var/lib/master-target/
wipefs -qa "$(device parted)"
printf secret | cryptsetup luksFormat -q --type luks1 --pbkdf-force-iterations 1000 "$(device parted)" -
# zeros DISK: nothing is on it any more.
zeros() { dd if=/dev/zero of="$(device "$1")" bs=1M count=32 conv=fsync status=none; }
# What this product does not know, and blkid does: a member of a volume of VMFS.
zeros ext
printf '\x0d\xd0\x01\xc0' | dd of="$(device ext)" bs=1M seek=1 conv=notrunc,fsync status=none
# What nobody knows.
zeros labelled
printf 'of no known form' | dd of="$(device labelled)" bs=4k seek=40 conv=notrunc,fsync status=none
kill $holder
wait $holder || true
echo "/dev/mapper/$(wwid held) /srv/held ext4 noauto,nofail 0 0" >>/etc/fstab
udevadm settle
# What is mounted changes, as this scenario writes to it below.
disks=$(tr ' ' '\n' <<<"$disks" | grep -vx mounted)
before=$(standing)
refuses "$(wwid mounted)" "the master target is installed on it"
refuses "$(wwid parted)" "is encrypted"
refuses "$(wwid ext)" "VMFS_volume_member.*wipefs -a"
refuses "$(wwid held)" "of /etc/fstab uses this disk"
stands mounted "ineligible installation"
stands parted "ineligible encrypted"
stands ext "ineligible other-file-system"
stands held "ineligible in-fstab"
stands labelled "eligible"
check "what is of no known form can be erased" mtctl retention prepare "$(wwid labelled)" --dry-run
note "$output"
check "but is not called empty" grep -q "ERASE data of no known form" <<<"$output"
note "an item whose file is torn may have any disk"
mkdir -p /var/lib/master-target/items
printf '[[item]]\nname = "db' >/var/lib/master-target/items/db01.toml
refuses "$(wwid labelled)" "which disks items write to.*db01"
stands labelled "ineligible maybe-target"
rm /var/lib/master-target/items/db01.toml
expect_eq "nothing is changed" "$before" "$(standing)"
expect_eq "mkfs was never called" 0 "$(calls_of mkfs.ext4)"

rm $HOOK
note "with the right UUID"
check "xfs gives way" mtctl retention prepare "$(wwid xfs)" --reformat "$(blkid -s UUID -o value "$(device xfs)")" --yes
is_prepared xfs
expect_eq "mkfs was called once" 1 "$(calls_of mkfs.ext4)"
