# A configuration server in this guest, as its own service. Sourced, after lib.sh, by scenarios that register.

PASSPHRASE=/root/passphrase.txt
ADMINISTRATOR=/root/administrator.password

# start_configuration_server: as the package sets it up: a user of its own, and the unit enabled.
start_configuration_server() {
    check "its configuration is good" mt-configserver --check
    check "the service starts, and will at boot" systemctl enable --now master-target-configserver
    expect_eq "it runs as that user" mt-configserver \
        "$(ps -o user:32= -p "$(systemctl show -p MainPID --value master-target-configserver)" | tr -d ' ')"
    expect_eq "the passphrase is for it alone" "600 mt-configserver" \
        "$(stat -c '%a %U' /var/lib/mt-configserver/connection.passphrase)"
    (umask 077 && mt-configserver passphrase show >$PASSPHRASE 2>/dev/null)
    # It is there until somebody logs in.
    cp /var/lib/mt-configserver/administrator.password $ADMINISTRATOR
}

# host_state NAME: how the configuration server says a host is, asked for over its REST API; an empty line when it is not
# registered.
host_state() {
    python3 - "$1" $ADMINISTRATOR <<'END'
import json, ssl, sys, urllib.request

name, file = sys.argv[1:]
anyone = ssl._create_unverified_context()

def ask(path, body=None, token=None):
    headers = {"Content-Type": "application/json"}
    if token:
        headers["Authorization"] = "Bearer " + token
    data = json.dumps(body).encode() if body else None
    request = urllib.request.Request("https://127.0.0.1/api/v1/" + path, data, headers)
    return json.load(urllib.request.urlopen(request, context=anyone, timeout=20))

token = ask("session", {"user": "admin", "password": open(file).read().strip()})["token"]
hosts = ask("hosts", token=token)["entries"]
print(next((host["state"] for host in hosts if host["name"] == name), ""))
END
}

# host_is NAME STATE
host_is() {
    [ "$(host_state "$1")" = "$2" ]
}

# is_linked: the daemon says that the configuration server answers its heartbeats.
is_linked() {
    mtctl status --json | python3 -c "
import json, sys
sys.exit(0 if (json.load(sys.stdin).get('link') or {}).get('connected_since') else 1)"
}
