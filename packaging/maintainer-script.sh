UNIT=@UNIT@.service
# systemd warns of directives that it does not know, so the newer ones are there only where it has them.
SANDBOXING=/lib/systemd/system/$UNIT.d/50-newer-sandboxing.conf
RUNBOOKS=/usr/local/ASR/Vx/bin

runs_systemd() {
    [ -d /run/systemd/system ]
}

tighten() {
    systemd=$(systemctl --version 2>/dev/null | sed -n '1s/^systemd \([0-9]*\).*/\1/p')
    if [ "${systemd:-0}" -ge 247 ]; then
        mkdir -p "${SANDBOXING%/*}"
        ln -sfn /usr/share/@PACKAGE@/newer-sandboxing.conf "$SANDBOXING"
    else
        loosen
    fi
}

loosen() {
    rm -f "$SANDBOXING"
    rmdir --ignore-fail-on-non-empty "${SANDBOXING%/*}" 2>/dev/null || true
}

enable() {
    deb-systemd-helper unmask "$UNIT" >/dev/null || true
    if deb-systemd-helper --quiet was-enabled "$UNIT"; then
        deb-systemd-helper enable "$UNIT" >/dev/null || true
    else
        deb-systemd-helper update-state "$UNIT" >/dev/null || true
    fi
    if runs_systemd; then
        systemctl --system daemon-reload >/dev/null || true
    fi
}

# act start|stop|restart
act() {
    if runs_systemd; then
        deb-systemd-invoke "$1" "$UNIT" >/dev/null || true
    fi
}

# What is left of the unit once the package is gone.
forget_unit() {
    case $1 in
        remove)
            if command -v deb-systemd-helper >/dev/null; then
                deb-systemd-helper mask "$UNIT" >/dev/null || true
            fi
            ;;
        purge)
            if command -v deb-systemd-helper >/dev/null; then
                deb-systemd-helper purge "$UNIT" >/dev/null || true
                deb-systemd-helper unmask "$UNIT" >/dev/null || true
            fi
            ;;
    esac
    if runs_systemd; then
        systemctl --system daemon-reload >/dev/null || true
    fi
}

# Runbooks for the old product look for its commands here. Files of somebody else are left alone.
SCRIPT=$RUNBOOKS/UnifiedAgentConfigurator.sh

link_runbooks() {
    if [ -e "$SCRIPT" ] && [ ! -L "$SCRIPT" ]; then
        echo "@PACKAGE@: $SCRIPT is of another product, and left as it is" >&2
        return
    fi
    mkdir -p "$RUNBOOKS"
    ln -sfn "/usr/share/@PACKAGE@/${SCRIPT##*/}" "$SCRIPT"
    echo "VERSION=@VERSION@" >/usr/local/.vx_version
}

# Another package that is installed has the same script.
unlink_runbooks() {
    [ "$(readlink "$SCRIPT")" = "/usr/share/@PACKAGE@/${SCRIPT##*/}" ] || return 0
    for other in master-target master-target-source; do
        if [ "$other" != @PACKAGE@ ] && [ -e "/usr/share/$other/${SCRIPT##*/}" ]; then
            ln -sfn "/usr/share/$other/${SCRIPT##*/}" "$SCRIPT"
            return
        fi
    done
    rm -f "$SCRIPT" /usr/local/.vx_version
    rmdir "$RUNBOOKS" "${RUNBOOKS%/*}" "${RUNBOOKS%/*/*}" 2>/dev/null || true
}
