"""An HTTPS connection that cannot outlast its request: every wait and every byte counts against one limit.

requests and urllib3 limit a single read, so a server that sends a byte a second, or ``100 Continue`` without end, keeps
them for ever. Here the socket itself knows when the request's time is over: before each wait it sets its own time limit
to what is left, and it counts what it receives. Nothing runs beside the caller, so a signal's exception ends a wait at
once (in a thread within a moment, base/interruption.py), and whatever ends a request closes its connection. Names alone
are looked up in a thread (a resolver cannot be interrupted): one at a time, and its answer is kept, so no name is
looked up twice while its addresses work.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Mapping, Sequence

from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPSConnection
from urllib3.connectionpool import HTTPSConnectionPool
from urllib3.util.ssl_ import create_urllib3_context

from snapshot.base import interruption
from snapshot.base.aside import Aside
from snapshot.base.clock import Clock

CONNECT_SECONDS = 3.05
"""How long a connection to one address may take to open; just above TCP's first retransmission, as requests advises."""

_Address = tuple[socket.AddressFamily, object]


class AnswerTooLongError(OSError):
    """More bytes than any answer of PVE's has."""


class Limits(threading.local):
    """The request that this thread makes right now: how long it may take, how much may come, whether anything was sent.

    A transport may be used by several threads, a connection by one of them at a time.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._ends_at = 0.0
        self._most_bytes = self._bytes_left = 0
        self.was_sent = False
        """Whether a byte of the request may have left: before that nothing can have been carried out."""
        self.refused_fields: Mapping[str, str] = {}
        """What a 400 complains about, by field."""

    def begin(self, seconds: float, most_bytes: int) -> None:
        """A new request."""
        self._ends_at = self._clock.monotonic() + seconds
        self._most_bytes = self._bytes_left = most_bytes
        self.was_sent = False

    @property
    def is_over(self) -> bool:
        """Whether the time is up."""
        return self._clock.monotonic() >= self._ends_at

    def left(self) -> float:
        """Seconds left, more than 0; TimeoutError when there are none."""
        left = self._ends_at - self._clock.monotonic()
        if left <= 0:
            raise TimeoutError("its time is up")
        return left

    def received(self, count: int) -> None:
        """Count bytes that came; AnswerTooLongError past the cap."""
        self._bytes_left -= count
        if self._bytes_left < 0:
            raise AnswerTooLongError(f"the answer has more than {self._most_bytes >> 20} MiB")


class Addresses:
    """Where a host is: looked up within the request's limit, and again only when no known address is connected to."""

    def __init__(self, host: str, port: int, known: Sequence[_Address] = ()) -> None:
        self._host, self._port = host, port
        self._known = list(known)
        self._lookup: Aside[list[_Address]] | None = None

    def apart(self) -> Addresses:
        """What is known of them, for another thread: a lookup that hangs is this one's alone."""
        return Addresses(self._host, self._port, self._known)

    def connect(self, limits: Limits) -> socket.socket:
        """A connection to the first address that takes one. OSError."""
        error: OSError | None = None
        if self._known:
            try:
                return _dial(self._known, limits)
            except OSError as failed:
                error = failed
        found = self._look_up(limits)
        if error is not None and found == self._known:
            raise error
        self._known = found
        return _dial(found, limits)

    def _look_up(self, limits: Limits) -> list[_Address]:
        with contextlib.suppress(socket.gaierror):
            return _resolve(self._host, self._port, socket.AI_NUMERICHOST)
        # One that hangs is waited for again by the next request: never two at once.
        lookup = self._lookup = self._lookup or Aside(lambda: _resolve(self._host, self._port), "lookup")
        try:
            found = lookup.result(limits.left())
        except TimeoutError:
            raise TimeoutError("its name was not resolved in time") from None
        except Exception:
            self._lookup = None
            raise
        self._lookup = None
        return found


def _dial(addresses: Sequence[_Address], limits: Limits) -> socket.socket:
    error: OSError = ConnectionRefusedError("it has no address")
    for family, address in addresses:
        connection = socket.socket(family, socket.SOCK_STREAM)
        try:
            connection.settimeout(min(CONNECT_SECONDS, limits.left()))
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.connect(address)  # type: ignore[arg-type]
        except OSError as failed:
            connection.close()
            error = failed
        except BaseException:
            connection.close()
            raise
        else:
            return connection
    raise error


def _resolve(host: str, port: int, flags: int = 0) -> list[_Address]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=flags)
    except UnicodeError as error:
        raise socket.gaierror(socket.EAI_NONAME, f"no name can be {host!r:.60}") from error
    return [(family, address) for family, _, _, _, address in found]


class _BoundedSocket(ssl.SSLSocket):
    """TLS whose every wait ends with the request. ``limits`` comes with the class: ssl itself makes the objects."""

    limits: Limits

    def send(self, data: bytes, flags: int = 0) -> int:  # type: ignore[override]
        self.settimeout(self.limits.left())
        self.limits.was_sent = True
        return super().send(data, flags)

    def recv_into(self, buffer: bytearray, nbytes: int | None = None, flags: int = 0) -> int:  # type: ignore[override]
        while True:
            self.settimeout(interruption.patience(self.limits.left()))
            try:
                count = super().recv_into(buffer, nbytes, flags)
            except TimeoutError:
                interruption.mind()
                continue  # TLS goes on where it was; a limit that is over says so itself
            self.limits.received(count)
            return count


def tls_context(limits: Limits, ca_data: str) -> ssl.SSLContext:
    """For all connections within ``limits``, of every thread: it may have a megabyte of certificates."""
    context = create_urllib3_context(cert_reqs=ssl.CERT_REQUIRED)
    context.load_verify_locations(cadata=ca_data)
    context.sslsocket_class = type("Socket", (_BoundedSocket,), {"limits": limits})
    return context


class BoundedAdapter(HTTPAdapter):
    """For requests.Session.mount: one host, within ``limits``, nothing tried twice, and no file read.

    The TLS ``context`` is made once (tls_context) and serves every connection: urllib3 would read the CA file again for
    each, outside any limit.
    """

    def __init__(self, addresses: Addresses, limits: Limits, context: ssl.SSLContext) -> None:
        class Connection(HTTPSConnection):
            def _new_conn(self) -> socket.socket:
                connection = addresses.connect(limits)
                connection.settimeout(limits.left())  # the handshake's: OpenSSL's wrapper takes it over
                return connection

            def connect(self) -> None:
                self.ssl_context = context
                self.ca_certs = self.ca_cert_dir = None
                self.cert_reqs = ssl.CERT_REQUIRED
                super().connect()

        self._pool_class = type("Pool", (HTTPSConnectionPool,), {"ConnectionCls": Connection})
        super().__init__(max_retries=0)

    def cert_verify(self, conn: object, *_: object, **__: object) -> None:
        """See HTTPAdapter, which looks for the CA file here."""

    def init_poolmanager(self, *args: object, **values: object) -> None:
        """See HTTPAdapter."""
        super().init_poolmanager(*args, **values)  # type: ignore[arg-type]
        self.poolmanager.pool_classes_by_scheme = {"https": self._pool_class}


__all__ = ["CONNECT_SECONDS", "AnswerTooLongError", "BoundedAdapter", "Limits", "tls_context"]
