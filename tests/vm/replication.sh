# A master target and source agents in this guest. Sourced, after lib.sh, by scenarios that replicate.

. "$LAB/in/retention.sh"

TLS=/etc/master-target/tls
# Whom source agents expect, and what they show. Scenarios that register set what registration gave them.
TARGET_NAME=target.example
SOURCE_CERTIFICATE=$TLS/source.example.pem
SOURCE_KEY=$TLS/source.example.key
AUTHORITY=$TLS/ca.pem

# Certificates for target.example and source.example, from an authority of their own.
make_certificates() (
    mkdir -p -m 0700 $TLS
    cd $TLS
    exec 2>/dev/null
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 30 -subj "/CN=trial authority" \
        -addext keyUsage=critical,keyCertSign -keyout ca.key -out ca.pem
    for name in target.example source.example; do
        openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj "/CN=$name" \
            -keyout $name.key -out $name.csr
        printf 'subjectAltName=DNS:%s\nextendedKeyUsage=serverAuth,clientAuth\n' $name >$name.ext
        openssl x509 -req -in $name.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 30 -extfile $name.ext \
            -out $name.pem
    done
)

# configure_target ITEM=DEVICE…: the daemon's configuration, with an item of one disk for each.
configure_target() {
    make_certificates
    {
        printf '[tls]\ncertificate = "%s/target.example.pem"\nkey = "%s/target.example.key"\nca = "%s/ca.pem"\n' \
            $TLS $TLS $TLS
        for pair in "$@"; do
            printf '[[item]]\nname = "%s"\nsource = "source.example"\n' "${pair%%=*}"
            printf '[[item.disks]]\nid = "disk0"\ntarget = "%s"\n' "${pair#*=}"
        done
    } >/etc/master-target/mtd.toml
    mtd --check
}

# item_field ITEM KEY: what the daemon says of an item.
item_field() {
    mtctl items "$1" --json | python3 -c "import json, sys; print(json.load(sys.stdin)['items'][0].get('$2') or '')"
}

item_is() {
    [ "$(item_field "$1" state)" = "$2" ]
}

# is_open ITEM: its disk is held; it was there before, so the source is to compare it.
is_open() {
    item_is "$1" resync-required
}

# refused ITEM TEXT: the daemon does not open the item's disk, and its reason has the text. While it tries again it says that
# it opens, so the reason is waited for.
refused() {
    wait_until 90 eval "item_field $1 detail | grep -F -- '$2'"
    note "$1: $(item_field "$1" detail)"
}

# works_over ID NUMBER: so many paths of the disk work.
works_over() {
    local working
    working=$(mtctl disks "$1" --json | python3 -c "
import json, sys
paths = json.load(sys.stdin)['disks'][0]['paths']
print(sum(path['device_state'] == 'running' and path['path_state'] == 'active' for path in paths))")
    [ "$working" = "$2" ]
}

# start_source ITEM IMAGE [DEVICE]: replicates a raw image, which is served to its writer at /dev/nbd0, or the device.
start_source() {
    local run=/run/mt-source device=${3:-/dev/nbd0}
    mkdir -p /etc/mt-source "/var/lib/mt-source/$1" $run
    cat >"/etc/mt-source/$1.toml" <<END
item = "$1"
target = "127.0.0.1:9443"
server_name = "$TARGET_NAME"
state_folder = "/var/lib/mt-source/$1"
socket = "$run/$1.sock"
[tls]
certificate = "$SOURCE_CERTIFICATE"
key = "$SOURCE_KEY"
ca = "$AUTHORITY"
[nbd]
listen = "unix:$run/$1.nbd"
[limits]
backlog_mib = 64
[[disks]]
id = "disk0"
path = "$2"
format = "raw"
END
    check "the source agent of $1 starts" systemd-run --quiet --unit "mt-source-$1" \
        mt-source replicate --config "/etc/mt-source/$1.toml"
    wait_until 60 test -S "$run/$1.nbd"
    modprobe nbd
    check "its disk is at $device" nbd-client -unix "$run/$1.nbd" -name disk0 "$device"
    echo "$device" >"$run/$1.device"
}

stop_source() {
    nbd-client -d "$(cat "/run/mt-source/$1.device")"
    systemctl stop "mt-source-$1"
}

# start_load SECONDS WRITES-PER-SECOND: writes to /dev/nbd0 in the background; then `check "…" wait $load`.
start_load() {
    fio --name=load --filename=/dev/nbd0 --direct=1 --rw=randwrite --bs=16k --size=64M --refill_buffers --time_based --runtime="$1" \
        --randseed=7 --rate_iops="$2" --output=/run/fio.txt &
    load=$!
}

# is_level ITEM: its source agent has sent every change, so that a recovery point may follow.
is_level() {
    mt-source status --config "/etc/mt-source/$1.toml" --json | python3 -c "
import json, sys
sys.exit(json.load(sys.stdin)['state'] != 'level')"
}

# bookmark ITEM NAME: sets one, and waits until it is a recovery point.
bookmark() {
    wait_until 120 is_level "$1"
    check "a bookmark" mt-source bookmark "$2" --config "/etc/mt-source/$1.toml"
    wait_until 60 eval "mtctl points $1 --bookmarks | grep -w $2"
}

# ends_as_source ITEM IMAGE DISK: failed over, its disk is what its source is.
ends_as_source() {
    bookmark "$1" end
    check "failover" mtctl failover "$1" --point end --yes
    check "commit" mtctl commit "$1" --yes
    stop_source "$1"
    expect_eq "the disk is what its source is" "$(sha256sum <"$2" | cut -d ' ' -f 1)" "$(host sha256 "$3")"
}
