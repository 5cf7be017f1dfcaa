"""What the journal is told of a window of vzdump's freeze: that it has begun, and at its end what came of it."""

from __future__ import annotations

import threading
from contextlib import closing, suppress
from typing import NamedTuple

from snapshot.errors import JournalError
from snapshot.journal.record import WindowRecord
from snapshot.model import FreezeOutcome, ThawReport, Verdict
from snapshot.states import State
from snapshot.words import Word
from vzdump_hooks.hold.tools import HoldTools
from vzdump_hooks.hold.verdict import watched_word
from vzdump_hooks.tasklog.follow import LogEvidence
from vzdump_hooks.tasklog.wordings import LogEvent

RECORD_SECONDS = 6.0
"""How long to wait for the record of the freeze: a little longer than the journal waits for its lock."""


class WindowEnd(NamedTuple):
    """How the window ended. ``report``: we had to thaw; None when vzdump did."""

    begun: bool
    confirmed: bool
    broken_by: str
    word: Word | None = None
    report: ThawReport | None = None
    window_seconds: float | None = None


class BeginningRecorder:
    """Tells the journal that vzdump has begun to freeze, in a thread of its own: a busy journal holds nobody up.

    Metrics show a frozen guest while it is frozen, and `recover` counts the deadline from here.
    """

    def __init__(self, tools: HoldTools, record: WindowRecord) -> None:
        self._tools = tools
        self._record = record
        self._thread: threading.Thread | None = None

    def record(self, at: float) -> None:
        """Record the instant ``at`` as the window's beginning."""
        limit = self._record.deadline_at - self._record.intent_at
        values = {"state": State.FREEZING.value, "intent_at": at, "deadline_at": at + limit}
        self._thread = threading.Thread(target=self._write, args=(values,), daemon=True)
        self._thread.start()

    def finish(self) -> None:
        """Wait until it is written: the outcome must not come before it."""
        if self._thread is not None:
            self._thread.join(RECORD_SECONDS)

    def _write(self, values: dict[str, object]) -> None:
        with suppress(JournalError), closing(self._tools.open_journal()) as journal:
            journal.update(self._record.id, **values)


def closing_values(
    verdict: Verdict, end: WindowEnd, log: LogEvidence, now: float, *, chosen: bool
) -> dict[str, object]:
    """The columns that close the window's row. ``chosen``: no freeze of ours was wanted (HoldOrder)."""
    report = end.report
    stage, word = _failure(verdict, end, log, chosen=chosen)
    return {
        "state": (State.THAWED if end.confirmed else State.STUCK).value,
        "verdict": verdict.kind.value,
        "reason": verdict.reason,
        "window_seconds": end.window_seconds,
        "freeze_outcome": _freeze_outcome(log) if end.begun else None,
        "thaw_attempts": report.attempts if report else None,
        "thaw_route": report.route if report else None,
        "thaw_detail": report.detail if report else None,
        "filesystems_thawed": report.filesystems if report else None,
        "failure_stage": stage,
        "failure_reason": word,
        "closed_at": now if end.confirmed else None,
        "thawed_at": now if end.begun and end.confirmed else None,
    }


def _failure(verdict: Verdict, end: WindowEnd, log: LogEvidence, *, chosen: bool) -> tuple[str | None, str | None]:
    """The stage and the word of what went wrong. Where no freeze of ours is wanted, only the guest's risk is."""
    if not end.confirmed:
        return "thaw", watched_word(log, end.word).value
    if verdict.kind.is_of_a_freeze or log.saw(LogEvent.NO_DISKS):
        return None, None
    if chosen and end.report is None:
        return None, None
    return "hold" if end.begun else "freeze", watched_word(log, end.word).value


def _freeze_outcome(log: LogEvidence) -> str:
    if log.saw(LogEvent.FREEZE_FAILED, LogEvent.FREEZE_REFUSED_FROZEN):
        return FreezeOutcome.FAILED.value
    if log.saw(LogEvent.BACKUP_STARTING, LogEvent.THAW_ISSUED):
        return FreezeOutcome.ACKNOWLEDGED.value
    return FreezeOutcome.UNKNOWN.value
