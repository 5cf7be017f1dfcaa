"""INT, TERM and HUP as exceptions, but only where an interruption does no harm.

A handler that raises anywhere could tear the thaw itself apart, so signals are held back except inside ``open()``:
around the waits for the freeze, the snapshot task and the like. One that was held back is seen at the next ``open()``.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from types import FrameType
from typing import Protocol

from snapshot.errors import InterruptedBySignalError

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Gate(Protocol):
    """Where signals may come through."""

    def open(self) -> AbstractContextManager[None]:
        """A context in which a signal, held back or new, raises InterruptedBySignalError."""
        ...


class SignalGate:
    """Installed handlers for SIGNALS; ``restore`` puts the earlier ones back.

    A signal that our parent ignores for us (nohup, a shell's background job) stays ignored.
    """

    def __init__(self) -> None:
        self.pending: int | None = None
        self._is_open = False
        wanted = [number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
        self._earlier = {number: signal.signal(number, self._on_signal) for number in wanted}

    @contextmanager
    def open(self) -> Iterator[None]:
        """See Gate."""
        self.check()
        self._is_open = True
        try:
            self.check()  # a signal between the first check and the opening
            yield
        finally:
            self._is_open = False

    def check(self) -> None:
        """Raise for a signal that was held back."""
        if self.pending is not None:
            raise InterruptedBySignalError(self.pending)

    def restore(self) -> None:
        """Put the earlier handlers back."""
        for number, handler in self._earlier.items():
            signal.signal(number, handler)

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        self.pending = number
        if self._is_open:
            self._is_open = False
            raise InterruptedBySignalError(number)


class NoGate:
    """For callers that handle no signals: the guard, tests, campaigns."""

    @contextmanager
    def open(self) -> Iterator[None]:
        """See Gate."""
        yield
