# about: the guest looks like a master target on VMware, and the programs start in it

expect_eq "the hypervisor that systemd sees" vmware "$(systemd-detect-virt)"
expect_eq "the host name" mt-guest "$(hostname)"
check "four processors" test "$(nproc)" -ge 4
check "six gigabytes" test "$(awk '/MemTotal/ { print $2 }' /proc/meminfo)" -ge $((6 * 1000 * 1000))
check "multipathd runs" systemctl is-active multipathd
check "the VMware tools run" systemctl is-active open-vm-tools
check "no unit has failed" test -z "$(systemctl --failed --no-legend)"
expect_eq "the root disk" /dev/sda "$(findmnt -n -o SOURCE /)"
check "the root disk has more than 100 GB" test "$(blockdev --getsize64 /dev/sda)" -gt 100000000000
wait_until 30 sh -c 'ip -4 address show eth0 | grep inet'

check "mtd starts" mtd --version
check "mt-source starts" mt-source --help
check "mtctl starts" mtctl --help
note "without a daemon mtctl version says: $(mtctl version 2>&1 || true)"
check "the unit is known" systemctl cat master-target.service
note "boot: $(systemd-analyze | sed -n 1p)"
