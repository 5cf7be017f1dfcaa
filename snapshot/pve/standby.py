"""On a node: pvesh in the API's place, for as long as the API cannot be used at all.

Not usable: nobody reached, no certificate accepted, the credentials refused, no answer in time to a question that only
reads. A privilege that is missing (403) is the operator's setting and no reason. A request is sent a second time only
when the first one was certainly not carried out, or only reads.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping

from snapshot.clock import Clock
from snapshot.errors import ApiDeniedError, ApiError, ApiUnreachableError, ReplyLostError
from snapshot.pve.transport import Transport

UNPROVEN_SECONDS = 5.0
"""How long an API that has not answered this process yet may take to answer a question, where pvesh stands by."""

STANDBY_SECONDS = 60.0
"""For how long pvesh takes every request before the API is tried again."""


def is_unusable(error: ApiError) -> bool:
    """Whether ``error`` says that the API cannot be used at all, whatever it is asked."""
    if isinstance(error, ApiDeniedError):
        return error.status == 401
    return isinstance(error, ApiUnreachableError) or (isinstance(error, ReplyLostError) and not error.is_answered)


class Standby:
    """pvesh, and until when it takes the API's requests. One for each process."""

    def __init__(self, pvesh: Transport, clock: Clock, node: str, say: Callable[[str], None]) -> None:
        self.pvesh = pvesh
        self._clock = clock
        self._node = node
        self._say = say
        self._until: float | None = None
        self.is_proven = False
        """The API has answered this process."""

    @property
    def is_needed(self) -> bool:
        """Whether the API was found unusable a while ago."""
        return self._until is not None and self._clock.monotonic() < self._until

    def takes(self, method: str, path: str, error: ApiError) -> bool:
        """Whether ``error`` ended the API's use, and so pvesh takes the next requests; says so, once."""
        if not is_unusable(error) or (isinstance(error, ReplyLostError) and not self._is_ours_alone(method, path)):
            return False
        is_news = self._until is None
        self._until = self._clock.monotonic() + STANDBY_SECONDS
        if is_news:
            remedy = error.remedy or "check `systemctl status pveproxy pvedaemon` on this node"
            self._say(f"the PVE API cannot be used, going on with pvesh: {error.message}; {remedy}")
        return True

    def _is_ours_alone(self, method: str, path: str) -> bool:
        """Whether an answer that stays out says something about this node's API: not when an agent or another node has
        to answer first.
        """
        elsewhere = path.startswith("nodes/") and not path.startswith(f"nodes/{self._node}/")
        return method == "GET" and "/agent/" not in path and not elsewhere


class WithStandby:
    """Transport: ``api``, and pvesh while that cannot be used."""

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
            if method == "GET" and not standby.is_proven:
                limit = min(limit, UNPROVEN_SECONDS)
            try:
                answer = self._api.request(method, path, params, timeout_seconds=limit)
            except ApiError as error:
                if not standby.takes(method, path, error):
                    raise
            else:
                standby.is_proven = True
                return answer
        return standby.pvesh.request(method, path, params, timeout_seconds=timeout_seconds)

    def close(self) -> None:
        """See Transport.close."""
        self._api.close()


def can_run(program: str) -> bool:
    """Whether pvesh is there and would work: it is for root alone."""
    return os.geteuid() == 0 and os.access(program, os.X_OK)
