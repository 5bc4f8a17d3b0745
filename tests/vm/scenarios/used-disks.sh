# about: each kind of used disk is refused as a target, with the reason and the holder, and stays as it is
# timeout: 600
# disk: mounted size=32M wwn=0x6000c29a00000101
# disk: parted size=32M wwn=0x6000c29a00000102
# disk: swap size=32M wwn=0x6000c29a00000103
# disk: volume size=32M wwn=0x6000c29a00000104
# disk: raid size=32M wwn=0x6000c29a00000105
# disk: crypt size=32M wwn=0x6000c29a00000106
# disk: mapped size=32M wwn=0x6000c29a00000107
# disk: noid size=32M
# disk: free size=32M wwn=0x6000c29a00000108
# disk: ret size=256M wwn=0x6000c29a00000109
. "$LAB/in/replication.sh"

device() { echo "/dev/$(disk_of "$1")"; }
id() { echo "36000c29a0000010$1"; }

mkfs.ext4 -q "$(device mounted)"
mkdir -p /srv/mounted /srv/parted
mount "$(device mounted)" /srv/mounted
sfdisk -q "$(device parted)" <<<'start=2048'
udevadm settle
mkfs.ext4 -q "$(device parted)1"
mount "$(device parted)1" /srv/parted
mkswap "$(device swap)" >/dev/null
swapon "$(device swap)"
vgcreate -q guestgroup "$(device volume)"
lvcreate -q -n data -L 8M guestgroup
mdadm --create /dev/md7 --run --level=1 --force --raid-devices=1 "$(device raid)"
head -c 32 /dev/urandom >/run/key
cryptsetup luksFormat -q --type luks1 --pbkdf-force-iterations 1000 "$(device crypt)" /run/key
cryptsetup open --key-file /run/key "$(device crypt)" secret
dmsetup create other --table "0 1024 linear $(device mapped) 0"
mount_retention ret
sync
used="mounted parted swap volume raid crypt mapped noid"
sums() { for disk in $used; do host sha256 "$disk"; done; }
before=$(sums)

dev=/dev/mapper
configure_target mounted=$dev/"$(id 1)" parted=$dev/"$(id 2)" swap=$dev/"$(id 3)" volume=$dev/"$(id 4)" \
    raid=$dev/"$(id 5)" crypt=$dev/"$(id 6)" mapped=$dev/"$(id 7)" noid="$(device noid)" \
    root=$dev/36000c29000000000 retention=$dev/"$(id 9)" kernelname="$(device free)" \
    missing=$dev/36000c29affffffff partition="$(device parted)1" free=$dev/"$(id 8)"
check "the daemon starts" systemctl start master-target
refused mounted "mounted at /srv/mounted"
refused parted "mounted at /srv/parted"
refused swap "swap goes to"
refused volume "guestgroup-data"
refused raid "md7"
refused crypt "secret"
refused mapped "other"
refused noid "has no SCSI id"
refused root "of this machine lies on it"
refused retention "mounted at /mnt/retention"
refused kernelname "/dev/mapper/$(id 8)"
refused missing "there is no disk"
refused partition "it is partition 1 of"
wait_until 90 is_open free
expect_eq "not a byte of them is changed" "$before" "$(sums)"

note "the free disk is held against others"
fails mkfs.ext4 -q "$(device free)"
fails pvcreate -q -y "$(device free)"
fails mount "$(device free)" /mnt
fails dmsetup create mine --table "0 1024 linear $(device free) 0"
mtctl disks
json=$(mtctl disks --json)
role() { python3 -c "
import json, sys
disks = json.load(sys.stdin)['disks']
print(next(disk['role'] for disk in disks if disk['scsi_id'] == '$(id "$1")'))" <<<"$json"; }
expect_eq "its role" target "$(role 8)"
expect_eq "the role of the retention disk" retention "$(role 9)"
expect_eq "the role of the mounted one, which an item names" target "$(role 1)"
check "the daemon stops" systemctl stop master-target
check "and lets go" mkfs.ext4 -q "$(device free)"
