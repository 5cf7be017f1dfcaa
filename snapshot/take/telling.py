"""What a run tells the operator on its way: its checks, its plan, and the steps of a window that is over."""

from __future__ import annotations

from snapshot.base.clock import duration
from snapshot.base.text import counted
from snapshot.model import CheckResult, FreezeOutcome, Guest, Health, Say, Verdict
from snapshot.take.run import Run
from snapshot.window.snapshot import SnapshotWindow
from snapshot.window.verdict import Proof


def checks(say: Say, health: Health) -> None:
    """Those that did not go well."""
    for check in health.checks:
        if check.result is not CheckResult.OK:
            say(f"check {check.name}: {check.message}")


def plan(run: Run, guest: Guest, known: Verdict | None) -> str:
    """What would be done. ``known``: the verdict, where nothing would be frozen."""
    kind = "with RAM " if run.request.memory else ""
    how = "arm a guard, freeze, snapshot, prove, thaw" if known is None else f"no freeze ({known})"
    if known is not None and run.pve_may_freeze and not run.pve_option_off:
        how += "; PVE freezes it by itself inside its snapshot task, and a guard watches that"
    proof = next((check for check in run.checks if check.name == "proof"), None)
    if known is None and proof is not None:
        how += f"; {proof.message}"
    return f"would take snapshot {run.name} {kind}of {guest.id} on {guest.node}: {how}"


def window_steps(run: Run, window: SnapshotWindow) -> None:
    """The window's steps, each with its own time: nothing was printed while the guest was frozen."""
    say, report, reply, times = run.tools.say, window.report, window.reply, window.times
    sent, answered, decided, confirmed = window.instants
    if reply is None and report is not None and report.confirmed:
        say("PVE's own freeze in its snapshot task was seen to", at=decided)
    if reply is not None:
        if sent is not None:
            say("freeze requested", at=sent)
        detail = f": {reply.detail}" if reply.detail else f", {counted(reply.filesystems, 'filesystem')}"
        say(f"freeze {reply.outcome.value}{detail} ({duration(times.freezing_seconds)})", at=answered)
    is_held = reply is not None and reply.outcome is FreezeOutcome.ACKNOWLEDGED and times.held_seconds is not None
    if run.snapshot is not None and run.snapshot.upid is not None and is_held:
        proof = f", guest {window.proof.value}" if window.proof is not Proof.NOT_ASKED else ""
        why = f": {window.broken_by}" if window.broken_by else ""
        say(f"snapshot held for {duration(times.held_seconds)}{proof}{why}", at=decided)
    if report is not None and report.confirmed:
        count = "" if report.filesystems is None else f", {counted(report.filesystems, 'filesystem')}"
        how = "guest went off" if report.guest_gone else report.how if report.from_inside else f"thawed{count}"
        length = "" if times.window_seconds is None else f"; window {duration(times.window_seconds)}"
        say(f"{how} ({duration(times.thawing_seconds)}){length}", at=confirmed)
        if report.hook_failed:
            run.warnings.append(
                "the guest's own thaw hook failed (its filesystems are thawed): see the agent's log in the guest"
            )
