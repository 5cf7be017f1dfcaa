"""Those who are told: an SMTP server behind a stand-in for sendmail, and an HTTP server, on real sockets."""

from __future__ import annotations

import email
import email.message
import email.policy
import http.server
import json
import socketserver
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, Self, cast

_SENDMAIL = """#!{python}
import email, smtplib, sys
text = sys.stdin.buffer.read()
to = email.message_from_bytes(text)["To"]
assert sys.argv[1:] == ["-i", "-t"], sys.argv
with smtplib.SMTP("127.0.0.1", {port}, timeout=20) as server:
    server.sendmail("root@pve1", [to], text)
"""


def sendmail(path: Path, port: int) -> Path:
    """A program that is called as sendmail is, and speaks SMTP."""
    path.write_text(_SENDMAIL.format(python=sys.executable, port=port))
    path.chmod(0o755)
    return path


def write_secret(path: Path, text: str) -> Path:
    """A file that only its owner reads."""
    path.write_text(text)
    path.chmod(0o600)
    return path


class Got(NamedTuple):
    """One request, as the server read it."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> dict[str, Any]:
        return cast("dict[str, Any]", json.loads(self.body))


Handler = Callable[[http.server.BaseHTTPRequestHandler], None]


def answer(status: int, **headers: str) -> Handler:
    """An answer without a body."""

    def handle(request: http.server.BaseHTTPRequestHandler) -> None:
        request.send_response(status)
        for name, value in {"Content-Length": "0", **headers}.items():
            request.send_header(name, value)
        request.end_headers()

    return handle


class _Server:
    server: socketserver.BaseServer

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self.server.shutdown()
        self._thread.join()
        self.server.server_close()

    def __init__(self) -> None:
        self.over = threading.Event()


class WebServer(_Server):
    """Keeps what it got; answers as ``handler`` says."""

    secret = "sEcReT-in-the-path"
    token = "tOkEn-in-a-header"

    def __init__(self) -> None:
        super().__init__()
        self.got: list[Got] = []
        self.handler: Handler = answer(200)
        outer = self

        class Requests(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                outer.got.append(Got(self.command, self.path, dict(self.headers), body))
                outer.handler(self)

            do_POST = do_GET  # noqa: N815 - as http.server calls it

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                pass

        class Threads(http.server.ThreadingHTTPServer):
            def handle_error(self, request: object, client_address: object) -> None:
                pass  # a client that has gone

        self.server = Threads(("127.0.0.1", 0), Requests)
        self.port = int(self.server.server_address[1])
        self.url = f"http://127.0.0.1:{self.port}"

    @property
    def letters(self) -> list[dict[str, Any]]:
        """What was posted."""
        return [got.json for got in self.got if got.method == "POST"]

    @property
    def beats(self) -> list[str]:
        """What was fetched, without the secret."""
        return [got.path.replace(f"/{self.secret}", "") for got in self.got if got.method == "GET"]


class MailServer(_Server):
    """SMTP, as far as smtplib speaks it."""

    def __init__(self) -> None:
        super().__init__()
        self.got: list[email.message.EmailMessage] = []
        self.is_down = False
        outer = self

        class Session(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                if outer.is_down:
                    self.wfile.write(b"421 not now\r\n")
                    return
                self.wfile.write(b"220 test\r\n")
                while line := self.rfile.readline():
                    word = line[:4].upper()
                    if word == b"DATA":
                        self.wfile.write(b"354 go on\r\n")
                        lines = list(iter(self.rfile.readline, b".\r\n"))
                        text = b"".join(part.removeprefix(b".") for part in lines)
                        outer.got.append(email.message_from_bytes(text, policy=email.policy.default))
                    self.wfile.write(b"221 bye\r\n" if word == b"QUIT" else b"250 yes\r\n")
                    if word == b"QUIT":
                        return

        class Threads(socketserver.ThreadingTCPServer):
            daemon_threads = True

        self.server = Threads(("127.0.0.1", 0), Session)
        self.port = int(self.server.server_address[1])

    @property
    def subjects(self) -> list[str]:
        return [str(mail["Subject"]) for mail in self.got]
