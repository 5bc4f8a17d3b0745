# about: replication into a two-path disk under load, while a path fails and comes back; the disk ends as its source
# timeout: 600
# disk: replica size=64M wwn=0x6000c29a00000201 paths=2
# disk: ret size=2G wwn=0x6000c29a00000202
. "$LAB/in/replication.sh"

id=36000c29a00000201
check "the disk is mapped" mtctl disks --map $id --yes
mount_retention ret
head -c 64M /dev/urandom >/srv/source.raw
configure_target web01=/dev/mapper/$id
check "the daemon starts" systemctl start master-target
start_source web01 /srv/source.raw
wait_until 120 item_is web01 protected
wait_until 30 works_over $id 2

note "load, while a path fails"
start_load 40 60
sleep 5
host detach replica 0
wait_until 30 works_over $id 1
sleep 3
host attach replica 0
wait_until 60 works_over $id 2
note "now the other one"
host detach replica 1
wait_until 30 works_over $id 1
check "the load saw no error" wait $load
check "the item goes on" item_is web01 protected
host attach replica 1

ends_as_source web01 /srv/source.raw replica
check "the daemon stops" systemctl stop master-target
check "the map is removed" mtctl disks --unmap $id --yes
fails test -e /dev/mapper/$id
