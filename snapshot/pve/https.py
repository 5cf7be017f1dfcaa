"""The PVE API over HTTPS. The only import of proxmoxer."""

from __future__ import annotations

import copy
import ssl
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import requests
import urllib3
from proxmoxer import ProxmoxAPI
from proxmoxer.core import ResourceException
from urllib3.util.ssl_match_hostname import CertificateError

from snapshot.base.clock import Clock, SystemClock
from snapshot.base.text import clean
from snapshot.errors import ApiError, ApiUnreachableError, ConfigError, ReplyLostError, SafeSnapshotError
from snapshot.pve.https_limits import Addresses, AnswerTooLongError, BoundedAdapter, Limits, tls_context
from snapshot.pve.transport import error_of_status, most_bytes

_NOT_YET_VALID, _EXPIRED, _NAME_MISMATCH, _ADDRESS_MISMATCH = 9, 10, 62, 64
"""OpenSSL's X509_V_ERR_*: what is wrong with a certificate beside its signer."""

MOST_CA_BYTES = 16 << 20
"""Of a CA file: all the public CAs together have a quarter of a megabyte."""


_CA_REMEDY = "set [api] ca_file to a copy of the cluster's /etc/pve/pve-root-ca.pem"


class Endpoint(NamedTuple):
    """Where the API is and how to prove who we are. ``token_id`` is ``user@realm!name``; the secret never prints."""

    host: str
    port: int
    token_id: str = ""
    token_secret: str = ""
    ca_file: Path | None = None
    ca_data: str = ""
    """What is in the CA file, or in the system's: see read_ca."""

    def __repr__(self) -> str:
        return f"Endpoint({self.url}, {self.token_id})"

    @property
    def url(self) -> str:
        """For messages: no secret in it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"https://{host}:{self.port}"


class HttpsTransport:
    """proxmoxer over HTTPS with an API token. A request is over at its time limit, whatever the server does.

    Nothing is retried here, and nothing followed: PVE's API redirects nobody.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        clock: Clock | None = None,
        *,
        complete: Callable[[Endpoint], Endpoint] = lambda endpoint: endpoint._replace(
            ca_data=read_ca(endpoint.ca_file)
        ),
    ) -> None:
        """``complete`` adds what lies in files (the token, the CA) before the first request; it may raise ApiError.

        No file is read after that: one in /etc/pve hangs with the cluster's file system, and a guard must not.
        """
        self.name = endpoint.url
        self._complete = complete
        self._endpoint = endpoint
        self._limits = Limits(clock or SystemClock())
        self._addresses = Addresses(endpoint.host, endpoint.port)
        self._api: ProxmoxAPI | None = None
        self._tls: ssl.SSLContext | None = None
        self.date = ""
        """What the host called the time in its last answer: an HTTP date, which has whole seconds."""

    def request(
        self, method: str, path: str, params: Mapping[str, object] | None = None, *, timeout_seconds: float = 10.0
    ) -> object:
        """See Transport.request."""
        api = self._api = self._api or self._connect()
        call = getattr(api(path.split("/")), method.lower())
        self._limits.begin(timeout_seconds, most_bytes(path))
        self._limits.refused_fields = {}
        try:
            answer: object = call(**(dict(params) if params else {}))
        except ResourceException as error:
            text = _text(error, self._limits.refused_fields)
            raise error_of_status(error.status_code, text, self.name) from error
        except SafeSnapshotError:
            raise  # what _check has to say
        except OSError as error:
            raise self._classify(error) from error
        except Exception as error:
            # proxmoxer reads ["data"] of whatever JSON came: a list, a string, null or a thousand brackets are a broken
            # answer, not a bug of the caller's. Nothing that a peer sends may end a thaw's retries.
            raise ReplyLostError(f"{self.name} gave an answer that is not PVE's ({type(error).__name__})") from error
        if isinstance(answer, dict) and isinstance(answer.get("errors"), bytes):
            # proxmoxer's JSON parser gave up and handed the raw body back as "errors".
            raise ReplyLostError(f"{self.name} gave an answer that is not JSON: {clean(repr(answer['errors'][:80]))}")
        return answer

    def apart(self) -> HttpsTransport:
        """The same host for another thread, with connections of its own: neither waits for the other's. What was read
        and made once is shared.
        """
        found = copy.copy(self)
        found._addresses, found._api = self._addresses.apart(), None
        return found

    def close(self) -> None:
        """See Transport.close. What was read and made once is kept: processes that are forked then share it."""
        if self._api is not None:
            self._api._store["session"].close()

    def _connect(self) -> ProxmoxAPI:
        if not self._endpoint.ca_data:
            self._endpoint = self._complete(self._endpoint)
        endpoint = self._endpoint
        user, _, token_name = endpoint.token_id.partition("!")
        api = ProxmoxAPI(
            "named-below",
            user=user,
            token_name=token_name,
            token_value=endpoint.token_secret,
            verify_ssl=True,
        )
        # proxmoxer 1.2 (Debian 12) takes an IPv6 address for a host with a port.
        api._store["base_url"] = f"{endpoint.url}/api2/json"
        # A proxy from the environment must never stand between a node and its own API, and a ~/.netrc must not
        # replace the token.
        session = api._store["session"]
        session.trust_env = False
        self._tls = self._tls or tls_context(self._limits, endpoint.ca_data)
        session.mount("https://", BoundedAdapter(self._addresses, self._limits, self._tls))
        # A few bytes that unpack to gigabytes would pass any cap.
        session.headers["Accept-Encoding"] = "identity"
        session.hooks["response"].append(self._check)
        request = session.request

        def bounded(*arguments: object, **values: object) -> object:
            # The adapter's sockets keep the limit; here it overrides proxmoxer's 5 s for a single read.
            return request(*arguments, **values, timeout=self._limits.left(), allow_redirects=False)

        session.request = bounded
        return api

    def _check(self, response: requests.Response, **_: object) -> None:
        """Before the body is read: refuse what is not PVE's, and keep what proxmoxer drops."""
        self.date = response.headers.get("Date", "")
        status = response.status_code
        redirects = requests.codes.multiple_choices <= status < requests.codes.bad_request
        packing = response.headers.get("Content-Encoding", "identity")
        if redirects or status < requests.codes.ok or packing != "identity":
            response.close()
            where = clean(response.headers.get("Location", ""), 80)
            what = f"{status}, go to {where}" if where else f"{status}, {packing}"
            raise ReplyLostError(
                f"{self.name} gave an answer that is not PVE's API ({what})",
                remedy="check [api] host and port: they must name pveproxy itself, not a web server in front of it",
            )
        response.encoding = "utf-8"  # else requests guesses it, which takes minutes for a megabyte of nonsense
        if status == requests.codes.bad_request:
            self._limits.refused_fields = _refused_fields(response)

    def _classify(self, error: OSError) -> ApiError:
        """Whether the request can have been carried out. When in doubt: it can."""
        cause = root_cause(error)
        if self._limits.was_sent:
            return self._lost(cause)
        if isinstance(cause, ssl.SSLCertVerificationError | CertificateError):
            return ApiUnreachableError(
                f"{self.name}: the certificate was not accepted ({clean(str(cause), 160)})",
                remedy=_certificate_remedy(cause, self._endpoint.ca_file),
            )
        if isinstance(cause, ssl.SSLError):
            return ApiUnreachableError(
                f"{self.name}: no TLS connection came about ({clean(str(cause), 160)})",
                remedy="check [api] host and port",
            )
        why = (
            "nobody answers there" if isinstance(cause, TimeoutError | urllib3.exceptions.TimeoutError) else str(cause)
        )
        return ApiUnreachableError(
            f"{self.name} cannot be reached ({clean(why, 120)})",
            remedy="check [api] host and port, and `systemctl status pveproxy` on the node",
        )

    def _lost(self, cause: BaseException) -> ReplyLostError:
        if isinstance(cause, AnswerTooLongError):
            return ReplyLostError(
                f"{self.name}: {cause}, which is not PVE's: the request may have been carried out",
                remedy="check [api] host and port",
            )
        if self._limits.is_over:
            return ReplyLostError(f"{self.name} did not answer in time: the request may still be carried out")
        what = "TLS broke" if isinstance(cause, ssl.SSLError) else "the connection broke before an answer came"
        return ReplyLostError(f"{self.name}: {what} ({clean(str(cause), 120)}): the request may have been carried out")


def read_ca(path: Path | None, remedy: str = _CA_REMEDY) -> str:
    """The certificates in ``path``; without one in the file of the CAs that Python knows. ConfigError when it has none:
    said here, before the first request fails on it.
    """
    path = path or Path(requests.utils.DEFAULT_CA_BUNDLE_PATH)
    try:
        with path.open("rb") as file:
            data = file.read(MOST_CA_BYTES).decode("ascii", "ignore")  # comments may hold anything
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=data)
    except (OSError, ValueError) as error:
        is_unread = isinstance(error, OSError) and not isinstance(error, ssl.SSLError)
        reason = getattr(error, "strerror", "") if is_unread else "no certificate in it"
        raise ConfigError(
            f"the CA file {path} cannot be used ({reason})",
            remedy=remedy,
        ) from error
    return data


def _certificate_remedy(cause: BaseException, ca_file: Path | None) -> str:
    code = getattr(cause, "verify_code", None)
    if code is None or code in (_NAME_MISMATCH, _ADDRESS_MISMATCH):
        return "set [api] host to a name in the certificate"
    if code in (_NOT_YET_VALID, _EXPIRED):
        return "renew the node's certificate (`pvecm updatecerts --force`, or its ACME order), and check the clocks"
    return (
        f"[api] ca_file ({ca_file or 'not set: the CAs that Python knows'}) must hold the CA that signed it: a public "
        "one (Let's Encrypt) is in /etc/ssl/certs/ca-certificates.crt, the cluster's own in /etc/pve/pve-root-ca.pem"
    )


def _text(error: ResourceException, fields: Mapping[str, str]) -> str:
    """PVE's own words: its message, and the field it complains about (a 400 names it in ``errors`` alone)."""
    text = str(error.content or error.status_message or "").strip()
    return " ".join([text, *(f"{name}: {why}" for name, why in fields.items())])


def _refused_fields(response: requests.Response) -> dict[str, str]:
    """Which field a 400 complains about: proxmoxer 1.2 (Debian 12) looks for it in the wrong place."""
    try:
        errors = response.json()["errors"]
    except (ValueError, LookupError, TypeError, RecursionError):
        return {}
    return {name: why for name, why in errors.items() if isinstance(why, str)} if isinstance(errors, dict) else {}


def root_cause(error: BaseException) -> BaseException:
    """The innermost cause that requests and urllib3 wrapped."""
    current: Any = error
    for _ in range(8):
        inner = getattr(current, "reason", None)
        if not isinstance(inner, BaseException):
            inner = next((a for a in current.args if isinstance(a, BaseException)), None)
        if inner is None:
            break
        current = inner
    found: BaseException = current
    return found
