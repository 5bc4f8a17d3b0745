# What mtctl check says. Sourced, after lib.sh, by scenarios that hold the guest against it.

# become_ubuntu: the guest says that it is the supported system; its kernel stays Debian's.
become_ubuntu() {
    rm -f /etc/os-release
    printf 'PRETTY_NAME="Ubuntu 16.04.2 LTS"\nID=ubuntu\nVERSION_ID="16.04"\n' >/etc/os-release
}

# serve_configuration_server: answers on port 443 as one does, with a certificate of the scenario's authority.
serve_configuration_server() {
    cat >/run/server.py <<'END'
import http.server, json, ssl

class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = json.dumps({"product": "master-target configuration server", "version": "0.1.0"}).encode()
        self.send_response(200 if self.path == "/api/v1/version" else 404)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

server = http.server.HTTPServer(("127.0.0.1", 443), Answer)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain("/etc/master-target/tls/target.example.pem", "/etc/master-target/tls/target.example.key")
server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
END
    systemd-run --quiet --unit configuration-server python3 /run/server.py
    wait_until 30 eval "ss -ltn | grep 127.0.0.1:443"
}

# verdicts_are ARGUMENTS… <<END: the checks that do not pass are exactly these lines, `ID VERDICT`, in any order.
verdicts_are() {
    local status=0 failed=0
    mtctl check --json "$@" >/run/check.json || status=$?
    python3 -c '
import json
for check in json.load(open("/run/check.json"))["checks"]:
    if check["verdict"] != "passed":
        print(check["id"], check["verdict"])
' | sort >/run/found
    sort >/run/expected
    python3 -c '
import json
for check in json.load(open("/run/check.json"))["checks"]:
    if check["verdict"] != "passed":
        print("   ", check["id"], check["verdict"] + ":", check["found"])
'
    grep -q " failed$" /run/found && failed=3
    expect_eq "the exit status tells whether one failed" $failed $status
    expect_eq "what is wrong is reported, and nothing else" "$(cat /run/expected)" "$(cat /run/found)"
}
