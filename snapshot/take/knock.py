"""Freezing at the knock: PVE's task is started first, and the guest frozen when the task asks for its agent.

PVE's worker prepares for a while before it asks whether the agent is there (PVE::QemuServer::Agent, qga_check_running).
We hold the agent's seat, so its ping waits behind us: then the freeze is sent in front of it, and it is let pass. It
finds the guest frozen, and goes on to its volumes. So the guest is not frozen while PVE prepares.

What limits this is the 3 s that PVE gives its ping. A worker that was let through, or gave up, before the freeze was
acknowledged has proven nothing: such a snapshot is removed, and taken once more in sequence. And only a guest whose
freezes are known to be short is frozen so.
"""

from __future__ import annotations

from snapshot.errors import JournalError, ReplyLostError
from snapshot.model import FreezeOutcome, FreezeReply, Guest, Owner, Verdict, VerdictKind
from snapshot.pve.access import tasks_of
from snapshot.pve.agent import AgentChannel
from snapshot.take import judging
from snapshot.take.pvesnapshot import PveSnapshot
from snapshot.take.run import Run
from snapshot.window.parts import Knock
from snapshot.window.snapshot import SnapshotWindow

PING_WAITS_SECONDS = 2.5
"""How long PVE's ping waits for sure, counted from an instant before it came: half a second less than PVE says."""

COMES_SECONDS = 6.0
"""How long the knock is waited for: a task may have to wait for a lock first."""

STEP_SECONDS = 0.05

FREEZES = 3
SHORT_SECONDS = 1.0
"""The last freezes of a guest, all of them acknowledged, each within this: it can be frozen at the knock."""


def is_wanted(run: Run, guest: Guest) -> bool:
    """Whether the guest is to be frozen at the knock, and may be."""
    return run.settings.at_the_knock and not run.pve_option_off and _freezes_quickly(run, guest)


def _freezes_quickly(run: Run, guest: Guest) -> bool:
    try:
        windows = run.book.journal.history(vmid=guest.vmid, limit=8 * FREEZES)
    except JournalError:
        return False
    ours = [one for one in windows if one.owner in (Owner.SNAPSHOT.value, Owner.HOOK.value) and one.freeze_outcome]
    last = ours[:FREEZES]
    quick = [
        one
        for one in last
        if one.freeze_outcome == FreezeOutcome.ACKNOWLEDGED.value
        and one.freezing_seconds is not None
        and one.freezing_seconds < SHORT_SECONDS
    ]
    return len(quick) == FREEZES


def freeze(run: Run, snapshot: PveSnapshot, window: SnapshotWindow) -> FreezeReply:
    """Start the task, wait for its knock, freeze. In sequence where the agent's seat is not ours.

    SnapshotFailedError when PVE said no. A refusal that the window knows nothing of: the knock was missed.
    """
    seat = window.sit()
    if seat is None:
        return window.freeze()
    why = "PVE's task did not ask for the agent in time"
    try:
        with run.tools.gate.open():
            snapshot.begin(run.tools.config.freeze.freeze_timeout_seconds)
            at = _knocked(run, snapshot, seat)
        if at is not None:
            return window.freeze(Knock(seat, at + PING_WAITS_SECONDS))
    except ReplyLostError as error:
        why = f"the answer to the snapshot request was lost ({error.message})"
    return FreezeReply(FreezeOutcome.REFUSED, detail=f"not frozen at the knock: {why}")


def _knocked(run: Run, snapshot: PveSnapshot, seat: AgentChannel) -> float | None:
    """The last instant at which nobody waited behind us; None when nobody came, or the task has ended."""
    clock, tasks = run.tools.clock, tasks_of(run.tools.access)
    assert snapshot.upid is not None
    until = clock.monotonic() + COMES_SECONDS
    while clock.monotonic() < until:
        at = seat.knock(STEP_SECONDS)
        if at is not None:
            return at
        if tasks.wait_for_end(snapshot.upid, clock.monotonic()):
            break
    return None


def is_to_be_taken_again(run: Run, snapshot: PveSnapshot, window: SnapshotWindow) -> bool:
    """Whether the snapshot was removed, and its window closed, since nothing is proven and in sequence it may be."""
    found = run.verdict
    is_frozen_in_vain = window.reply is None or window.reply.outcome is FreezeOutcome.ACKNOWLEDGED
    if found is None or found.is_consistent or not is_frozen_in_vain or window.may_be_frozen or window.late_seconds > 0:
        return False
    if judging.pve_thawed(window.proof, snapshot.task):
        return False  # as it would in sequence
    trouble = snapshot.remove()
    if trouble:
        run.warnings.append(f"the snapshot is not taken again in sequence: it could not be removed ({trouble})")
        return False
    run.tools.say(f"not proven at the knock ({found.reason}): removed, taking it again in sequence")
    again = Verdict(VerdictKind.UNKNOWN, f"frozen at the knock, and taken again in sequence: {found.reason}")
    run.close(window, again, None, None)
    run.is_closed = False
    return True
