#!/bin/sh
# Makes the freshly installed system whose root folder is $1 into the guest of the laboratory.
# Everything that Debian sets up for disks stays as it is: udev's rules, multipathd, LVM, mdadm. Scenarios test
# against it.
set -eu
root=$1
here=$(dirname "$(readlink -f "$0")")
cp -rT "$here/files" "$root"
chmod 755 "$root/usr/local/sbin/lab-start" "$root/usr/local/sbin/lab-vmtoolsd"

echo mt-guest >"$root/etc/hostname"
rm -f "$root/etc/resolv.conf"
: >"$root/etc/resolv.conf"

# Nobody waits for these, and under emulation each costs time.
for unit in apt-daily.timer apt-daily-upgrade.timer e2scrub_all.timer e2scrub_reap.service fstrim.timer \
    logrotate.timer systemd-tmpfiles-clean.timer getty@tty1.service serial-getty@ttyS0.service \
    getty-static.service systemd-timesyncd.service systemd-pstore.service systemd-hwdb-update.service \
    systemd-journal-catalog-update.service systemd-update-done.service systemd-rfkill.socket \
    dev-hugepages.mount sys-kernel-debug.mount sys-kernel-tracing.mount; do
    ln -sf /dev/null "$root/etc/systemd/system/$unit"
done
ln -sf /etc/systemd/system/lab.target "$root/etc/systemd/system/default.target"
# The same at every boot, and present at the first one, which would otherwise apply all presets.
echo 6d61737465727461726765746c616221 >"$root/etc/machine-id"

chroot "$root" update-initramfs -u
chroot "$root" passwd -d root
