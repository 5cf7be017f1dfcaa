"""What must hold after every run of a group, beside what holds for each of its windows (invariants.py).

A. *One deadline.* A member's guest is thawed in time for the deadline that all share (invariants.py, a).
B. *At once.* A member that waits at the fence with its guest frozen, and learns that its group has ended or that its
   leader is gone, sends its thaw within AT_ONCE_SECONDS.
C. *No false "one point in time".* Whoever says it, of a group: every guest was frozen, or off, over the point in time
   of every member. The exception is that of (b): a guest that a stranger froze.
D. *All or none.* Where the group is so, either all snapshots are there or none, unless it was told: by the run, or,
   where both the leader and a member's own process were killed, by the journal, which does not call that snapshot
   consistent. The exception: the leader was killed, and the disk full when somebody asked the journal what it decided.
E. *The leader.* It ends, and not by an error of its own; it writes nothing while a guest may be frozen.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from snapshot.fleet.moment import ONE
from snapshot.take.request import Result
from tests.campaign import invariants
from tests.campaign.invariants import CONSISTENT, PROVEN_SECONDS, STRANGER

if TYPE_CHECKING:
    from tests.campaign.groups import GroupWorld
    from tests.campaign.world import World

AT_ONCE_SECONDS = 1.0
"""A look at the fence (LOOK_SECONDS), and what happens between it and the request."""

TOLD = ("could not be removed", "may still be at work", "is not known", "has not appeared")
"""What says that a snapshot may be there that should not."""

CLAIM = f"{ONE} of guests"


def check(group: GroupWorld) -> list[str]:
    """Every violation, in words."""
    found = list(group.violations)
    for number, world in enumerate(group.worlds):
        for window in world.windows.values():
            window.ends_by = group.ends_by or float("inf")
        found += [f"[{number}] {line}" for line in invariants.check(world)]
    return [*found, *_at_once(group), *_no_false_moment(group), *_all_or_none(group), *_leader(group)]


def _at_once(group: GroupWorld) -> Iterator[str]:
    for number, (world, wire) in enumerate(zip(group.worlds, group.wires, strict=True)):
        since, owner = wire.must_thaw_from, world.owners[0]
        if since is None or (owner.ended_at is not None and owner.ended_at <= since + AT_ONCE_SECONDS):
            continue
        if any(stopped <= since + AT_ONCE_SECONDS and until >= since for stopped, until in owner.stops):
            continue
        decided = [at for window in world.windows.values() for at in window.decided]
        if not any(at <= since + AT_ONCE_SECONDS for at in decided):
            yield f"(B) member {number} learned at {since:.3f} that its group had ended, and thaws at {decided[:1]}"


def claims(world: World) -> Iterator[str]:
    """Who says that a member's snapshot is of one point in time with the others."""
    result = world.owners[0].result
    if isinstance(result, Result) and result.verdict is not None and CLAIM in result.verdict.reason:
        yield "the result"
    yield from ("the journal" for row in invariants.rows(world) if CLAIM in (row.reason or ""))
    yield from ("a description" for one in world.pve.snapshots.values() if CLAIM in one.description)


def _no_false_moment(group: GroupWorld) -> Iterator[str]:
    who = [f"{who} of member {number}" for number, world in enumerate(group.worlds) for who in claims(world)]
    if not who:
        return
    points = [[one for one in world.pve.snapshots.values() if one.name == "s0"] for world in group.worlds]
    if not all(points):
        yield f"(C) {who[0]} says {ONE}, and a member has no snapshot"
        return
    for number, world in enumerate(group.worlds):
        for other, found in enumerate(points):
            began, ended = found[-1].began, found[-1].ended
            if not _stood_still(world, began, ended):
                yield (
                    f"(C) {who[0]} says {ONE}: member {number} was not frozen over the point in time of member "
                    f"{other}, {began:.3f} to {ended:.3f}; its freezes are {world.guest.model.transitions}"
                )


def _stood_still(world: World, began: float, ended: float) -> bool:
    model, guest = world.guest.model, world.guest
    if any(f.tag == STRANGER and began < f.at < ended + PROVEN_SECONDS for f in model.freezes):
        return True
    if guest.was_off(began, ended):
        return True
    broken = [at for at, mounts in model.transitions if began < at < ended and mounts < model.mounts]
    return model.all_frozen_at(began) and not broken


def _all_or_none(group: GroupWorld) -> Iterator[str]:
    if not group.plan.all_or_none:
        return
    there = [any(not one.removed for one in world.pve.snapshots.values()) for world in group.worlds]
    decision = group.decisions[0] if group.decisions else group.decided
    keep = decision is not None and decision.keep
    if (all(there) and keep) or (group.is_not_agreed and group.leader is not None and group.leader.dead):
        return
    for number, world in enumerate(group.worlds):
        if there[number] and not _is_told(group, world):
            yield f"(D) member {number} keeps its snapshot; of the group are there: {there}, decided {group.decisions}"
        elif keep and not there[number]:
            yield f"(D) member {number} has no snapshot, and it was decided that all keep theirs"


def _is_told(group: GroupWorld, world: World) -> bool:
    assert group.leader is not None
    result = world.owners[0].result
    said = [*group.told, *(result.warnings if result is not None else ())]
    if result is not None and result.error is not None:
        said.append(str(result.error))
    if any(word in line for line in said for word in TOLD):
        return True
    consistent = [row for row in invariants.rows(world) if row.verdict == CONSISTENT]
    return group.leader.dead and not consistent


def _leader(group: GroupWorld) -> Iterator[str]:
    leader = group.leader
    assert leader is not None
    if leader.error is not None:
        yield f"(E) the leader ended with {type(leader.error).__name__}: {leader.error}"
    if leader.alive:
        yield "(E) the leader still runs at the end"
