"""``safe-snapshot metrics serve``: the exposition over HTTP, rendered from the journal at every scrape.

Loopback unless told otherwise: the metrics name every guest. A journal that cannot be read is an answer of 500 with the
reason, so that Prometheus sees the target down instead of no failures. One that is not there yet is empty.
"""

from __future__ import annotations

import http.server
import ipaddress
import socket
import sys
import threading
from collections.abc import Callable
from contextlib import closing, suppress
from typing import Any

from snapshot.base import streams
from snapshot.base.clock import Clock
from snapshot.config.settings import Config
from snapshot.errors import JournalError, UsageError
from snapshot.journal.reader import JournalReader
from snapshot.metrics import exposition

REQUEST_SECONDS = 10.0
"""How long a client may take to send its request, and then to take the answer."""

_LANDING = b"<!doctype html><title>vzdump-hooks</title><p>Freeze metrics: <a href=/metrics>/metrics</a>\n"
_HTML = "text/html; charset=utf-8"
_PLAIN = "text/plain; charset=utf-8"


class Exporter(http.server.ThreadingHTTPServer):
    """Serves ``/metrics`` until ``shutdown``. UsageError when the address cannot be listened on."""

    daemon_threads = True

    def __init__(self, address: str, port: int, config: Config, clock: Clock) -> None:
        self._config = config
        self._clock = clock
        self._turn = threading.Lock()
        if ":" in address:
            self.address_family = socket.AF_INET6
        try:
            super().__init__((address, port), _Handler)
        except (OSError, OverflowError) as error:
            reason = getattr(error, "strerror", None) or error
            raise UsageError(
                f"cannot listen on {address} port {port} ({reason})", remedy="see --address and --port"
            ) from error

    @property
    def url(self) -> str:
        """Where the metrics are."""
        host, port = str(self.server_address[0]), self.server_address[1]
        return f"http://{f'[{host}]' if ':' in host else host}:{port}/metrics"

    @property
    def is_public(self) -> bool:
        """Whether other machines may reach it."""
        return not ipaddress.ip_address(str(self.server_address[0])).is_loopback

    def handle_error(self, request: Any, client_address: Any) -> None:
        """One line for a bug of ours, none for a client that went away; its scrape fails either way."""
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            streams.err(f"ERROR: a scrape failed: internal error ({type(error).__name__}: {error})")

    def render(self) -> bytes:
        """The exposition now. One at a time: a second scraper waits instead of doubling the memory. JournalError."""
        with self._turn, closing(JournalReader(self._config.journal.path)) as journal:
            return exposition.render(journal, self._config, self._clock.time())


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Exporter
    server_version = "vzdump-hooks"
    sys_version = ""
    timeout = REQUEST_SECONDS  # of each read and each write; whoever drips is hung up on by the timer

    def setup(self) -> None:
        super().setup()
        self._patience = threading.Timer(REQUEST_SECONDS, self._hang_up)
        self._patience.daemon = True
        self._patience.start()

    def finish(self) -> None:
        self._patience.cancel()
        super().finish()

    def _hang_up(self) -> None:
        with suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def _answer(self, *, with_body: bool) -> None:
        self._patience.cancel()
        pages: dict[str, Callable[[], tuple[int, str, bytes]]] = {
            "/": lambda: (200, _HTML, _LANDING),
            "/metrics": self._metrics,
        }
        page = pages.get(self.path.partition("?")[0], lambda: (404, _PLAIN, b"only /metrics is here\n"))
        status, kind, body = page()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if with_body:
            self.wfile.write(body)

    def _metrics(self) -> tuple[int, str, bytes]:
        try:
            return 200, exposition.CONTENT_TYPE, self.server.render()
        except JournalError as error:
            return 500, _PLAIN, f"{error}\n".encode()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - http.server's name
        """Nothing: a line a scrape says nothing."""
