# about: an item waits for its disk, takes it when it appears, and goes on by itself when it went away and came back
# timeout: 600
# disk: replica size=64M wwn=0x6000c29a00000a01 attach=later
# disk: ret size=1G wwn=0x6000c29a00000a02
. "$LAB/in/replication.sh"

id=36000c29a00000a01
mount_retention ret
head -c 64M /dev/urandom >/srv/source.raw
configure_target web01=/dev/mapper/$id
check "the daemon starts" systemctl start master-target
refused web01 "there is no disk"
mtctl disks --watch --json >/run/watch &
watch=$!
host attach replica
wait_until 60 is_open web01
wait_until 20 grep -q $id /run/watch
kill $watch

start_source web01 /srv/source.raw
wait_until 120 item_is web01 protected
note "the disk goes away under load"
start_load 30 40
sleep 3
host detach replica
stopped() { ! item_is web01 protected; }
wait_until 60 stopped
note "$(item_field web01 detail)"
host attach replica
wait_until 120 item_is web01 protected
check "the load saw nothing" wait $load

ends_as_source web01 /srv/source.raw replica
