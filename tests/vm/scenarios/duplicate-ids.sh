# about: copies of one template have one SCSI id; they are told from each other and never written
# disk: one size=32M wwn=0x6000c29a00000401
# disk: two size=32M wwn=0x6000c29a00000401
# disk: paths size=32M wwn=0x6000c29a00000402 paths=2
# disk: ret size=256M wwn=0x6000c29a00000403
. "$LAB/in/replication.sh"

id=36000c29a00000401
warnings=$(mtctl disks --json | python3 -c "import json, sys; print('\n'.join(map(str, json.load(sys.stdin)['warnings'])))")
note "$warnings"
check "the copies are named" grep -q "$(disk_of one).*$(disk_of two)\|$(disk_of two).*$(disk_of one)" <<<"$warnings"
fails mtctl disks $id
note "$output"
status=0
mtctl check --only duplicate-scsi-ids --json >/run/check.json || status=$?
expect_eq "mtctl check says so" 3 $status
fails mtctl disks --map $id --yes
note "$output"
fails test -e /dev/mapper/$id
before="$(host sha256 one) $(host sha256 two)"
mount_retention ret
configure_target copy=/dev/mapper/$id other=/dev/mapper/36000c29a00000402
check "the daemon starts" systemctl start master-target
refused copy "$id"
expect_eq "nothing is written" "$before" "$(host sha256 one) $(host sha256 two)"
note "two paths that nobody joined"
refused other 36000c29a00000402
check "they can be joined" mtctl disks --map 36000c29a00000402 --yes
note "and the daemon goes on by itself"
wait_until 90 is_open other
