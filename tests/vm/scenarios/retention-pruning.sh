# about: three items change more than the volume holds; after many prunings every recovery point left is what once was
# timeout: 900
# disk: ret size=256M wwn=0x6000c29a00001201
. "$LAB/in/replication.sh"

items="one two three"
blocks=2048
seconds=${SECONDS_OF_LOAD:-150}
mount_retention ret
for item in $items; do
    python3 "$LAB/in/history.py" image "/srv/$item.raw" $blocks
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

# What segments there are, again and again: those that are gone at the end were pruned.
segments() { (cd /mnt/retention/items && ls -- */*.journal); }
(while sleep 0.3; do segments; done >/run/segments 2>/dev/null) &
watch=$!
writers=
for item in $items; do
    python3 "$LAB/in/history.py" write "$(cat "/run/mt-source/$item.device")" "$item" 1000000 >"/run/$item.writes" &
    writers="$writers $!"
done
sleep "$seconds"
# shellcheck disable=SC2086
kill $writers
for writer in $writers; do
    check "a writer saw no error" wait "$writer"
done
for item in $items; do
    note "$item: $(cat "/run/$item.writes") writes"
    bookmark "$item" end
done
kill $watch
segments | sort -u >/run/segments.now
pruned=$(sort -u /run/segments | comm -23 - /run/segments.now | wc -l)
note "$pruned segments were removed, $(wc -l </run/segments.now) are left"
check "hundreds of them" test "$pruned" -ge 200
mtctl status
for item in $items; do
    check "every point of $item" python3 "$LAB/in/history.py" verify /run/master-target/mtd.sock "$item" "$item"
    note "$output"
    expect_eq "the newest is the last write" "$(cat "/run/$item.writes")" "$(sed -n 's/.* to write \([0-9]*\),.*/\1/p' <<<"$output")"
done
for item in $items; do
    check "failover" mtctl failover "$item" --point end --yes
    check "commit" mtctl commit "$item" --yes
    check "its disk is its source's" cmp "/srv/$item.raw" "/srv/$item.replica"
    stop_source "$item"
done
