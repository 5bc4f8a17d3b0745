# about: an item that was taken while the daemon ran is committed, and another one is released: their disks are free, and maps are gone
# timeout: 600
# disk: first size=64M wwn=0x6000c29a00000801 paths=2
# disk: second size=64M wwn=0x6000c29a00000802
# disk: ret size=2G wwn=0x6000c29a00000803
. "$LAB/in/replication.sh"

first=36000c29a00000801
second=36000c29a00000802
maps() { dmsetup ls | cut -f 1 | grep "^36000c29a0000080[12]" | sort | tr '\n' ' ' || true; }
# is_free DISK: nobody holds a path of it.
is_free() {
    local path
    for path in $(disk_of "$1"); do
        python3 -c "import os; os.close(os.open('/dev/$path', os.O_RDWR | os.O_EXCL))"
    done
}

mount_retention ret
configure_target
check "the daemon starts" systemctl start master-target
truncate -s 64M /srv/source.raw
sfdisk -q /srv/source.raw <<'END'
label: gpt
size=8M, name=one
size=40M, name=two
END
fails mtctl protect web01 --source source.example --disk disk0=$first,size=64MiB
check "the remedy is named" grep -q "mtctl disks --map $first" <<<"$output"
check "its paths are joined" mtctl disks --map $first --yes
check "the first disk is taken" mtctl protect web01 --source source.example --disk disk0=$first,size=64MiB
check "the second one too" mtctl protect db01 --source source.example --disk disk0=$second,size=64MiB
fails is_free first
fails is_free second
start_source web01 /srv/source.raw
wait_until 120 item_is web01 protected
dd if=/dev/urandom of=/dev/nbd0 bs=1M seek=4 count=32 oflag=direct status=none
bookmark web01 end
check "failover" mtctl failover web01 --point end --yes
wait_until 60 item_is web01 failed-over
note "nothing else has the disk until it is committed; a test failover shows what is on it"
fails mtctl partitions $first --map --read-only
fails is_free first
check "a test failover" mtctl test-failover start web01 --point end
note "$output"
check "it ends" mtctl test-failover stop 1

check "commit" mtctl commit web01 --yes
note "$output"
stop_source web01
expect_eq "neither a partition map nor a map is left" "" "$(maps)"
check "both paths are free" is_free first
check "to look at it, its paths are joined again" mtctl disks --map $first --yes
check "its partitions can be mapped now" mtctl partitions $first --map --read-only
expect_eq "both" "$first-part1 $first-part2 " "$(maps | tr ' ' '\n' | grep part | tr '\n' ' ')"
check "and unmapped" mtctl partitions $first --unmap
check "its paths too" mtctl disks --unmap $first --yes
expect_eq "the disk is what its source is" "$(sha256sum </srv/source.raw | cut -d ' ' -f 1)" "$(host sha256 first)"
host detach first 0
host detach first 1

check "the second item is let go of" mtctl release db01 --yes
check "its disk is free" is_free second
expect_eq "no item is left" "[]" "$(mtctl items --json | python3 -c 'import json, sys; print(json.load(sys.stdin)["items"])')"
check "the daemon goes on" systemctl is-active master-target
