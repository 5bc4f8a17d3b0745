# about: mtctl check on a machine that is set up badly reports every fault that it was built with
# smp: 2
# memory: 2G
# smbios: qemu
# disk: noid size=32M
# disk: one size=32M wwn=0x6000c29a00000901
# disk: two size=32M wwn=0x6000c29a00000901
. "$LAB/in/checks.sh"

echo "http_proxy=http://user:secret@proxy.example:3128" >>/etc/environment
sed -i "s/^auto .*/auto lo/" /etc/network/interfaces
sed -i "/mt-guest/d" /etc/hosts
apt-get remove -y -q lsscsi >/dev/null
cp /usr/bin/mtctl /root/mtctl
systemctl stop multipathd.socket multipathd
verdicts_are <<'END'
END
fails grep -q secret /run/check.json
