"""A window from its armed guard to its confirmed thaw, whatever is done in it; and what it leaves to the run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from snapshot.errors import (
    Failure,
    GroupEndedError,
    GuardError,
    InterruptedBySignalError,
    JournalError,
    SafeSnapshotError,
    SnapshotFailedError,
    StillFrozenError,
)
from snapshot.model import FreezeOutcome, Verdict, VerdictKind
from snapshot.pve import remedies
from snapshot.take import telling
from snapshot.take.interruption import let_signals_through
from snapshot.take.request import frozen_seconds
from snapshot.take.run import Run
from snapshot.thaw.rescue import what_is_left
from snapshot.thaw.telling import in_words
from snapshot.window.snapshot import SnapshotWindow


class NoGuardError(Exception):
    """The window could not be recorded, or its guard not be armed: nothing was frozen. Internal."""

    def __init__(self, error: JournalError | GuardError) -> None:
        super().__init__(str(error))
        self.error = error


@contextmanager
def guarded(run: Run, window: SnapshotWindow, what_for: str = "") -> Iterator[None]:
    """The guard is armed inside, the guest thawed behind, on every way out. Raises NoGuardError; an error from inside
    closes the window on its way; StillFrozenError when the thaw is not confirmed.
    """
    failed: Failure | None = None
    is_armed = False
    try:
        with run.tools.gate.unstoppable(), window:
            is_armed = True
            run.tools.say(f"guard armed (pid {window.guard_pid}){what_for}")
            let_signals_through(run.tools)
            yield
    except (SafeSnapshotError, InterruptedBySignalError) as error:
        if not is_armed and isinstance(error, JournalError | GuardError):
            raise NoGuardError(error) from error
        failed = error
    _take_over(run, window, failed)
    if failed is not None:
        _close_failed(run, window, failed)
        raise failed


def _take_over(run: Run, window: SnapshotWindow, failed: Failure | None) -> None:
    run.window, report = window, window.report
    run.warnings += window.noted
    if run.snapshot is not None:
        run.snapshot.frozen_seconds = frozen_seconds(window.reply, window.times)
    if report is None:
        return
    telling.window_steps(run, window)
    if report.confirmed:
        return
    # Recorded by the window itself; the guard goes on. What else was on its way is told beside it.
    if failed is not None:
        run.warnings.append(str(failed))
    run.close(window, Verdict(VerdictKind.UNKNOWN, "the thaw is not confirmed"), "thaw", "not-confirmed")
    limit = run.tools.config.thaw.owner_limit_seconds
    why = "its agent does not let us" if report.forbidden else f"no thaw was confirmed in {limit:g} s"
    left = what_is_left(window.spec.guest, run.tools.access, is_offline=False, is_forbidden=report.forbidden)
    raise StillFrozenError(
        f"GUEST {run.request.vmid} MAY STILL BE FROZEN: {why} ({in_words(run.answers.last) or report.detail})",
        remedy=f"the guard goes on trying; {left}",
    )


def _close_failed(run: Run, window: SnapshotWindow, failed: Failure) -> None:
    """There is no snapshot, or nobody knows."""
    stage, word, why = "snapshot", remedies.failure_word(failed), failed.message
    if isinstance(failed, SnapshotFailedError) and run.snapshot is not None and run.snapshot.is_finished:
        word, why = "task", f"no snapshot: {failed.message}"
    if isinstance(failed, GroupEndedError) and window.broken_word is not None:
        word = window.broken_word.value
    reply = window.reply
    if reply is not None and reply.outcome is not FreezeOutcome.ACKNOWLEDGED:
        stage, word = "freeze", reply.outcome.value
    run.close(window, Verdict(VerdictKind.UNKNOWN, why), stage, word)
