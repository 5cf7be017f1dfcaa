"""A member's fence: what it says to the leader of its group, and how long it waits for an answer.

One message out, one in, on a connection that is open: nothing is opened, written or printed while a guest is frozen.
Every wait has a bound of its own, so that no thaw ever hangs on the leader or on another member. Where the leader is
gone the group has ended; whether snapshots are kept is then what the journal says: who comes first decides for all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

from snapshot.base.clock import Clock
from snapshot.errors import GroupEndedError
from snapshot.fleet.group import ENDED, GO, TURN, Resolution
from snapshot.pve.turns import GROUP_CALL_SECONDS
from snapshot.take.fence import Check, Go, Milestone

LOOK_SECONDS = 0.05
"""Between two looks at what else may end a wait."""

TURN_SECONDS = 1.0
"""How long each guest that is thawed ahead of ours may take: then ours is thawed all the same."""

PROOF_SECONDS = 2.0
"""What a turn leaves of the deadline for the proof."""

GONE = "the process that led the group has ended"


class Bounds(NamedTuple):
    """How long each step is waited for, in seconds."""

    examined: float = 900.0
    """The others' own commands may take long. Nothing is at risk."""
    armed: float = 20.0 + GROUP_CALL_SECONDS
    """One may wait for its group's turn at a node."""
    judged: float = 3600.0
    """Another's thaw may need its time, and PVE with its task. The guest is thawed."""

    def of(self, step: Milestone, max_window_seconds: float) -> float:
        """For one step. From the first freeze on the deadline holds, which the window watches by itself."""
        if step is Milestone.EXAMINED:
            return self.examined
        if step is Milestone.ARMED:
            return self.armed
        if step is Milestone.JUDGED:
            return self.judged
        return max_window_seconds + self.armed


class Wire(Protocol):
    """The connection to the leader. ``wait`` raises EOFError when that has ended."""

    def tell(self, op: str, **values: object) -> bool:
        """Send one message, now; False when nobody is there."""
        ...

    def wait(self, seconds: float | None = None) -> Mapping[str, Any] | None:
        """The next message; None when none came within ``seconds``."""
        ...


class MemberFence:
    """See Fence. ``agree`` puts a decision into the journal, unless there is one, and returns what is there."""

    def __init__(
        self,
        wire: Wire,
        clock: Clock,
        *,
        group_id: str,
        all_or_none: bool,
        max_window_seconds: float,
        agree: Callable[[Resolution], Resolution],
        bounds: Bounds | None = None,
    ) -> None:
        self.group_id: str | None = group_id
        self.all_or_none = all_or_none
        self._wire = wire
        self._clock = clock
        self._max_window_seconds = max_window_seconds
        self._agree = agree
        self._bounds = bounds or Bounds()
        self._ends_by = float("inf")
        self._ended = ""
        self._is_told = False
        """Whether the leader itself said that the group has ended."""
        self._is_alone = False
        """Whether nobody listens to us any more: we have left, or the leader has gone."""

    def reach(self, step: Milestone, check: Check, **told: object) -> Go:
        """See Fence."""
        if self._is_alone and not (step is Milestone.JUDGED and self.all_or_none):
            if self._ended:
                raise self._error()
            return Go()
        self._wire.tell("at", step=int(step), **told)
        try:
            return self._wait(step, check)
        except GroupEndedError:
            if step is not Milestone.JUDGED:
                raise
            return self._by_ourselves()

    def look(self) -> None:
        """See Fence."""
        if not self._is_alone:
            self._take(0.0)

    def leave(self, why: str) -> None:
        """See Fence."""
        if not self._is_alone:
            self._wire.tell("left", why=why)
        self._is_alone = True

    def _wait(self, step: Milestone, check: Check) -> Go:
        until = self._clock.monotonic() + self._bounds.of(step, self._max_window_seconds)
        while True:
            message = self._take(min(LOOK_SECONDS, max(0.0, until - self._clock.monotonic())))
            if message is not None and message["op"] == GO and message["step"] == step:
                go = _go(message)
                self._ends_by = go.ends_by or self._ends_by
                return go
            if message is not None and message["op"] == TURN:
                patience = self._clock.monotonic() + TURN_SECONDS * message["behind"]
                until = min(until, patience, self._ends_by - PROOF_SECONDS)
            check()
            if self._clock.monotonic() >= until:
                if step in (Milestone.TAKEN, Milestone.THAWED):
                    return Go()
                self._ended = f"the others were not {step.name.lower()} in time"
                raise self._error()

    def _take(self, seconds: float) -> Mapping[str, Any] | None:
        """The next message. GroupEndedError when it is the end."""
        if self._ended:
            raise self._error()
        try:
            message = self._wire.wait(seconds)
        except EOFError:
            self._ended, self._is_alone = GONE, True
            raise self._error() from None
        if message is not None and message["op"] == ENDED:
            self._ended, self._is_told = str(message["why"]), True
            raise self._error()
        return message

    def _by_ourselves(self) -> Go:
        """The group has ended, and nobody tells what becomes of the snapshot."""
        if not self.all_or_none:
            return Go(words=f"not one point in time: {self._ended}")
        nothing = Resolution(False, self._ended)
        return Go(**(nothing if self._is_told else self._agree(nothing))._asdict())

    def _error(self) -> GroupEndedError:
        return GroupEndedError(f"its group has ended: {self._ended}", remedy="mend that, and try again")


def _go(message: Mapping[str, Any]) -> Go:
    return Go(**{name: message[name] for name in Go._fields if name in message})
