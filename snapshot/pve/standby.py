"""Who takes the API's place for as long as it cannot be used at all: pvesh on a node, the configured peers elsewhere.

Not usable: nobody reached, no certificate accepted, the credentials refused, no answer in time to a question that only
reads. A privilege that is missing (403) is the operator's setting and no reason. A request is sent a second time only
when the first one was certainly not carried out, or only reads.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Mapping, Sequence

from snapshot.base.clock import Clock
from snapshot.errors import ApiDeniedError, ApiError, ApiUnreachableError, ReplyLostError
from snapshot.pve.transport import Transport

UNPROVEN_SECONDS = 5.0
"""How long an API that has not answered this process yet may take to answer a question, where somebody stands by."""

STANDBY_SECONDS = 60.0
"""For how long the others take every request before the API is tried again."""


def is_unusable(error: ApiError) -> bool:
    """Whether ``error`` says that the API cannot be used at all, whatever it is asked."""
    if isinstance(error, ApiDeniedError):
        return error.status == 401
    return isinstance(error, ApiUnreachableError) or (isinstance(error, ReplyLostError) and not error.is_answered)


class Standby:
    """The others, and until when they take the API's requests. One for each process, or for each guard in one.

    ``node``: the node this process runs on. ``same_token``: the others would refuse what the API refuses. ``moves``:
    see Access.
    """

    def __init__(
        self,
        others: Sequence[Transport],
        clock: Clock,
        say: Callable[[str], None],
        *,
        node: str = "",
        same_token: bool = False,
        moves: Callable[[], None] = lambda: None,
    ) -> None:
        self.others = others
        self.moves = moves
        self._clock = clock
        self._node = node
        self._say = say
        self._same_token = same_token
        self._until: float | None = None
        self.turn = 0
        """Which of the others is asked first: the one that has answered last."""
        self.is_proven = False
        """The API has answered this process."""

    def apart(self, others: Sequence[Transport], moves: Callable[[], None]) -> Standby:
        """One for another guard, which finds out by itself what can be used. It begins with what is known here."""
        found = copy.copy(self)
        found.others, found.moves = others, moves
        return found

    @property
    def is_needed(self) -> bool:
        """Whether the API was found unusable a while ago."""
        return self._until is not None and self._clock.monotonic() < self._until

    def takes(self, method: str, path: str, error: ApiError) -> bool:
        """Whether ``error`` ends the API's use for now, so the others take this request and the next; says so, once."""
        if not self.may_go_on(method, path, error) or (self._same_token and isinstance(error, ApiDeniedError)):
            return False
        is_news = self._until is None
        self._until = self._clock.monotonic() + STANDBY_SECONDS
        if is_news:
            names = " and ".join(other.name for other in self.others)
            remedy = error.remedy or "check `systemctl status pveproxy pvedaemon` on the node"
            self._say(f"the PVE API cannot be used, going on with {names}: {error.message}; {remedy}")
        return True

    def may_go_on(self, method: str, path: str, error: ApiError) -> bool:
        """Whether a request that ended with ``error`` may be sent over another transport.

        An answer that stays out says nothing about a transport where an agent or another node has to answer first.
        """
        if not isinstance(error, ReplyLostError):
            return is_unusable(error)
        elsewhere = bool(self._node) and path.startswith("nodes/") and not path.startswith(f"nodes/{self._node}/")
        return is_unusable(error) and method == "GET" and "/agent/" not in path and not elsewhere


class WithStandby:
    """Transport: ``api``, and the others while that cannot be used."""

    def __init__(self, api: Transport, standby: Standby) -> None:
        self.name = api.name
        self._api = api
        self._standby = standby

    def request(
        self, method: str, path: str, params: Mapping[str, object] | None = None, *, timeout_seconds: float = 10.0
    ) -> object:
        """See Transport.request."""
        standby = self._standby
        if not standby.is_needed:
            limit = timeout_seconds
            if method == "GET" and "/agent/" not in path and not standby.is_proven:
                limit = min(limit, UNPROVEN_SECONDS)
            try:
                answer = self._api.request(method, path, params, timeout_seconds=limit)
            except ApiError as error:
                if not standby.takes(method, path, error):
                    raise
                standby.moves()
            else:
                standby.is_proven = True
                return answer
        for _ in standby.others[1:]:
            other = standby.others[standby.turn]
            try:
                return other.request(method, path, params, timeout_seconds=timeout_seconds)
            except ApiError as error:
                if not standby.may_go_on(method, path, error):
                    raise
                standby.turn = (standby.turn + 1) % len(standby.others)
                standby.moves()
        return standby.others[standby.turn].request(method, path, params, timeout_seconds=timeout_seconds)

    def close(self) -> None:
        """See Transport.close."""
        for transport in (self._api, *self._standby.others):
            transport.close()


def can_run(program: str) -> bool:
    """Whether pvesh is there and would work: it is for root alone."""
    return os.geteuid() == 0 and os.access(program, os.X_OK)
