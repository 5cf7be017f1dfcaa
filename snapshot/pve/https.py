"""The PVE API over HTTPS. The only import of proxmoxer."""

from __future__ import annotations

import functools
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import requests
import urllib3
from proxmoxer import ProxmoxAPI
from proxmoxer.core import ResourceException
from urllib3.util.ssl_match_hostname import CertificateError

from snapshot.errors import ApiError, ApiUnreachableError, ConfigError, ReplyLostError, SafeSnapshotError
from snapshot.pve.transport import clean, error_of_status

CONNECT_SECONDS = 3.05
"""How long a connection may take to open; just above TCP's first retransmission, as requests advises."""


class Endpoint(NamedTuple):
    """Where the API is and how to prove who we are. ``token_id`` is ``user@realm!name``; the secret never prints."""

    host: str
    port: int
    token_id: str
    token_secret: str
    ca_file: Path | None = None

    def __repr__(self) -> str:
        return f"Endpoint({self.url}, {self.token_id})"

    @property
    def url(self) -> str:
        """For messages: no secret in it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"https://{host}:{self.port}"


class HttpsTransport:
    """proxmoxer over HTTPS with an API token.

    proxmoxer has one read timeout a session, so there is one session for each timeout in use; ``warm`` opens one ahead
    of need. Nothing is retried here.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self.name = endpoint.url
        self._endpoint = endpoint
        self._sessions: dict[float, ProxmoxAPI] = {}
        self._refused_fields: dict[str, str] = {}

    def request(
        self, method: str, path: str, params: Mapping[str, object] | None = None, *, timeout_seconds: float = 10.0
    ) -> object:
        """See Transport.request."""
        call = getattr(self._session(timeout_seconds)(path.split("/")), method.lower())
        self._refused_fields = {}
        try:
            answer: object = call(**(dict(params) if params else {}))
        except ResourceException as error:
            raise error_of_status(error.status_code, _text(error, self._refused_fields), self.name) from error
        except SafeSnapshotError:
            raise  # a signal that came through while waiting
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

    def close(self) -> None:
        """See Transport.close."""
        for session in self._sessions.values():
            session._store["session"].close()
        self._sessions.clear()

    def _session(self, timeout_seconds: float) -> ProxmoxAPI:
        session = self._sessions.get(timeout_seconds)
        if session is None:
            session = self._sessions[timeout_seconds] = self._connect(timeout_seconds)
        return session

    def _connect(self, timeout_seconds: float) -> ProxmoxAPI:
        endpoint = self._endpoint
        user, _, token_name = endpoint.token_id.partition("!")
        limits = (min(CONNECT_SECONDS, timeout_seconds), timeout_seconds)
        api = ProxmoxAPI(
            "named-below",
            user=user,
            token_name=token_name,
            token_value=endpoint.token_secret,
            verify_ssl=str(endpoint.ca_file) if endpoint.ca_file else True,
            timeout=limits,
        )
        # proxmoxer 1.2 (Debian 12) takes an IPv6 address for a host with a port, and knows no time limit but a login's:
        # a thaw through it would wait for as long as a hung node pleases.
        api._store["base_url"] = f"{endpoint.url}/api2/json"
        # A proxy from the environment must never stand between a node and its own API, and a ~/.netrc must not
        # replace the token.
        session = api._store["session"]
        session.trust_env = False
        session.request = functools.partial(session.request, timeout=limits)
        session.hooks["response"].append(self._keep_refused_fields)
        return api

    def _keep_refused_fields(self, response: requests.Response, **_: object) -> None:
        """Read which field a 400 complains about: proxmoxer 1.2 (Debian 12) looks for it in the wrong place."""
        if response.status_code == requests.codes.bad_request:
            try:
                errors = response.json()["errors"]
            except (ValueError, LookupError, TypeError, RecursionError):
                return
            if isinstance(errors, dict):
                self._refused_fields = {name: why for name, why in errors.items() if isinstance(why, str)}

    def _classify(self, error: OSError) -> ApiError:
        """Whether the request can have been carried out. When in doubt: it can."""
        cause = _root(error)
        if isinstance(cause, ssl.SSLCertVerificationError | CertificateError):
            return ApiUnreachableError(
                f"{self.name}: the certificate was not accepted ({clean(str(cause), 160)})",
                remedy="set [api] ca_file to the cluster's CA (/etc/pve/pve-root-ca.pem) and [api] host to a name in "
                "the certificate",
            )
        if isinstance(error, requests.exceptions.ConnectTimeout) or isinstance(
            cause, ConnectionRefusedError | urllib3.exceptions.NewConnectionError
        ):
            return ApiUnreachableError(
                f"{self.name} cannot be reached ({_reason(error, cause)})",
                remedy="check [api] host and port, and `systemctl status pveproxy` on the node",
            )
        if isinstance(error, requests.exceptions.SSLError):
            # In the handshake, or after the request: the exceptions are the same, so the request may have arrived.
            return ReplyLostError(
                f"{self.name}: TLS broke ({clean(str(cause), 160)}): the request may have been carried out",
                remedy="check [api] host and port if this is the first request",
            )
        if isinstance(error, requests.exceptions.Timeout):
            return ReplyLostError(f"{self.name} did not answer in time: the request may still be carried out")
        return ReplyLostError(
            f"{self.name}: the connection broke before an answer came ({clean(str(cause), 120)}): "
            "the request may have been carried out"
        )


def check_ca_file(path: Path) -> None:
    """ConfigError when ``path`` does not hold a certificate: said here, before the first request fails on it."""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(path)
    except OSError as error:
        reason = "no certificate in it" if isinstance(error, ssl.SSLError) else error.strerror
        raise ConfigError(
            f"the CA file {path} cannot be used ({reason})",
            remedy="set [api] ca_file to a copy of the cluster's /etc/pve/pve-root-ca.pem",
        ) from error


def _text(error: ResourceException, fields: Mapping[str, str]) -> str:
    """PVE's own words: its message, and the field it complains about (a 400 names it in ``errors`` alone)."""
    text = str(error.content or error.status_message or "").strip()
    return " ".join([text, *(f"{name}: {why}" for name, why in fields.items())])


def _reason(error: OSError, cause: BaseException) -> str:
    """What a failed connection says, without the object that urllib3 puts in front ("<HTTPSConnection(...)>: ")."""
    if isinstance(error, requests.exceptions.ConnectTimeout):
        return "nobody answers there"
    return clean(str(cause).rpartition(">: ")[2], 120)


def _root(error: BaseException) -> BaseException:
    """The innermost cause that requests and urllib3 wrapped; a NewConnectionError is as deep as it needs to go."""
    current: Any = error
    for _ in range(8):
        if isinstance(current, urllib3.exceptions.NewConnectionError):
            return current
        inner = getattr(current, "reason", None)
        if not isinstance(inner, BaseException):
            inner = next((a for a in current.args if isinstance(a, BaseException)), None)
        if inner is None:
            break
        current = inner
    found: BaseException = current
    return found
