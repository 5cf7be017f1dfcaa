"""safe_snapshot(): the protocol for one guest, top to bottom.

Do, then report: everything that happened is in the Result, also when it ended in an error. The caller renders it. What
a window does in each step stands in window/window.py; snapshots that are not frozen by us, in unfrozen.py.
"""

from __future__ import annotations

from snapshot.errors import (
    ApiError,
    Failure,
    InterruptedBySignalError,
    ReplyLostError,
    SafeSnapshotError,
    SnapshotFailedError,
)
from snapshot.model import FreezeOutcome, Guest, Policy, Verdict, VerdictKind
from snapshot.pve.access import tasks_of
from snapshot.pve.tasks import pace_of
from snapshot.take import diskword, judging, knock, own, telling, together, unfrozen
from snapshot.take.examine import examine, leaves_alone, wait_for_turn
from snapshot.take.guarded import NoGuardError, guarded
from snapshot.take.interruption import let_signals_through, what_is_there_told
from snapshot.take.pvesnapshot import PveSnapshot
from snapshot.take.request import Request, Result, Tools
from snapshot.take.run import Run
from snapshot.window import guesthooks
from snapshot.window.parts import WindowBrokenError
from snapshot.window.snapshot import SnapshotWindow
from snapshot.window.verdict import broken_word
from snapshot.words import Word


def safe_snapshot(request: Request, tools: Tools) -> Result:
    """Take a snapshot of one guest, frozen if it can be, and say what it is worth. Raises nothing of ours."""
    run = Run(request, tools)
    error: Failure | None = None
    try:
        with what_is_there_told(run):
            wait_for_turn(run)
            _take(run)
            let_signals_through(tools)
    except (SafeSnapshotError, InterruptedBySignalError) as failure:
        error = failure
        tools.fence.leave(failure.message)
    run.publish()
    run.turn.release()
    run.freezes.release()
    own.verdict(run, error)
    run.alone.release()
    return run.result(error)


def _take(run: Run, *, is_again: bool = False) -> None:
    guest, known = examine(run)  # 1. preflight: before anything is at risk
    may_freeze = known is None or (run.pve_may_freeze and not run.pve_option_off)
    if may_freeze and not (run.request.dry_run or is_again):
        own.before_freeze(run, guest)
    if run.request.dry_run:
        run.plan = telling.plan(run, guest, known)
        run.expected = VerdictKind.FILESYSTEM_CONSISTENT if known is None else known.kind
        return
    together.examined(run)
    if known is None:
        _frozen(run, guest, at_knock=not is_again and run.tools.fence.group_id is None and knock.is_wanted(run, guest))
    elif run.pve_may_freeze:
        unfrozen.watched(run, guest, known)
    else:
        unfrozen.plain(run, guest, known)


def _frozen(run: Run, guest: Guest, *, at_knock: bool) -> None:
    """Steps 2 to 8. Nothing is printed or written from the freeze to the confirmed thaw.

    ``at_knock``: PVE's task is started before the freeze, which is sent when the task asks for the agent. In sequence
    where the agent's seat is not ours.
    """
    window = run.window_of(guest, others_freeze=at_knock)
    before = guesthooks.look(run.tools.access.socket(guest))  # ahead of the guard: nothing is at risk yet
    snapshot = run.snapshot_of(guest, window.id)
    try:
        with guarded(run, window), together.leaving(run):  # 2. intent, 3. guard; and on every way out 7. thaw
            together.turn_to_freeze(run, window)
            seat = window.sit() if at_knock else None
            reply = knock.freeze(run, snapshot, window, seat) if seat else window.freeze()  # 4. freeze
            together.frozen(run, window, reply)
            if reply.outcome is FreezeOutcome.ACKNOWLEDGED:
                _point_in_time(run, snapshot, window)  # 5. point in time
                together.turn_to_thaw(run, window)
                window.prove()  # 6. proof
                if window.broken_by and window.leave_to_pve():
                    snapshot.finish(window)  # the task may come to a freeze of PVE's own only now
            elif (snapshot.has_begun or run.policy is not Policy.REQUIRE) and window.leave_to_pve():
                unfrozen.take_instead(run, snapshot, window, reply)
    except NoGuardError as unguarded:
        unfrozen.without_guard(run, guest, unguarded.error)
        return
    try:
        if reply.outcome is FreezeOutcome.ACKNOWLEDGED:
            found = _verdict(run, snapshot, window, at_knock=seat is not None)  # 8. verdict and record
            run.verdict = guesthooks.after_thaw(found, before, run.tools.access.socket(guest))
        again = seat is not None and knock.is_to_be_taken_again(run, snapshot, window)
        if reply.outcome is FreezeOutcome.ACKNOWLEDGED and not again:
            _conclude(run, snapshot, window)
        elif not again:
            unfrozen.conclude_instead(run, guest, snapshot, window, reply)
    except InterruptedBySignalError as signalled:
        if not run.is_closed:
            run.close(window, Verdict(VerdictKind.UNKNOWN, signalled.message), "snapshot", "interrupted")
        raise
    if again:
        _take(run, is_again=True)  # from the start: the guest may have been shut down meanwhile


def _point_in_time(run: Run, snapshot: PveSnapshot, window: SnapshotWindow) -> None:
    """The snapshot's task, from its start to the end of its worker.

    What PVE refuses here ends the window first: the context thaws before any error goes on its way.
    """
    left = window.deadline - run.tools.clock.monotonic()
    limit = max(1.0, min(left, window.spec.freeze_timeout_seconds))
    try:
        with run.tools.gate.open():
            upid = snapshot.upid or snapshot.begin(limit)
            tasks, check = tasks_of(run.tools.access), lambda: together.check(run, window)
            if not tasks.wait_for_end(upid, window.deadline, check, pace_of(run.beside)):
                window.check()
            snapshot.over_at = run.tools.clock.monotonic()
    except WindowBrokenError as broken:
        window.break_off(str(broken), broken.word)
    except ReplyLostError as error:
        window.break_off(f"the answer to the snapshot request was lost ({error.message})", Word.REPLY_LOST)
    except ApiError as error:
        why = f"PVE does not say any more how the snapshot goes ({error.message})"
        window.break_off(why, Word.REPLY_LOST)


def _verdict(run: Run, snapshot: PveSnapshot, window: SnapshotWindow, *, at_knock: bool) -> Verdict:
    """The guest is thawed: what became of the task, and what the snapshot may be called."""
    try:
        if not snapshot.is_finished:
            snapshot.finish()
    except SnapshotFailedError as error:
        run.close(window, Verdict(VerdictKind.UNKNOWN, f"no snapshot: {error.message}"), "snapshot", "task")
        raise
    doubt = judging.asked_in_vain(window.proof, snapshot.task) if at_knock else ""
    if doubt:
        window.break_off(doubt, Word.NO_PROOF)
    return judging.of_window(window, snapshot.task, lambda: leaves_alone(run, window.spec.guest))


def _conclude(run: Run, snapshot: PveSnapshot, window: SnapshotWindow) -> None:
    """What follows from the verdict."""
    assert run.verdict is not None
    verdict = run.verdict = diskword.heard(run, window.spec.guest, snapshot, run.verdict)
    consistent = verdict.kind.is_of_a_freeze
    go = together.judged(run, verdict, follows=consistent, window=window)
    if not go.keep and (consistent or window.broken_word is Word.GROUP_ENDED):
        together.remove(run, snapshot, go, lambda found: run.close(window, found, "hold", Word.GROUP_ENDED.value))
    verdict = run.verdict = together.worded(verdict, go)
    if run.is_contradicted:
        run.close(window, verdict, "disk", Word.NOT_CLEAN.value)
    else:
        word = None if consistent else broken_word(window.proof, window.broken_word).value
        run.close(window, verdict, None if consistent else "hold", word)
    if not consistent and run.policy is Policy.REQUIRE:
        snapshot.remove_unproven(verdict)
    snapshot.describe(verdict)
