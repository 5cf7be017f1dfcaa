"""What happens inside PVE, written as generators: each yields what it waits for and is sent the outcome."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any

from tests.campaign.guest import Exchange, GuestBox, Reply
from tests.campaign.scheduler import Scheduler, Timer


@dataclass(frozen=True)
class Sleep:
    """Let time pass."""

    seconds: float


@dataclass(frozen=True)
class Ask:
    """One command to the guest's agent; its Reply is sent back."""

    command: str
    timeout: float
    tag: str


Steps = Generator[Sleep | Ask, Any, Any]


class Job:
    """Runs one generator. ``kill`` is the death of the process it runs in."""

    def __init__(
        self, scheduler: Scheduler, box: GuestBox, steps: Steps, done: Callable[[Any], None] = lambda result: None
    ) -> None:
        self._scheduler = scheduler
        self._box = box
        self._steps = steps
        self._done = done
        self._timer: Timer | None = None
        self._exchange: Exchange | None = None
        self.running = True
        self._send(None)

    def interrupt(self, why: str) -> bool:
        """A TERM whose `die` an eval swallows: what the agent is asked ends with ``why``. False: nothing is asked."""
        if not self.running or self._exchange is None or self._exchange.is_over:
            return False
        exchange, self._exchange = self._exchange, None
        exchange.abort()
        self._send(Reply(failure=why))
        return True

    def kill(self) -> None:
        self.running = False
        if self._timer is not None:
            self._timer.cancel()
        if self._exchange is not None:
            self._exchange.abort()
        self._steps.close()

    def _send(self, outcome: Reply | None) -> None:
        if not self.running:
            return
        try:
            wanted = self._steps.send(outcome)
        except StopIteration as end:
            self.running = False
            self._done(end.value)
            return
        if isinstance(wanted, Sleep):
            self._timer = self._scheduler.after(wanted.seconds, lambda: self._send(None))
        else:
            exchange = Exchange(self._scheduler, self._box, wanted.command, wanted.timeout, wanted.tag, self._send)
            if not exchange.is_over:  # one that was answered at once has led to the next already
                self._exchange = exchange
