"""Turns: how many of ours may be at one node at once, whichever runs of this machine they belong to.

A node has three pvedaemon workers for everybody, and each snapshot is a task of its own there. So windows queue before
their guest is at risk, and so do the calls that may keep a worker for as long as an agent is silent: a question to an
agent before the window, and the freeze. A group has one such turn at each node for all its freezes, which go one at a
time, before any guest is frozen (take/together.py). Nothing waits between a freeze and its thaw, no thaw ever waits,
and neither do a guard, a recovery or a backup's hook.

A guest has one run at a time: a second one that froze it would break the first one's window, or take a worse snapshot
beside it under the name that the first has chosen. Who waits for a guest has none, or those before it (a group).
"""

from __future__ import annotations

import copy
from collections.abc import Callable

from snapshot.base.clock import Clock
from snapshot.base.slots import FOLDER, Slot, Slots
from snapshot.config.settings import Config
from snapshot.errors import NoTurnError
from snapshot.model import Guest, Node
from snapshot.pve.agent import ApiChannel, CommandNotSentError
from snapshot.pve.transport import Transport

WINDOWS_AT_ONCE = 10
"""At one node. More of them gain nothing: each costs its node the start of a task, and the guard a process here."""

CALLS_AT_ONCE = 2
"""At one node: one of its three workers is left, for a thaw of ours and for everybody else."""

WINDOW_SECONDS = 3600.0
"""How long a run waits for its window's turn."""

CALL_SECONDS = 60.0
"""How long a call waits for its turn: twice as long as a freeze is waited for."""

GROUP_CALL_SECONDS = 15.0
"""How long a group waits for its turn: the guards of its other members stand meanwhile, by rows that grow old."""

ROUND_SECONDS = 4.0
"""How often one that waits may say that it lives: more often than a window's row grows old (window/ownrow.py)."""


class Turns:
    """The turns at this cluster's nodes, counted beside the journal by all runs of this machine."""

    def __init__(
        self, config: Config, clock: Clock, windows: int = WINDOWS_AT_ONCE, call_seconds: float = CALL_SECONDS
    ) -> None:
        self._folder = config.journal.path.parent / FOLDER
        self._clock = clock
        self._windows = windows
        self._call_seconds = call_seconds

    def timed_by(self, clock: Clock) -> Turns:
        """The same turns, waited for by another clock."""
        same = copy.copy(self)
        same._clock = clock
        return same

    def guest(
        self,
        vmid: int,
        limit_seconds: float,
        *,
        waits: Callable[[str], object] = lambda line: None,
        sleep: Callable[[float], None] | None = None,
    ) -> Slot:
        """The turn of one run of the guest. ``waits`` is told once that it waits. TimeoutError."""
        slots = Slots(self._folder, f"run-{vmid}", 1, self._clock)
        line = f"guest {vmid}: waiting for another run of it on this machine"
        return slots.take(limit_seconds, waits=lambda: waits(line), sleep=sleep)

    def window(
        self, node: Node, *, waits: Callable[[str], object], sleep: Callable[[float], None] | None = None
    ) -> Slot:
        """The turn of one window. ``waits`` is told once that this one waits. NoTurnError after WINDOW_SECONDS."""
        slots = Slots(self._folder, f"window-{node}", self._windows, self._clock)
        line = f"waiting: {self._windows} windows are open on {node}, as many as may be at once"
        try:
            return slots.take(WINDOW_SECONDS, waits=lambda: waits(line), sleep=sleep)
        except TimeoutError:
            raise NoTurnError(
                f"{self._windows} windows of other runs were open on {node} for {WINDOW_SECONDS:g} s: nothing was done",
                remedy="try again later, `safe-snapshot status` tells of windows that stay open",
            ) from None

    def call(
        self,
        node: Node,
        sleep: Callable[[float], None] | None = None,
        still_waits: Callable[[], object] = lambda: None,
        limit_seconds: float | None = None,
    ) -> Slot:
        """The turn of one call. TimeoutError when it does not come; ``still_waits`` is called every ROUND_SECONDS."""
        limit = self._call_seconds if limit_seconds is None else limit_seconds
        slots = Slots(self._folder, f"call-{node}", CALLS_AT_ONCE, self._clock, quickest=True)
        ends_at = self._clock.monotonic() + limit
        while (left := ends_at - self._clock.monotonic()) > 0:
            try:
                return slots.take(min(left, ROUND_SECONDS), sleep=sleep)
            except TimeoutError:
                still_waits()
        raise TimeoutError(
            f"{CALLS_AT_ONCE} calls of ours to agents on {node} are unanswered, and a third would take its last "
            f"pvedaemon worker: not sent within {limit:g} s"
        )


class PatientChannel(ApiChannel):
    """The agent through the API, when it is this call's turn: for questions before a window."""

    def __init__(self, transport: Transport, guest: Guest, turns: Turns) -> None:
        super().__init__(transport, guest)
        self._turns = turns
        self._node = guest.node

    def call(self, command: str, *, timeout_seconds: float, keep_open: bool = False) -> object:
        """See AgentChannel.call."""
        try:
            turn = self._turns.call(self._node)
        except TimeoutError as error:
            raise CommandNotSentError(str(error)) from error
        with turn:
            return super().call(command, timeout_seconds=timeout_seconds, keep_open=keep_open)
