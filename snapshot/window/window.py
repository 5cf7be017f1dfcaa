"""One freeze window as its owner runs it: open, freeze, prove, thaw, close. The protocol's order lives here.

``with window:`` guarantees the thaw on every way out. Between the decision to thaw and the first thaw request there is
one message to the guard (a write to a socket, no disk) and nothing else; every record is written afterwards.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Self

from snapshot.base.slots import Slot
from snapshot.errors import GuardError, JournalError
from snapshot.guard.link import Op
from snapshot.journal.record import new_id
from snapshot.model import FreezeOutcome, FreezeReply, FreezeState, ThawReport, Verdict, WindowTimes
from snapshot.pve import agent
from snapshot.pve.agent import AgentChannel, AgentRefusedError, AgentReplyLostError, CommandNotSentError
from snapshot.states import Event, State, WindowMachine
from snapshot.thaw.thawer import CARRIED_OUT_SECONDS
from snapshot.window import rows
from snapshot.window.knock import Knock
from snapshot.window.ownguard import OwnGuard
from snapshot.window.ownrow import OwnRow
from snapshot.window.parts import ANSWERED, Instants, WindowBrokenError, WindowSpec, WindowTools
from snapshot.window.verdict import Proof
from snapshot.words import Word

PROOF_SECONDS = (agent.STATUS_SECONDS, 4.0, 2.0, 1.0)
"""How long the proof may take: the longest that the deadline leaves room for. A few values only, since each costs a
connection of its own over HTTPS."""


class Window:
    """A freeze window. Each step may be taken once, in the order of the methods."""

    def __init__(self, spec: WindowSpec, tools: WindowTools) -> None:
        self.id = new_id()
        self.spec = spec
        self._tools = tools
        self._machine = WindowMachine()
        self._guard: OwnGuard | None = None
        self.reply: FreezeReply | None = None
        self.proof = Proof.NOT_ASKED
        self.report: ThawReport | None = None
        self.broken_by = ""
        self.broken_word: Word | None = None
        self.frozen_at: float | None = None
        self.thawed_at: float | None = None
        self._row = OwnRow(self.id, spec, tools)
        self._turn = Slot()
        self._freeze_sent: float | None = None
        self._freeze_answered: float | None = None
        self._thaw_decided: float | None = None
        self._thaw_confirmed: float | None = None
        self._dismissed: float | None = None  # the guard, monotonic
        self._is_one_freeze = True
        """Whether one freeze at most can have been sent in this window: then a thaw that counts it leaves none."""
        self._is_over = False
        self._group_began: float | None = None
        self._group_ends_by = float("inf")
        self.proof_asked_at: float | None = None
        """When the proof was asked for (monotonic): an answer of "frozen" holds for that instant at least."""
        self.is_carried_out = False
        """Whether a freeze whose answer was lost was seen to be carried out, and undone."""

    @property
    def state(self) -> State:
        """Where the window is."""
        return self._machine.state

    @property
    def unrecorded(self) -> list[str]:
        """What could not be written, for the operator; the guest is not concerned."""
        return self._row.unrecorded

    @property
    def guard_pid(self) -> int | None:
        """The guard's pid, while there is one."""
        return self._guard.pid if self._guard else None

    @property
    def is_watched(self) -> bool:
        """Whether the guard's process lives. Behind the thaw it would take another's freeze for a late one of ours."""
        return self._guard is not None and not self._guard.has_ended()

    @property
    def deadline(self) -> float:
        """The monotonic instant at which the guest must be thawed."""
        if self._freeze_sent is None:
            raise RuntimeError("no freeze was sent")
        return min(self._freeze_sent + self.spec.max_window_seconds, self._group_ends_by)

    @property
    def instants(self) -> Instants:
        """When its steps were done so far."""
        return Instants(self._freeze_sent, self._freeze_answered, self._thaw_decided, self._thaw_confirmed)

    @property
    def times(self) -> WindowTimes:
        """The parts of the window so far."""
        return self.instants.times

    @property
    def is_frozen(self) -> bool:
        """Whether the freeze was acknowledged and nothing has been thawed yet."""
        return self._machine.state is State.FROZEN

    @property
    def may_be_frozen(self) -> bool:
        """Whether a freeze was sent and no thaw has been confirmed since."""
        is_thawed = self.report is not None and self.report.confirmed
        return self._freeze_sent is not None and not (self._machine.is_closed or is_thawed)

    def __enter__(self) -> Self:
        """Commit the intent and arm the guard. JournalError or GuardError: nothing was frozen, nothing will be.

        One window a guest: a run that thawed another's freeze in front of its point in time, and froze behind it, would
        leave it with a proof and a full count of something else's freeze.
        """
        record = self._row.begin()
        try:
            self._guard = OwnGuard(self._tools.launcher, self.spec.order_of(record))
        except GuardError as error:
            self._record(rows.not_started(str(error), "guard", self._tools.clock.time()))
            raise
        self._machine.on(Event.GUARD_ARMED)
        try:
            self._row.armed(self._guard.columns)
        except JournalError:
            self._dismiss(0.0)
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """Whatever happened: thaw."""
        self.thaw()

    def freeze(self, knock: Knock | None = None) -> FreezeReply:
        """Send the freeze and wait for its answer, for the freeze timeout at most. The agent's seat is kept from here.

        At the ``knock`` it goes over the seat that is held, in front of PVE's own ping, which is let pass then.
        InterruptedBySignalError comes through, with the reply recorded as unknown; leaving the context thaws.
        """
        spec, guard = self.spec, self._armed_guard()
        obstacle = (self._wait_for_turn() if knock is None else "") or self._obstacle(guard)
        if obstacle:
            self.break_off(obstacle, Word.NOT_STARTED)
            self._machine.on(Event.DISARMED)
            self.reply = FreezeReply(FreezeOutcome.REFUSED, detail=obstacle)
            return self.reply
        left = min(spec.max_window_seconds, self._group_ends_by - self._tools.clock.monotonic())
        channel, seconds = self._tools.freezing, min(spec.freeze_timeout_seconds, left)
        sits = knock is not None or self._tools.thawer.sit() is not None
        if knock is not None:
            channel, seconds = knock.seat, min(seconds, knock.until - self._tools.clock.monotonic())
        guard.tell(Op.FREEZING, sits=float(sits), deadline_seconds=left)
        self._machine.on(Event.FREEZE_SENT)
        self._freeze_sent = self._tools.clock.monotonic()
        reply = FreezeReply(FreezeOutcome.UNKNOWN, detail="interrupted by a signal while freezing")
        try:
            with self._tools.gate.open():
                reply = agent.freeze(channel, seconds, keep_open=knock is not None)
                if knock is not None:
                    reply = knock.answered(reply, self._tools.clock.monotonic())
                if reply.outcome is FreezeOutcome.REFUSED and not self._row.is_first:
                    # What it is frozen by may be the late freeze of the earlier window: that is ours to thaw.
                    reply = reply._replace(outcome=FreezeOutcome.FAILED)
        finally:
            self._took(reply)
        return reply

    def sit(self) -> AgentChannel | None:
        """Before PVE's task is started: keep the agent's seat for the Knock. None: it is not ours.

        Should we stand still in it, the guard ends us past the deadline.
        """
        self._armed_guard().tell(Op.ASKING)
        return self._tools.thawer.sit(awaits_knock=True)

    def check(self) -> None:
        """Raise WindowBrokenError when the window must end now: the guard is gone, or the deadline has passed."""
        if not self._armed_guard().is_alive():
            raise WindowBrokenError("the guard died: the guest is thawed at once", Word.GUARD_DIED)
        if self._tools.clock.monotonic() >= self.deadline:
            raise WindowBrokenError(self._past_deadline, Word.DEADLINE)

    @property
    def _past_deadline(self) -> str:
        return f"the deadline of {self.spec.max_window_seconds:g} s passed before the point in time was proven"

    def break_off(self, reason: str, word: Word) -> None:
        """Note why the window ended before its point in time; the first reason counts."""
        if not self.broken_by:
            self.broken_by, self.broken_word = reason, word

    def prove(self) -> Proof:
        """Ask, after the point in time, whether the guest is still frozen. A broken window is thawed without asking.

        Right before ``thaw``: the connection that brought the answer carries it, and keeps everybody else waiting.
        """
        left = self.deadline - self._tools.clock.monotonic() if self.is_frozen else 0.0
        if self.is_frozen and left <= 0:
            self.break_off(self._past_deadline, Word.DEADLINE)
        if self.is_frozen and not self.broken_by:
            try:
                self._armed_guard().tell(Op.ASKING)
                self.proof_asked_at = self._tools.clock.monotonic()
                seconds = next((s for s in PROOF_SECONDS if s <= left), PROOF_SECONDS[-1])
                state = agent.status(self._tools.thawer.fastest, seconds, keep_open=True)
                self.proof = Proof.STILL_FROZEN if state is FreezeState.FROZEN else Proof.NOT_FROZEN
            except (CommandNotSentError, AgentReplyLostError, AgentRefusedError):
                self.proof = Proof.NO_ANSWER
        return self.proof

    def _tell_thawing(self) -> None:
        self._armed_guard().tell(Op.THAWING)

    def thaw(self) -> ThawReport | None:
        """Thaw if anything may be frozen, until confirmed or the owner's limit; then disarm, then record.

        Returns None when there was nothing to thaw. Called again it does nothing and returns the same report.
        """
        if self._is_over:
            return self.report
        self._is_over = True
        self._freeze_of_others()
        if self.may_be_frozen and self.report is None:
            self._make_sure()
        self._tools.thawer.get_up()
        self._turn.release()
        if self.report is None:
            self._dismiss(0.0)
            if self.reply is not None:  # refused: nothing to thaw, but the journal wants to know
                self._record(self._outcome())
            return None
        if self.report.confirmed:
            self._dismiss(self.late_seconds)
            self._tools.thawed()
        else:
            self._replace_dead_guard()
            if self._guard:
                self._guard.let_go(Op.ABANDON)
        self._record(self._outcome())
        return self.report

    def _freeze_of_others(self) -> None:
        """Nobody else is known to freeze in this window; in a snapshot's PVE may (snapshot.py)."""

    def _outcome(self) -> dict[str, object]:
        values = rows.outcome(self.reply, self.report, self.times)
        return {"state": self.state.value, "frozen_at": self.frozen_at, "thawed_at": self.thawed_at, **values}

    def _make_sure(self) -> ThawReport:
        """Thaw until confirmed, or the owner's limit."""
        self._thaw_decided = self._tools.clock.monotonic()
        report = self.report = self._tools.thawer.until_confirmed(
            self.spec.owner_limit_seconds, ahead=self._tell_thawing
        )
        if self._machine.state in (State.FROZEN, State.UNKNOWN):
            self._machine.on(Event.THAW_DECIDED)
        if not report.confirmed:
            self._machine.on(Event.RETRIES_SLOWEST)
            return report
        self._thaw_confirmed = self._tools.clock.monotonic()
        self.thawed_at = self._tools.clock.time()
        self._machine.on(Event.GUEST_GONE if report.guest_gone else Event.THAW_CONFIRMED)
        if report.filesystems and self._machine.late_freeze_possible and self._is_one_freeze:
            # The one freeze there was has been carried out: to wait for it would cost others theirs for an hour.
            self._machine.on(Event.CARRIED_OUT)
            self.is_carried_out = True
        return report

    @property
    def late_seconds(self) -> float:
        """How long a late freeze is still possible; 0 when it is not."""
        if self._freeze_sent is None or not self._machine.late_freeze_possible:
            return 0.0
        now, until = self._tools.clock.monotonic(), self._freeze_sent + self.spec.late_freeze_seconds
        if self.is_carried_out:  # from when the guard is let go: until then nobody looks
            until = min(until, (now if self._dismissed is None else self._dismissed) + CARRIED_OUT_SECONDS)
        return max(0.0, until - now)

    def close(self, verdict: Verdict, failure_stage: str | None, failure_reason: str | None) -> None:
        """Record the verdict; the window is closed unless the guest may be frozen, or may freeze late."""
        now = self._tools.clock.time()
        values = rows.judged(verdict, failure_stage, failure_reason)
        if self.late_seconds > 0:
            values["quiet_until_at"] = now + self.late_seconds
        elif not self.may_be_frozen:
            values |= {"closed_at": now, "state": State.THAWED.value}
        self._record(values)

    def _took(self, reply: FreezeReply) -> None:
        self.reply = reply
        self._freeze_answered = self._tools.clock.monotonic()
        self._machine.on(ANSWERED[reply.outcome])
        if reply.outcome is not FreezeOutcome.UNKNOWN:
            self._armed_guard().tell(Op.FROZEN)
            self._turn.release()
        if reply.outcome is FreezeOutcome.ACKNOWLEDGED:
            self.frozen_at = self._tools.clock.time()

    def _wait_for_turn(self) -> str:
        """An unanswered freeze keeps one of pvedaemon's workers. Why it is not our turn; "" when it is."""
        columns = self._armed_guard().columns
        try:
            self._turn = self._row.turn(columns)
        except (TimeoutError, JournalError) as error:
            return str(error)
        return ""

    def _obstacle(self, guard: OwnGuard) -> str:
        """Why the freeze must not be sent after all; "" when it may."""
        if not guard.is_alive():
            return "the guard died before the freeze"
        if self._row.is_too_old(self._group_began):
            return "too much time has passed since the intent: a very slow disk, or this process was stopped"
        return ""

    def _armed_guard(self) -> OwnGuard:
        if self._guard is None:
            raise RuntimeError("no guard, no freeze")
        return self._guard

    def _dismiss(self, late_seconds: float) -> None:
        """Disarm the guard; with ``late_seconds`` it stays for a late freeze."""
        self._dismissed = self._tools.clock.monotonic()
        if late_seconds > 0:
            self._replace_dead_guard()
        if self._guard:
            self._guard.let_go(Op.DISARM, late_seconds=late_seconds)
        if self._machine.state is State.ARMED:
            self._machine.on(Event.DISARMED)

    def _replace_dead_guard(self) -> None:
        """A window that stays open when its owner ends needs a guard that lives."""
        if self._guard is None:
            return
        try:
            if replaced := self._guard.replace_if_dead():
                self._record(replaced)
        except GuardError as error:
            self.unrecorded.append(
                f"nobody watches guest {self.spec.guest.vmid} now: run `safe-snapshot recover` ({error})"
            )

    def _record(self, values: Mapping[str, object]) -> None:
        self._row.record(values, is_urgent=self.may_be_frozen)
