"""The parent's signals while workers are at work: noted, never raised, and a descriptor that wakes its selector."""

from __future__ import annotations

import contextlib
import signal
import socket
from types import FrameType, TracebackType
from typing import Self

from snapshot.base.signals import SIGNALS


class Bell:
    """A context. A signal that our own parent ignores for us (nohup) stays ignored."""

    def __init__(self) -> None:
        self.ended_by: int | None = None
        """The first signal that is to end the run."""
        self.rings = 0
        """How many came."""
        self.wants_stop = False
        """Ctrl-Z: to be stopped once no worker is at work."""
        self._reading, self._writing = socket.socketpair()
        self._reading.setblocking(False)
        self._writing.setblocking(False)
        self._earlier: dict[int, object] = {}
        self._earlier_wakeup = -1

    def __enter__(self) -> Self:
        self._earlier_wakeup = signal.set_wakeup_fd(self._writing.fileno(), warn_on_full_buffer=False)
        for number in (*SIGNALS, signal.SIGTSTP):
            if signal.getsignal(number) is not signal.SIG_IGN:
                handler = self._on_stop if number == signal.SIGTSTP else self._on_end
                self._earlier[number] = signal.signal(number, handler)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for number, handler in self._earlier.items():
            signal.signal(number, handler)  # type: ignore[arg-type]
        signal.set_wakeup_fd(self._earlier_wakeup)
        self._reading.close()
        self._writing.close()

    def fileno(self) -> int:
        """For a selector: to be read when a signal has come."""
        return self._reading.fileno()

    def answer(self) -> None:
        """It has been heard."""
        with contextlib.suppress(BlockingIOError):
            while self._reading.recv(4096):
                pass

    def stop_now(self) -> None:
        """Be stopped, as Ctrl-Z wanted; returns when somebody lets us go on."""
        self.wants_stop = False
        own = signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        signal.raise_signal(signal.SIGTSTP)
        signal.signal(signal.SIGTSTP, own)

    def _on_end(self, number: int, _frame: FrameType | None) -> None:
        self.ended_by = self.ended_by or number
        self.rings += 1

    def _on_stop(self, _number: int, _frame: FrameType | None) -> None:
        self.wants_stop = True
