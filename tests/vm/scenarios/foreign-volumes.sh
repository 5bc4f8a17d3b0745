# about: volume groups and RAID arrays on replicas are neither activated nor assembled once LVM and mdadm are kept away
# timeout: 1200
# disk: replica size=64M wwn=0x6000c29a00000301
# disk: member size=64M wwn=0x6000c29a00000302
# boots: 3
verdict() {
    { mtctl check --only "$1" --json || true; } | python3 -c "import json, sys; print(json.load(sys.stdin)['checks'][0]['verdict'])"
}
group_is_active() { dmsetup ls | grep guestgroup >/dev/null; }
array_runs() { grep -q '^md' /proc/mdstat; }
case $BOOT in
    1)
        vgcreate -q guestgroup "/dev/$(disk_of replica)"
        lvcreate -q -n data -L 8M guestgroup
        mdadm --create /dev/md7 --run --level=1 --force --raid-devices=1 "/dev/$(disk_of member)"
        host reboot
        ;;
    2)
        note "as Debian sets it up, both come alive"
        wait_until 30 group_is_active
        wait_until 30 array_runs
        expect_eq "said so of LVM" failed "$(verdict lvm-filter)"
        expect_eq "said so of RAID" failed "$(verdict raid-assembly)"
        check "LVM is kept away" mtctl check --fix --only lvm-filter --yes
        # By hand, since making the initramfs takes minutes under emulation, and here mdadm is not in it.
        echo "AUTO -all" >>/etc/mdadm/mdadm.conf
        expect_eq "LVM is kept away" passed "$(verdict lvm-filter)"
        expect_eq "RAID is kept away" passed "$(verdict raid-assembly)"
        host reboot
        ;;
    3)
        udevadm settle
        sleep 5
        fails group_is_active
        fails array_runs
        fails vgs guestgroup
        expect_eq "the disk is free" free "$(mtctl disks 36000c29a00000301 --json | python3 -c "
import json, sys
print(json.load(sys.stdin)['disks'][0]['role'])")"
        ;;
esac
