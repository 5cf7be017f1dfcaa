"""Snapshots that are not frozen by us: the verdict is known beforehand, or the freeze failed.

PVE may freeze such a guest by itself inside its snapshot task: then a guard watches, as long as there is one.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

from snapshot.errors import (
    FreezeUnclearError,
    GuardError,
    InterruptedBySignalError,
    JournalError,
    NotConsistentError,
    ReplyLostError,
    SafeSnapshotError,
    SnapshotFailedError,
)
from snapshot.journal.book import plain_record
from snapshot.model import FreezeOutcome, FreezeReply, Guest, Policy, Verdict, VerdictKind
from snapshot.pve import remedies
from snapshot.take import diskword, together
from snapshot.take.guarded import NoGuardError, guarded
from snapshot.take.pvesnapshot import PveSnapshot
from snapshot.take.run import Run
from snapshot.window.snapshot import SnapshotWindow
from snapshot.window.verdict import Evidence, judge
from snapshot.words import Word

Close = Callable[[Verdict, str | None, str | None], None]
"""Records the verdict, and the stage and reason of a failure."""


def watched(run: Run, guest: Guest, known: Verdict) -> None:
    """PVE may freeze the guest by itself inside its task: a guard sees to it that it is thawed."""
    window = run.window_of(guest)
    together.hold(run, window.id)
    snapshot = run.snapshot_of(guest, window.id)
    try:
        with guarded(run, window, " for the freeze that PVE may make by itself"), together.leaving(run):
            window.leave_to_pve()
            _take(run, snapshot, known, window)
    except NoGuardError as unguarded:
        run.warnings.append(f"a freeze that PVE makes by itself is not guarded: {unguarded.error}")
        plain(run, guest, known)
        return
    _conclude(run, snapshot, known, functools.partial(run.close, window))


def plain(run: Run, guest: Guest, known: Verdict) -> None:
    """Nobody freezes, as far as we know."""
    tools = run.tools
    record = plain_record(guest, run.name, tools.clock, tools.me, tools.fence.group_id)
    together.hold(run, record.id)
    snapshot = run.snapshot_of(guest, record.id)
    run.warnings += run.book.try_begin(record)

    def close(found: Verdict, stage: str | None, word: str | None) -> None:
        run.warnings.extend(run.book.try_close(record.id, tools.clock, found, stage, word))

    try:
        _take(run, snapshot, known)
    except (SafeSnapshotError, InterruptedBySignalError) as error:
        interrupted = isinstance(error, InterruptedBySignalError)
        failed = Verdict(VerdictKind.UNKNOWN, error.message if interrupted else f"no snapshot: {error.message}")
        close(failed, "snapshot", "interrupted" if interrupted else "task")
        raise
    _conclude(run, snapshot, known, close)


def without_guard(run: Run, guest: Guest, error: JournalError | GuardError) -> None:
    """No guard, no freeze."""
    if run.policy is Policy.REQUIRE:
        raise error
    run.warnings.append(str(error))
    run.failure = ("guard", Word.NOT_STARTED.value)
    plain(run, guest, Verdict(VerdictKind.CRASH_CONSISTENT, f"not frozen: {error.message}"))


def take_instead(run: Run, snapshot: PveSnapshot, window: SnapshotWindow, reply: FreezeReply) -> None:
    """Our freeze failed, or was not sent; the guard stays for the one that PVE may make by itself."""
    _take(run, snapshot, judge(Evidence(freeze=window.reply, not_frozen_because=reply.detail)), window)


def conclude_instead(run: Run, guest: Guest, snapshot: PveSnapshot, window: SnapshotWindow, reply: FreezeReply) -> None:
    """Our freeze failed: with `require` there is no snapshot, otherwise one that says so."""
    unclear = reply.outcome is FreezeOutcome.UNKNOWN
    stage, word = "freeze", reply.outcome.value
    if run.policy is Policy.REQUIRE:
        verdict = judge(Evidence(freeze=window.reply, thaw=window.report, not_frozen_because=reply.detail))
        taken = _remove(run, guest, snapshot, verdict) if snapshot.exists else "no snapshot taken"
        run.close(window, Verdict(VerdictKind.UNKNOWN, f"{taken}: {verdict.reason}"), stage, word)
        if unclear:
            raise _unclear(run, guest, window, reply)
        raise NotConsistentError(
            f"guest {guest.vmid} could not be frozen: {reply.detail}", remedy=remedies.of_freeze(reply, guest)
        )
    run.tools.say(f"policy {run.policy.value}: went on without a freeze of ours")
    assert run.verdict is not None
    found = run.verdict = diskword.heard(run, guest, snapshot, run.verdict)
    run.close(window, found, stage, word)
    snapshot.describe(found)
    if unclear:
        raise _unclear(run, guest, window, reply)


def _remove(run: Run, guest: Guest, snapshot: PveSnapshot, verdict: Verdict) -> str:
    """It was begun before the freeze, and is worth nothing now; what became of it."""
    trouble = snapshot.remove()
    if not trouble:
        return "the snapshot was removed again"
    snapshot.describe(verdict)
    remedy = f"remove it: `{remedies.tool(guest)} delsnapshot {guest.vmid} {snapshot.name}`"
    run.warnings.append(f"policy require: the snapshot could not be removed ({trouble}); {remedy}")
    return "the snapshot could not be removed"


def _take(run: Run, snapshot: PveSnapshot, expected: Verdict, window: SnapshotWindow | None = None) -> None:
    """The snapshot, and what is left of the expected verdict once it is there."""
    try:
        if not snapshot.has_begun:
            with run.tools.gate.open():
                snapshot.begin(run.tools.config.freeze.freeze_timeout_seconds)
    except ReplyLostError as error:
        if window is None:  # with one PVE may have frozen the guest by now: nothing is printed
            run.tools.say(f"the answer to the snapshot request was lost ({error.message}): looking for it")
    except SnapshotFailedError:
        if window is not None:
            window.pve_has_ended(is_thawed=True)  # it never began
        raise
    snapshot.finish(window)
    together.taken(run, snapshot)
    run.verdict = snapshot.confirm(expected)


def _conclude(run: Run, snapshot: PveSnapshot, expected: Verdict, close: Close) -> None:
    """A guest that should have been frozen and could not be is a failure; one that was not to be frozen is not."""
    assert run.verdict is not None
    assert run.guest is not None
    stage, word = run.failure if run.verdict is expected else ("hold", "no-proof")
    found = diskword.heard(run, run.guest, snapshot, run.verdict)
    if run.is_contradicted:
        stage, word = "disk", Word.NOT_CLEAN.value
    go = together.judged(run, found, follows=stage is None)
    if not go.keep and (found.is_consistent or run.policy is not Policy.REQUIRE):
        together.remove(run, snapshot, go, lambda gone: close(gone, "snapshot", Word.GROUP_ENDED.value))
    found = run.verdict = together.worded(found, go)
    close(found, stage, word)
    if run.policy is Policy.REQUIRE and not found.is_consistent:
        snapshot.remove_unproven(found)
    snapshot.describe(found)


def _unclear(run: Run, guest: Guest, window: SnapshotWindow, reply: FreezeReply) -> FreezeUnclearError:
    minutes = math.ceil(run.tools.config.freeze.late_freeze_seconds / 60)
    remedy = f"the guard watches for a late freeze for up to {minutes} min; see `safe-snapshot status`"
    if window.is_carried_out:
        spec = window.spec
        limits = (
            (spec.freeze_timeout_seconds, "--freeze-timeout ([freeze] freeze_timeout_seconds"),
            (spec.max_window_seconds, "--max-window ([freeze] max_window_seconds"),
        )
        seconds, setting = min(limits)
        remedy = (
            "the freeze was carried out and is undone, so none can come late: try again in 10 s, and raise "
            f"{setting}, now {seconds:g} s) where the guest needs longer to freeze"
        )
    return FreezeUnclearError(
        f"the answer to the freeze of guest {guest.vmid} was lost ({reply.detail}); the guest is thawed",
        remedy=remedy,
    )
