"""Waits that a signal ends, in threads.

Python handles signals in the main thread alone, and there an exception ends a wait by itself (base/signals.py). A
thread is not interrupted by anything. So each wait that may be long asks here how long it may last, and says
when it is over; where a thread minds no signals, as most do not, both do nothing.
"""

from __future__ import annotations

import os
import select
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from snapshot.base.clock import Clock
from snapshot.errors import InterruptedBySignalError

LOOK_SECONDS = 0.25
"""How often a wait that cannot be woken looks whether a signal has come."""


class Signals:
    """The first signal that reached a thread's process. Its descriptor is readable from then on, for whoever waits."""

    def __init__(self) -> None:
        self.pending: int | None = None
        self._descriptor = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def fileno(self) -> int:
        """For a selector."""
        return self._descriptor

    def tell(self, number: int) -> None:
        """A signal has come. A later one changes nothing."""
        if self.pending is None:
            self.pending = number
            os.eventfd_write(self._descriptor, 1)

    def wait(self, seconds: float) -> bool:
        """Wait for so long at most; whether a signal has come."""
        if self.pending is None and seconds > 0:
            select.select([self._descriptor], [], [], seconds)
        return self.pending is not None

    def close(self) -> None:
        """Nobody waits any more."""
        os.close(self._descriptor)


class _Here(threading.local):
    """This thread's."""

    signals: Signals | None = None
    """What may end its waits now."""


_here = _Here()


@contextmanager
def minding(signals: Signals | None) -> Iterator[None]:
    """A context in which this thread's waits end with InterruptedBySignalError when a signal has come. None: in which
    none ends them, as is needed to put away what a signal has ended.
    """
    earlier, _here.signals = _here.signals, signals
    try:
        mind()
        yield
    finally:
        _here.signals = earlier


def mind() -> None:
    """Raise InterruptedBySignalError if a signal has come that may end this thread's wait."""
    signals = _here.signals
    if signals is not None and signals.pending is not None:
        raise InterruptedBySignalError(signals.pending)


def patience(seconds: float) -> float:
    """How much of ``seconds`` to wait at a stretch: all of it where no signal may end the wait."""
    return seconds if _here.signals is None else min(seconds, LOOK_SECONDS)


class MindingClock:
    """A clock whose sleep ends with a signal, in threads that mind one."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def monotonic(self) -> float:
        """See Clock."""
        return self._clock.monotonic()

    def time(self) -> float:
        """See Clock."""
        return self._clock.time()

    def sleep(self, seconds: float) -> None:
        """See Clock. InterruptedBySignalError."""
        if _here.signals is None:
            self._clock.sleep(seconds)
            return
        _here.signals.wait(seconds)
        mind()
