"""vzdump freezes and thaws by itself: whoever wanted that, or could not do better, its freeze is followed. We measure,
look whether the guest is frozen, and thaw when vzdump does not.

A guard is armed before vzdump goes on, as for a freeze of ours: it thaws when this process is killed or stands still.
Where none can be armed this process watches alone, and says so. Without a log to follow there are the
agent's word and the worker's life.
"""

from __future__ import annotations

import threading
from contextlib import closing, suppress
from typing import NamedTuple

from snapshot.base.procfs import process_start
from snapshot.errors import GuardError, InterruptedBySignalError, JournalError
from snapshot.guard.link import Guard, Op, spec_of
from snapshot.journal.book import JournalBook
from snapshot.journal.record import WindowRecord
from snapshot.model import FreezeOutcome, FreezeState, Guest, Owner, ThawReport, Verdict, VerdictKind
from snapshot.pve.ladder import Ladder
from snapshot.states import State
from snapshot.window.parts import WindowBrokenError
from snapshot.words import Word
from vzdump_hooks.hold.look import AgentLook
from vzdump_hooks.hold.order import HoldOrder, HoldReport
from vzdump_hooks.hold.tools import HoldTools, is_alone
from vzdump_hooks.hold.verdict import Seen, judge_unheard, judge_watched, watched_word
from vzdump_hooks.tasklog.follow import LogEvidence, WorkerDiedError
from vzdump_hooks.tasklog.wordings import LogEvent

LOOK_SECONDS = 0.005
FROZEN_LOOK_SECONDS = 0.05
"""How often a guest is asked that has said frozen."""

FIRST_LOOK_SECONDS = 0.5
"""How long the first answer may take, of a guest that nobody may have frozen yet: vzdump waits for us meanwhile."""

LAST_LOOK_SECONDS = 1.0
"""How long the last answer may take once vzdump has been answered its thaw, for which it waited behind our question."""

UNHEARD_LOOK_SECONDS = 1.0
"""How often the agent is asked where no log can be followed: at first, and while it says frozen."""

UNHEARD_SLOWEST_SECONDS = 15.0
"""The same later: vzdump freezes at the beginning of a copy that may take hours, and seldom later."""

UNHEARD_WAIT_SECONDS = 0.1
"""How long an answer may lie there unread. The worker's death is noticed at once."""

ENDS = frozenset({LogEvent.GUEST_DONE, LogEvent.TASK_END, LogEvent.GUEST_ERROR, LogEvent.NO_DISKS})
RECORD_SECONDS = 6.0
"""How long to wait for the record of the freeze: a little longer than the journal waits for its lock."""


class Ended(NamedTuple):
    """How following ended: at the point in time, or before it, and then why."""

    broken_by: str = ""
    word: Word | None = None
    worker_died: bool = False


class WatchEnd(NamedTuple):
    """How the window ended. ``report``: we had to thaw; None when vzdump did."""

    begun: bool
    confirmed: bool
    broken_by: str
    word: Word | None = None
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
        self._frozen_at: float | None = None
        """When vzdump had its answer to the freeze at the latest."""
        self._point_at: float | None = None
        self._seen = Seen(found_frozen=order.found_frozen)
        self._look = AgentLook(tools.access, guest)
        self._guard: Guard | None = None
        self.problems: list[str] = []

    def run(
        self,
        not_ours_because: str = "",
        *,
        is_heard: bool = True,
        with_guard: bool = True,
        nothing_to_freeze: bool = False,
    ) -> None:
        """Watch to the point in time, the backup's end or the deadline; make sure of the thaw; judge; record.

        ``is_heard``: vzdump's log can be followed. Not ``with_guard``: none could be armed just now.
        ``nothing_to_freeze``: a freeze of ours froze no filesystem just now.
        """
        self._seen = self._seen._replace(nothing_to_freeze=nothing_to_freeze)
        record = self._record()
        if with_guard:
            record = self._armed(record)
        self.problems += self._book.try_begin(record)
        self._first_look()
        self._tools.report(self._message(not_ours_because, is_heard=is_heard))
        noting = _Noting(self._tools, record)
        try:
            with self._tools.gate.open():
                ended = self._follow(noting) if is_heard else self._follow_unheard(noting)
        except WorkerDiedError as died:
            ended = Ended(str(died), Word.BACKUP_FAILED, worker_died=True)
        except WindowBrokenError as broken:
            ended = Ended(str(broken), broken.word)
        except InterruptedBySignalError as signalled:
            # Without a log it is backup-end that says so: the backup is over.
            ended = Ended(f"the watching process was {signalled}", Word.INTERRUPTED) if is_heard else Ended()
        end = self._settle(ended)
        self._dismiss(end)
        self._seen = self._seen._replace(alone=is_alone(self._book, self._guest.vmid, record.id))
        log = self._tools.watch.evidence
        if is_heard:
            verdict = judge_watched(log, self._seen, end.window_seconds, end.broken_by, end.confirmed)
        else:
            verdict = judge_unheard(self._seen, end.broken_by, end.confirmed)
        noting.finish()
        self._close(record, verdict, end, log)

    def _message(self, not_ours_because: str, *, is_heard: bool) -> HoldReport:
        doubts = "".join(f" ({problem})" for problem in self.problems)
        if not is_heard:
            text = "by the agent's word and its worker's life alone" + doubts
            why = not_ours_because or "vzdump's log cannot be followed"
            return HoldReport(False, f"{why}; vzdump's own freeze is watched {text}", watched=True)
        if not_ours_because:
            return HoldReport(False, f"{not_ours_because}; vzdump's own freeze is watched{doubts}", watched=True)
        return HoldReport(True, f"watching vzdump's own freeze{doubts}", watched=True)

    def _armed(self, record: WindowRecord) -> WindowRecord:
        """Arm a guard; the record with its name. It is to thaw at once when nobody follows vzdump any more."""
        order, config = self._order, self._tools.config
        spec = spec_of(record, config)._replace(
            deadline_seconds=order.max_window_seconds,
            watch=((order.worker_pid, order.worker_start),),
            others_freeze=True,
        )
        try:
            self._guard = self._tools.launcher.arm(spec)
        except GuardError as error:
            self.problems.append(f"no guard: {error.message}: should this process die, nobody thaws")
            return record
        return record._replace(guard_pid=self._guard.pid, guard_pid_start=process_start(self._guard.pid))

    def _tell(self, op: Op) -> None:
        if self._guard is not None:
            self._guard.tell(op)

    def _first_look(self) -> None:
        """Whether somebody else has frozen the guest already. vzdump's freeze comes after our report."""
        self._look.next()
        self._note_first(self._look.take(FIRST_LOOK_SECONDS))

    def _note_first(self, state: FreezeState | None) -> None:
        if state is not None:
            self._seen = self._seen._replace(answered=True)
        if state is not FreezeState.FROZEN:
            return
        if self._order.unclear:
            self._thawer.until_confirmed(self._tools.config.thaw.owner_limit_seconds)
            self._thawer.start_over()
        else:
            self._seen = self._seen._replace(found_frozen=True)

    def _begin(self, noting: _Noting) -> None:
        self._tell(Op.FREEZING)
        self._begun_at = self._tools.clock.monotonic()
        noting.begin(self._tools.clock.time())

    def _is_too_late(self) -> str:
        """Why the window has to end, "" when it has not."""
        limit = self._order.max_window_seconds
        if self._begun_at is None or self._tools.clock.monotonic() - self._begun_at <= limit:
            return ""
        return f"the deadline of {limit:g} s passed"

    def _follow(self, noting: _Noting) -> Ended:
        """By vzdump's log, to the point in time or the reason why there is none."""
        watch = self._tools.watch
        while True:
            event = watch.next(LOOK_SECONDS)
            if event is LogEvent.FREEZE_ISSUED and self._begun_at is None:
                self._note_first(self._look.take())  # asked before vzdump asked
                self._begin(noting)
            elif event in (LogEvent.BACKUP_STARTING, LogEvent.THAW_ISSUED):
                self._tell(Op.FROZEN)
                self._frozen_at = self._frozen_at or self._tools.clock.monotonic()
            elif event is LogEvent.POINT_IN_TIME:
                self._point_at = self._tools.clock.monotonic()  # vzdump writes this line when its thaw was answered
                return Ended()
            elif event is LogEvent.NO_DISKS:
                return Ended()
            elif event in ENDS:
                return Ended(f"the backup failed ({event.value})", Word.BACKUP_FAILED)
            if self._begun_at is None:
                if self._order.unclear:
                    self._note_first(self._look.next(UNHEARD_LOOK_SECONDS))
                continue
            if why := self._is_too_late():
                return Ended(why, Word.DEADLINE)
            self._look_at_the_guest()

    def _look_at_the_guest(self) -> None:
        """Between vzdump's freeze and its thaw: the agent answers us as soon as the freeze is done."""
        watch, asked_at = self._tools.watch, self._look.asked_at
        thaw_issued = watch.evidence.saw(LogEvent.THAW_ISSUED)
        pause = FROZEN_LOOK_SECONDS if self._seen.frozen else 0.0
        state = self._look.take() if thaw_issued else self._look.next(pause)
        has_frozen = self._frozen_at is not None and asked_at is not None and asked_at >= self._frozen_at
        if state is FreezeState.FROZEN:
            self._seen = self._seen._replace(frozen=True)
        elif (
            state is FreezeState.THAWED
            and (self._seen.frozen or has_frozen)
            and not any(watch.has_logged(event) for event in (LogEvent.THAW_ISSUED, *ENDS))
        ):
            self._seen = self._seen._replace(thawed_early=True)

    def _follow_unheard(self, noting: _Noting) -> Ended:
        """By the agent's word, sparsely, and the worker's life, until a freeze was seen to come and go.

        Whoever freezes in a backup's time: vzdump does it once, so the first freeze that ends was its.
        """
        clock = self._tools.clock
        since = clock.monotonic()
        while True:
            self._tools.watch.wait(UNHEARD_WAIT_SECONDS)
            pace = UNHEARD_LOOK_SECONDS if self._begun_at is not None else (clock.monotonic() - since) / 20
            pause = min(max(UNHEARD_LOOK_SECONDS, pace), UNHEARD_SLOWEST_SECONDS)
            state = self._look.next(pause)
            if state is not None:
                self._seen = self._seen._replace(answered=True)
            if state is FreezeState.FROZEN and not self._seen.found_frozen and self._begun_at is None:
                self._seen = self._seen._replace(frozen=True)
                self._begin(noting)
                self._tell(Op.FROZEN)
            elif state is FreezeState.THAWED:
                self._seen = self._seen._replace(found_frozen=False)
                if self._begun_at is not None:
                    return Ended()
            if why := self._is_too_late():
                return Ended(why, Word.DEADLINE)

    def _settle(self, ended: Ended) -> WatchEnd:
        """Make sure of vzdump's thaw."""
        begun, broken_by = self._begun_at, ended.broken_by
        if begun is None:
            if ended.worker_died and not self._seen.found_frozen and self._thawer.look() is FreezeState.FROZEN:
                begun = self._tools.clock.monotonic()  # its last lines never came to the log
            else:
                return WatchEnd(begun=False, confirmed=True, broken_by=broken_by, word=ended.word)
        if not broken_by and self._look.take(LAST_LOOK_SECONDS) is FreezeState.FROZEN:
            self._seen = self._seen._replace(frozen=True)  # whenever it was asked: so it was before the thaw
        failed = self._tools.watch.evidence.saw(LogEvent.THAW_FAILED)
        report: ThawReport | None = None
        if broken_by or failed or self._thawer.look() is not FreezeState.THAWED:
            report = self._thawer.until_confirmed(
                self._tools.config.thaw.owner_limit_seconds, ahead=lambda: self._tell(Op.THAWING)
            )
        ended_at = self._point_at if self._point_at is not None and report is None else self._tools.clock.monotonic()
        confirmed = report is None or report.confirmed
        return WatchEnd(True, confirmed, broken_by, ended.word, report, ended_at - begun if confirmed else None)

    def _dismiss(self, end: WatchEnd) -> None:
        if self._guard is not None:
            self._guard.tell(Op.DISARM if end.confirmed else Op.ABANDON)

    def _close(self, record: WindowRecord, verdict: Verdict, end: WatchEnd, log: LogEvidence) -> None:
        now, report = self._tools.clock.time(), end.report
        stage, word = self._failure(verdict, end, log)
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
            "failure_stage": stage,
            "failure_reason": word,
            "closed_at": now if end.confirmed else None,
            "thawed_at": now if end.begun and end.confirmed else None,
        }
        goes_on = self._guard is not None and self._guard.is_alive()
        if not end.confirmed and not goes_on:
            # Nobody else goes on: vzdump tries its thaw once.
            values |= {"guard_pid": None, "guard_pid_start": None}
        try:
            self._book.update(record.id, **values)
        except JournalError as error:
            self.problems.append(str(error))
        if not end.confirmed and not goes_on:
            try:
                self._tools.adopt(spec_of(record, self._tools.config))
            except GuardError as error:
                self.problems.append(str(error))
        if self._guard is not None:
            self._guard.release()

    def _failure(self, verdict: Verdict, end: WatchEnd, log: LogEvidence) -> tuple[str | None, str | None]:
        """The stage and the word of what went wrong. Where no freeze of ours is wanted, only the guest's risk is."""
        if not end.confirmed:
            return "thaw", watched_word(log, end.word).value
        if verdict.kind is VerdictKind.FILESYSTEM_CONSISTENT or log.saw(LogEvent.NO_DISKS):
            return None, None
        if self._order.chosen and end.report is None:
            return None, None
        return "hold" if end.begun else "freeze", watched_word(log, end.word).value

    def _record(self) -> WindowRecord:
        at, me, limit = self._tools.clock.time(), self._tools.me, self._order.max_window_seconds
        record = WindowRecord.begun(self._guest, Owner.VZDUMP, "vzdump", at, me, limit_seconds=limit)
        # Until another one is armed we are this window's guard: as long as we live nobody else has to thaw.
        return record._replace(guard_pid=me.pid, guard_pid_start=me.start, upid=self._order.job)


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
