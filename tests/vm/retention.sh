# The retention volume: prepared, looked at, and the programs that prepare it watched. Sourced after lib.sh.

FSTAB_BEFORE=/etc/fstab.lab
OPTIONS=rw,nofail,errors=remount-ro,x-systemd.requires=multipathd.service,x-systemd.device-timeout=60s

# wwid NAME: the SCSI id of a disk, as multipath names its map.
wwid() {
    local paths
    paths=$(disk_of "$1")
    udevadm info -q property -n "/dev/${paths%%$'\n'*}" | sed -n 's/^ID_SERIAL=//p'
}

# mount_retention DISK: makes it the retention volume.
mount_retention() {
    check "$1 is prepared" mtctl retention prepare "$(wwid "$1")" --yes
    note "$output"
}

# fstab_line ID: the entry of a volume that had none before.
fstab_line() {
    echo "/dev/mapper/$1 /mnt/retention ext4 $OPTIONS 0 2"
}

# keep_fstab: remembers what it says now, for fstab_is_whole.
keep_fstab() {
    cp -p /etc/fstab $FSTAB_BEFORE
    sync $FSTAB_BEFORE
}

# fstab_is_whole: besides the volume's entry it is what keep_fstab saw, byte for byte.
fstab_is_whole() {
    local rest
    rest=$(diff $FSTAB_BEFORE /etc/fstab | grep '^[<>]' | grep -v '^> /dev/mapper/[^ ]* /mnt/retention ' || true)
    [ -z "$rest" ] || { echo "$rest" && return 1; }
}

# is_prepared NAME: the disk is mounted by its WWID, marked, kept in /etc/fstab, and nothing is under way.
is_prepared() {
    local id
    id=$(wwid "$1")
    expect_eq "mounted by its WWID" "/dev/mapper/$id" "$(findmnt -no SOURCE /mnt/retention)"
    expect_eq "the marker names its file system" "file-system = $(blkid -s UUID -o value "/dev/mapper/$id")" \
        "$(sed -n 3p /mnt/retention/retention-volume)"
    expect_eq "one entry in fstab, by its WWID" "/dev/mapper/$id" \
        "$(awk '$2 == "/mnt/retention" { print $1 }' /etc/fstab)"
    fails test -e /var/lib/master-target/retention-prepare.json
}

# volume_field KEY: what the daemon says of the retention volume.
volume_field() {
    mtctl status --json | python3 -c "import json, sys; print(json.load(sys.stdin)['retention'].get('$1') or '')"
}

volume_is() {
    [ "$(volume_field state)" = "$1" ]
}

# watch_programs PROGRAM…: until the machine restarts, each call that mtctl makes of these is a line in $CALLS. When
# there is a file $HOOK, it is sourced first, with the line in $call and a function `run` that becomes the program.
CALLS=/run/lab/calls
HOOK=/run/lab/hook
watch_programs() {
    local program path folder=/usr/local/lib/watched
    mkdir -p $folder
    cat >$folder/watcher <<END
#!/bin/bash
words=("\$@")
call="\${0##*/} \$*"
if [ -L "\$0" ]; then path=\$(readlink -f "\$0"); else path=\$0; fi
run() { exec -a "\$0" "$folder/\${path##*/}" "\${words[@]}"; }
if [ "\$(cat /proc/\$PPID/comm)" = mtctl ]; then
    echo "\$call" >>$CALLS
    [ ! -e $HOOK ] || . $HOOK
fi
run
END
    chmod 755 $folder/watcher
    : >$CALLS
    for program in "$@"; do
        path=$(readlink -f "$(PATH=/sbin:/bin:/usr/sbin:/usr/bin command -v "$program")")
        ! cmp -s $folder/watcher "$path" || continue
        cp -p "$path" "$folder/${path##*/}"
        # A mount is gone after a power cut, when a renamed file would be left.
        mount --bind $folder/watcher "$path"
    done
}

# calls_of PROGRAM: how often mtctl called it, in $CALLS.
calls_of() {
    grep -c "^$1 " $CALLS || true
}

# standing_of ID: how a disk stands to the retention volume, and the rules that it breaks.
standing_of() {
    _standing scsi_id "$1"
}

# standing_of_name NAME: the same, of a disk by its kernel name.
standing_of_name() {
    _standing name "$1"
}

# What is told does not need the daemon, without which the status of the command is another.
_standing() {
    local told
    told=$(mtctl retention status --json 2>/dev/null) || true
    python3 -c "
import json, sys
disk = next(disk for disk in json.loads(sys.argv[1])['disks'] if disk['$1'] == '$2')
print(' '.join([disk['standing']] + [rule['rule'] for rule in disk['broken']]))" "$told"
}
