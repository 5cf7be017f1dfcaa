"""Whether the snapshots of a group are of one point in time, from the members' own evidence alone. Pure functions.

Each member tells two spans by the monotonic clock of this one machine: when its guest is known to have stood still
(from the acknowledged freeze to the question whose answer was "frozen", counted and thawed in full; for a guest that is
off, from where it was found so to where it was so still), and when its own point in time was (from PVE being asked for
the snapshot to its task being seen to be over). They are of one point in time when all stood still over all points.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from snapshot.fleet.group import Member
from snapshot.model import GuestKind, VerdictKind
from snapshot.take.fence import Milestone

ONE = "one point in time"
_STOOD_STILL = frozenset(kind.value for kind in VerdictKind if kind.is_of_a_freeze) | {VerdictKind.OFFLINE.value}


class StoodStill(NamedTuple):
    """What one member told, in seconds (monotonic)."""

    vmid: int
    is_off: bool
    still_from: float
    still_until: float
    asked_at: float
    over_at: float


class Apart(NamedTuple):
    """When one guest was frozen, and between which instants its point in time lies. In seconds from the first freeze of
    its group.
    """

    vmid: int
    frozen_seconds: float | None
    """None: it was off."""
    asked_seconds: float
    over_seconds: float


def words(members: Sequence[Member]) -> str:
    """What is said of the group: whether it is of one point in time, why not, and how far apart everything lay."""
    doubts = [doubt for member in members if (doubt := _doubt(member))]
    found = [evidence for member in members if (evidence := _evidence(member)) is not None]
    if not doubts:
        doubts = _moved(found)
    apart = _apart(spans(members))
    if doubts:
        return f"not {ONE}: {', '.join(doubts)}{apart}"
    return f"{ONE} of guests {', '.join(str(one.vmid) for one in found)}{apart}"


def _doubt(member: Member) -> str:
    """Why this member's guest is not known to have stood still; "" when it is."""
    verdict = member.told.get("verdict")
    if member.left or member.step is not Milestone.JUDGED:
        return f"guest {member.vmid} could not follow"
    if member.told.get("kind") == GuestKind.LXC.value and verdict != VerdictKind.OFFLINE.value:
        return f"guest {member.vmid} is a container, which can be frozen by PVE alone"
    if verdict not in _STOOD_STILL:
        return f"guest {member.vmid} is {verdict}"
    return "" if _evidence(member) is not None else f"guest {member.vmid} does not say when it was frozen"


def _evidence(member: Member) -> StoodStill | None:
    numbers = [*member.told.get("still", ()), *member.told.get("point", ())]
    if len(numbers) != len(StoodStill._fields) - 2 or any(number is None for number in numbers):
        return None
    return StoodStill(member.vmid, member.told.get("verdict") == VerdictKind.OFFLINE.value, *map(float, numbers))


def _moved(found: Sequence[StoodStill]) -> list[str]:
    """Whose guest may have changed something within the time of all points."""
    first = min(one.asked_at for one in found)
    last = max(one.over_at for one in found)
    return [
        f"guest {one.vmid} did not stand still over every other one's"
        for one in found
        if one.still_from > first or one.still_until < last
    ]


def spans(members: Sequence[Member]) -> tuple[Apart, ...]:
    """Of those that told all of it."""
    found = [evidence for member in members if (evidence := _evidence(member)) is not None]
    began = min((one.still_from for one in found if not one.is_off), default=0.0)
    return tuple(
        Apart(
            one.vmid,
            None if one.is_off else one.still_from - began,
            one.asked_at - began,
            one.over_at - began,
        )
        for one in found
        if any(not other.is_off for other in found)
    )


def _apart(found: Sequence[Apart]) -> str:
    """How far apart freezes and points in time lay, for each; "" when nothing was frozen."""
    if not found:
        return ""
    apart = max(one.frozen_seconds or 0.0 for one in found)
    within = max(one.over_seconds for one in found) - min(one.asked_seconds for one in found)
    each = "; ".join(
        f"{one.vmid} {'off' if one.frozen_seconds is None else f'frozen at {one.frozen_seconds:.2f}'}, "
        f"taken {one.asked_seconds:.2f} to {one.over_seconds:.2f}"
        for one in found
    )
    return f" (freezes {apart:.2f} s apart, points in time within {within:.2f} s; in seconds: {each})"
