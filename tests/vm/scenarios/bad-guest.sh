# about: mtctl check on a machine that is set up badly reports every fault that it was built with
# smp: 2
# memory: 2G
# smbios: qemu
# disk: noid size=32M
# disk: one size=32M wwn=0x6000c29a00000901
# disk: two size=32M wwn=0x6000c29a00000901
. "$LAB/in/checks.sh"

echo "http_proxy=http://user:secret@proxy.example:3128" >>/etc/environment
sed -i "/^allow-hotplug/d" /etc/network/interfaces
sed -i "/mt-guest/d" /etc/hosts
# Against what our own package needs.
dpkg --remove --force-depends lsscsi >/dev/null 2>&1
systemctl stop multipathd.socket multipathd
verdicts_are <<'END'
adapters-at-boot failed
clock-skew cannot-tell
clock-synchronised warning
configuration-server cannot-tell
controllers warning
cores failed
cs-certificate cannot-tell
duplicate-scsi-ids failed
hosts-file failed
kernel failed
kernel-pinned failed
lvm-filter failed
memory failed
multipath-running failed
operating-system warning
packages failed
proxy failed
raid-assembly failed
retention-disk failed
retention-eligible cannot-tell
retention-fstab failed
retention-mounted failed
scsi-ids failed
service warning
snapshots cannot-tell
state-folders failed
storage-vmotion cannot-tell
version cannot-tell
vmware-tools failed
vmware-vm failed
END
fails grep -q secret /run/check.json
