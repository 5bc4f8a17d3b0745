# The packages: installed, upgraded, removed. Sourced, after replication.sh and configuration-server.sh, by scenarios that
# do so.

. "$LAB/in/checks.sh"

# commands_of FILE HEADING: the commands of the first block of the shell below a heading of a document.
commands_of() {
    awk -v heading="$2" '
        $0 == heading { below = 1 }
        below && /^```$/ { exit }
        below && inside { sub(/ +#.*/, ""); print }
        below && /^```sh$/ { inside = 1 }' "$1"
}

# install_packages FOLDER [NAME…]: the packages of these names from a folder, or all that one machine can have: a process
# server wants the master target's port.
install_packages() {
    local folder=$1 name files=()
    shift
    [ $# -gt 0 ] || set -- master-target-configserver master-target master-target-source
    for name in "$@"; do
        files+=("$folder/${name}"_*_amd64.deb)
    done
    dpkg --install "${files[@]}"
}

version_of() {
    dpkg-query --show --showformat='${Version}' "$1"
}

# register_all: this machine as a master target and as a source, with the configuration server on it; sources show from then
# on what that gave them.
register_all() {
    wait_until 60 sh -c 'ip -4 address show eth0 | grep inet'
    wait_until 60 test -s /var/lib/mt-configserver/connection.passphrase
    (umask 077 && mt-configserver passphrase show >$PASSPHRASE 2>/dev/null)
    check "the machine knows its own name" mtctl check --fix --yes --only hosts-file
    check "old runbooks register" /usr/local/ASR/Vx/bin/UnifiedAgentConfigurator.sh -i 127.0.0.1 -P $PASSPHRASE
    note "$output"
    check "the source too" mt-source register -i 127.0.0.1 -P $PASSPHRASE
    wait_until 60 is_linked
    show_identity
}

# show_identity: sources show what registering gave them.
show_identity() {
    TARGET_NAME=$(hostname)
    SOURCE_CERTIFICATE=/var/lib/mt-source/identity/certificate.pem
    SOURCE_KEY=/var/lib/mt-source/identity/key.pem
    AUTHORITY=/var/lib/mt-source/identity/ca.pem
}

# protect ITEM TARGET SIZE: of this machine's source.
protect() {
    check "$1 is taken" mtctl protect "$1" --source "$(hostname)" --disk "disk0=$2,size=$3"
}

# is_known ITEM: the daemon has it, and its disks are open.
is_known() {
    case $(item_field "$1" state) in
        '' | starting) return 1 ;;
    esac
}

# received ITEM: bytes that came from its source since the daemon started.
received() {
    item_field "$1" received_bytes
}

sha256() {
    sha256sum <"$1" | cut -d ' ' -f 1
}
