"""Asks a guest whether it is frozen while vzdump freezes or thaws it, without standing in the way of either.

The agent serves one client at a time, and a client that gives up still takes its place in the queue: vzdump's own thaw
would find the queue full. So there is never more than one question of ours, it is never given up, and it waits for its
turn in a thread of its own while the log is followed.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from snapshot.base.clock import Clock
from snapshot.base.threads import start_thread
from snapshot.model import FreezeState, Guest
from snapshot.pve import agent
from snapshot.pve.access import Access
from snapshot.pve.agent import AgentChannel, AgentRefusedError, AgentReplyLostError, ApiChannel, CommandNotSentError
from snapshot.pve.qga import SocketChannel

PATIENCE_SECONDS = 3600.0
"""For one answer: it may stand behind a freeze of PVE's."""

SOCKET_PAUSE_SECONDS = 0.05
API_PAUSE_SECONDS = 1.0
"""Between two questions. Over the API each keeps a worker of pvedaemon's, for 3 s where the agent is busy."""


class StateAsker:
    """Asks one question at a time, as often as ``ask`` is called, but not more often than its pause."""

    def __init__(self, access: Access, guest: Guest) -> None:
        self._clock: Clock = access.clock
        self._is_local = access.socket(guest) is not None
        self._make: Callable[[], AgentChannel]
        if self._is_local:
            path = access.config.local.socket_folder / f"{guest.vmid}.qga"
            self._make = lambda: SocketChannel(path, access.clock, PATIENCE_SECONDS)
        else:
            self._make = lambda: ApiChannel(access.main, guest)
        self._thread: threading.Thread | None = None
        self._answer: FreezeState | None = None
        self.asked_at: float | None = None
        """When the last question was asked (monotonic)."""

    def ask(self, pause_seconds: float = SOCKET_PAUSE_SECONDS) -> FreezeState | None:
        """The answer that has come since the last call, if any; else asks, ``pause_seconds`` after the last question.

        Returns at once.
        """
        answer = self.answer()
        now = self._clock.monotonic()
        pause = pause_seconds if self._is_local else max(pause_seconds, API_PAUSE_SECONDS)
        if self._thread is None and (self.asked_at is None or now - self.asked_at >= pause):
            self.asked_at = now
            self._thread = start_thread("asker", self._run)
        return answer

    def answer(self, wait_seconds: float = 0.0) -> FreezeState | None:
        """The answer to the last question, if it has come or comes within ``wait_seconds``. Asks nothing."""
        if self._thread is None:
            return None
        self._thread.join(wait_seconds)
        if self._thread.is_alive():
            return None
        self._thread = None
        answer, self._answer = self._answer, None
        return answer

    def _run(self) -> None:
        seconds = PATIENCE_SECONDS if self._is_local else agent.STATUS_SECONDS
        try:
            self._answer = agent.status(self._make(), seconds)
        except (CommandNotSentError, AgentReplyLostError, AgentRefusedError):
            self._answer = None
