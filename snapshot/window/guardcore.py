"""What a guard does, as plain code over four seams: an inbox, a thawer, a clock and a recorder.

The process around it (guard.py) brings sockets, pidfds and signals; a campaign brings its own world and virtual time.
Order matters in one place above all: between the event that makes the guard act and its first thaw request nothing is
written, logged or imported. The recorder is called after the first request, never before.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from types import MappingProxyType
from typing import NamedTuple, Protocol

from snapshot.clock import Clock
from snapshot.model import FreezeState, ThawReport
from snapshot.retry import Pace
from snapshot.window.guardlink import GuardSpec, Op
from snapshot.window.thaw import Thawer

DEADLINE_MARGIN_SECONDS = 2.0
"""How long after the owner's own deadline the guard steps in: the owner, when it lives, does it first."""

OWNER_FIRST_SECONDS = 0.5
"""When a watched process dies the owner watches it too and thaws at once; the guard follows when it does not."""

LATE_LOOKS = Pace(first_seconds=0.25, slowest_seconds=4.0)
"""How often a guest is looked at while a late freeze is possible: sparse, since a look at a silent agent keeps one of
pvedaemon's three workers for 3 s, and often enough to thaw within 5 s of the agent's return. Soon at first: a freeze
that was on its way when its owner died may be executed right behind the guard's thaw."""


SPARSE_LOOK = next(n for n in range(1, 100) if LATE_LOOKS.is_slowest(n))


class Happening(Enum):
    """What an inbox may bring besides the owner's messages."""

    OWNER_GONE = "owner gone"
    WATCHED_DIED = "watched process died"
    SIGNAL = "signal"


class Cause(Enum):
    """Why a guard thawed: the ``cause`` label of the metric."""

    OWNER_DIED = "owner-died"
    WORKER_DIED = "worker-died"
    DEADLINE = "deadline"
    ABANDONED = "owner-gave-up"
    SIGNAL = "signal"
    LATE_FREEZE = "late-freeze"
    RECOVERY = "recovery"


class Message(NamedTuple):
    """One thing that happened."""

    what: Op | Happening
    values: Mapping[str, float] = MappingProxyType({})


class Inbox(Protocol):
    """Everything that can wake a guard."""

    def wait(self, seconds: float | None) -> Message | None:
        """The next message, or None after ``seconds`` (None: for ever)."""
        ...


class Recorder(Protocol):
    """Where a guard reports. Nothing here raises or blocks for long."""

    def intervened(self, cause: Cause, report: ThawReport) -> None:
        """The first thaw request of an intervention has been made."""
        ...

    def stuck(self, cause: Cause, report: ThawReport) -> None:
        """Retries have reached their slowest pace: raise the alert."""
        ...

    def thawed(self, cause: Cause, report: ThawReport, *, watching_seconds: float) -> None:
        """The guest is thawed; ``watching_seconds`` above 0: late freezes are still possible for so long."""
        ...

    def late_freeze(self) -> None:
        """A freeze was executed after everybody had given up waiting for it."""
        ...

    def left_open(self) -> None:
        """A signal ends the guard while a late freeze is still possible: `recover` takes over."""
        ...

    def closed(self, *, by_owner: bool) -> None:
        """The window is over. ``by_owner``: its owner lives, or disarmed us, and records the outcome itself."""
        ...


class GuardCore:
    """One window's guard, armed. ``run`` returns when the window is closed."""

    def __init__(self, spec: GuardSpec, inbox: Inbox, thawer: Thawer, clock: Clock, recorder: Recorder) -> None:
        self._spec = spec
        self._inbox = inbox
        self._thawer = thawer
        self._clock = clock
        self._recorder = recorder
        self._late_until: float | None = None
        self._owner_told = False
        self._owner_gone = False
        self._signalled = False

    def run(self) -> None:
        """Watch until the owner disarms us, or thaw; then watch for a late freeze as long as one is possible."""
        if self._armed():
            cause = self._at_risk(self._clock.monotonic() + self._spec.deadline_seconds + DEADLINE_MARGIN_SECONDS)
            if cause is not None:
                self._intervene(cause)
                self._wait_for_owner()
        self._watch_for_late_freeze()
        self._end(by_owner=self._owner_told or not self._owner_gone)

    def take_over(self, cause: Cause, *, late_seconds: float) -> None:
        """For a guard that was restarted, or a recovery: thaw now, then watch."""
        self._owner_gone = True
        if late_seconds > 0:
            self._late_until = self._clock.monotonic() + late_seconds
        self._intervene(cause)
        self._watch_for_late_freeze()
        self._end(by_owner=False)

    def _end(self, *, by_owner: bool) -> None:
        if self._late_until is not None and self._signalled:
            self._recorder.left_open()
        else:
            self._recorder.closed(by_owner=by_owner)

    def _armed(self) -> bool:
        """Wait while nothing is at risk; True once a freeze is about to be sent, or may have been."""
        if self._spec.at_risk:
            self._freeze_is_sent()
            return True
        while True:
            message = self._inbox.wait(None)
            match message.what if message else None:
                case Op.FREEZING:
                    self._freeze_is_sent()
                    return True
                case Op.DISARM:
                    self._owner_told = True
                    return False
                case Happening.OWNER_GONE:
                    self._owner_gone = True
                    return False
                case Happening.SIGNAL:
                    return False
                case _:
                    continue  # a worker that died before any freeze: the owner will notice, or end

    def _freeze_is_sent(self) -> None:
        self._late_until = self._clock.monotonic() + self._spec.late_freeze_seconds

    def _at_risk(self, deadline: float) -> Cause | None:
        """Wait until the owner disarms us (None) or until there is a reason to thaw."""
        at_deadline = Cause.DEADLINE
        while True:
            message = self._inbox.wait(max(0.0, deadline - self._clock.monotonic()))
            if message is None:
                return at_deadline
            match message.what:
                case Op.FROZEN:
                    self._late_until = None
                case Op.THAWING:
                    deadline = self._owner_thaws_until()
                case Op.DISARM:
                    self._disarmed(message)
                    return None
                case Op.ABANDON:
                    self._owner_gone = True
                    return Cause.ABANDONED
                case Happening.OWNER_GONE:
                    self._owner_gone = True
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
        self._owner_told = True
        late_seconds = message.values.get("late_seconds", 0.0)
        self._late_until = self._clock.monotonic() + late_seconds if late_seconds > 0 else None

    def _owner_thaws_until(self) -> float:
        """How long to stay back for an owner that thaws: two callers would only be in each other's way."""
        return self._clock.monotonic() + self._thawer.longest_silence_seconds + DEADLINE_MARGIN_SECONDS

    def _intervene(self, cause: Cause) -> None:
        """Thaw, for as long as it takes. The first request comes before anything else.

        An owner that was only slow may come back meanwhile: while it thaws we wait, and when it has thawed we stop.
        """
        told = reported_stuck = False

        def between(report: ThawReport) -> bool:
            nonlocal told, reported_stuck
            if not told:
                told = True
                self._recorder.intervened(cause, report)
            elif not reported_stuck and report.attempts >= self._thawer.slowest_after:
                reported_stuck = True
                self._recorder.stuck(cause, report)
            return self._owner_told

        report = self._thawer.until_confirmed(None, sleep=self._sleep, between=between)
        if not told:
            self._recorder.intervened(cause, report)
        if not report.confirmed:
            return
        self._recorder.thawed(cause, report, watching_seconds=self._watching_seconds())

    def _watching_seconds(self) -> float:
        """How long late freezes are still possible; 0 when they are not."""
        return max(0.0, self._late_until - self._clock.monotonic()) if self._late_until is not None else 0.0

    def _wait_for_owner(self) -> None:
        """After an intervention with the owner alive: it decides what becomes of the window, until it ends."""
        look = 0
        while not (self._owner_gone or self._owner_told or self._signalled):
            look += 1
            self._sleep(LATE_LOOKS.interval(look))
            if self._late_until is not None and self._thawer.look() is FreezeState.FROZEN:
                self._thaw_late_freeze(is_seen=True)

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
                self._recorder.stuck(Cause.LATE_FREEZE, report)
            return False

        self._thawer.start_over()
        report = self._thawer.until_confirmed(None, sleep=self._sleep, between=between)
        if report.filesystems:
            self._recorder.late_freeze()
        if reported_stuck:
            self._recorder.thawed(Cause.LATE_FREEZE, report, watching_seconds=self._watching_seconds())

    def _sleep(self, seconds: float) -> None:
        """Wait, and keep up with what the owner says meanwhile: what changes our part in it ends the wait."""
        until = self._clock.monotonic() + seconds
        while True:
            message = self._inbox.wait(max(0.0, until - self._clock.monotonic()))
            if message is None:
                return
            match message.what:
                case Op.THAWING:
                    until = self._owner_thaws_until()
                case Op.DISARM:
                    self._disarmed(message)
                    return
                case Op.ABANDON | Happening.OWNER_GONE:
                    self._owner_gone = True
                    return
                case Op.FROZEN:
                    self._late_until = None
                case Happening.SIGNAL:
                    self._signalled = True
                case _:
                    continue
