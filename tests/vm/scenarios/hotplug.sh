# about: a disk is attached to the running machine, grows, fails and is detached again
# disk: late size=64M wwn=0x6000c29a00000001 attach=later
# disk: noid size=32M

name=$(disk_of noid)
expect_eq "a disk without an id has no serial number for udev" "" \
    "$(udevadm info -q property -n "/dev/$name" | grep '^ID_SERIAL=' || true)"

fails disk_of late
host attach late
name=$(disk_of late)
note "late is $name"
check "lsblk shows it" lsblk "/dev/$name"
check "udev knows its id" test -e /dev/disk/by-id/wwn-0x6000c29a00000001
check "it can be written" dd if=/dev/urandom of="/dev/$name" bs=1M count=64 oflag=direct
expect_eq "the host sees what was written" "$(sha256sum "/dev/$name" | cut -d ' ' -f 1)" "$(host sha256 late)"

host pattern late 1
echo 3 >/proc/sys/vm/drop_caches
expect_eq "the guest sees what the host wrote" "$(host sha256 late)" "$(sha256sum "/dev/$name" | cut -d ' ' -f 1)"

host resize late 128M
echo 1 >"/sys/block/$name/device/rescan"
expect_eq "it has grown" $((128 << 20)) "$(blockdev --getsize64 "/dev/$name")"

host io-error late on
fails dd if="/dev/$name" of=/dev/null bs=4k count=1 iflag=direct
host io-error late off
check "it can be read again" dd if="/dev/$name" of=/dev/null bs=4k count=1 iflag=direct

host detach late
wait_until 30 test ! -e "/dev/$name"
fails disk_of late
