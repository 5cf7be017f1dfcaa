"""What a guard does. All it works with is passed in: inbox, thawer, clock, recorder, and its owner as a process.

Its process (__main__.py) brings sockets, pidfds and signals; a campaign brings simulated ones and virtual time. Between
the decision to thaw and the first thaw request nothing is written, logged or imported: records are made afterwards.

Whatever one of the five raises while a freeze may have been sent, the guest is thawed: no guard leaves it frozen.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from snapshot.base.clock import Clock
from snapshot.base.retry import Pace
from snapshot.guard.link import GuardSpec, Op
from snapshot.guard.seams import Happening, Inbox, Message, Recorder
from snapshot.guard.turn import STILL_LOOK_SECONDS, OwnerLife, OwnersTurn
from snapshot.journal.record import Cause
from snapshot.model import FreezeState, ThawReport
from snapshot.thaw.thawer import CARRIED_OUT_SECONDS, Thawer

OWNER_FIRST_SECONDS = 0.5
"""When a watched process dies the owner watches it too and thaws at once; the guard follows when it does not."""

LAST_STANDS = 5
"""How many confirmed thaws are enough for a guard that can do nothing else any more."""

LATE_LOOKS = Pace(first_seconds=0.25, slowest_seconds=4.0)
"""How often a guest is looked at while a late freeze is possible. Sparse: a look at a silent agent keeps one of
pvedaemon's three workers for 3 s. Often enough to thaw within 5 s of the agent's return. Soon at first: the freeze of
an owner that has just died may be carried out right behind the guard's thaw."""

AFTERMATH_SECONDS = 10.0
"""How long a guest is looked at once the vzdump worker whose freeze nobody follows any more is dead."""

SPARSE_LOOK = next(n for n in range(1, 100) if LATE_LOOKS.is_slowest(n))


class GuardCore:
    """One window's guard, armed. ``run`` returns when the window is closed.

    What a seam raises before a freeze may have been sent comes through, and the end of the process tells the owner;
    what it raises afterwards comes through when the guest is thawed.
    """

    def __init__(  # noqa: PLR0917 - its seams
        self,
        spec: GuardSpec,
        inbox: Inbox,
        thawer: Thawer,
        clock: Clock,
        recorder: Recorder,
        owner: OwnerLife | None = None,
    ) -> None:
        self._spec = spec
        self._inbox = inbox
        self._thawer = thawer
        self._clock = clock
        self._recorder = recorder
        self._owner = OwnersTurn(owner, thawer, clock)
        self._late_until: float | None = None
        self._is_at_risk = False
        self._knows_of_one_freeze = True
        self._signalled = False
        self._is_deaf = False

    def run(self) -> None:
        """Watch until the owner disarms us, or thaw; then watch for a late freeze as long as one is possible."""

        def work() -> None:
            if self._armed() and (cause := self._at_risk()) is not None:
                self._intervene(cause)
                self._wait_for_owner()
            self._watch_for_late_freeze()

        self._whatever_happens(work)
        self._end(by_owner=self._owner.has_disarmed or not self._owner.is_gone)

    def take_over(self, cause: Cause, *, late_seconds: float, due: float = float("-inf")) -> None:
        """For a guard that was restarted, or a recovery: thaw now, then watch. ``due``: monotonic, see run."""
        self._owner.is_gone = self._is_at_risk = True
        self._owner.due = due

        def work() -> None:
            if late_seconds > 0:
                self._late_until = self._clock.monotonic() + late_seconds
            self._intervene(cause)
            self._watch_for_late_freeze()

        self._whatever_happens(work)
        self._end(by_owner=not self._owner.has_ended())

    def _whatever_happens(self, work: Callable[[], None]) -> None:
        """Do the work. An exception ends it, but not with a guest frozen."""
        try:
            work()
        except Exception:
            if self._is_at_risk:
                self._last_stand()
            raise

    def _last_stand(self) -> None:
        """Thaw, and watch for a late freeze, with as little as possible: nobody is listened to any more."""
        self._is_deaf = True
        with suppress(Exception):
            self._inbox.close()
        stands = 0
        while stands < LAST_STANDS:
            try:
                self._intervene(Cause.GUARD_FAULT)
                self._watch_for_late_freeze()
                return
            except Exception:  # noqa: BLE001 - the clock, then: a request needs none
                with suppress(Exception):
                    stands += self._thawer.round()
                with suppress(Exception):
                    self._clock.sleep(LATE_LOOKS.first_seconds)

    def _tell(self, record: Callable[[], None]) -> None:
        """A record that cannot be made costs nobody a thaw."""
        with suppress(Exception):
            record()

    def _end(self, *, by_owner: bool) -> None:
        if self._late_until is not None and self._signalled:
            self._tell(self._recorder.left_open)
        else:
            self._tell(lambda: self._recorder.closed(by_owner=by_owner))

    def _armed(self) -> bool:
        """Wait while nothing is at risk; True once a freeze is about to be sent, or may have been."""
        if self._spec.at_risk:
            self._freeze_is_sent()
            return True
        while True:
            message = self._owner.first_word(self._inbox, self._spec.deadline_seconds)
            match message.what:
                case Op.FREEZING:
                    self._freeze_is_sent(**message.values)
                    self._owner.heard(message)
                    return True
                case Op.DISARM:
                    self._owner.has_disarmed = True
                    return False
                case Happening.OWNER_GONE:
                    self._owner.is_gone = True
                    if self._spec.others_freeze:
                        self._freeze_is_sent()  # nobody would tell: every freeze that is seen is thawed
                    return False
                case Happening.WATCHED_DIED if self._spec.others_freeze:
                    self._freeze_is_sent()  # perhaps it froze: an owner that lives looks, and disarms us
                    return True
                case Happening.SIGNAL:
                    return False
                case _:
                    continue  # a worker that died before any freeze: the owner will notice, or end

    def _freeze_is_sent(self, **told: float) -> None:
        self._knows_of_one_freeze = not self._is_at_risk and not self._spec.others_freeze
        self._is_at_risk = True
        now = self._clock.monotonic()
        self._late_until = now + self._spec.late_freeze_seconds
        self._owner.starts(now, told.get("deadline_seconds", self._spec.deadline_seconds))

    def _at_risk(self) -> Cause | None:  # noqa: PLR0912 - one case a message
        """Wait until the owner disarms us (None) or until there is a reason to thaw."""
        deadline = self._owner.due
        at_deadline = Cause.DEADLINE
        while True:
            now = self._clock.monotonic()
            look_at = self._owner.due if now < self._owner.due else now + STILL_LOOK_SECONDS
            message = self._hear(min(deadline, look_at) - now)
            if message is None:
                if self._owner.clear_the_way():
                    return Cause.OWNER_STOPPED
                if self._clock.monotonic() >= deadline:
                    return at_deadline
                continue
            match message.what:
                case Op.FREEZING:  # another one may come: PVE's own, say, where ours was refused
                    self._freeze_is_sent()
                    deadline = self._owner.due
                case Op.FROZEN:
                    self._late_until = None
                case Op.THAWING:
                    deadline = self._owner.thaws_until()
                case Op.DISARM:
                    self._disarmed(message)
                    return None
                case Op.ABANDON:
                    self._owner.is_gone = True
                    return Cause.ABANDONED
                case Happening.OWNER_GONE:
                    self._owner.is_gone = True
                    return Cause.OWNER_DIED
                case Happening.WATCHED_DIED:
                    at_deadline = Cause.WORKER_DIED
                    deadline = min(deadline, self._clock.monotonic() + OWNER_FIRST_SECONDS)
                case Happening.SIGNAL:
                    self._signalled = True
                    return Cause.SIGNAL
                case _:
                    continue

    def _disarmed(self, message: Message) -> None:
        self._owner.has_disarmed = True
        late_seconds = message.values.get("late_seconds", 0.0)
        self._is_at_risk = late_seconds > 0
        self._late_until = self._clock.monotonic() + late_seconds if late_seconds > 0 else None

    def _hear(self, seconds: float) -> Message | None:
        message = self._inbox.wait(max(0.0, seconds))
        self._owner.heard(message)
        return message

    def _until_confirmed(self, between: Callable[[ThawReport], bool]) -> ThawReport:
        has_asked = False

        def ahead() -> None:
            nonlocal has_asked
            in_vain = has_asked and not self._thawer.acknowledged
            self._owner.clear_the_way(in_vain=in_vain, or_hangs=in_vain)
            has_asked = True

        return self._thawer.until_confirmed(None, sleep=self._sleep, between=between, ahead=ahead)

    def _intervene(self, cause: Cause) -> None:
        """Thaw, for as long as it takes. The first request comes before anything else.

        An owner that was only slow may come back meanwhile: while it thaws we wait, and when it has thawed we stop.
        """
        told = reported_stuck = False

        def between(report: ThawReport) -> bool:
            nonlocal told, reported_stuck
            if not told:
                told = True
                self._tell(lambda: self._recorder.intervened(cause, report))
            elif not reported_stuck and report.attempts >= self._thawer.slowest_after:
                reported_stuck = True
                self._tell(lambda: self._recorder.stuck(cause, report))
            return self._owner.has_disarmed

        report = self._until_confirmed(between)
        if not told:
            self._tell(lambda: self._recorder.intervened(cause, report))
        if not report.confirmed:
            return
        self._was_carried_out(report)
        watching = self._watching_seconds()
        self._tell(lambda: self._recorder.thawed(cause, report, watching_seconds=watching))

    def _was_carried_out(self, report: ThawReport) -> None:
        """A thaw that counted a filesystem has undone this window's one freeze: the watch for it ends soon.

        Where others freeze too, by order, nobody knows whose it was.
        """
        if report.confirmed and report.filesystems and self._knows_of_one_freeze and self._late_until is not None:
            self._late_until = min(self._late_until, self._clock.monotonic() + CARRIED_OUT_SECONDS)

    def _watching_seconds(self) -> float:
        """How long late freezes are still possible; 0 when they are not."""
        return max(0.0, self._late_until - self._clock.monotonic()) if self._late_until is not None else 0.0

    def _wait_for_owner(self) -> None:
        """After an intervention with the owner alive: it decides what becomes of the window, until it ends."""
        look = 0
        while not (self._owner.is_gone or self._owner.has_disarmed or self._signalled):
            look += 1
            self._sleep(LATE_LOOKS.interval(look))
            state = self._thawer.look() if self._late_until is not None else FreezeState.THAWED
            if state is FreezeState.FROZEN:
                self._thaw_late_freeze(is_seen=True)
            elif state is None:
                self._owner.clear_the_way(in_vain=True)

    def _watch_for_late_freeze(self) -> None:
        """Look sparsely until no freeze can be on its way: the time is over *and* the agent has said thawed since.

        An agent that was silent to the end may still hold a freeze in its channel, so silence never ends the watch. And
        an agent that was killed and has lost its state says thawed of a frozen guest: a thaw is sent, whatever it says,
        when it was silent, once when the looks have become sparse, and at the end.
        """
        state: FreezeState | None = FreezeState.FROZEN
        look = 0
        while self._late_until is not None and not self._signalled:
            if self._clock.monotonic() >= self._late_until and state is FreezeState.THAWED:
                self._thaw_late_freeze(is_seen=False)
                self._late_until = None
                return
            look += 1
            self._sleep(LATE_LOOKS.interval(look))
            doubtful, state = state is None or look == SPARSE_LOOK, self._thawer.look()
            if state is FreezeState.FROZEN or (state is FreezeState.THAWED and doubtful):
                self._thaw_late_freeze(is_seen=state is FreezeState.FROZEN)

    def _thaw_late_freeze(self, *, is_seen: bool) -> None:
        """Thaw, for as long as it takes. A freeze that was seen, and stays, raises the alarm; a doubt does not."""
        reported_stuck = False

        def between(report: ThawReport) -> bool:
            nonlocal reported_stuck
            if is_seen and not reported_stuck and report.attempts >= self._thawer.slowest_after:
                reported_stuck = True
                self._tell(lambda: self._recorder.stuck(Cause.LATE_FREEZE, report))
            return False

        self._thawer.start_over()
        report = self._until_confirmed(between)
        if report.filesystems:
            self._tell(self._recorder.late_freeze)
            self._was_carried_out(report)
        if reported_stuck:
            watching = self._watching_seconds()
            self._tell(lambda: self._recorder.thawed(Cause.LATE_FREEZE, report, watching_seconds=watching))

    def _sleep(self, seconds: float) -> None:
        """Wait, and keep up with what the owner says meanwhile: what changes our part in it ends the wait."""
        if self._is_deaf:
            self._clock.sleep(seconds)
            return
        until = self._clock.monotonic() + seconds
        while True:
            now = self._clock.monotonic()
            message = self._hear(min(until, now + STILL_LOOK_SECONDS) - now)
            if message is None:
                if self._owner.clear_the_way() or self._clock.monotonic() >= until:
                    return
                continue
            match message.what:
                case Op.THAWING:
                    until = self._owner.thaws_until()
                case Op.DISARM:
                    self._disarmed(message)
                    return
                case Op.ABANDON | Happening.OWNER_GONE:
                    self._owner.is_gone = True
                    return
                case Op.FROZEN:
                    self._late_until = None
                case Happening.WATCHED_DIED if self._spec.others_freeze and self._late_until is not None:
                    # A dead worker asks for nothing any more: what it has sent stands in the channel before our thaw.
                    self._late_until = min(self._late_until, self._clock.monotonic() + AFTERMATH_SECONDS)
                case Happening.SIGNAL:
                    self._signalled = True
                case _:
                    continue
