"""INT, TERM and HUP as exceptions, but only where an interruption does no harm.

A handler that raises anywhere could tear the thaw itself apart, so signals are held back except inside ``open()``:
around the waits for the freeze, the snapshot task and the like. One that was held back is seen at the next ``open()``.

Ctrl-Z is held back for as long as a guest may be frozen: who is stopped thaws nothing, and who is stopped while its
agent answers keeps everybody else, the guard too, from the agent's socket.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from types import FrameType
from typing import ClassVar, Protocol

from snapshot.base import interruption
from snapshot.errors import InterruptedBySignalError

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Gate(Protocol):
    """Where signals may come through."""

    def open(self) -> AbstractContextManager[None]:
        """A context in which a signal, held back or new, raises InterruptedBySignalError."""
        ...

    def unstoppable(self) -> AbstractContextManager[None]:
        """A context at whose end this process is stopped, if a terminal wanted that (Ctrl-Z) meanwhile."""
        ...

    def check(self) -> None:
        """Raise InterruptedBySignalError for a signal that was held back."""
        ...


class SignalGate:
    """Installed handlers for SIGNALS; ``restore`` puts the earlier ones back.

    A signal that our parent ignores for us (nohup, a shell's background job) stays ignored.
    """

    held: ClassVar[list[int] | None] = None
    """What came inside ``whole``; None outside of it."""

    def __init__(self) -> None:
        self.pending: int | None = None
        self.is_unstoppable = False
        """Whether a window is open in which the guest may be frozen."""
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

    @contextmanager
    def unstoppable(self) -> Iterator[None]:
        """See Gate."""
        wanted = False

        def later(_number: int, _frame: FrameType | None) -> None:
            nonlocal wanted
            wanted = True

        ignored = signal.getsignal(signal.SIGTSTP) is signal.SIG_IGN
        earlier = signal.signal(signal.SIGTSTP, signal.SIG_IGN if ignored else later)
        self.is_unstoppable = True
        try:
            yield
        finally:
            self.is_unstoppable = False
            signal.signal(signal.SIGTSTP, earlier)
            if wanted:
                os.kill(os.getpid(), signal.SIGTSTP)

    def check(self) -> None:
        """See Gate."""
        if self.pending is not None:
            raise InterruptedBySignalError(self.pending)

    def restore(self) -> None:
        """Put the earlier handlers back."""
        for number, handler in self._earlier.items():
            signal.signal(number, handler)

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        self.pending = number
        if SignalGate.held is not None:
            SignalGate.held.append(number)
        elif self._is_open:
            self._is_open = False
            raise InterruptedBySignalError(number)


@contextmanager
def whole() -> Iterator[None]:
    """Work of a moment that no signal tears apart, though the gate is open: it comes through at the end.

    Such as the start of a process: torn apart, it leaves one that nobody knows of.
    """
    if threading.current_thread() is not threading.main_thread() or SignalGate.held is not None:
        with interruption.minding(None):
            yield
        return
    held: list[int] = []
    SignalGate.held = held
    try:
        yield
    finally:
        SignalGate.held = None
    for number in held:
        signal.raise_signal(number)


class NoGate:
    """For callers that handle no signals: the guard, tests, campaigns."""

    @contextmanager
    def open(self) -> Iterator[None]:
        """See Gate."""
        yield

    @contextmanager
    def unstoppable(self) -> Iterator[None]:
        """See Gate."""
        yield

    def check(self) -> None:
        """See Gate."""
