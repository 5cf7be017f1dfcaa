"""Our window, owner ``hook``: the holder freezes, vzdump finds the guest frozen and skips its own freeze, and the
holder thaws at vzdump's first line after the point in time.
"""

from __future__ import annotations

from snapshot.base.clock import duration
from snapshot.base.text import counted
from snapshot.errors import GuardError, InterruptedBySignalError, JournalError
from snapshot.journal.book import JournalBook
from snapshot.model import FreezeOutcome, FreezeReply, FreezeState, Guest, Owner, Verdict, VerdictKind
from snapshot.pve import remedies
from snapshot.pve.agent import AgentChannel, ApiChannel
from snapshot.pve.ladder import Ladder
from snapshot.window import guesthooks
from snapshot.window.knock import COMES_SECONDS, Knock, freezes_quickly, knocked
from snapshot.window.parts import WindowBrokenError, WindowSpec, WindowTools
from snapshot.window.verdict import Evidence, broken_word
from snapshot.window.window import Window
from snapshot.words import Word
from vzdump_hooks.hold.order import HoldOrder, HoldReport
from vzdump_hooks.hold.tools import HoldTools, is_alone
from vzdump_hooks.hold.verdict import NO_DISKS, Seen, asked_in_vain, judge_hook
from vzdump_hooks.tasklog.wordings import ENDS, LogEvent

STEP_SECONDS = 0.002
"""How long the deadline and the guard may go unchecked."""

START_SECONDS = 200.0
"""How long after our thaw vzdump may take to log that its backup task was started: before 9.1.10 its own thaw comes
first, which has 180 s (PVE::QMPClient).
"""

ASK_SECONDS = 0.05
"""How often the agent is asked, beside our turns behind vzdump's, whether somebody has thawed it: before 9.1.10."""

PAST_KNOCK = frozenset({LogEvent.FREEZE_ISSUED, LogEvent.FREEZE_SKIPPED_NO_AGENT, LogEvent.BACKUP_STARTING, *ENDS})
"""vzdump's lines behind its question for the agent."""

RELEASES = frozenset({LogEvent.POINT_IN_TIME, LogEvent.THAW_ISSUED})
"""Both lines are written after the QMP command has returned: the point in time is behind."""


class OurWindow:
    """One window of ours around the start of vzdump's backup."""

    def __init__(self, order: HoldOrder, guest: Guest, tools: HoldTools, book: JournalBook, ladder: Ladder) -> None:
        self._order = order
        self._guest = guest
        self._tools = tools
        self._book = book
        self._is_at_knock = order.at_the_knock and freezes_quickly(book, guest.vmid)
        self._thawer = tools.thawer(ladder)
        self._window = Window(self._spec(), self._window_tools())
        self._thawed_early = False
        self._marks: guesthooks.Marks | None = None
        self.cannot_guard = False

    @property
    def found_nothing(self) -> bool:
        """Whether the freeze was answered, and froze no filesystem at all."""
        return self._window.reply is not None and self._window.reply.outcome is FreezeOutcome.NOTHING_FROZEN

    @property
    def problems(self) -> list[str]:
        """What could not be recorded."""
        return self._window.unrecorded

    def run(self) -> str:
        """Freeze, hold, prove, thaw, judge, record. Not "": nothing was frozen by us, nothing will be, and why."""
        window = self._window
        self._marks = guesthooks.look(self._tools.access.socket(self._guest))
        try:
            with window:
                reply = self._freeze()
                if reply is not None and reply.outcome is FreezeOutcome.ACKNOWLEDGED:
                    self._hold()
        except (JournalError, GuardError) as error:
            return self._never_armed(error)
        except InterruptedBySignalError as signalled:
            window.break_off(f"the holder of the window was {signalled}", Word.INTERRUPTED)
        if self._is_at_knock and window.reply is None:
            why = window.broken_by
            window.close(Verdict(VerdictKind.CRASH_CONSISTENT, why), None, None)
            return why
        reply = window.reply or FreezeReply(FreezeOutcome.REFUSED)
        if reply.outcome is not FreezeOutcome.ACKNOWLEDGED:
            return self._not_frozen(reply)
        log = self._tools.follower.evidence
        if log.saw(LogEvent.NO_DISKS):
            window.close(NO_DISKS, None, None)
            return ""
        if not window.broken_by:
            self._wait_for_start()
            log = self._tools.follower.evidence
        doubt = asked_in_vain(log) if self._is_at_knock and log.saw(LogEvent.POINT_IN_TIME) else ""
        if doubt:
            window.break_off(doubt, Word.NO_PROOF)
        evidence = Evidence(freeze=window.reply, proof=window.proof, thaw=window.report, broken_by=window.broken_by)
        seen = Seen(thawed_early=self._thawed_early, alone=is_alone(self._book, self._guest.vmid, window.id))
        verdict = judge_hook(evidence, log, seen, window.times.held_seconds)
        verdict = guesthooks.after_thaw(verdict, self._marks, self._tools.access.socket(self._guest))
        good = verdict.kind.is_of_a_freeze
        confirmed = window.report is not None and window.report.confirmed
        stage = None if good else "hold" if confirmed else "thaw"
        window.close(verdict, stage, None if good else broken_word(window.proof, window.broken_word).value)
        return ""

    def _freeze(self) -> FreezeReply | None:
        """At once, or at the knock, where that is wished and the guest's freezes are short. None: nobody knocked."""
        window = self._window
        seat = window.sit() if self._is_at_knock else None
        if seat is None:
            self._is_at_knock = False
            return window.freeze()
        message = f"guard {window.guard_pid} armed; the guest is frozen when vzdump asks for its agent"
        if not self._tools.report(HoldReport(True, message)):
            window.break_off("the hook was killed before the freeze", Word.BACKUP_FAILED)
            return None
        knock = self._wait_for_knock(seat)
        if isinstance(knock, Knock):
            return window.freeze(knock)
        window.break_off(f"not frozen by us: {knock}", Word.NOT_STARTED)
        return None

    def _wait_for_knock(self, seat: AgentChannel) -> Knock | str:
        """Or why there is none."""
        follower, clock = self._tools.follower, self._tools.clock
        until = clock.monotonic() + COMES_SECONDS
        try:
            with self._tools.gate.open():
                while not any(map(follower.has_logged, PAST_KNOCK)):
                    knock = knocked(seat, STEP_SECONDS)
                    if knock is not None:
                        return knock
                    if clock.monotonic() >= until:
                        return f"vzdump did not ask for the agent within {COMES_SECONDS:g} s"
                    follower.wait(0.0)
        except WindowBrokenError as broken:
            return str(broken)
        if any(map(follower.has_logged, ENDS)):
            return "the backup ended before vzdump asked for the agent"
        return "vzdump went on without asking for the agent"

    def _hold(self) -> None:
        """Tell the hook, then wait for the point in time, the end, or the deadline. Then the proof."""
        window = self._window
        count = window.reply.filesystems if window.reply else 0
        span = duration(window.times.freezing_seconds)
        message = f"frozen ({counted(count, 'filesystem')}, {span}); guard {window.guard_pid} armed"
        if not self._is_at_knock and not self._tools.report(HoldReport(True, message)):
            window.break_off("the hook was killed while it waited for the freeze", Word.BACKUP_FAILED)
            return
        try:
            with self._tools.gate.open():
                self._wait_for_release()
        except WindowBrokenError as broken:
            window.break_off(str(broken), broken.word)
        except InterruptedBySignalError as signalled:
            window.break_off(f"the holder of the window was {signalled}", Word.INTERRUPTED)
        window.prove()

    def _wait_for_release(self) -> None:
        follower = self._tools.follower
        while True:
            event = follower.next(STEP_SECONDS)
            if event in RELEASES or event is LogEvent.NO_DISKS:
                return
            if event in ENDS:
                why = f"the backup failed before its point in time ({event.value})"
                raise WindowBrokenError(why, Word.BACKUP_FAILED)
            self._window.check()
            if follower.evidence.saw(LogEvent.FREEZE_ISSUED):
                self._look_for_a_stranger()

    def _look_for_a_stranger(self) -> None:
        """Before 9.1.10 vzdump thaws by itself: who thaws before it says so is somebody else."""
        frozen_at = self._window.instants.freeze_answered or 0.0
        for heard in self._thawer.heard(ASK_SECONDS):
            is_thawed = heard.state is FreezeState.THAWED and heard.asked_at >= frozen_at
            if is_thawed and not any(map(self._tools.follower.has_logged, RELEASES | ENDS)):
                self._thawed_early = True

    def _wait_for_start(self) -> None:
        """The guest is thawed. A backup that fails at its start has no point in time, whatever the window was."""
        follower, clock = self._tools.follower, self._tools.clock
        until = clock.monotonic() + START_SECONDS
        try:
            while not follower.evidence.saw(LogEvent.POINT_IN_TIME) and clock.monotonic() < until:
                if (event := follower.next(STEP_SECONDS)) in ENDS:
                    self._window.break_off(f"the backup failed at its start ({event.value})", Word.BACKUP_FAILED)
                    return
        except WindowBrokenError as broken:
            self._window.break_off(str(broken), broken.word)

    def _not_frozen(self, reply: FreezeReply) -> str:
        window = self._window
        report = window.report
        thawed = "" if report is None else " (thawed)" if report.confirmed else " (THE THAW IS NOT CONFIRMED)"
        why = f"freeze {reply.outcome.value}: {reply.detail}{thawed}"
        reason, remedy = window.broken_by or why, remedies.of_freeze(reply, self._guest)
        window.close(Verdict(VerdictKind.CRASH_CONSISTENT, reason), "freeze", reply.outcome.value)
        if (report is not None and not report.confirmed) or window.late_seconds > 0:
            # A guard of ours stays, and thaws whatever it finds frozen: nothing can be proven about vzdump's freeze.
            self._tools.report(HoldReport(False, f"{why}; {remedy}", watched=True))
            return ""
        return f"{why}; {remedy}"

    def _never_armed(self, error: JournalError | GuardError) -> str:
        """The row, if there is one, was closed when the guard could not be armed; it has no verdict yet."""
        self.cannot_guard = isinstance(error, GuardError)
        why = f"not frozen by us: {error}"
        self._window.close(Verdict(VerdictKind.CRASH_CONSISTENT, why), "guard", Word.NOT_STARTED.value)
        return why

    def _spec(self) -> WindowSpec:
        order, config = self._order, self._tools.config
        return WindowSpec(
            guest=self._guest,
            source=order.source,
            owner=Owner.HOOK,
            freeze_timeout_seconds=order.freeze_timeout_seconds,
            max_window_seconds=order.max_window_seconds,
            late_freeze_seconds=config.freeze.late_freeze_seconds,
            owner_limit_seconds=config.thaw.owner_limit_seconds,
            upid=order.job,
            watch=((order.worker_pid, order.worker_start),),
            others_freeze=self._is_at_knock,
        )

    def _window_tools(self) -> WindowTools:
        tools = self._tools
        return WindowTools(
            clock=tools.clock,
            me=tools.me,
            book=self._book,
            launcher=tools.launcher,
            thawer=self._thawer,
            freezing=ApiChannel(tools.access.main, self._guest),
            gate=tools.gate,
        )
