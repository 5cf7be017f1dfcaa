"""A TLS server that misbehaves on the wire, below what any HTTP library would do: real sockets, one thread."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import ssl
import struct
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Self

from tests.lab.node.certs import Authority, authority, server_certificate

Handler = Callable[["Connection"], None]


class Connection:
    """One accepted TLS connection, after its request was read."""

    def __init__(self, tls: ssl.SSLSocket, request: bytes, over: threading.Event) -> None:
        self.request = request
        self.over = over
        self._tls = tls

    def send(self, data: bytes) -> None:
        self._tls.sendall(data)

    def raw(self, data: bytes) -> None:
        """Bytes past TLS: what arrives is no record of this session."""
        with socket.socket(fileno=os.dup(self._tls.fileno())) as below:
            below.sendall(data)

    def reset(self) -> None:
        """RST instead of FIN."""
        self._tls.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._tls.close()


def reply(status: str, body: bytes | str = b"", content_type: str = "application/json;charset=UTF-8") -> Handler:
    """A whole answer, then the end of the connection."""
    data = body.encode() if isinstance(body, str) else body

    def handler(connection: Connection) -> None:
        connection.send(
            f"HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {len(data)}\r\n"
            "Connection: close\r\n\r\n".encode()
            + data
        )

    return handler


class Wire:
    """Serves ``handler`` on ``listen`` with a certificate of ``ca`` for 127.0.0.1; ``requests`` is what it read."""

    def __init__(
        self, folder: Path, handler: Handler, *, ca: Authority | None = None, listen: str = "127.0.0.1"
    ) -> None:
        self.handler = handler
        self.requests: list[bytes] = []
        self.connections = 0
        signer = ca or authority()
        self.ca_file = folder / "ca.pem"
        self.ca_file.write_bytes(signer.certificate)
        certificate, key = server_certificate(signer, "pve1", "127.0.0.1")
        pair = folder / "pair.pem"
        pair.write_bytes(certificate + key)
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(pair)
        self._listener = socket.create_server((listen, 0))
        self.port: int = self._listener.getsockname()[1]
        self._over = threading.Event()
        self._threads: list[threading.Thread] = []
        self._accepting = threading.Thread(target=self._accept, daemon=True)

    def __enter__(self) -> Self:
        self._accepting.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in (self._accepting, *self._threads):
            thread.join(10)

    def _accept(self) -> None:
        while True:
            try:
                plain, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            thread = threading.Thread(target=self._serve, args=(plain,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, plain: socket.socket) -> None:
        plain.settimeout(10)
        try:
            tls = self._context.wrap_socket(plain, server_side=True)
        except OSError:  # the client did not like the certificate, or left
            plain.close()
            return
        with tls, contextlib.suppress(OSError):
            request = _read_request(tls)
            if request:
                self.requests.append(request)
                self.handler(Connection(tls, request, self._over))


def _read_request(tls: ssl.SSLSocket) -> bytes:
    data = b""
    while b"\r\n\r\n" not in data:
        more = tls.recv(65536)
        if not more:
            return b""
        data += more
    head, _, body = data.partition(b"\r\n\r\n")
    length = re.search(rb"(?i)content-length: (\d+)", head)
    while length and len(body) < int(length[1]):
        body += tls.recv(65536)
    return head + b"\r\n\r\n" + body
