# about: a master target registers by passphrase at a configuration server that runs as a service, is connected, also after a restart, and gives it up; a wrong passphrase is refused
# boots: 2
# timeout: 600
. "$LAB/in/replication.sh"
. "$LAB/in/configuration-server.sh"

name=mt-guest
register() {
    mtctl register -i 127.0.0.1 -P "$1"
}
identity=/var/lib/master-target/identity
case $BOOT in
    1)
        start_configuration_server
        wait_until 60 sh -c 'ip -4 address show eth0 | grep inet'
        note "a machine that others cannot find by its name"
        fails register "$PASSPHRASE"
        note "$output"
        check "it says what to do" grep -F "mtctl check --fix --only hosts-file" <<<"$output"
        check "that helps" mtctl check --fix --yes --only hosts-file

        note "a wrong passphrase"
        echo "a-wrong-passphrase-4711" >/root/wrong.txt
        chmod 600 /root/wrong.txt
        fails register /root/wrong.txt
        note "$output"
        check "it says which error it is" grep -F "do not have the same passphrase" <<<"$output"
        fails test -e $identity
        check "the attempt is in the audit" eval "mt-configserver audit | grep -F 'not proved'"

        note "a daemon that waits for its registration"
        check "the daemon starts without an identity" systemctl enable --now master-target
        check "registered by the passphrase" register "$PASSPHRASE"
        note "$output"
        expect_eq "the key is root's alone" "600 root" "$(stat -L -c '%a %U' $identity/key.pem)"
        wait_until 60 is_linked
        wait_until 60 host_is $name connected
        note "$(mt-configserver hosts)"
        check "it registers again as the same host" register "$PASSPHRASE"
        expect_eq "one host" 1 "$(mt-configserver hosts --json | python3 -c "
import json, sys
print(len(json.load(sys.stdin)['hosts']))")"
        host reboot
        ;;
    2)
        wait_until 90 systemctl is-active master-target-configserver
        wait_until 90 systemctl is-active master-target
        wait_until 90 is_linked
        check "the server sees it" host_is $name connected
        check "the registration is given up" mtctl unregister --yes
        note "$output"
        fails test -e $identity
        expect_eq "the server lists it no more" "" "$(host_state $name)"
        check "it may come back" register "$PASSPHRASE"
        wait_until 60 host_is $name connected

        note "without the configuration server"
        check "the server stops in order" systemctl stop master-target-configserver
        check "given up all the same" mtctl unregister --yes
        check "it says what is left to do" grep -F "mt-configserver revoke $name" <<<"$output"
        check "which works there" mt-configserver revoke $name --yes
        fails grep -rsqFf "$PASSPHRASE" /var/log /run/log /var/lib/master-target /etc
        fails sh -c "journalctl --no-pager | grep -qFf $PASSPHRASE"
        check "no unit has failed" test -z "$(systemctl --failed --no-legend)"
        ;;
esac
