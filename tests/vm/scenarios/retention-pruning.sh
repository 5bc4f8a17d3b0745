# about: three items change more than the volume holds; after many prunings every recovery point left is what once was
# timeout: 1800
# disk: ret size=64M wwn=0x6000c29a00001201
. "$LAB/in/replication.sh"

items="one two three"
blocks=1024
# Prunings of each item.
wanted=100
history="python3 $LAB/in/history.py"

mount_retention ret
for item in $items; do
    $history image "/srv/$item.raw" $blocks
    truncate -s $((blocks * 4096)) "/srv/$item.replica"
done
configure_target one=/srv/one.replica two=/srv/two.replica three=/srv/three.replica
check "the daemon starts" systemctl start master-target
number=0
for item in $items; do
    start_source "$item" "/srv/$item.raw" "/dev/nbd$number"
    number=$((number + 1))
done
for item in $items; do
    wait_until 120 item_is "$item" protected
done

# Segments that are gone were pruned.
: >/run/segments
# pruned ITEM: how many of its segments.
pruned() {
    local now
    now=$(cd /mnt/retention/items && ls -- */*.journal) || true
    sort -u /run/segments - <<<"$now" >/run/segments.new
    mv /run/segments.new /run/segments
    comm -23 /run/segments <(sort <<<"$now") | grep -c "^$1/" || true
}
enough() {
    local item
    for item in $items; do
        [ "$(pruned "$item")" -ge $wanted ] || return 1
    done
}

# What the items were during the load, once a second: a resync would begin their recovery points anew.
watch_states() {
    while sleep 1; do
        mtctl status --json | python3 -c "
import json, sys
print('\n'.join(item['state'] for item in json.load(sys.stdin)['items']))"
    done
}
watch_states >/run/states &
watcher=$!

declare -A writer
for item in $items; do
    $history write "$(cat "/run/mt-source/$item.device")" "$item" 1000000 >"/run/$item.writes" &
    writer[$item]=$!
done
wait_until 1200 enough
kill "${writer[@]}"
for item in $items; do
    check "the writer of $item saw no error" wait "${writer[$item]}"
    note "$item: $(cat "/run/$item.writes") writes"
    bookmark "$item" end
done
for item in $items; do
    note "$item: $(pruned "$item") segments were pruned"
done
kill $watcher
check "the items were looked at" test "$(wc -l </run/states)" -gt 30
expect_eq "nothing was synced anew under load" protected "$(sort -u /run/states)"
note "$(find /mnt/retention/items -name '*.journal' | wc -l) are left"
mtctl status

for item in $items; do
    $history verify /run/master-target/mtd.sock "$item" "$item" >"/run/$item.points" &
    writer[$item]=$!
done
for item in $items; do
    status=0
    wait "${writer[$item]}" || status=$?
    cat "/run/$item.points"
    expect_eq "every point of $item is right" 0 $status
    expect_eq "the newest is of the last write" "$(cat "/run/$item.writes")" \
        "$(sed -n 's/.* to write \([0-9]*\),.*/\1/p' "/run/$item.points")"
done
for item in $items; do
    check "failover" mtctl failover "$item" --point end --yes
    check "commit" mtctl commit "$item" --yes
    stop_source "$item"
    check "its disk is its source's" cmp "/srv/$item.raw" "/srv/$item.replica"
done
