"""Fakes for tests of one class at a time: a clock that moves when told, a channel and an inbox with a script."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from snapshot.base.retry import Pace
from snapshot.guard.link import GuardSpec
from snapshot.guard.seams import Message
from snapshot.journal.record import Cause
from snapshot.model import ThawReport
from snapshot.pve.connection import Heard
from snapshot.pve.ladder import Ladder
from snapshot.thaw.thawer import Thawer, Thawing

Answer = object | Exception | Callable[[str], object]


@dataclass
class ManualClock:
    """clock.Clock: sleeping is the only way time passes."""

    now: float = 100.0
    wall: float = 1_700_000_000.0

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return self.wall + self.now

    def sleep(self, seconds: float) -> None:
        self.now += max(0.0, seconds)


@dataclass
class ScriptedChannel:
    """AgentChannel: answers in turn, the last one for ever; each call takes ``seconds``."""

    clock: ManualClock
    answers: list[Answer]
    name: str = "route"
    seconds: float = 0.05
    calls: list[tuple[float, str, float]] = field(default_factory=list)
    """(begun, command, limit) of every call."""
    kept_open: bool = False
    """Whether a connection to the agent would be open now, which keeps everybody else waiting."""
    is_silent: bool = False
    connections: int = 0
    is_seated: bool = False

    def sit(self, *, awaits_knock: bool = False) -> bool:
        self.is_seated = True
        return True

    def knock(self, seconds: float) -> float | None:
        return None

    def heard(self, ask_seconds: float | None = None) -> Sequence[Heard]:
        return ()

    def release(self) -> None:
        self.kept_open = self.is_seated = False

    def call(self, command: str, *, timeout_seconds: float, keep_open: bool = False) -> object:
        self.calls.append((self.clock.now, command, timeout_seconds))
        self.connections += not self.kept_open
        self.kept_open = self.is_seated = False
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if callable(answer):
            answer = answer(command)
        self.clock.sleep(self.seconds)
        if isinstance(answer, Exception):
            raise answer
        self.kept_open = keep_open
        return answer

    @property
    def commands(self) -> list[str]:
        return [command.removeprefix("fsfreeze-") for _, command, _ in self.calls]


@dataclass
class ScriptedInbox:
    """guard.seams.Inbox: messages at instants; whoever waits lets time pass."""

    clock: ManualClock
    script: list[tuple[float, Message]]

    def wait(self, seconds: float | None) -> Message | None:
        if self.script and (seconds is None or self.script[0][0] <= self.clock.now + seconds):
            at, message = self.script.pop(0)
            self.clock.now = max(self.clock.now, at)
            return message
        if seconds is None:
            raise AssertionError("the guard would wait for ever")
        self.clock.sleep(seconds)
        return None

    def close(self) -> None:
        """Nothing more is heard."""


@dataclass
class Notes:
    """guard.seams.Recorder that remembers."""

    told: list[str] = field(default_factory=list)

    def intervened(self, cause: Cause, report: ThawReport) -> None:
        self.told.append(f"intervened {cause.value}")

    def stuck(self, cause: Cause, report: ThawReport) -> None:
        self.told.append("stuck")

    def thawed(self, cause: Cause, report: ThawReport, *, watching_seconds: float) -> None:
        self.told.append("thawed, watching" if watching_seconds > 0 else "thawed")

    def late_freeze(self) -> None:
        self.told.append("late freeze")

    def left_open(self) -> None:
        self.told.append("left open")

    def closed(self, *, by_owner: bool) -> None:
        self.told.append("closed by owner" if by_owner else "closed")


def thawer(clock: ManualClock, routes: Sequence[ScriptedChannel], **ladder: object) -> Thawer:
    """A thawer over ``routes`` with the default pace and limits."""
    pace = Pace(first_seconds=0.2, slowest_seconds=1.0)
    return Thawer(Ladder(routes, **ladder), Thawing(pace, attempt_seconds=10.0), clock)  # type: ignore[arg-type]


def guard_spec(**values: object) -> GuardSpec:
    """What a guard is told: 10 s for the window, an hour for a late freeze."""
    usual: dict[str, object] = {
        "window_id": "w1",
        "vmid": 100,
        "node": "a",
        "guest_name": "guest",
        "source": "snapshot",
        "deadline_seconds": 10.0,
        "owner_limit_seconds": 60.0,
        "late_freeze_seconds": 3600.0,
        "owner_pid": 1,
        "owner_pid_start": 1,
    }
    return GuardSpec(**(usual | values))  # type: ignore[arg-type]
