"""vzdump's window, around a freeze of vzdump's own: the holder watches over it, and thaws when vzdump does not.

So it is with owner ``vzdump``, and where the holder should freeze and cannot. A guard is armed before vzdump goes on,
as for a freeze of ours: it thaws when the holder is killed or stands still. Where none can be armed the holder watches
alone, and says so.

The agent's seat is taken before vzdump goes on, and kept to behind its thaw, while vzdump's calls are let through: none
of them finds the agent asleep, and the agent says to us, in our turn behind each, whether it is frozen. So no question
of ours stands in vzdump's way, and none is given up. Where vzdump's log cannot be followed there are the agent's word,
asked for now and then, and the worker's life.

What the journal is told of such a window stands in outcome.py, what it is worth in verdict.py.
"""

from __future__ import annotations

from typing import NamedTuple

from snapshot.base.procfs import process_start
from snapshot.errors import GuardError, InterruptedBySignalError, JournalError
from snapshot.guard.link import Guard, Op, spec_of
from snapshot.journal.book import JournalBook
from snapshot.journal.record import WindowRecord
from snapshot.model import FreezeState, Guest, Owner, ThawReport, Verdict
from snapshot.pve import agent
from snapshot.pve.agent import AgentRefusedError, AgentReplyLostError, CommandNotSentError
from snapshot.pve.connection import Heard
from snapshot.pve.ladder import Ladder
from snapshot.window import guesthooks
from snapshot.window.parts import WindowBrokenError
from snapshot.words import Word
from vzdump_hooks.hold.order import HoldOrder, HoldReport
from vzdump_hooks.hold.outcome import BeginningRecorder, WindowEnd, closing_values
from vzdump_hooks.hold.tools import HoldTools, is_alone
from vzdump_hooks.hold.verdict import Seen, judge_unheard, judge_watched
from vzdump_hooks.tasklog.follow import LogEvidence, WorkerDiedError
from vzdump_hooks.tasklog.wordings import ENDS, LogEvent

STEP_SECONDS = 0.002
"""How long the deadline may go unchecked."""

FROZEN_ASK_SECONDS = 0.05
"""How often a guest is asked that has said frozen."""

UNHEARD_ASK_SECONDS = 1.0
"""How often the agent is asked where no log can be followed: at first, and while it says frozen."""

UNHEARD_SLOWEST_SECONDS = 15.0
"""The same later: vzdump freezes at the beginning of a copy that may take hours, and seldom later."""

UNHEARD_WAIT_SECONDS = 0.1
"""How long the deadline may go unchecked there. The worker's death is noticed at once, but not while the agent is
asked."""


class Ended(NamedTuple):
    """How following ended: at the point in time, or before it, and then why."""

    broken_by: str = ""
    word: Word | None = None
    worker_died: bool = False


class VzdumpsWindow:
    """One window around a freeze of vzdump's."""

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
        before = self._look_at_hooks() if self._sit(is_heard=is_heard) else None
        self._tools.report(self._message(not_ours_because, is_heard=is_heard))
        beginning = BeginningRecorder(self._tools, record)
        try:
            with self._tools.gate.open():
                ended = self._follow(beginning) if is_heard else self._follow_unheard(beginning)
        except WorkerDiedError as died:
            ended = Ended(str(died), Word.BACKUP_FAILED, worker_died=True)
        except WindowBrokenError as broken:
            ended = Ended(str(broken), broken.word)
        except InterruptedBySignalError as signalled:
            # Without a log it is backup-end that says so: the backup is over.
            ended = Ended(f"the watching process was {signalled}", Word.INTERRUPTED) if is_heard else Ended()
        end = self._make_sure_of_thaw(ended)
        self._thawer.get_up()
        self._dismiss(end)
        self._seen = self._seen._replace(alone=is_alone(self._book, self._guest.vmid, record.id))
        log = self._tools.follower.evidence
        if is_heard:
            verdict = judge_watched(log, self._seen, end.window_seconds, end.broken_by, end.confirmed)
        else:
            verdict = judge_unheard(self._seen, end.broken_by, end.confirmed)
        verdict = guesthooks.after_thaw(verdict, before, self._tools.access.socket(self._guest))
        beginning.finish()
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

    def _look_at_hooks(self) -> guesthooks.Marks | None:
        """In a turn behind our own seat: a question that is given up would leave vzdump a place less in the queue."""
        return guesthooks.look(self._tools.access.socket(self._guest))

    def _sit(self, *, is_heard: bool) -> bool:
        """Take the agent's seat: whether it is ours. Its first word tells whether somebody else has frozen the guest
        already.
        """
        self._tell(Op.ASKING)
        is_ours = self._thawer.sit() is not None
        if not self._tools.follower.has_logged(LogEvent.FREEZE_ISSUED):  # where vzdump has gone on already
            for heard in self._thawer.heard():
                self._take_first(heard.state)
        if not is_heard:
            self._thawer.get_up()
        return is_ours

    def _take_first(self, state: FreezeState) -> None:
        self._seen = self._seen._replace(answered=True)
        if state is not FreezeState.FROZEN:
            return
        if self._order.unclear:
            self._thawer.until_confirmed(self._tools.config.thaw.owner_limit_seconds)
            self._thawer.start_over()
            self._thawer.sit()
        else:
            self._seen = self._seen._replace(found_frozen=True)

    def _begin(self, beginning: BeginningRecorder) -> None:
        self._tell(Op.FREEZING)
        self._begun_at = self._tools.clock.monotonic()
        beginning.record(self._tools.clock.time())

    def _is_too_late(self) -> str:
        """Why the window has to end, "" when it has not."""
        limit = self._order.max_window_seconds
        if self._begun_at is None or self._tools.clock.monotonic() - self._begun_at <= limit:
            return ""
        return f"the deadline of {limit:g} s passed"

    def _follow(self, beginning: BeginningRecorder) -> Ended:
        """By vzdump's log, to the point in time or the reason why there is none."""
        follower = self._tools.follower
        while True:
            event = follower.next(STEP_SECONDS)
            if event is LogEvent.FREEZE_ISSUED and self._begun_at is None:
                self._begin(beginning)
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
            if why := self._is_too_late():
                return Ended(why, Word.DEADLINE)
            self._listen()

    def _listen(self) -> None:
        """To what the agent has said: before vzdump's freeze, between that and its thaw, or behind it."""
        log = self._tools.follower
        for heard in self._thawer.heard(self._ask_seconds()):
            if not log.has_logged(LogEvent.FREEZE_ISSUED):
                if self._order.unclear:
                    self._take_first(heard.state)
                else:  # that line may be on its way still: a job on a terminal writes into a pipe
                    self._seen = self._seen._replace(frozen=heard.state is FreezeState.FROZEN)
            elif heard.state is FreezeState.FROZEN:
                self._seen = self._seen._replace(frozen=True)
            elif self._has_to_be_frozen(heard) and not any(map(log.has_logged, (LogEvent.THAW_ISSUED, *ENDS))):
                self._seen = self._seen._replace(thawed_early=True)

    def _ask_seconds(self) -> float | None:
        """How often to ask, beside the turns that follow vzdump's."""
        if self._begun_at is None:
            return UNHEARD_ASK_SECONDS if self._order.unclear else None
        if self._tools.follower.evidence.saw(LogEvent.THAW_ISSUED):
            return None
        return FROZEN_ASK_SECONDS if self._seen.frozen else 0.0

    def _has_to_be_frozen(self, heard: Heard) -> bool:
        is_behind = self._frozen_at is not None and heard.asked_at >= self._frozen_at
        return self._seen.frozen or is_behind

    def _follow_unheard(self, beginning: BeginningRecorder) -> Ended:
        """By the agent's word, sparsely, and the worker's life, until a freeze was seen to come and go.

        Whoever freezes in a backup's time: vzdump does it once, so the first freeze that ends was its.
        """
        clock = self._tools.clock
        since = asked_at = clock.monotonic()
        while True:
            self._tools.follower.wait(UNHEARD_WAIT_SECONDS)
            pace = UNHEARD_ASK_SECONDS if self._begun_at is not None else (clock.monotonic() - since) / 20
            pause = min(max(UNHEARD_ASK_SECONDS, pace), UNHEARD_SLOWEST_SECONDS)
            if clock.monotonic() - asked_at < pause:
                state = None
            else:
                asked_at, state = clock.monotonic(), self._asked()
            if state is not None:
                self._seen = self._seen._replace(answered=True)
            if state is FreezeState.FROZEN and not self._seen.found_frozen and self._begun_at is None:
                self._seen = self._seen._replace(frozen=True)
                self._begin(beginning)
                self._tell(Op.FROZEN)
            elif state is FreezeState.THAWED:
                self._seen = self._seen._replace(found_frozen=False)
                if self._begun_at is not None:
                    return Ended()
            if why := self._is_too_late():
                return Ended(why, Word.DEADLINE)

    def _asked(self) -> FreezeState | None:
        try:
            return agent.status(self._thawer.fastest)
        except (CommandNotSentError, AgentReplyLostError, AgentRefusedError):
            return None

    def _make_sure_of_thaw(self, ended: Ended) -> WindowEnd:
        """Make sure of vzdump's thaw."""
        begun, broken_by = self._begun_at, ended.broken_by
        if begun is None:
            if ended.worker_died and not self._seen.found_frozen and self._thawer.look() is FreezeState.FROZEN:
                begun = self._tools.clock.monotonic()  # its last lines never came to the log
            else:
                return WindowEnd(begun=False, confirmed=True, broken_by=broken_by, word=ended.word)
        if not broken_by:
            self._listen()
        failed = self._tools.follower.evidence.saw(LogEvent.THAW_FAILED)
        report: ThawReport | None = None
        if broken_by or failed or self._thawer.look() is not FreezeState.THAWED:
            report = self._thawer.until_confirmed(
                self._tools.config.thaw.owner_limit_seconds, ahead=lambda: self._tell(Op.THAWING)
            )
        ended_at = self._point_at if self._point_at is not None and report is None else self._tools.clock.monotonic()
        confirmed = report is None or report.confirmed
        return WindowEnd(True, confirmed, broken_by, ended.word, report, ended_at - begun if confirmed else None)

    def _dismiss(self, end: WindowEnd) -> None:
        if self._guard is not None:
            self._guard.tell(Op.DISARM if end.confirmed else Op.ABANDON)

    def _close(self, record: WindowRecord, verdict: Verdict, end: WindowEnd, log: LogEvidence) -> None:
        values = closing_values(verdict, end, log, self._tools.clock.time(), chosen=self._order.chosen)
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

    def _record(self) -> WindowRecord:
        at, me, limit = self._tools.clock.time(), self._tools.me, self._order.max_window_seconds
        record = WindowRecord.begun(self._guest, Owner.VZDUMP, self._order.source, at, me, limit_seconds=limit)
        # Until another one is armed we are this window's guard: as long as we live nobody else has to thaw.
        return record._replace(guard_pid=me.pid, guard_pid_start=me.start, upid=self._order.job)
