"""The fence: where a member of a group waits for the others. Without a group nobody is waited for (NoFence).

The steps, in their order. Who reaches one says so, and goes on when it is let::

    EXAMINED   fit to be frozen, its own commands have run        all together
    ARMED      its guard stands                                    all together
    READY      the guard still stands, and the row says so         in turn: one freezes at a time
    FROZEN     the freeze is acknowledged, or there is none        all together: only now the first point in time
    TAKEN      its point in time is over                           all, and then in reverse turn: proof and thaw
    THAWED     the thaw is confirmed                               all together, before anything is written
    JUDGED     it knows its verdict                                all together: kept, or removed again

What a member does in between is the protocol of one guest, unchanged (operation.py).
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from typing import NamedTuple, Protocol

Check = Callable[[], None]
"""Called again and again by who waits; what it raises ends the wait."""


class Milestone(IntEnum):
    """What a member has reached."""

    EXAMINED = 1
    ARMED = 2
    READY = 3
    FROZEN = 4
    TAKEN = 5
    THAWED = 6
    JUDGED = 7


class Go(NamedTuple):
    """What a member is told when it may go on."""

    beside: int = 1
    """EXAMINED: how many members are on this guest's node, itself included."""
    is_first: bool = True
    """EXAMINED: whether it is the first of them."""
    began: float | None = None
    """READY: when the group's first freeze was let go (monotonic)."""
    ends_by: float | None = None
    """READY: the instant (monotonic) at which every member must be thawed."""
    keep: bool = True
    """JUDGED: whether the snapshot is kept."""
    words: str = ""
    """JUDGED: what is said of the group, or why the snapshot is removed again; "" without a group."""


class Fence(Protocol):
    """A member's place in its group."""

    group_id: str | None
    """As the journal has it; None without a group."""
    all_or_none: bool
    """Whether one that cannot follow ends it for all."""

    def reach(self, step: Milestone, check: Check, **told: object) -> Go:
        """Say so, and wait until it may go on. GroupEndedError when the group has ended; what ``check`` raises.

        Never waits longer than the fence's own bound, and never at all once the group's leader is gone.
        """
        ...

    def look(self) -> None:
        """GroupEndedError when the group has ended. Costs one system call."""
        ...

    def leave(self, why: str) -> None:
        """Say that this member cannot follow; the first reason counts. Costs one system call, and waits for nobody."""
        ...


class NoFence:
    """One guest by itself."""

    group_id: str | None = None
    all_or_none = False

    def reach(self, step: Milestone, check: Check, **told: object) -> Go:
        """See Fence."""
        return Go()

    def look(self) -> None:
        """See Fence."""

    def leave(self, why: str) -> None:
        """See Fence."""
