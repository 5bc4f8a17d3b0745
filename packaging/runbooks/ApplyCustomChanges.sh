#!/bin/bash
# Makes this machine ready to be a master target, as runbooks for the old product call it: once, before the installation.
set -u
here=$(cd "$(dirname "$0")" && pwd -P)
done_at=/var/lib/master-target/custom-changes

fail() {
    echo "ApplyCustomChanges.sh: $1" >&2
    shift
    printf '  %s\n' "$@" >&2
    exit 1
}

case $here in
    /usr/local | /usr/local/*)
        fail "it was unpacked in $here" "why: below /usr/local the installed product has its place" \
            "do: unpack the archive in your home folder, and run it there"
        ;;
esac
[ "$(id -u)" -eq 0 ] || fail "it needs root" "do: sudo ./ApplyCustomChanges.sh"
if [ -e $done_at ]; then
    fail "it was run before, at $(cat $done_at)" "why: it is run once; what it did is not done twice" \
        "do: mtctl check tells what this machine still lacks, and mtctl check --fix mends it"
fi

mtctl=/usr/bin/mtctl
if [ ! -x $mtctl ]; then
    unpacked=$(mktemp -d) || exit 1
    trap 'rm -rf "$unpacked"' EXIT
    dpkg-deb --extract "$here"/packages/master-target_*_amd64.deb "$unpacked" ||
        fail "the package master-target is not in $here/packages" "do: unpack the whole archive again"
    mtctl=$unpacked/usr/bin/mtctl
fi
# Everything that can be mended but the service, which is not installed yet.
checks=()
for check in automatic-updates clock-synchronised hosts-file kernel-pinned lvm-filter multipath-disks packages \
    raid-assembly state-folders; do
    checks+=(--only $check)
done
status=0
"$mtctl" check --fix --yes "${checks[@]}" || status=$?
# 3: something is left that a program cannot mend, and it has been told.
[ $status -eq 0 ] || [ $status -eq 3 ] || fail "the changes could not all be made" "do: mend what is told above, then run it again"
mkdir -p "${done_at%/*}" && chmod 0700 "${done_at%/*}"
date --utc +%Y-%m-%dT%H:%M:%SZ >$done_at
if [ -e /run/reboot-required ]; then
    echo "Restart this machine before you go on: shutdown -r now"
else
    echo "Done. No restart is needed."
fi
exit $status
