"""Fakes for the engine's seams: a clock that moves only when told, agent channels and a transport by script."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from snapshot.journal.record import WindowRecord
from snapshot.model import Guest, GuestKind, Node, Vmid
from snapshot.pve.agent import AgentRefusedError, AgentReplyLostError, CommandNotSentError, Seatless
from tests.lab.guest.agentmodel import AgentModel

START = 1_790_000_000.0
GUEST = Guest(Vmid(100), Node("pve1"), GuestKind.QEMU, name="web", running=True)


class VirtualClock:
    """Time that moves only by sleeping, and by what a fake says an answer took."""

    def __init__(self) -> None:
        self.now = 0.0
        self.slept: list[float] = []

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return START + self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += max(0.0, seconds)


class ScriptedChannel(Seatless):
    """An agent channel that gives each command its answer, or a tuple of them in turn; the last one for ever.

    An answer that is an exception is raised, one that is callable is called. ``seconds`` is how long a call takes.
    """

    is_silent = False

    def __init__(self, clock: VirtualClock, *, name: str = "script", seconds: float = 0.0, **answers: object) -> None:
        self.name = name
        self.clock = clock
        self.seconds = seconds
        self.calls: list[str] = []
        self.instants: list[float] = []
        self.timeouts: list[float] = []
        self._answers = {f"fsfreeze-{key}": self._turns(value) for key, value in answers.items()}

    @staticmethod
    def _turns(value: object) -> Any:
        turns = value if isinstance(value, tuple) else (value,)
        return itertools.chain(turns, itertools.repeat(turns[-1]))

    def call(self, command: str, *, timeout_seconds: float, keep_open: bool = False) -> object:
        self.calls.append(command)
        self.instants.append(self.clock.now)
        self.timeouts.append(timeout_seconds)
        self.clock.now += self.seconds
        answer = next(self._answers[command])
        if isinstance(answer, BaseException):
            raise answer
        return answer() if callable(answer) else answer

    def count(self, command: str) -> int:
        return self.calls.count(f"fsfreeze-{command}")


class ModelChannel(Seatless):
    """The lab's agent model, asked in virtual time."""

    is_silent = False

    def __init__(self, model: AgentModel, clock: VirtualClock) -> None:
        self.name = "model"
        self._model = model
        self._clock = clock

    def call(self, command: str, *, timeout_seconds: float, keep_open: bool = False) -> object:
        answer = self._model.exchange(f"guest-{command}", now=self._clock.now, timeout=timeout_seconds)
        self._clock.now = answer.at
        if answer.error is not None:
            raise AgentRefusedError(answer.error["class"], answer.error["desc"])
        if answer.reply is None:
            raise AgentReplyLostError("no answer in time")
        return answer.value


class ScriptedTransport:
    """Answers of the API by path suffix: a value, an exception, a callable, or a tuple of them in turn."""

    name = "https://pve1:8006"

    def __init__(self, answers: Mapping[str, object], clock: VirtualClock | None = None, seconds: float = 0.0) -> None:
        self.requests: list[tuple[str, str, Mapping[str, object]]] = []
        self._answers = {suffix: ScriptedChannel._turns(value) for suffix, value in answers.items()}
        self._clock = clock
        self._seconds = seconds

    def request(
        self, method: str, path: str, params: Mapping[str, object] | None = None, *, timeout_seconds: float = 10.0
    ) -> object:
        self.requests.append((method, path, dict(params or {})))
        if self._clock is not None:
            self._clock.now += self._seconds
        answer = next(next(turns for suffix, turns in self._answers.items() if path.endswith(suffix)))
        if isinstance(answer, BaseException):
            raise answer
        return answer() if callable(answer) else answer

    def close(self) -> None:
        """Nothing stays open."""


def busy() -> CommandNotSentError:
    """What a busy agent looks like, and one that is gone."""
    return CommandNotSentError("QEMU guest agent is not running", busy_or_gone=True)


def lost(detail: str = "got timeout") -> AgentReplyLostError:
    return AgentReplyLostError(detail)


def record(window: str = "w1", vmid: int = 100, at: float = START, **values: Any) -> WindowRecord:
    """The intent of an ordinary window."""
    ordinary: dict[str, Any] = {
        "id": window,
        "vmid": vmid,
        "node": "pve1",
        "kind": "qemu",
        "guest_name": f"guest-{vmid}",
        "source": "snapshot",
        "owner": "snapshot",
        "state": "idle",
        "intent_at": at,
        "deadline_at": at + 30,
        "owner_pid": 1,
        "owner_pid_start": 1,
        "boot_id": "",
    }
    return WindowRecord(**(ordinary | values))


def raised(call: Callable[[], object], *kinds: type[BaseException]) -> BaseException | None:
    """What ``call`` raises of ``kinds``, None when it returns; anything else comes through."""
    try:
        call()
    except kinds as error:
        return error
    return None


def flat(calls: Iterable[str]) -> list[str]:
    """Commands without their common prefix."""
    return [call.removeprefix("fsfreeze-") for call in calls]
