# about: mtctl check on a machine that is set up well reports exactly what is left: a newer kernel, no clock, short ids
# timeout: 900
# controller: lsi
# disk: ret size=1T wwn=0x6000c29a00000801
# disk: replica size=64M wwn=0x6000c29a00000802
. "$LAB/in/replication.sh"
. "$LAB/in/checks.sh"

configure_target web01=/dev/mapper/36000c29a00000802
become_ubuntu
serve_configuration_server
mount_retention ret
note "this guest has nobody to ask for the time"
fails mtctl check --fix --yes --only clock-synchronised
echo 'devices/global_filter = [ "r|.*|" ]' >>/etc/lvm/lvm.conf
echo "AUTO -all" >>/etc/mdadm/mdadm.conf
mend="kernel-pinned automatic-updates hosts-file multipath-disks state-folders service"
check "what can be mended is mended" eval "mtctl check --fix --yes --only ${mend// / --only }"
check "a person answers" mtctl check --attest snapshots --by lab --yes
check "a person answers" mtctl check --attest storage-vmotion --by lab --yes
systemctl start master-target
wait_until 60 is_open web01
verdicts_are --cs 127.0.0.1 <<'END'
clock-synchronised warning
kernel failed
scsi-ids warning
END
note "what an administrator sees"
mtctl disks
mtctl check --cs 127.0.0.1 || true
check "undone" mtctl check --undo --yes
