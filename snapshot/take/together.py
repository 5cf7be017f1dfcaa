"""What a run does at the fence: where that stands in the protocol of one guest, and what its group's end means there.

Before a point in time the end of the group is an error: the window thaws, and there is no snapshot. Once PVE was asked
for one, the window is broken off and the snapshot judged; whether it is removed again is said at JUDGED.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NoReturn

from snapshot.errors import GroupEndedError, InterruptedBySignalError, NoTurnError, SafeSnapshotError
from snapshot.model import FreezeOutcome, FreezeReply, Guest, Verdict, VerdictKind
from snapshot.pve import remedies
from snapshot.pve.turns import CALLS_AT_ONCE, GROUP_CALL_SECONDS, Turns
from snapshot.take.fence import Go, Milestone
from snapshot.take.pvesnapshot import PveSnapshot
from snapshot.take.run import Run
from snapshot.window.parts import WindowBrokenError
from snapshot.window.snapshot import SnapshotWindow
from snapshot.words import Word


def examined(run: Run) -> None:
    """Fit to be taken, and nothing is at risk yet: the others may need longer."""
    guest = run.guest
    if guest is None or run.tools.fence.group_id is None:
        return
    if not guest.running:
        run.still = run.tools.clock.monotonic(), None
    with run.tools.gate.open():
        go = run.tools.fence.reach(Milestone.EXAMINED, _nothing, node=guest.node, kind=guest.kind.value, name=run.name)
    run.beside = go.beside
    if go.is_first and run.tools.access.turns is not None:
        _take_turn(run, guest, run.tools.access.turns)


def _take_turn(run: Run, guest: Guest, turns: Turns) -> None:
    """One call's turn at the node for all freezes of the group there, which go one at a time: had before any guest is
    frozen, and kept until all are. NoTurnError.
    """
    has_told = False

    def still_waits() -> None:
        nonlocal has_told
        if not has_told:
            run.tools.say(f"waiting: {CALLS_AT_ONCE} calls of ours to agents on {guest.node} are unanswered")
        has_told = True

    try:
        run.freezes = turns.call(guest.node, run.sleep, still_waits, GROUP_CALL_SECONDS)
    except TimeoutError as error:
        raise NoTurnError(
            f"guest {guest.vmid} and its group were not begun: {error}",
            remedy=f"see to the agents on {guest.node} that do not answer (`safe-snapshot check`), and try again",
        ) from error


@contextmanager
def leaving(run: Run) -> Iterator[None]:
    """Inside a window: what ends it is told to the group at once, ahead of the thaw."""
    try:
        yield
    except (SafeSnapshotError, InterruptedBySignalError) as failure:
        run.tools.fence.leave(failure.message)
        raise


def turn_to_freeze(run: Run, window: SnapshotWindow) -> None:
    """All guards are armed, and it is our turn, when this returns."""
    fence = run.tools.fence
    if fence.group_id is None:
        return
    with run.tools.gate.open():
        fence.reach(Milestone.ARMED, _nothing, mark=window.id)
        window.renew()
        go = fence.reach(Milestone.READY, _nothing)
    if go.began is not None and go.ends_by is not None:
        window.joins(go.began, go.ends_by)


def frozen(run: Run, window: SnapshotWindow, reply: FreezeReply) -> None:
    """Our freeze is acknowledged; every other one too, when this returns. GroupEndedError: no point in time is to come.

    One that was not frozen leaves the group at once, and the others need not wait for its thaw.
    """
    fence = run.tools.fence
    if fence.group_id is None:
        return
    if reply.outcome is not FreezeOutcome.ACKNOWLEDGED:
        fence.leave(f"it could not be frozen: {reply.detail}")
        return
    try:
        with run.tools.gate.open():
            fence.reach(Milestone.FROZEN, window.check, is_frozen=True)
        run.freezes.release()
    except WindowBrokenError as broken:
        window.break_off(str(broken), broken.word)
        raise GroupEndedError(f"no snapshot of guest {run.request.vmid}: {broken}", remedy="try again") from broken


def check(run: Run, window: SnapshotWindow) -> None:
    """While PVE takes the snapshot. WindowBrokenError when the window must end now: its own end, or the group's."""
    window.check()
    try:
        run.tools.fence.look()
    except GroupEndedError as ended:
        raise WindowBrokenError(ended.message, Word.GROUP_ENDED) from ended


def turn_to_thaw(run: Run, window: SnapshotWindow) -> None:
    """Our point in time is over; every other one too, and it is our turn, when this returns. What ends the wait breaks
    the window off: nothing but a signal comes through.
    """
    fence = run.tools.fence
    if fence.group_id is None:
        return
    if window.broken_by:
        fence.leave(window.broken_by)
        return
    try:
        with run.tools.gate.open():
            fence.reach(Milestone.TAKEN, window.check)
    except GroupEndedError as ended:
        window.break_off(ended.message, Word.GROUP_ENDED)
    except WindowBrokenError as broken:
        window.break_off(str(broken), broken.word)
        fence.leave(window.broken_by)


def hold(run: Run, mark: str) -> None:
    """Nobody of us freezes this guest: its point in time is to come with the others' all the same."""
    if run.tools.fence.group_id is None:
        return
    with run.tools.gate.open():
        run.tools.fence.reach(Milestone.FROZEN, _nothing, is_frozen=False, mark=mark)


def taken(run: Run, snapshot: PveSnapshot) -> None:
    """The point in time of a guest that is not frozen by us is over; all others are, too, when this returns."""
    if run.tools.fence.group_id is None:
        return
    clock = run.tools.clock
    snapshot.over_at = clock.monotonic()
    run.tools.fence.reach(Milestone.TAKEN, _nothing)
    run.still = run.still[0], clock.monotonic()  # what follows asks whether the guest is off still


def judged(run: Run, verdict: Verdict, *, follows: bool, window: SnapshotWindow | None = None) -> Go:
    """What becomes of the snapshot. ``follows``: whether it is what it was to be."""
    fence, snapshot = run.tools.fence, run.snapshot
    if fence.group_id is None or snapshot is None:
        return Go()
    still: tuple[float | None, float | None] = None, None
    if verdict.kind.is_of_a_freeze and window is not None:
        still = window.instants.freeze_answered, window.proof_asked_at
    elif verdict.kind is VerdictKind.OFFLINE:
        still = run.still
    point = snapshot.asked_at, snapshot.over_at
    return fence.reach(
        Milestone.JUDGED,
        _nothing,
        follows=follows,
        verdict=verdict.kind.value,
        why=verdict.reason,
        still=still,
        point=point,
    )


def worded(verdict: Verdict, go: Go) -> Verdict:
    """The verdict, with what is said of the group."""
    return verdict._replace(reason=f"{verdict.reason}; {go.words}") if go.words and go.keep else verdict


def remove(run: Run, snapshot: PveSnapshot, go: Go, close: Callable[[Verdict], None]) -> NoReturn:
    """The group has ended for all: the snapshot, which this very run made, is removed again. Always raises
    GroupEndedError.
    """
    guest, trouble = run.guest, snapshot.remove()
    assert guest is not None
    what = f"the snapshot {run.name} of guest {guest.vmid}"
    if trouble:
        run.verdict = Verdict(VerdictKind.UNKNOWN, f"it should go with its group, and could not be removed: {go.words}")
        close(run.verdict)
        snapshot.describe(run.verdict)
        raise GroupEndedError(
            f"{what} should go with its group ({go.words}) and could not be removed ({trouble})",
            remedy=f"remove it: `{remedies.tool(guest)} delsnapshot {guest.vmid} {run.name}`",
        )
    run.verdict = Verdict(VerdictKind.UNKNOWN, f"the snapshot was removed again with its group: {go.words}")
    close(run.verdict)
    raise GroupEndedError(f"{what} was removed again: {go.words}", remedy="mend that, and try again")


def _nothing() -> None:
    """Nothing is at risk that could be watched."""
