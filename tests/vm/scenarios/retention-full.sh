# about: another program fills the retention volume under load: the item waits or gives up old points, and goes on
# timeout: 900
# disk: replica size=64M wwn=0x6000c29a00001001
# disk: ret size=512M wwn=0x6000c29a00001002
. "$LAB/in/replication.sh"

mount_retention ret
head -c 64M /dev/urandom >/srv/source.raw
configure_target web01=/dev/mapper/"$(wwid replica)"
check "the replica's disk is mapped" mtctl disks --map "$(wwid replica)" --yes
check "the daemon starts" systemctl start master-target
start_source web01 /srv/source.raw
wait_until 120 item_is web01 protected

# Without room nothing is compressed away: what is written is random, and the replica held random bytes before.
start_load 90 60
newest() {
    mtctl items web01 --json | python3 -c "
import json, sys
print((json.load(sys.stdin)['items'][0].get('newest_point') or {}).get('number', 0))"
}
sleep 10
filler=/mnt/retention/filler
fill() {
    dd if=/dev/zero of=$filler.rest bs=4k oflag=append conv=notrunc status=none 2>/dev/null || true
    [ "$(df --output=avail -B1 /mnt/retention | tail -n 1)" -eq 0 ]
}
fallocate -l "$(df --output=avail -B1 /mnt/retention | tail -n 1)" $filler || true
wait_until 120 fill
df /mnt/retention
told_full() {
    fill || true
    volume_alerts | grep -x retention-filling
}
volume_alerts() {
    mtctl status --json | python3 -c "
import json, sys
print('\n'.join(alert['kind'] for alert in json.load(sys.stdin)['retention']['alerts']))"
}
wait_until 60 told_full
note "$(mtctl retention status | grep '^ALERT retention volume' || true)"
check "the alert says that it is full" grep -q "is full" <<<"$(mtctl status)"

# It gives up old points and goes on, or it waits for room; whichever, it is not fenced, and says so.
before=$(newest)
goes_on_or_waits() {
    fill || true
    [ "$(newest)" -gt "$before" ] || item_field web01 detail | grep -i room
}
wait_until 60 goes_on_or_waits
note "full: web01 is $(item_field web01 state): $(item_field web01 detail); newest point $before, then $(newest)"
mtctl status
check "nothing is fenced" item_is web01 protected
check "the volume is still the one" volume_is ready
before=$(newest)
rm -f $filler $filler.rest
goes_on() { [ "$(newest)" -gt "$before" ]; }
wait_until 60 goes_on
check "the load saw nothing" wait "$load"
bookmark web01 room
check "the volume is in use" volume_is ready
not_filling() { ! volume_alerts | grep -x retention-filling; }
wait_until 90 not_filling
ends_as_source web01 /srv/source.raw replica
