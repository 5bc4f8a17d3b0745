# A master target and a source agent in this guest. Sourced, after lib.sh, by scenarios that replicate.

TLS=/etc/master-target/tls

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

# mount_retention DISK: an ext4 volume on it, mounted where the master target wants it.
mount_retention() {
    mkfs.ext4 -q -F "/dev/$(disk_of "$1")"
    mkdir -p /mnt/retention
    mount "/dev/$(disk_of "$1")" /mnt/retention
}

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

# refused ITEM TEXT: the daemon does not open the item's disk, and its reason has the text.
refused() {
    local why
    wait_until 90 eval "[ -n \"\$(item_field $1 detail)\" ]"
    why=$(item_field "$1" detail)
    note "$1: $why"
    check "$1 is refused because of: $2" grep -qF -- "$2" <<<"$why"
}

# start_source ITEM IMAGE: replicates a raw image, which is served to its writer at /dev/nbd0.
start_source() {
    mkdir -p /etc/mt-source /var/lib/mt-source /run/mt-source
    cat >/etc/mt-source/mt-source.toml <<END
item = "$1"
target = "127.0.0.1:9443"
server_name = "target.example"
[tls]
certificate = "$TLS/source.example.pem"
key = "$TLS/source.example.key"
ca = "$TLS/ca.pem"
[nbd]
listen = "unix:/run/mt-source/nbd.sock"
[limits]
backlog_mib = 64
[[disks]]
id = "disk0"
path = "$2"
format = "raw"
END
    check "the source agent starts" systemd-run --quiet --unit mt-source \
        mt-source replicate --config /etc/mt-source/mt-source.toml
    wait_until 60 test -S /run/mt-source/nbd.sock
    modprobe nbd
    check "its disk is at /dev/nbd0" nbd-client -unix /run/mt-source/nbd.sock -name disk0 /dev/nbd0
}

# bookmark ITEM NAME: sets one, and waits until it is a recovery point.
bookmark() {
    check "a bookmark" mt-source bookmark "$2" --config /etc/mt-source/mt-source.toml
    wait_until 60 eval "mtctl points $1 --bookmarks | grep -qw $2"
}
