"""Where a guard reports: the journal, the metrics, syslog. Nothing here raises: the guest comes first."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import closing

from snapshot.base import logfmt
from snapshot.base.clock import Clock
from snapshot.base.procfs import ProcessIdentity
from snapshot.errors import JournalError
from snapshot.guard.link import GuardSpec
from snapshot.journal.record import Cause, WindowRecord
from snapshot.journal.store import Journal
from snapshot.model import ThawReport, VerdictKind
from snapshot.states import State

OWNER_SILENT_CAUSES = frozenset({Cause.OWNER_DIED, Cause.ABANDONED, Cause.OWNER_STOPPED, Cause.RECOVERY})


class JournalRecorder:
    """guard.seams.Recorder on a journal that may be broken, and a ``publish`` that may fail."""

    def __init__(
        self,
        spec: GuardSpec,
        open_journal: Callable[[], Journal],
        publish: Callable[[Journal], list[str]],
        clock: Clock,
        log: logging.Logger,
        *,
        me: ProcessIdentity,
    ) -> None:
        self._spec = spec
        self._open_journal = open_journal
        self._publish = publish
        self._clock = clock
        self._me = me
        self._log = log
        self._owed: list[Callable[[WindowRecord], dict[str, object]]] = []
        """What could not be written, oldest first."""

    def intervened(self, cause: Cause, report: ThawReport) -> None:
        """See Recorder."""
        self._say(logging.WARNING, "thawing", cause=cause.value, detail=report.detail)
        # A guard that was started again has another pid than the journal knows.
        self._write(guard_pid=self._me.pid, guard_pid_start=self._me.start, guard_cause=cause.value)

    def stuck(self, cause: Cause, report: ThawReport) -> None:
        """See Recorder."""
        self._say(logging.CRITICAL, "still-frozen", cause=cause.value, attempts=report.attempts, detail=report.detail)
        self._write(
            state=State.STUCK.value,
            guard_cause=cause.value,
            thaw_attempts=report.attempts,
            thaw_detail=report.detail,
            failure_stage="thaw",
            failure_reason="no-answer",
        )

    def thawed(self, cause: Cause, report: ThawReport, *, watching_seconds: float) -> None:
        """See Recorder."""
        how = "guest-gone" if report.guest_gone else "thawed"
        self._say(logging.WARNING, how, cause=cause.value, attempts=report.attempts, route=report.route)
        now = self._clock.time()
        values: dict[str, object] = {
            "guard_cause": cause.value,
            "thaw_attempts": report.attempts,
            "thaw_route": report.route,
            "thaw_detail": "thaw hook failed" if report.hook_failed else report.detail,
            "thawed_at": now,
            "filesystems_thawed": report.filesystems,
            "state": (State.UNKNOWN if watching_seconds > 0 else State.THAWED).value,
        }
        if watching_seconds > 0:
            values["quiet_until_at"] = now + watching_seconds
        did = "the guest went off while it was frozen" if report.guest_gone else "the guard thawed the guest"
        verdict = {
            "verdict": VerdictKind.UNKNOWN.value,
            "reason": f"{did} ({cause.value})",
            "failure_stage": "hold",
            "failure_reason": cause.value,
        }

        def more(record: WindowRecord) -> dict[str, object]:
            judge = cause in OWNER_SILENT_CAUSES and record.verdict is None
            return values | (verdict if judge else {})

        self._record(more)

    def late_freeze(self) -> None:
        """See Recorder."""
        self._say(logging.WARNING, "late-freeze-thawed")
        self._record(lambda record: {"late_freezes": record.late_freezes + 1})

    def left_open(self) -> None:
        """See Recorder."""
        self._say(logging.WARNING, "guard-stopped", remedy="safe-snapshot recover goes on watching this window")

    def closed(self, *, by_owner: bool) -> None:
        """See Recorder. An owner that lives closes its window itself, unless it left it open for a late freeze."""

        def closing_values(record: WindowRecord) -> dict[str, object]:
            if record.closed_at is not None or (by_owner and record.quiet_until_at is None):
                return {}
            values: dict[str, object] = {"closed_at": self._clock.time(), "state": State.THAWED.value}
            if record.verdict is None:
                values |= {
                    "verdict": VerdictKind.UNKNOWN.value,
                    "reason": "its owner ended without a word",
                    "failure_stage": record.failure_stage or "hold",
                    "failure_reason": record.failure_reason or record.guard_cause or Cause.OWNER_DIED.value,
                }
            return values

        self._record(closing_values)
        self._say(logging.INFO, "window-closed")

    def _write(self, **values: object) -> None:
        self._record(lambda record: values)

    def catch_up(self) -> None:
        """Write what could not be written: the disk may have room again. A guard may watch for an hour yet, and till
        then everybody goes by the journal.
        """
        if self._owed:
            self._write_owed()

    def _record(self, values_for: Callable[[WindowRecord], dict[str, object]]) -> None:
        """Set columns of the window's row, when there is one; what goes wrong goes to the log, and is tried again."""
        self._owed.append(values_for)
        trouble = self._write_owed()
        if trouble is not None:
            self._say(logging.ERROR, "not-recorded", detail=str(trouble))

    def _write_owed(self) -> JournalError | None:
        try:
            with closing(self._open_journal()) as journal:
                is_news = False
                while self._owed:
                    record = journal.get(self._spec.window_id)
                    values = self._owed[0](record) if record is not None else {}
                    if values:
                        journal.update(self._spec.window_id, **values)
                        is_news = True
                    self._owed.pop(0)
                if is_news:
                    self._after(journal)
        except JournalError as error:
            return error
        return None

    def _after(self, journal: Journal) -> None:
        for problem in self._publish(journal):
            self._say(logging.ERROR, "metrics-not-written", detail=problem)

    def _say(self, level: int, what: str, **values: object) -> None:
        self._log.log(level, "%s", logfmt.line(what, **self._spec.log_keys, **values))
