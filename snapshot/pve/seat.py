"""The agent's one seat, kept for the time of a window while everybody else who asks is let through.

QEMU serves one client of the agent's socket at a time, the others wait in its listen queue. An agent that finds nobody
connected sleeps for 100 ms before it looks again (qga/main.c, channel_event_cb). When a client leaves and another one
waits, QEMU seats that at once, and the agent never sees its channel close. So we keep the seat from before the freeze
to behind the thaw: when somebody waits we take a new place at the end of the queue first, and leave the seat then.
PVE's calls are turns between ours, and none of them ends in the agent's sleep.

Who comes and stays would keep a frozen guest from its thaw, and cannot be sent away. So a stranger is let through while
the guest runs, and waits for the thaw while it is frozen; nor does anybody pass while a stranger waits behind one of
PVE's, which may be about to freeze. PVE's own calls, and ours, have time limits (backlog.py).
"""

from __future__ import annotations

import threading
from collections import deque
from pathlib import Path

from snapshot.base.clock import Clock
from snapshot.base.threads import start_thread
from snapshot.model import FreezeState
from snapshot.pve.backlog import is_trusted, waiting
from snapshot.pve.connection import Connection, Heard

LOOK_SECONDS = 0.002
"""Between two looks at who waits: a part of every turn of PVE's."""

KNOCK_SECONDS = 0.5
"""How long who waits is kept waiting for a freeze to be sent in front of it."""

SILENT_SECONDS = 0.5
"""How long an agent that does not answer us may keep others waiting behind us."""


class Seat:
    """The seat, or the place in the queue for it: ``connection``'s, else a new one. RuntimeError where no thread can be
    started; nothing else raises.

    ``awaits_knock``: the first who waits is not let through before the seat is held or KNOCK_SECONDS have passed.
    """

    def __init__(
        self,
        path: Path,
        listener: int,
        connection: Connection | None,
        clock: Clock,
        *,
        awaits_knock: bool = False,
    ) -> None:
        self._path = path
        self._listener = listener
        self._clock = clock
        self._is_frozen = False
        """As the agent said last."""
        self._trusted: dict[int, bool] = {}
        """Of who waits, by its socket."""
        self._connection = connection
        self._read_at: float | None = None
        """Since when we have been seen to sit without an answer."""
        self._heard = deque([connection.heard] if connection is not None and connection.heard is not None else [])
        self._ask_seconds: float | None = None
        self._has_begun = threading.Event()
        self._lock = threading.Lock()
        self._is_kept = True
        self._awaits_knock = awaits_knock
        self._quiet_at = clock.monotonic()
        """When nobody waited last."""
        self._knocked = threading.Event()
        start_thread("seat", self._keep)

    def wait_for_turn(self, seconds: float) -> bool:
        """Until the agent has answered us for the first time; False when it has not within ``seconds``."""
        return self._has_begun.wait(seconds) and self._connection is not None

    def heard(self, ask_seconds: float | None) -> list[Heard]:
        """What the agent has said in our turns since the last call, the oldest first.

        ``ask_seconds``: from now on it is asked again when its last answer was asked for so long ago. In our turn only,
        and while nobody waits.
        """
        self._ask_seconds = ask_seconds
        return [self._heard.popleft() for _ in range(len(self._heard))]

    def knock(self, seconds: float) -> float | None:
        """Wait for somebody to wait behind us, and hold the seat then: the last instant (monotonic) at which nobody
        did. None when nobody comes within ``seconds``, or was let through already.
        """
        if self._knocked.wait(seconds):
            with self._lock:
                if self._awaits_knock:
                    self._is_kept = False
                    return self._quiet_at
            self._clock.sleep(seconds)
        return None

    def hold(self) -> Connection | None:
        """Let nobody pass any more. The connection, in its turn or waiting for it; None when there is none."""
        with self._lock:
            self._is_kept = False
            return self._connection

    def _keep(self) -> None:
        try:
            while self._is_kept and self._look():
                self._clock.sleep(LOOK_SECONDS)
        except Exception:  # noqa: BLE001 - no memory, a bug: who waits behind us must not wait for nobody
            with self._lock:
                if self._is_kept:
                    self._leave()

    def _look(self) -> bool:
        """Let pass who waits; False when nobody keeps the seat any more."""
        began = self._clock.monotonic()
        others = waiting(self._listener)
        with self._lock:
            if not self._is_kept:
                return False
            try:
                if others is None:
                    raise ConnectionResetError("nobody listens any more")
                if self._connection is None:
                    self._connection = self._placed()
                elif self._is_in_the_way(self._connection) and others:
                    if not self._may_pass(others) or self._is_kept_waiting(others[0]):
                        return True
                    here, self._connection = self._connection, self._placed()
                    here.close()
                elif not others:
                    self._quiet_at = began
                    self._trusted.clear()
                    self._ask_again(self._connection)
            except OSError:
                self._leave()
                return False
            return True

    def _may_pass(self, others: list[int]) -> bool:
        """Whether none of ``others`` could sit for good while the guest is frozen."""
        for client in others:
            if client not in self._trusted:
                self._trusted[client] = is_trusted(client)
        are_trusted = [self._trusted[client] for client in others]
        return all(are_trusted) or (are_trusted == sorted(are_trusted) and not self._is_frozen)

    def _is_kept_waiting(self, first: int) -> bool:
        """Whether who waits has just knocked."""
        if not self._trusted[first]:
            return False
        if self._clock.monotonic() - self._quiet_at >= KNOCK_SECONDS:
            self._awaits_knock = False
        self._knocked.set()
        return self._awaits_knock

    def _is_in_the_way(self, connection: Connection) -> bool:
        """Whether we sit, answered or not, and so the others wait for us."""
        was_synced = connection.is_synced
        if connection.is_in_turn():
            if not was_synced and connection.heard is not None:
                self._heard.append(connection.heard)
                self._is_frozen = connection.heard.state is FreezeState.FROZEN
            self._read_at = None
            self._has_begun.set()
            return True
        now = self._clock.monotonic()
        if self._read_at is None and connection.is_read:
            self._read_at = now
        return self._read_at is not None and now - self._read_at >= SILENT_SECONDS

    def _ask_again(self, connection: Connection) -> None:
        now, seconds = self._clock.monotonic(), self._ask_seconds
        if connection.is_synced and seconds is not None and now - connection.asked_at >= seconds:
            connection.begin_sync(now)

    def _placed(self) -> Connection | None:
        """A place at the end of the queue; None when that is full, until the next look."""
        connection = Connection(self._clock)
        try:
            connection.take_place(self._path)
        except BlockingIOError:
            connection.close()
            return None
        except OSError:
            connection.close()
            raise
        self._read_at = None
        return connection

    def _leave(self) -> None:
        self._has_begun.set()
        if self._connection is not None:
            self._connection.close()
            self._connection = None
