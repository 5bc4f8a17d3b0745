#!/bin/sh
# Makes the freshly installed system whose root folder is $1 into the guest of the laboratory.
# Everything that Debian sets up for disks stays as it is, since scenarios test against it: udev's rules, multipathd,
# LVM, and mdadm once the root file system is there.
set -eu
root=$1
here=$(dirname "$(readlink -f "$0")")
cp -rT "$here/files" "$root"
chmod 755 "$root"/usr/local/sbin/lab-*

echo mt-guest >"$root/etc/hostname"
rm -f "$root/etc/resolv.conf"
: >"$root/etc/resolv.conf"
echo 6d61737465727461726765746c616221 >"$root/etc/machine-id"

# What has nothing to do with disks; under emulation each of them costs time.
for unit in apt-daily.timer apt-daily-upgrade.timer e2scrub_all.timer e2scrub_reap.service fstrim.timer \
    logrotate.timer systemd-tmpfiles-clean.timer getty@tty1.service serial-getty@ttyS0.service \
    getty-static.service systemd-timesyncd.service systemd-pstore.service systemd-hwdb-update.service \
    systemd-journal-catalog-update.service systemd-update-done.service systemd-rfkill.socket \
    systemd-logind.service systemd-user-sessions.service systemd-update-utmp.service \
    systemd-update-utmp-runlevel.service systemd-random-seed.service systemd-sysusers.service \
    systemd-fsckd.socket systemd-ask-password-console.path systemd-ask-password-wall.path systemd-initctl.socket \
    proc-sys-fs-binfmt_misc.automount systemd-binfmt.service dev-hugepages.mount dev-mqueue.mount \
    sys-kernel-debug.mount sys-kernel-tracing.mount sys-fs-fuse-connections.mount modprobe@drm.service vgauth.service; do
    ln -sf /dev/null "$root/etc/systemd/system/$unit"
done
ln -sf /etc/systemd/system/lab.target "$root/etc/systemd/system/default.target"

install -D -m 755 "$root/bin/sleep" "$root/usr/local/lib/lab/vmtoolsd"

# It would load all of md, and measure how fast it is, before the root file system is there.
rm "$root"/usr/share/initramfs-tools/hooks/mdadm "$root"/usr/share/initramfs-tools/scripts/local-*/mdadm
chroot "$root" update-initramfs -u
chroot "$root" passwd -d root
