# about: a disk with two paths goes on while one of them is away, and loses nothing
# disk: data1 size=64M wwn=0x6000c29a00000001 paths=2
# disk: other size=32M wwn=0x6000c29a00000002

wwid=36000c29a00000001
map=/dev/mapper/$wwid
cat >/etc/multipath.conf <<EOF
defaults {
    user_friendly_names no
    find_multipaths no
}
blacklist {
    wwid ".*"
}
blacklist_exceptions {
    wwid "$wwid"
}
EOF
check "multipathd takes the configuration" systemctl restart multipathd
wait_until 30 test -b "$map"

active_paths() {
    multipathd show paths format "%m %o" | grep -c "^$wwid.*running" || true
}
paths_are() {
    [ "$(active_paths)" -eq "$1" ]
}
wait_until 30 paths_are 2
expect_eq "there is one map" "$wwid" "$(multipathd show maps raw format %n | tr -d ' ')"
fails sh -c "multipathd show paths raw format %d | grep -qx $(disk_of other)"

note "one path goes while data is written"
fio --name=load --filename="$map" --rw=randwrite --bs=64k --direct=1 --ioengine=libaio --iodepth=8 \
    --size=64M --time_based --runtime=20 --verify=crc32c --do_verify=0 --output=/run/fio.log &
load=$!
sleep 5
host detach data1 0
wait_until 30 paths_are 1
sleep 3
host attach data1 0
wait_until 30 paths_are 2
check "the load saw no error" wait "$load"

check "all of it is written" dd if=/dev/urandom of="$map" bs=1M count=64 oflag=direct
expect_eq "the host has what the guest wrote" "$(sha256sum "$map" | cut -d ' ' -f 1)" "$(host sha256 data1)"
expect_eq "both paths are back" 2 "$(disk_of data1 | wc -l)"
