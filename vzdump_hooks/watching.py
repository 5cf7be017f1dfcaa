"""Owner ``vzdump``: vzdump freezes and thaws by itself. We measure, look whether the guest is frozen, and thaw when
vzdump does not.

The watching process is the guard of vzdump's window: as long as vzdump lives it thaws by itself, when it dies we do.
"""

from __future__ import annotations

import os
import threading
from contextlib import closing, suppress
from typing import NamedTuple

from snapshot.errors import GuardError, InterruptedBySignalError, JournalError
from snapshot.journal import WindowRecord, new_id
from snapshot.model import FreezeOutcome, FreezeState, Guest, Owner, ThawReport, Verdict, VerdictKind
from snapshot.procfs import boot_id, process_start
from snapshot.recording import JournalBook
from snapshot.states import State
from snapshot.window.ladder import Ladder
from snapshot.window.thawing import spec_of
from snapshot.window.window import WindowBrokenError
from vzdump_hooks.backup import HoldTools, is_alone
from vzdump_hooks.evidence import LogEvidence, Seen, judge_watched, watched_word
from vzdump_hooks.look import AgentLook
from vzdump_hooks.order import HoldOrder, HoldReport
from vzdump_hooks.wordings import LogEvent

LOOK_SECONDS = 0.005
FROZEN_LOOK_SECONDS = 0.05
"""How often a guest is asked that has said frozen."""

LAST_LOOK_SECONDS = 1.0
"""How long the last answer may take once vzdump has been answered its thaw, for which it waited behind our question."""

ENDS = frozenset({LogEvent.GUEST_DONE, LogEvent.TASK_END, LogEvent.GUEST_ERROR, LogEvent.NO_DISKS})
RECORD_SECONDS = 6.0
"""How long to wait for the record of the freeze: a little longer than the journal waits for its lock."""


class WatchEnd(NamedTuple):
    """How the window ended. ``report``: we had to thaw; None when vzdump did."""

    begun: bool
    confirmed: bool
    broken_by: str
    report: ThawReport | None = None
    window_seconds: float | None = None


class VzdumpWatch:
    """One window of vzdump's own."""

    def __init__(self, order: HoldOrder, guest: Guest, tools: HoldTools, book: JournalBook, ladder: Ladder) -> None:
        self._order = order
        self._guest = guest
        self._tools = tools
        self._book = book
        self._thawer = tools.thawer(ladder)
        self._begun_at: float | None = None
        self._point_at: float | None = None
        self._seen = Seen()
        self._look = AgentLook(tools.access, guest)
        self.problems: list[str] = []

    def run(self, not_ours_because: str = "") -> None:
        """Watch to the point in time, the backup's end or the deadline; make sure of the thaw; judge; record."""
        record = self._record()
        self.problems += self._book.try_begin(record)
        if not_ours_because:
            message = HoldReport(False, f"{not_ours_because}; vzdump's own freeze is watched", watched=True)
        else:
            message = HoldReport(True, "watching vzdump's own freeze" + "".join(f" ({p})" for p in self.problems), True)
        self._tools.report(message)
        noting = _Noting(self._tools, record)
        broken_by = ""
        try:
            with self._tools.gate.open():
                broken_by = self._follow(noting)
        except WindowBrokenError as broken:
            broken_by = str(broken)
        except InterruptedBySignalError as signalled:
            broken_by = f"the watching process was {signalled}"
        end = self._settle(broken_by)
        self._seen = self._seen._replace(alone=is_alone(self._book, self._guest.vmid, record.id))
        log = self._tools.watch.evidence
        verdict = judge_watched(log, self._seen, end.window_seconds, broken_by, end.confirmed)
        noting.finish()
        self._close(record, verdict, end, log)

    def _follow(self, noting: _Noting) -> str:
        """Returns at the point in time with "", or with why the window ended before."""
        watch, clock = self._tools.watch, self._tools.clock
        while True:
            event = watch.next(LOOK_SECONDS)
            if event is LogEvent.FREEZE_ISSUED and self._begun_at is None:
                self._begun_at = clock.monotonic()
                noting.begin(clock.time())
            elif event is LogEvent.POINT_IN_TIME:
                self._point_at = clock.monotonic()  # vzdump writes this line when its thaw has been answered
                return ""
            elif event in ENDS:
                return f"the backup failed ({event.value})"
            if self._begun_at is None:
                continue
            if clock.monotonic() - self._begun_at > self._order.max_window_seconds:
                return f"the deadline of {self._order.max_window_seconds:g} s passed"
            self._look_at_the_guest()

    def _look_at_the_guest(self) -> None:
        """Between vzdump's freeze and its thaw: the agent answers us as soon as the freeze is done."""
        watch = self._tools.watch
        thaw_issued = watch.evidence.saw(LogEvent.THAW_ISSUED)
        state = self._look.take() if thaw_issued else self._look.next(FROZEN_LOOK_SECONDS if self._seen.frozen else 0.0)
        if state is FreezeState.FROZEN:
            self._seen = self._seen._replace(frozen=True)
        elif (
            state is FreezeState.THAWED
            and self._seen.frozen
            and not any(watch.has_logged(event) for event in (LogEvent.THAW_ISSUED, *ENDS))
        ):
            self._seen = self._seen._replace(thawed_early=True)

    def _settle(self, broken_by: str) -> WatchEnd:
        """Make sure of vzdump's thaw."""
        begun = self._begun_at
        if begun is None:
            return WatchEnd(begun=False, confirmed=True, broken_by=broken_by)
        if not broken_by and self._look.take(LAST_LOOK_SECONDS) is FreezeState.FROZEN:
            self._seen = self._seen._replace(frozen=True)  # whenever it was asked: so it was before the thaw
        failed = self._tools.watch.evidence.saw(LogEvent.THAW_FAILED)
        report: ThawReport | None = None
        if broken_by or failed or self._thawer.look() is not FreezeState.THAWED:
            report = self._thawer.until_confirmed(self._tools.config.thaw.owner_limit_seconds)
        ended = self._point_at if self._point_at is not None and report is None else self._tools.clock.monotonic()
        confirmed = report is None or report.confirmed
        return WatchEnd(True, confirmed, broken_by, report, ended - begun if confirmed else None)

    def _close(self, record: WindowRecord, verdict: Verdict, end: WatchEnd, log: LogEvidence) -> None:
        now, report = self._tools.clock.time(), end.report
        good = verdict.kind is VerdictKind.FILESYSTEM_CONSISTENT
        stage = "thaw" if not end.confirmed else "hold" if end.begun else "freeze"
        values: dict[str, object] = {
            "state": (State.THAWED if end.confirmed else State.STUCK).value,
            "verdict": verdict.kind.value,
            "reason": verdict.reason,
            "window_seconds": end.window_seconds,
            "freeze_outcome": _outcome(log) if end.begun else None,
            "thaw_attempts": report.attempts if report else None,
            "thaw_route": report.route if report else None,
            "thaw_detail": report.detail if report else None,
            "filesystems_thawed": report.filesystems if report else None,
            "failure_stage": None if good else stage,
            "failure_reason": None if good else watched_word(log, end.broken_by),
            "closed_at": now if end.confirmed else None,
            "thawed_at": now if end.begun and end.confirmed else None,
        }
        if not end.confirmed:
            # Nobody else goes on: vzdump tries its thaw once.
            values |= {"guard_pid": None, "guard_pid_start": None}
        try:
            self._book.update(record.id, **values)
        except JournalError as error:
            self.problems.append(str(error))
        if not end.confirmed:
            try:
                self._tools.adopt(spec_of(record, self._tools.config))
            except GuardError as error:
                self.problems.append(str(error))

    def _record(self) -> WindowRecord:
        now, pid = self._tools.clock.time(), os.getpid()
        start = process_start(pid) or 0
        return WindowRecord(
            id=new_id(),
            vmid=self._guest.vmid,
            node=self._guest.node,
            kind=self._guest.kind.value,
            guest_name=self._guest.name,
            source="vzdump",
            owner=Owner.VZDUMP.value,
            state=State.IDLE.value,
            intent_at=now,
            deadline_at=now + self._order.max_window_seconds,
            owner_pid=pid,
            owner_pid_start=start,
            # We are this window's guard: as long as we live nobody else has to thaw.
            guard_pid=pid,
            guard_pid_start=start,
            boot_id=boot_id(),
            upid=self._order.upid or None,
        )


class _Noting:
    """Tells the journal that vzdump has begun to freeze, beside the watch: a busy journal must not hold the watch up.

    Metrics show a frozen guest while it is frozen, and `recover` counts the deadline from here.
    """

    def __init__(self, tools: HoldTools, record: WindowRecord) -> None:
        self._tools = tools
        self._record = record
        self._thread: threading.Thread | None = None

    def begin(self, at: float) -> None:
        """Note the instant ``at`` as the window's beginning."""
        limit = self._record.deadline_at - self._record.intent_at
        values = {"state": State.FREEZING.value, "intent_at": at, "deadline_at": at + limit}
        self._thread = threading.Thread(target=self._write, args=(values,), daemon=True)
        self._thread.start()

    def finish(self) -> None:
        """Wait for the note: the outcome must not come before it."""
        if self._thread is not None:
            self._thread.join(RECORD_SECONDS)

    def _write(self, values: dict[str, object]) -> None:
        with suppress(JournalError), closing(self._tools.open_journal()) as journal:
            journal.update(self._record.id, **values)


def _outcome(log: LogEvidence) -> str:
    if log.saw(LogEvent.FREEZE_FAILED, LogEvent.FREEZE_REFUSED_FROZEN):
        return FreezeOutcome.FAILED.value
    if log.saw(LogEvent.BACKUP_STARTING, LogEvent.THAW_ISSUED):
        return FreezeOutcome.ACKNOWLEDGED.value
    return FreezeOutcome.UNKNOWN.value
