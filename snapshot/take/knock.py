"""Freezing at the knock: PVE's snapshot task is started first, and the guest frozen when the task asks for its agent.

What the knock is stands in window/knock.py. A worker that was let through, or gave up, before the freeze was
acknowledged has proven nothing: such a snapshot is removed, and taken once more in sequence.
"""

from __future__ import annotations

from snapshot.errors import ReplyLostError
from snapshot.model import FreezeOutcome, FreezeReply, Guest, Verdict, VerdictKind
from snapshot.pve.access import tasks_of
from snapshot.pve.agent import AgentChannel
from snapshot.take import judging
from snapshot.take.pvesnapshot import PveSnapshot
from snapshot.take.run import Run
from snapshot.window.knock import COMES_SECONDS, Knock, freezes_quickly, knocked
from snapshot.window.snapshot import SnapshotWindow

STEP_SECONDS = 0.05

WATCHED_SECONDS = 30.0
"""How long the guard may take to end its watch behind a thaw that counted: it looks at least each 4 s, and thaws once
more."""

_IN_VAIN = frozenset({FreezeOutcome.ACKNOWLEDGED, FreezeOutcome.UNKNOWN})


def is_wanted(run: Run, guest: Guest) -> bool:
    """Whether the guest is to be frozen at the knock, and may be."""
    return run.settings.at_the_knock and not run.pve_option_off and freezes_quickly(run.book, guest.vmid)


def freeze(run: Run, snapshot: PveSnapshot, window: SnapshotWindow, seat: AgentChannel) -> FreezeReply:
    """Start the task, wait for its knock at our ``seat``, freeze.

    SnapshotFailedError when PVE said no. A refusal that the window knows nothing of: the knock was missed.
    """
    try:
        with run.tools.gate.open():
            snapshot.begin(run.tools.config.freeze.freeze_timeout_seconds)
            knock = _knock(run, snapshot, seat)
    except ReplyLostError as error:
        knock = f"the answer to the snapshot request was lost ({error.message})"
    if isinstance(knock, Knock):
        return window.freeze(knock)
    return FreezeReply(FreezeOutcome.REFUSED, detail=f"not frozen at the knock: {knock}")


def _knock(run: Run, snapshot: PveSnapshot, seat: AgentChannel) -> Knock | str:
    """Or why there is none."""
    clock, tasks = run.tools.clock, tasks_of(run.tools.access)
    assert snapshot.upid is not None
    until = clock.monotonic() + COMES_SECONDS
    while clock.monotonic() < until:
        knock = knocked(seat, STEP_SECONDS)
        if knock is not None:
            return knock
        if tasks.wait_for_end(snapshot.upid, clock.monotonic()):
            return "PVE's task ended without asking for the agent"
    return f"PVE's task did not ask for the agent within {COMES_SECONDS:g} s"


def is_to_be_taken_again(run: Run, snapshot: PveSnapshot, window: SnapshotWindow) -> bool:
    """Whether the snapshot was removed, and its window closed, since nothing is proven and in sequence it may be."""
    found = run.verdict
    if found is None or found.is_consistent or window.may_be_frozen or judging.pve_thawed(window.proof, snapshot.task):
        return False  # where PVE thaws by itself it would be worth no more in sequence
    if window.is_carried_out:
        _wait_for_guard(run, window)
    is_in_vain = window.reply is None or window.reply.outcome in _IN_VAIN
    if not is_in_vain or window.late_seconds > 0 or (window.is_carried_out and window.is_watched):
        return False
    why = _why(snapshot, window, found)
    trouble = snapshot.remove()
    if trouble:
        run.warnings.append(f"the snapshot is not taken again in sequence: it could not be removed ({trouble})")
        return False
    run.tools.say(f"{why}: removed, taking it again in sequence")
    run.close(window, Verdict(VerdictKind.UNKNOWN, f"{why}; taken again in sequence"), None, None)
    run.verdict, run.window, run.is_closed = None, None, False
    return True


def _why(snapshot: PveSnapshot, window: SnapshotWindow, found: Verdict) -> str:
    """What became of the first try."""
    if window.reply is None:
        is_off = snapshot.guest_runs() is False
        return f"{found.reason}{': the guest was shut down' if is_off else ''}"
    if window.reply.outcome is FreezeOutcome.UNKNOWN:
        return f"the freeze was given up at the knock, where PVE waits no longer, and undone ({window.reply.detail})"
    return f"frozen at the knock, and not proven: {found.reason}"


def _wait_for_guard(run: Run, window: SnapshotWindow) -> None:
    """A freeze whose answer was not waited for was carried out and thawed: the guard's watch behind that ends soon."""
    clock = run.tools.clock
    until = clock.monotonic() + WATCHED_SECONDS
    with run.tools.gate.open():
        while (window.is_watched or window.late_seconds > 0) and clock.monotonic() < until:
            clock.sleep(STEP_SECONDS)
