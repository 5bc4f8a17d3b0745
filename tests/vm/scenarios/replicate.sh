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

working_paths() {
    mtctl disks $id --json | python3 -c "
import json, sys
paths = json.load(sys.stdin)['disks'][0]['paths']
print(sum(path['device_state'] == 'running' and path['path_state'] == 'active' for path in paths))"
}
works_with() { [ "$(working_paths)" = "$1" ]; }
wait_until 30 works_with 2

note "load, while a path fails"
fio --name=load --filename=/dev/nbd0 --direct=1 --rw=randwrite --bs=16k --size=64M --time_based --runtime=40 \
    --randseed=7 --rate_iops=60 --output=/run/fio.txt &
load=$!
sleep 5
host detach replica 0
wait_until 30 works_with 1
sleep 3
host attach replica 0
wait_until 60 works_with 2
note "now the other one"
host detach replica 1
wait_until 30 works_with 1
check "the load saw no error" wait $load
check "the item goes on" item_is web01 protected
host attach replica 1

bookmark web01 end
check "failover" mtctl failover web01 --point end --yes
check "commit" mtctl commit web01 --yes
nbd-client -d /dev/nbd0
systemctl stop mt-source
expect_eq "the disk is what its source is" "$(sha256sum </srv/source.raw | cut -d ' ' -f 1)" "$(host sha256 replica)"
check "the daemon stops" systemctl stop master-target
check "the map is removed" mtctl disks --unmap $id --yes
fails test -e /dev/mapper/$id
