# Library of the scenarios; README.md describes it. Sourced with `set -euo pipefail`, as root, in the guest.

# What the last command of check, fails or wait_until printed.
output=

set -E
shopt -s inherit_errexit
trap 'echo "FAILED: line $LINENO of $(basename "${BASH_SOURCE[0]}"): $BASH_COMMAND" >&2' ERR

note() {
    echo "-- $*"
}

# check "text" COMMAND…: the command must succeed.
check() {
    local text=$1 status=0
    shift
    _run "$@" || status=$?
    if [ "$status" -ne 0 ]; then
        echo "FAILED: $text: status $status of: $*"
        echo "$output"
        exit 1
    fi
    echo "ok: $text"
}

# fails COMMAND…: the command must fail.
fails() {
    if _run "$@"; then
        echo "FAILED: it should have failed: $*"
        echo "$output"
        exit 1
    fi
    echo "ok: fails: $*"
}

# expect_eq "text" WANTED GOT
expect_eq() {
    if [ "$2" != "$3" ]; then
        echo "FAILED: $1"
        echo "  wanted: $2"
        echo "  got:    $3"
        exit 1
    fi
    echo "ok: $1"
}

# wait_until SECONDS COMMAND…: the command must succeed within that time.
wait_until() {
    local limit=$1 begun=$SECONDS
    shift
    until _run "$@"; do
        if ((SECONDS - begun >= limit)); then
            echo "FAILED: not within $limit s: $*"
            echo "$output"
            exit 1
        fi
        sleep 0.2
    done
    echo "ok: after $((SECONDS - begun)) s: $*"
}

# host VERB WORD…: asks the world outside the machine, prints its answer.
host() {
    case $1 in
        reboot | crash)
            # The machine starts with an initramfs from outside: from now on with the one that was made here, if any was.
            find /boot -name 'initrd.img-*' -newer /root/first-boot -exec cp {} "$LAB/out/initrd" \;
            _ask "$@" || return 1
            # Only a reboot is answered.
            systemctl start reboot.target --job-mode=replace-irreversibly --no-block
            sleep infinity
            ;;
        detach)
            local gone
            gone=$(disk_of "${@:2}") || return 1
            _ask "$@" || return 1
            _forget "$gone"
            ;;
        attach)
            _ask "$@" || return 1
            _rescan
            ;;
        *) _ask "$@" ;;
    esac
}

# disk_of NAME [PATH]: kernel names of a disk's paths, one a line, in the order of the paths; waits for them.
disk_of() {
    local places place found names try
    places=$(_ask places "$@") || return 1
    if [ -z "$places" ]; then
        echo "disk $1 is not attached" >&2
        return 1
    fi
    for ((try = 0; try < 100; try++)); do
        names=()
        for place in $places; do
            found=$(_name_at "${place%:*}" "${place#*:}") || continue 2
            names+=("$found")
        done
        udevadm settle --timeout=60
        printf '%s\n' "${names[@]}"
        return
    done
    echo "disk $1 did not appear in the guest at $places" >&2
    return 1
}

# Runs a command for its status and its output; not in a subshell, so that it may be `wait`.
_run() {
    local file=/run/lab/output.$BASHPID.$RANDOM status=0
    "$@" >"$file" 2>&1 || status=$?
    output=$(<"$file")
    rm -f "$file"
    return "$status"
}

# The block device that is target $2 of the controller in PCI slot $1. SAS numbers its targets itself, but not its phys.
_name_at() {
    local controller=/sys/devices/pci0000:00/0000:00:$1.0 folder phy found
    folder=$controller
    for phy in "$controller"/host*/port-*/phy-*:"$2"; do
        [ ! -e "$phy" ] || folder=${phy%/*}
    done
    [ "$folder" != "$controller" ] || folder=$(echo "$controller"/host*/target*:0:"$2")
    found=$(find "$folder" -path "*/block/*" -prune -print -quit 2>/dev/null)
    if [ -z "$found" ] || [ ! -b "/dev/${found##*/}" ]; then
        sleep 0.2
        return 1
    fi
    echo "${found##*/}"
}

# Of the emulated controllers only pvscsi tells its driver of disks that come and go.
_rescan() {
    local scsi_host
    for scsi_host in /sys/class/scsi_host/*; do
        case $(cat "$scsi_host/proc_name") in
            vmw_pvscsi) ;;
            *) echo "- - -" >"$scsi_host/scan" ;;
        esac
    done
}

_forget() {
    local name
    for name in $1; do
        case $(cat "/sys/block/$name/device/../../../scsi_host/"*/proc_name 2>/dev/null || true) in
            vmw_pvscsi) ;;
            # Which may be gone while it is looked at.
            *) echo 1 >"/sys/block/$name/device/delete" || [ ! -e "/sys/block/$name/device/delete" ] ;;
        esac
    done
}

_ask() {
    local id=$BASHPID.$RANDOM word answered text
    exec 8>/run/lab/channel.lock
    flock 8
    echo "call $id $*" >&9
    while true; do
        if ! read -r -t 300 word answered text <&9; then
            echo "host $*: no answer" >&2
            return 1
        fi
        [ "$answered" != "$id" ] || break
    done
    exec 8>&-
    if [ "$word" != ok ]; then
        echo "host $*: $text" >&2
        return 1
    fi
    [ -z "$text" ] || echo "$text"
}
