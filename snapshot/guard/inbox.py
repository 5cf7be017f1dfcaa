"""Everything that can wake a guard: its owner's socket, the deaths of watched processes, signals."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import socket
from collections import deque
from collections.abc import Callable, Sequence

from snapshot.base.clock import Clock
from snapshot.base.interruption import Signals
from snapshot.base.procfs import process_start
from snapshot.base.signals import SIGNALS
from snapshot.base.watchdog import LOOK_SECONDS
from snapshot.guard.link import Op
from snapshot.guard.seams import Happening, Message

STRAY = (signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGALRM, signal.SIGVTALRM, signal.SIGPROF, signal.SIGIO)
"""Nobody has a reason to send a guard these. They would end it, so it thaws first, as for the others."""


class ProcessInbox:
    """guard.seams.Inbox over a connection, pidfds and signals. Each death and each signal is reported once.

    ``moves`` is called ahead of each wait, and every LOOK_SECONDS in it, and must not block. ``signals``: who tells of
    the first one, in a thread of a process that others share; without it they are caught here.
    """

    def __init__(
        self,
        connection: socket.socket | None,
        watch: Sequence[tuple[int, int]],
        clock: Clock,
        moves: Callable[[], None] = lambda: None,
        *,
        signals: Signals | None = None,
    ) -> None:
        self._clock = clock
        self._moves = moves
        self._watched: set[int] = set()
        """Descriptors of processes whose death is not reported yet."""
        self._selector = selectors.DefaultSelector()
        self._waiting: deque[Message] = deque()
        self._buffer = b""
        self._connection = connection
        if connection is not None:
            connection.setblocking(False)
            self._selector.register(connection, selectors.EVENT_READ, "owner")
        for pid, start in watch:
            self._watch(pid, start)
        if signals is not None:
            self._selector.register(signals, selectors.EVENT_READ, "told")
        else:
            self._catch_signals()

    def wait(self, seconds: float | None) -> Message | None:
        """See Inbox."""
        deadline = None if seconds is None else self._clock.monotonic() + seconds
        while not self._waiting:
            self._moves()
            left = LOOK_SECONDS if deadline is None else deadline - self._clock.monotonic()
            for key, _ in self._selector.select(min(max(0.0, left), LOOK_SECONDS)):
                self._read(key)
            if not self._waiting and deadline is not None and self._clock.monotonic() >= deadline:
                return None
        return self._waiting.popleft()

    def close(self) -> None:
        """See Inbox."""
        if self._connection is not None:
            with contextlib.suppress(KeyError, ValueError, OSError):
                self._selector.unregister(self._connection)
            self._connection.close()
            self._connection = None

    def end(self) -> None:
        """Nobody waits any more: let go of everything. For a guard whose process goes on."""
        self.close()
        while self._watched:
            os.close(self._watched.pop())
        self._selector.close()

    def put_back(self, message: Message) -> None:
        """Let ``message`` be the next one again."""
        self._waiting.appendleft(message)

    def _read(self, key: selectors.SelectorKey) -> None:
        if key.data == "owner":
            self._read_owner()
        elif key.data == "signal":
            with contextlib.suppress(BlockingIOError):
                os.read(key.fd, 64)
            self._waiting.append(Message(Happening.SIGNAL))
        elif key.data == "told":
            self._selector.unregister(key.fileobj)  # it stays readable
            self._waiting.append(Message(Happening.SIGNAL))
        else:
            self._selector.unregister(key.fileobj)
            self._watched.remove(key.fd)
            os.close(key.fd)
            self._waiting.append(Message(Happening.WATCHED_DIED))

    def _read_owner(self) -> None:
        if self._connection is None:
            return
        try:
            data = self._connection.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        self._buffer += data
        *lines, self._buffer = self._buffer.split(b"\n")
        self._waiting.extend(message for message in map(_message, lines) if message)
        if not data:
            self._selector.unregister(self._connection)
            self._connection.close()
            self._connection = None
            self._waiting.append(Message(Happening.OWNER_GONE))

    def _watch(self, pid: int, start: int) -> None:
        try:
            descriptor = os.pidfd_open(pid)
        except OSError:
            self._waiting.append(Message(Happening.WATCHED_DIED))
            return
        if process_start(pid) != start:
            os.close(descriptor)
            self._waiting.append(Message(Happening.WATCHED_DIED))
            return
        self._watched.add(descriptor)
        self._selector.register(descriptor, selectors.EVENT_READ, "watched")

    def _catch_signals(self) -> None:
        reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        for number in (*SIGNALS, *STRAY):
            signal.signal(number, lambda _number, _frame: None)
        self._selector.register(reader, selectors.EVENT_READ, "signal")


def _message(line: bytes) -> Message | None:
    try:
        values = json.loads(line)
        return Message(Op(values.pop("op")), {k: float(v) for k, v in values.items()})
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        return None
