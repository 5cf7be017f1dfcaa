"""The states of a freeze window and every legal transition, as one table. Standard library only.

The rules:

1. A freeze is only ever requested from ARMED: protect before you act.
2. A lost reply is UNKNOWN, never "no": the guest may be frozen, or may freeze later.
3. UNKNOWN is left for THAWED only by a confirmed thaw followed by a quiet period in which no freeze can still be on
   its way; until then a confirmed thaw leaves the window UNKNOWN, and so does a late freeze, which is thawed again. So
   does a guest that goes off: PVE may hold the freeze still, and carry it out when the guest is on again. A thaw that
   counted a filesystem shortens the quiet period to seconds: a window sends one freeze, and that was it, unless
   another's was in front of it in the agent's queue.
4. STUCK is not an end: retries go on at their slowest pace, and a confirmed thaw (or a guest that is off) leaves it for
   UNKNOWN, whose quiet period is empty when no late freeze is possible.
5. THAWED is an end. The next window is a new machine.
6. A window has several writers (owner, guard, a recovery), and none records each step. What one of them writes of the
   state must follow from what was written before by one event or several; the same state again is no step.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from types import MappingProxyType


class State(Enum):
    """Where a freeze window is."""

    IDLE = "idle"
    ARMED = "armed"
    FREEZING = "freezing"
    FROZEN = "frozen"
    THAWING = "thawing"
    THAWED = "thawed"
    UNKNOWN = "unknown"
    STUCK = "stuck"


class Event(Enum):
    """What happened to a freeze window."""

    GUARD_ARMED = "guard armed"
    FREEZE_SENT = "freeze sent"
    FREEZE_ACKNOWLEDGED = "freeze acknowledged"
    FREEZE_REFUSED = "freeze refused"
    FREEZE_FAILED = "freeze failed or froze nothing"
    FREEZE_UNCLEAR = "freeze reply lost"
    THAW_DECIDED = "thaw decided"
    THAW_CONFIRMED = "thaw confirmed"
    THAW_UNCLEAR = "thaw reply lost"
    RETRIES_SLOWEST = "retries at their slowest pace"
    LATE_FREEZE_SEEN = "late freeze seen"
    QUIET = "quiet period over"
    CARRIED_OUT = "thaw counted the lost freeze"
    GUEST_GONE = "guest is off or rebooted"
    DISARMED = "disarmed before any freeze"


TABLE: Mapping[tuple[State, Event], State] = MappingProxyType(
    {
        (State.IDLE, Event.GUARD_ARMED): State.ARMED,
        (State.ARMED, Event.FREEZE_SENT): State.FREEZING,
        (State.ARMED, Event.DISARMED): State.THAWED,
        (State.FREEZING, Event.FREEZE_ACKNOWLEDGED): State.FROZEN,
        (State.FREEZING, Event.FREEZE_REFUSED): State.THAWED,
        (State.FREEZING, Event.FREEZE_FAILED): State.THAWING,
        (State.FREEZING, Event.FREEZE_UNCLEAR): State.UNKNOWN,
        (State.FREEZING, Event.GUEST_GONE): State.THAWED,
        (State.FROZEN, Event.THAW_DECIDED): State.THAWING,
        (State.FROZEN, Event.GUEST_GONE): State.THAWED,
        (State.THAWING, Event.THAW_CONFIRMED): State.THAWED,
        (State.THAWING, Event.THAW_UNCLEAR): State.UNKNOWN,
        (State.THAWING, Event.RETRIES_SLOWEST): State.STUCK,
        (State.THAWING, Event.GUEST_GONE): State.THAWED,
        (State.UNKNOWN, Event.THAW_DECIDED): State.UNKNOWN,
        (State.UNKNOWN, Event.THAW_UNCLEAR): State.UNKNOWN,
        (State.UNKNOWN, Event.THAW_CONFIRMED): State.UNKNOWN,
        (State.UNKNOWN, Event.LATE_FREEZE_SEEN): State.UNKNOWN,
        (State.UNKNOWN, Event.QUIET): State.THAWED,
        (State.UNKNOWN, Event.CARRIED_OUT): State.UNKNOWN,
        (State.UNKNOWN, Event.RETRIES_SLOWEST): State.STUCK,
        (State.UNKNOWN, Event.GUEST_GONE): State.UNKNOWN,
        (State.STUCK, Event.THAW_UNCLEAR): State.STUCK,
        (State.STUCK, Event.RETRIES_SLOWEST): State.STUCK,
        (State.STUCK, Event.THAW_CONFIRMED): State.UNKNOWN,
        (State.STUCK, Event.GUEST_GONE): State.UNKNOWN,
    }
)


def _closure() -> Mapping[State, frozenset[State]]:
    """What can follow each state, by one event or several."""
    reached = {state: {target for (source, _), target in TABLE.items() if source is state} for state in State}
    for _ in State:
        reached = {state: targets.union(*(reached[t] for t in targets)) for state, targets in reached.items()}
    return MappingProxyType({state: frozenset(targets) for state, targets in reached.items()})


_FOLLOWERS = _closure()


def may_follow(before: State, after: State) -> bool:
    """Whether a window that was ``before`` may be written down as ``after``: rule 6."""
    return after is before or after in _FOLLOWERS[before]


def check_step(before: State, after: State) -> None:
    """Raise IllegalTransitionError where ``after`` cannot follow ``before``: rule 6."""
    if not may_follow(before, after):
        raise IllegalTransitionError(f"a window that is {before.value} cannot be {after.value} next")


class IllegalTransitionError(RuntimeError):
    """A transition that the table does not hold; the machine was not changed."""


class WindowMachine:
    """The state of one window. ``on(event)`` follows the table or raises IllegalTransitionError and changes nothing.

    A freeze that may still be on its way (its reply was lost) keeps ``late_freeze_possible`` set; from then on
    a confirmed thaw does not end the window, only QUIET does.
    """

    def __init__(self, state: State = State.IDLE, *, late_freeze_possible: bool = False) -> None:
        self._state = state
        self._late = late_freeze_possible or state is State.UNKNOWN

    @property
    def state(self) -> State:
        """The present state."""
        return self._state

    @property
    def late_freeze_possible(self) -> bool:
        """Whether an unanswered freeze may still be executed."""
        return self._late and self._state is not State.THAWED

    @property
    def is_closed(self) -> bool:
        """Whether the window has ended."""
        return self._state is State.THAWED

    def on(self, event: Event) -> State:
        """Follow ``event``; returns the new state."""
        target = TABLE.get((self._state, event))
        if target is None:
            raise IllegalTransitionError(f"a window that is {self._state.value} cannot follow '{event.value}'")
        if event is Event.FREEZE_UNCLEAR:
            self._late = True
        self._state = target
        return target
