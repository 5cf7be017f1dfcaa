"""One HTTP request to a server that is told something, within a time limit for all of it.

Nothing is followed, no proxy is asked, no body is read: the status says it all. No word of a URL but its host, and none
of a header, is in an error.
"""

from __future__ import annotations

import email.utils
import re
import socket
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import requests
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection
from urllib3.connectionpool import HTTPConnectionPool
from urllib3.util.ssl_match_hostname import CertificateError

from snapshot.base.clock import Clock
from snapshot.base.text import clean
from snapshot.pve.https import read_ca, root_cause
from snapshot.pve.https_limits import Addresses, AnswerTooLongError, BoundedAdapter, Limits, tls_context

MOST_BYTES = 1 << 20
"""Of an answer's head."""

_SECONDS = re.compile(r"[0-9]{1,9}\Z")

_ANOTHER_HOSTS = (62, 64)
"""X509_V_ERR_HOSTNAME_MISMATCH and X509_V_ERR_IP_ADDRESS_MISMATCH (openssl/x509_vfy.h): no CA mends that."""

_NO_PLACE = ": it knows no such place; look at the URL"
_NO_KEY = ": it wants another key, in the URL or in a header"
_HINTS: Mapping[int, str] = {401: _NO_KEY, 403: _NO_KEY, 404: _NO_PLACE, 405: _NO_PLACE, 410: _NO_PLACE}

_CA_REMEDY = "[notify] ca_file must name a file of PEM certificates"


class NotSentError(Exception):
    """It was not taken, or nobody knows whether it was; the text says why, without a secret."""

    def __init__(self, message: str, wait_seconds: float = 0.0) -> None:
        super().__init__(message)
        self.wait_seconds = wait_seconds
        """How long the receiver asks us to wait (``Retry-After``); 0 where it does not."""


class Target(NamedTuple):
    """Where to. Nothing of it but the host ever prints."""

    scheme: str
    host: str
    port: int
    url: str
    headers: Mapping[str, str]

    def __repr__(self) -> str:
        return f"Target({self.host})"


class _Refused(Exception):  # noqa: N818 - no error: an answer
    """The server's answer is not that it took it."""

    def __init__(self, message: str, retry_after: str = "") -> None:
        super().__init__(message)
        self.retry_after = retry_after


def send(
    target: Target,
    body: bytes | None,
    headers: Mapping[str, str],
    *,
    seconds: float,
    ca_file: Path | None,
    clock: Clock,
) -> None:
    """POST ``body``, or GET without one. NotSentError; ConfigError for a CA file that cannot be used."""
    limits = Limits(clock)
    addresses = Addresses(target.host, target.port)
    with requests.Session() as session:
        session.trust_env = False  # no proxy, no ~/.netrc
        session.hooks["response"].append(_check)
        if target.scheme == "https":
            context = tls_context(limits, read_ca(ca_file, _CA_REMEDY))
            session.mount("https://", BoundedAdapter(addresses, limits, context))
        else:
            session.mount("http://", _PlainAdapter(addresses, limits))
        own = {"User-Agent": "vzdump-hooks", "Accept-Encoding": "identity", "Connection": "close"}
        limits.begin(seconds, MOST_BYTES)
        try:
            session.request(
                "GET" if body is None else "POST",
                target.url,
                data=body,
                headers={**own, **headers, **target.headers},
                timeout=limits.left(),
                allow_redirects=False,
                stream=True,
            ).close()
        except _Refused as answer:
            raise NotSentError(str(answer), _wait_seconds(answer.retry_after, clock.time())) from None
        except Exception as error:  # noqa: BLE001 - requests' own texts hold the URL: not one of them may get out
            raise NotSentError(_why(error, limits, seconds)) from None


def _check(response: requests.Response, **_: object) -> None:
    status = response.status_code
    if requests.codes.ok <= status < requests.codes.multiple_choices:
        return
    response.close()
    if requests.codes.multiple_choices <= status < requests.codes.bad_request:
        raise _Refused(f"it answered {status}, a redirect, which is not followed: name the place itself")
    raise _Refused(f"it answered {status}{_HINTS.get(status, '')}", response.headers.get("Retry-After", ""))


def _wait_seconds(retry_after: str, now: float) -> float:
    """Seconds, or an instant (RFC 9110, 10.2.3); 0 for what is neither."""
    text = retry_after.strip()
    if _SECONDS.match(text):
        return float(text)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - now)
    except (ValueError, TypeError, OverflowError):
        return 0.0


def _why(error: Exception, limits: Limits, seconds: float) -> str:
    cause = root_cause(error)
    if isinstance(cause, ssl.SSLCertVerificationError) and cause.verify_code in _ANOTHER_HOSTS:
        return "its certificate is another host's: write its name into the URL as the certificate has it"
    if isinstance(cause, ssl.SSLCertVerificationError):
        return f"its certificate is not accepted ({clean(cause.verify_message, 120)}); see [notify] ca_file"
    if isinstance(cause, CertificateError):
        return "its certificate is another host's"
    if isinstance(cause, AnswerTooLongError):
        return "its answer has no end"
    if limits.is_over or isinstance(cause, TimeoutError):
        return f"no whole answer within {seconds:g} s"
    if isinstance(cause, ssl.SSLError):
        return "no TLS connection came about"
    if isinstance(cause, socket.gaierror):
        return "nobody knows its name"
    if isinstance(cause, OSError) and cause.strerror:
        return clean(cause.strerror, 80)
    return f"no answer that is HTTP ({type(cause).__name__})"


class _PlainSocket(socket.socket):
    """Without TLS: every wait ends with the request. ``limits`` comes with the class, as in https_limits.py."""

    limits: Limits

    def recv_into(self, buffer: bytearray, nbytes: int = 0, flags: int = 0) -> int:  # type: ignore[override]
        self.settimeout(self.limits.left())
        count = super().recv_into(buffer, nbytes, flags)
        self.limits.received(count)
        return count


class _PlainAdapter(HTTPAdapter):
    """As BoundedAdapter, without TLS."""

    def __init__(self, addresses: Addresses, limits: Limits) -> None:
        kind = type("Plain", (_PlainSocket,), {"limits": limits})

        class Connection(HTTPConnection):
            def _new_conn(self) -> socket.socket:
                connection: socket.socket = kind(fileno=addresses.connect(limits).detach())
                connection.settimeout(limits.left())  # sendall counts it for all that it sends
                return connection

        self._pool_class = type("PlainPool", (HTTPConnectionPool,), {"ConnectionCls": Connection})
        super().__init__(max_retries=0)

    def init_poolmanager(self, *args: object, **values: object) -> None:
        """See HTTPAdapter."""
        super().init_poolmanager(*args, **values)  # type: ignore[arg-type]
        self.poolmanager.pool_classes_by_scheme = {"http": self._pool_class}
