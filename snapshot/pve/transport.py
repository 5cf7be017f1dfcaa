"""The seam between us and Proxmox VE: one request in, one decoded answer or one classified error out.

Two questions decide everything about a failed request, so the errors answer them: was it carried out
(ApiUnreachableError, ApiDeniedError: no; ReplyLostError: nobody knows), and did PVE say why (ApiFailureError)? Tests
put their fake here and nowhere else.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from snapshot.base.text import clean
from snapshot.errors import ApiDeniedError, ApiError, ApiFailureError, ReplyLostError

GATEWAY_STATUSES = frozenset({502, 503, 504, 595, 596, 597, 598, 599})
"""Answers of a proxy in the middle: the request may have gone on without it (pveproxy cuts after 30 s with 596)."""


LIST_BYTES = 16 << 20
"""The most that an answer about the whole cluster may have: 10,000 guests make 5 MB. Parsed it takes ten times that."""

ANSWER_BYTES = 4 << 20
"""The most that any other answer may have: a hundred snapshots with descriptions of 8 KB make 1 MB."""

AGENT_BYTES = 1 << 20
"""The most that an agent may answer, and pvesh may say on stderr: no guest is trusted, a guard's memory is locked."""


def most_bytes(path: str) -> int:
    """The most bytes that the answer to a request for ``path`` may have."""
    if "/agent/" in path:
        return AGENT_BYTES
    return LIST_BYTES if path.startswith("cluster/") else ANSWER_BYTES


class Transport(Protocol):
    """One way to reach the PVE API. ``name`` is for messages and reports, e.g. ``https://pve1:8006``."""

    name: str

    def request(
        self, method: str, path: str, params: Mapping[str, object] | None = None, *, timeout_seconds: float = 10.0
    ) -> object:
        """``data`` of the answer to ``method`` (GET, POST, PUT, DELETE) on ``path`` (no leading slash).

        Raises ApiUnreachableError, ApiDeniedError, ApiFailureError or ReplyLostError.
        """
        ...

    def close(self) -> None:
        """Let go of connections."""
        ...


def error_of_status(status: int, text: str, where: str) -> ApiError:
    """The error for an HTTP answer with ``status`` and PVE's ``text`` (its reason phrase or message)."""
    text = clean(text) or f"HTTP status {status} without a text"
    if status == 401:
        return ApiDeniedError(
            f"{where} did not accept the credentials ({text})",
            status=status,
            remedy="check [api] token_id and token_file: `pveum user token list <user>` shows the tokens",
        )
    if status == 403:
        return ApiDeniedError(
            f"{where} denied the request: {text}",
            status=status,
            remedy="grant the token the privilege named here (docs/privileges.md), on /vms or on the guest",
        )
    if status in GATEWAY_STATUSES:
        message = f"{where} answered {status} {text}: the request may still be carried out"
        return ReplyLostError(message, is_answered=True)
    return ApiFailureError(f"{where} answered {status}: {text}", status=status)
