"""A receiver of webhooks for tests: Python's web server, with TLS when it has a certificate.

Writes each request into FOLDER as NUMBER.json before it answers. Prints its port when it listens.
"""

import http.server
import json
import os
import ssl
import sys
import threading

options = json.loads(sys.argv[1])
lock = threading.Lock()
count = len([name for name in os.listdir(options["folder"]) if name.endswith(".json")])


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        global count
        body = self.rfile.read(int(self.headers["content-length"])).decode()
        with lock:
            count += 1
            name = os.path.join(options["folder"], f"{count:06}.json")
        headers = {name.lower(): value for name, value in self.headers.items()}
        with open(name + ".new", "w") as file:
            json.dump({"path": self.path, "headers": headers, "body": body}, file)
        os.rename(name + ".new", name)
        if self.path == "/moved":
            self.answer(307, b"", [("location", "/elsewhere")])
        elif self.path == "/no":
            self.answer(403, b"not you\x1b[31m\r\nand not me")
        else:
            self.answer(204, b"")

    def answer(self, status, body, headers=()):
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", options["port"]), Handler)
if options["certificate"] is not None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(options["certificate"], options["key"])
    server.socket = context.wrap_socket(server.socket, server_side=True)
print(server.server_address[1], flush=True)
server.serve_forever()
