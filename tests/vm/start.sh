#!/usr/bin/env bash
# The guest's side of a run: asks what to do, runs the scenario, collects the logs.
set -u
export LAB=/run/lab
in=$LAB/in
out=$LAB/out

run_scenario() {
    echo "== boot $BOOT, $(cut -d ' ' -f 1 /proc/uptime) s after power-on"
    timeout --kill-after=5 "$1" bash -c '
        set -euo pipefail
        . "$LAB/in/lib.sh"
        . "$LAB/in/scenarios/$SCENARIO.sh"
    '
}

collect_logs() {
    journalctl --no-pager -o short-precise >"$out/journal" 2>&1
    dmesg >"$out/dmesg" 2>&1
    if mtctl check --help >/dev/null 2>&1; then
        timeout 60 mtctl check --json >"$out/check.json" 2>"$out/check.err"
    fi
}

shell() {
    # shellcheck disable=SC2016
    setsid --ctty bash --rcfile "$in/lib.sh" -i </dev/ttyS0 >/dev/ttyS0 2>&1
}

# A reboot that the script asked for: the next boot goes on.
trap 'exit 0' TERM
udevadm settle --exit-if-exists=/dev/virtio-ports/lab --timeout=60
exec 9<>/dev/virtio-ports/lab
# The first line may be what a power cut left half written.
printf '\nhello\n' >&9
read -r -t 60 mode BOOT seconds SCENARIO <&9 || exit 1
export BOOT SCENARIO

[ "$BOOT" -ne 1 ] || touch /root/first-boot
case $mode in
    shell) shell ;;
    *) run_scenario "$seconds" >>"$out/script.log" 2>&1 ;;
esac
status=$?
collect_logs
printf 'end %s\n' "$status" >&9
