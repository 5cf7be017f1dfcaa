"""What must hold after every run, judged by the model of the guest and of PVE: our own word counts for nothing.

a. *Thawed in time.* Whenever a freeze of ours holds the guest although somebody was responsible for its thaw, the way
   to the agent was free and one of our processes ran, for BOUND_SECONDS on end, it must be thawed at the end of them.
   The way counts as free once the request that was on its way before has had its limit: a route may cost that much.
b. *No false word.* No snapshot is called filesystem-consistent unless every filesystem was frozen from its first disk
   to its last. The exception: a guest that something else thawed (or reset) inside the window *and* somebody else froze
   again before we asked: its agent says what it would have said anyway, and nothing tells the two freezes apart.
c. *The journal's last word is not better than the truth.* No window is closed while its guest is held by its freeze.
d. *Politeness.* PVE never has two agent calls of one run for a guest that both still have somebody waiting for them.
   The exceptions: whoever cannot hear a window's owner (a guard that was started again, a recovery) may ask beside it
   once its deadline has passed (by the wall clock; for a recovery without a journal at any time), and beside one
   another; of two windows of one run they know the one that they found when they began; a guard that is told to
   end (TERM), or fails, thaws at once, whatever its owner does; two guards of which neither could have a claim know
   nothing of each other; an owner that comes back past its deadline, or once its guard has waited for its thaw in vain,
   finds its guard at work, which ends its round over the routes and then waits; a process that is stopped in the middle
   of a call waits for nothing; a run that has disarmed its guard may look at its guest while the guard watches for a
   late freeze.
e. *UNKNOWN is not closed early.* No freeze of a window is carried out after that window was closed. The exception: a
   guest that somebody else froze between our request and our thaw. The count of that thaw says what it would have said
   of our own freeze, and nothing tells the two apart (`recover` looks for guests that others left frozen).
f. *Nothing is written* by the process that is to thaw between the freeze and its first thaw request.
g. *The states follow the table.* What the journal was told of a window's state, by whomever, can follow from what it
   was told before.
i. *A living owner has not died.* No window is counted as `owner-died` while its owner lives.
j. *No success without a verdict.* What the metrics count as a success has been judged, and not as `unknown`.
k. *PVE is let through.* Nothing that PVE asks the agent waits for more than PATIENCE_SECONDS (seats.py) behind a seat
   that a running process of ours keeps and asks nothing over, while the agent is free.
h. *No surprises.* No process of ours ends with an exception that is not one of ours, and nothing is left open for ever.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from snapshot.journal.record import Cause, WindowRecord
from snapshot.model import VerdictKind
from snapshot.states import State, may_follow
from snapshot.take.request import Result
from tests.campaign.pve import Call
from tests.campaign.scheduler import Process

if TYPE_CHECKING:
    from tests.campaign.world import WindowTrace, World

EPOCH = 1_700_000_000.0
"""The wall clock when a run begins."""

BOUND_SECONDS = 6.0
"""The retries' slowest pace (2 s) or a sparse look for late freezes (4 s), and a round over the routes."""

REQUEST_SECONDS = 10.0
"""The longest that one request of a thaw over HTTPS may keep its asker from the next route ([thaw] attempt_timeout)."""

GUARD_MARGIN_SECONDS = 2.0
"""How long after its deadline a window is still the owner's own business (guard.turn.DEADLINE_MARGIN_SECONDS)."""

STILL_SECONDS = 1.0
"""How long past its deadline an owner that was stopped may keep everybody from the agent (STILL_LOOK_SECONDS)."""

SILENCE_SECONDS = 20.0
"""How long an owner that thaws may be silent before its guard does (Thawer.longest_silence_seconds)."""

PREPARING_SECONDS = 35.0
"""The longest that a take-over asks PVE for its routes: three requests of 10 s, each answered by nobody."""

ROUND_SECONDS = 38.0
"""The longest that a guard may go on with its round: three routes, 10 s each, and what pvesh needs to start."""

STRANGER = "foreign"
"""The tag of what somebody else asks the agent (faults.py)."""

PROVEN_SECONDS = 2.0
"""How long after the point in time the proof may be asked for, when nothing stands in the way."""

CONSISTENT = VerdictKind.FILESYSTEM_CONSISTENT.value


@dataclass(frozen=True)
class Held:
    """A time in which a freeze of ours held the guest."""

    began: float
    ended: float
    call: Call


def check(world: World) -> list[str]:
    """Every violation, in words."""
    return [
        *world.violations,
        *_thawed_in_time(world),
        *_no_false_word(world),
        *_not_closed_early(world),
        *_polite(world),
        *_by_the_table(world),
        *_no_surprises(world),
        *_no_empty_success(world),
    ]


# -- a


def held(world: World) -> list[Held]:
    """When freezes of ours held the guest."""
    calls = {call.tag: call for call in world.pve.calls}
    by_instant = {freeze.at: calls[freeze.tag] for freeze in world.guest.model.freezes if freeze.tag in calls}
    found: list[Held] = []
    began: float | None = None
    call: Call | None = None
    for at, mounts in world.guest.model.transitions:
        if mounts > 0 and began is None and at in by_instant:
            began, call = at, by_instant[at]
        elif mounts == 0 and began is not None and call is not None:
            found.append(Held(began, at, call))
            began = None
    if began is not None and call is not None:
        found.append(Held(began, float("inf"), call))
    return found


def _thawed_in_time(world: World) -> Iterator[str]:
    for frozen in held(world):
        window = window_of(world, frozen.call)
        if window is None or window.freeze_sent_at is None:
            yield f"a freeze without a window: call {frozen.call.number} at {frozen.began:.3f}"
            continue
        if window.closed_at is not None and frozen.began > window.closed_at and _taken_for_ours(world, window):
            continue
        responsible = _responsible_from(window, frozen)
        due = _end_of_calm(world, responsible)
        if frozen.ended > due:
            yield (
                f"(a) frozen by us from {frozen.began:.3f} to {frozen.ended:.3f}; "
                f"due at {due:.3f} (responsible from {responsible:.3f})"
            )


def _responsible_from(window: WindowTrace, frozen: Held) -> float:
    """From when on somebody of ours must thaw: the deadline, or at once when the owner has gone or has ended."""
    assert window.freeze_sent_at is not None
    since = max((at for at in window.since if at <= frozen.began), default=window.freeze_sent_at)
    deadline = min(since + window.max_window_seconds, window.ends_by) + GUARD_MARGIN_SECONDS
    ended = window.owner.ended_at if window.owner.ended_at is not None else float("inf")
    return max(frozen.began, min(deadline, ended))


def _end_of_calm(world: World, since: float) -> float:
    """The end of the first BOUND_SECONDS after ``since`` in which nothing stood in the way.

    Who has asked over HTTPS before the way came free asks nobody else until its request is over. A server that drips
    or hangs may make that the request's whole limit, and a free socket is not tried before.
    """
    blocked = sorted([*((start, end) for start, end, _ in world.obstacles), *_nobody_there(world), *_taken(world)])
    calm = _turn_to_ask(world, since)
    for start, end in blocked:
        if start > calm + BOUND_SECONDS:
            break
        if end > calm:
            calm = _turn_to_ask(world, end)
    return calm + BOUND_SECONDS


def _turn_to_ask(world: World, free_at: float) -> float:
    """When the request is over, or has had its limit, that was on its way when the way came free."""
    on_their_way = (
        min(call.abandoned_at or float("inf"), call.sent_at + REQUEST_SECONDS)
        for call in world.pve.calls
        if call.command and call.via not in ("pvesh", "socket") and call.sent_at < free_at
    )
    return max((free_at, *on_their_way))


def _taken(world: World) -> Iterator[tuple[float, float]]:
    """Times in which somebody keeps the agent's socket who can do nothing with it: PVE, in a call that nobody waits for
    any more (or only a process that was stopped) or in a task's own freezing, or a process of ours that was stopped.
    """
    for task in world.pve.tasks.values():
        yield from task.talks
    if world.plan.local_node:
        for process in world.scheduler.processes:
            until = min(process.ended_at or float("inf"), _loses_its_turn(world, process))
            yield from ((stopped, min(continued, max(stopped, until))) for stopped, continued in process.stops)
    for call in world.pve.calls:
        if call.command and call.known_at is not None:
            over = call.over_at if call.over_at is not None else float("inf")
            alone_from = min((at for at in (call.abandoned_at, *_stopped(call, over)) if at is not None), default=over)
            if over > alone_from:
                yield alone_from, over


def _loses_its_turn(world: World, process: Process) -> float:
    """From when on an owner that stands still is ended by its guard."""
    mine = [
        min(w.freeze_sent_at + w.max_window_seconds, w.ends_by)
        for w in world.windows.values()
        if w.owner is process and w.freeze_sent_at
    ]
    return max(mine) + GUARD_MARGIN_SECONDS + STILL_SECONDS if mine else float("inf")


def _stopped(call: Call, over: float) -> Iterator[float]:
    """When the process that made a call was stopped before the call was over."""
    for stopped, continued in call.process.stops:
        if stopped < over and continued > call.sent_at:
            yield max(stopped, call.sent_at)


def _nobody_there(world: World) -> Iterator[tuple[float, float]]:
    """Times in which none of our processes was there and running. A stopped process is there but does not run."""
    running: list[tuple[float, float]] = []
    for process in (p for p in world.scheduler.processes if p.role not in ("recorder", "seat")):
        end = process.ended_at if process.ended_at is not None else float("inf")
        running += _without(_ready_at(world, process), end, process.stops)
    at = 0.0
    for start, end in sorted(running):
        if start > at:
            yield at, start
        at = max(at, end)
    if at < float("inf"):
        yield at, float("inf")


def _ready_at(world: World, process: Process) -> float:
    """When a process could thaw: one that takes a window over looks for its routes first, in an outage for long."""
    if process.role not in ("takeover", "recover"):
        return process.started_at
    asked = min((at for asker, at in world.asked if asker is process), default=float("inf"))
    return min(asked, process.started_at + PREPARING_SECONDS)


def _without(start: float, end: float, stops: list[tuple[float, float]]) -> Iterator[tuple[float, float]]:
    for stopped, continued in sorted(stops):
        if stopped > start:
            yield start, min(stopped, end)
        start = max(start, continued)
    if start < end:
        yield start, end


# -- b


def _no_false_word(world: World) -> Iterator[str]:
    for owner in world.owners:
        result = owner.result
        if isinstance(result, Result) and result.verdict is not None and result.verdict.kind.value == CONSISTENT:
            yield from _judge(world, result.name, "the result")
    for row in rows(world):
        if row.verdict == CONSISTENT and row.snapshot_name is not None:
            yield from _judge(world, row.snapshot_name, "the journal")
    for name, snapshot in world.pve.snapshots.items():
        if f"safe-snapshot: {CONSISTENT}" in snapshot.description:
            yield from _judge(world, name, "its description")


def _judge(world: World, name: str, who: str) -> Iterator[str]:
    snapshot = world.pve.snapshots.get(name)
    if snapshot is None:
        yield f"(b) {who} calls {name} consistent, and there is no such snapshot"
        return
    if not snapshot.running:
        return
    model = world.guest.model
    whole = model.all_frozen_at(snapshot.began)
    broken = [at for at, mounts in model.transitions if snapshot.began < at < snapshot.ended and mounts < model.mounts]
    strange = any(f.tag == STRANGER and snapshot.began < f.at < snapshot.ended + PROVEN_SECONDS for f in model.freezes)
    if (not whole or broken) and not strange:
        yield (
            f"(b) {who} calls {name} filesystem-consistent; its point in time was {snapshot.began:.3f} to "
            f"{snapshot.ended:.3f}, and the guest's freezes are {model.transitions}"
        )


# -- c, e


def closed_while_frozen(world: World, window: WindowTrace) -> str | None:
    """For the instant at which a window is closed."""
    for frozen in held(world):
        mine = window_of(world, frozen.call)
        if frozen.ended == float("inf") and mine is not None and mine.id == window.id:
            return f"(c) window {window.id[:8]} is closed at {world.scheduler.now:.3f} with its guest frozen"
    return None


def _taken_for_ours(world: World, window: WindowTrace) -> bool:
    """Whether somebody else froze the guest between this window's freeze request and its end."""
    began, ended = window.freeze_sent_at or 0.0, window.closed_at or float("inf")
    mine = {call.tag for call in world.pve.calls if call.process is window.owner}
    return any(freeze.tag not in mine and began <= freeze.at <= ended for freeze in world.guest.model.freezes)


def _not_closed_early(world: World) -> Iterator[str]:
    calls = {call.tag: call for call in world.pve.calls}
    for freeze in world.guest.model.freezes:
        call = calls.get(freeze.tag)
        window = window_of(world, call) if call is not None else None
        is_late = window is not None and window.closed_at is not None and freeze.at > window.closed_at
        if window is not None and is_late and not _taken_for_ours(world, window):
            yield (
                f"(e) window {window.id[:8]} was closed at {window.closed_at:.3f}, and its freeze was carried out at "
                f"{freeze.at:.3f}"
            )


# -- d


def _polite(world: World) -> Iterator[str]:
    calls = [call for call in world.pve.calls if call.command and call.known_at is not None]
    waiting: list[Call] = []
    for call in sorted(calls, key=lambda call: call.sent_at):
        waiting = [other for other in waiting if _until(other) > call.sent_at]
        for other in waiting:
            if other.process is not call.process and not _may_overlap(world, call, other):
                yield (
                    f"(d) {call.process} asks {call.command} at {call.sent_at:.3f} while {other.process} waits for "
                    f"{other.command} until {_until(other):.3f}"
                )
        waiting.append(call)


def _may_overlap(world: World, call: Call, other: Call) -> bool:
    families = {world.family(other.process), world.family(call.process)} - {0}
    if len(families) > 1 or {"guard signalled", "guard fails"} & set(world.happened):
        return True
    if any(
        other.sent_at <= end and start <= call.sent_at for start, end in [*other.process.stops, *call.process.stops]
    ):
        return True
    deaf = [c.process.started_at for c in (call, other) if c.process.role in ("takeover", "recover")]
    windows = [
        w
        for w in world.windows.values()
        if w.freeze_sent_at and w.freeze_sent_at <= call.sent_at and w.owner.pid in (families or {w.owner.pid})
    ]
    if deaf:
        windows = [w for w in windows if w.freeze_sent_at and w.freeze_sent_at <= min(deaf)] or windows[:1]
    deadline = max((min((w.freeze_sent_at or 0.0) + w.max_window_seconds, w.ends_by) for w in windows), default=0.0)
    roles = {call.process.role, other.process.role}
    if {"takeover", "recover"} & roles:
        # They know the deadline that the journal has: of an owner that stood still before its freeze, an earlier one.
        known = (deadline for w in windows for at, deadline in w.known_deadlines if at <= call.sent_at)
        deadline = min(deadline, max(known, default=deadline))
        blind = "clock jumped" in world.happened or ("recover" in roles and "disk full" in world.happened)
        return call.sent_at >= deadline or roles <= {"takeover", "recover"} or blind
    if any(w.disarmed_at is not None and w.disarmed_at <= call.sent_at for w in windows):
        return True
    came_back = max((at for w in windows for at in _came_back(w, deadline)), default=float("-inf"))
    guard = call if call.process.role == "guard" else other
    if world.unclaimed:
        return True
    return guard.sent_at < came_back + ROUND_SECONDS


def _came_back(window: WindowTrace, deadline: float) -> Iterator[float]:
    """When the owner said that it thaws, and its guard had begun to: past its deadline, or its silence while it did."""
    for before, at in itertools.pairwise([float("inf"), *window.decided]):
        if at >= min(deadline, before + SILENCE_SECONDS) + GUARD_MARGIN_SECONDS:
            yield at


def _until(call: Call) -> float:
    ends = [at for at in (call.over_at, call.abandoned_at) if at is not None]
    return min(ends, default=float("inf"))


# -- g


def _by_the_table(world: World) -> Iterator[str]:
    deaf = ("recorder", "recover")  # a guard or a recovery that took over does not know what the owner wrote meanwhile
    for window in world.windows.values():
        for (earlier, _), (later, who) in itertools.pairwise([(State.IDLE, ""), *window.states]):
            if earlier is State.THAWED and later in (State.UNKNOWN, State.STUCK) and who.startswith(deaf):
                continue
            if not may_follow(earlier, later):
                yield f"(g) window {window.id[:8]}: {who} tells the journal {later.value} after {earlier.value}"


# -- i, j


def counted_as_died(world: World, window: WindowTrace, before: WindowRecord, after: WindowRecord) -> str | None:
    """For the instant at which a window is written."""
    died = Cause.OWNER_DIED.value
    if after.failure_reason != died or before.failure_reason == died or not window.owner.alive:
        return None
    return f"(i) window {window.id[:8]} is counted as {died} at {world.scheduler.now:.3f}, and its owner lives"


def _no_empty_success(world: World) -> Iterator[str]:
    for row in rows(world):
        if "success" in world.backing.counted(row.id) and row.verdict in (None, VerdictKind.UNKNOWN.value):
            yield f"(j) window {row.id[:8]} counts as a success, and its verdict is {row.verdict} ({row.reason})"


# -- h


def _no_surprises(world: World) -> Iterator[str]:
    for process in world.scheduler.processes:
        if process.error is not None:
            yield f"(h) {process} ended with {type(process.error).__name__}: {process.error}"
        if process.alive and process.role != "recover":
            yield f"(h) {process} still runs at the end"
    if "clock jumped" in world.happened and world.clock_offset < 0:
        return  # a recovery goes by the wall clock, and waits for the hour it has seen already
    for row in world.backing.open_windows():
        if row.is_foreign:
            continue  # a stranger's freeze, which is the stranger's to end: it is told until then
        yield f"(h) window {row.id[:8]} is still open at the end, state {row.state}"


# -- helpers


def window_of(world: World, call: Call) -> WindowTrace | None:
    """The window a freeze request of ours belongs to: the one its process had open when it sent it."""
    mine = [w for w in world.windows.values() if w.owner is call.process and w.freeze_sent_at is not None]
    return next((w for w in reversed(mine) if (w.freeze_sent_at or 0.0) <= call.sent_at), None)


def rows(world: World) -> list[WindowRecord]:
    """Every window the journal knows."""
    return [row for row in (world.backing.get(window_id) for window_id in world.windows) if row is not None]
