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

start_load 60 60
sleep 10
filler=/mnt/retention/filler
fallocate -l "$(df --output=avail -B1 /mnt/retention | tail -n 1)" $filler || true
dd if=/dev/zero of=$filler.rest bs=64k 2>&1 || true
df /mnt/retention
for ((look = 0; look < 20; look++)); do
    item_is web01 protected || break
    dd if=/dev/zero of=$filler.rest bs=64k oflag=append conv=notrunc status=none 2>/dev/null || true
    sleep 1
done
note "full: web01 is $(item_field web01 state): $(item_field web01 detail)"
mtctl status
check "nothing is fenced" item_is web01 protected
check "the volume is still the one" volume_is ready
rm -f $filler $filler.rest
check "the load saw nothing" wait "$load"
bookmark web01 room
check "the volume is in use" volume_is ready
ends_as_source web01 /srv/source.raw replica
