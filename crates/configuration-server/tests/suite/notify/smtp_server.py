"""A mail server for tests: aiosmtpd with TLS and a password.

Writes each mail into FOLDER as NUMBER.json: envelope, decoded headers and text. Prints its port when it listens.
"""

import asyncio
import email
import email.policy
import json
import os
import ssl
import sys

from aiosmtpd.smtp import SMTP, AuthResult, LoginPassword

options = json.loads(sys.argv[1])
folder = options["folder"]


class Handler:
    count = 0

    async def handle_RCPT(self, server, session, envelope, address, rcpt_options):
        if address.startswith("refused"):
            return "550 5.1.1 no such user here\x1b[31m"
        if address.startswith("later"):
            return "450 4.2.1 come back later"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server, session, envelope):
        mail = email.message_from_bytes(envelope.original_content, policy=email.policy.default)
        text = json.dumps({
            "from": envelope.mail_from,
            "to": envelope.rcpt_tos,
            "tls": session.ssl is not None or options["encryption"] == "tls",
            "headers": [[name, str(value)] for name, value in mail.items()],
            "text": mail.get_content().replace("\r\n", "\n"),
            "bytes": len(envelope.original_content),
        })
        Handler.count += 1
        name = os.path.join(folder, f"{Handler.count:06}.json")
        with open(name + ".new", "w") as file:
            file.write(text)
        os.rename(name + ".new", name)
        return "250 OK"


def authenticator(server, session, envelope, mechanism, data):
    known = isinstance(data, LoginPassword) and (data.login.decode(), data.password.decode()) == (
        options["user"],
        options["password"],
    )
    # It says what it was told, as a server that logs too much would.
    said = "" if known else f"535 5.7.8 no: {data}"
    return AuthResult(success=known, handled=known, message=said or None)


async def main():
    context = None
    if options["encryption"] != "none":
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(options["certificate"], options["key"])
    starttls = options["encryption"] == "starttls"

    def factory():
        return SMTP(
            Handler(),
            tls_context=context if starttls else None,
            require_starttls=starttls,
            auth_required=options["user"] is not None,
            auth_require_tls=starttls,
            authenticator=authenticator,
        )

    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        factory, "127.0.0.1", options["port"], ssl=context if options["encryption"] == "tls" else None
    )
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


asyncio.run(main())
