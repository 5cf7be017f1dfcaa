"""A host: a forked process that is sent on errands. Each is run in a thread of its own.

A process for each of many errands has its own copy of whatever Python counts references to, some ten megabytes; a
thread has a tenth of that. What the errands share is the end of their process: what must not end together does not run
together. Python hands signals to the main thread alone, so that one does nothing else: it takes orders, and tells every
errand of a signal. Nothing interrupts a thread: whoever waits there minds its ``Signals`` too (interruption.py).
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import selectors
import signal
import socket
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from snapshot.base.interruption import Signals
from snapshot.base.procfs import process_start
from snapshot.base.threads import STACK_BYTES, start_thread

MOST_BYTES = 1 << 20
"""Of an order: what a guard is armed with, or a guest's number and what is known of its cluster."""

_MOST_DESCRIPTORS = 1 << 20
_M_ARENA_MAX = -8
"""mallopt(3); in malloc.h alone."""

BROKEN = 70
"""The status of an order that ended with an exception (sysexits(3), EX_SOFTWARE)."""


class Errand(NamedTuple):
    """One order, as its thread has it."""

    order: bytes
    descriptor: int
    """What came with it, and is this thread's now; -1 when nothing did."""
    signals: Signals


Work = Callable[[Errand], int]
"""Carries an order out; its status, 0 when all is well."""


class Calling(NamedTuple):
    """What a host is for."""

    work: Work
    signals: Sequence[int]
    """Those that it passes on to its errands."""
    ignored: Sequence[int] = ()
    """Those that do nothing."""
    begin: Callable[[], None] = lambda: None
    """Called first, in the host."""


class Host:
    """A host, as whoever forked it holds it."""

    def __init__(self, pid: int, control: socket.socket) -> None:
        self.pid = pid
        self.start = process_start(pid) or 0
        """As the journal names a process: with its pid."""
        self.status: int | None = None
        """As os.waitstatus_to_exitcode has it, once it has ended: below 0 a signal's number."""
        self.load = 0
        """How many orders have not ended, as far as is known."""
        self._control = control
        self._ends: dict[int, int] = {}

    def fileno(self) -> int:
        """For a selector: readable when an order has ended, or the host has."""
        return self._control.fileno()

    def order(self, number: int, order: bytes, descriptor: int = -1) -> None:
        """Give it one more order. ``number`` names it at its end. OSError when the host is gone."""
        socket.send_fds(self._control, [number.to_bytes(8, "big") + order], [descriptor] if descriptor >= 0 else [])
        self.load += 1

    def ended(self) -> dict[int, int]:
        """Orders that have ended and were not asked for, with their status. EOFError at the host's own end."""
        while self._hears(waits=False):
            pass
        if not self._ends and self.status is not None:
            raise EOFError
        found, self._ends = self._ends, {}
        return found

    def end_of(self, number: int) -> int:
        """Wait for the end of an order: its status, or the host's where that has ended first."""
        while number not in self._ends and self._hears(waits=True):
            pass
        return self._ends.pop(number) if number in self._ends else self.reap()

    def has_ended(self) -> bool:
        """Whether it has."""
        while self._hears(waits=False):
            pass
        return self.status is not None

    def reap(self) -> int:
        """Wait for its end, which has been announced."""
        if self.status is None:
            self._control.close()
            self.status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return self.status

    def dismiss(self) -> None:
        """No order will follow: it ends behind its last one."""
        with contextlib.suppress(OSError):
            self._control.shutdown(socket.SHUT_WR)

    def _hears(self, *, waits: bool) -> bool:
        """Whether another word of it was there. At its end it is reaped."""
        if self.status is not None:
            return False
        try:
            data = self._control.recv(64, 0 if waits else socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        except ConnectionResetError:  # it ended with an order unread
            data = b""
        if not data:
            self.reap()
            return False
        self.load -= 1
        self._ends[int.from_bytes(data[:8], "big")] = data[8]
        return True


def fork(calling: Calling) -> Host:
    """Fork a host. OSError when the system has no room for one.

    Nothing is inherited but memory: what its parent has open is closed there, and must not be used.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, MOST_BYTES)  # else a long order would not go in one piece
    # From before the fork until the host can handle them: one that comes in between is not lost.
    earlier = signal.pthread_sigmask(signal.SIG_BLOCK, (*calling.signals, *calling.ignored))
    try:
        pid = os.fork()
        if pid == 0:
            _be(calling, theirs, earlier)
        return Host(pid, ours)
    except BaseException:
        ours.close()
        raise
    finally:
        theirs.close()
        signal.pthread_sigmask(signal.SIG_SETMASK, earlier)


def _be(calling: Calling, control: socket.socket, mask: Iterable[int]) -> None:
    """The host's whole life. Never returns."""
    status = BROKEN
    try:
        signal.set_wakeup_fd(-1)
        os.closerange(3, control.fileno())
        os.closerange(control.fileno() + 1, _MOST_DESCRIPTORS)
        _leave_the_terminal()
        _expect_threads()
        calling.begin()
        running = _Running(calling.work, control)
        for number in calling.ignored:
            signal.signal(number, lambda *_: None)
        for number in calling.signals:
            signal.signal(number, running.tell)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        running.run()
        status = 0
    finally:
        os._exit(status)


class _Running:
    """The host's own side: one thread for orders and signals, and one an errand."""

    def __init__(self, work: Work, control: socket.socket) -> None:
        self._work = work
        self._control = control
        self._errands: dict[int, Signals] = {}
        self._told: int | None = None
        self._over = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        """Written to by each thread at its end."""
        self._done: list[tuple[int, int]] = []
        self._bell, self._rings = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        """Written to at each signal: where another thread is the one that it interrupts, it wakes this one."""

    def tell(self, number: int, _frame: object = None) -> None:
        """A signal has come: every errand hears it, and those to come do too."""
        self._told = self._told or number
        for signals in list(self._errands.values()):
            signals.tell(number)

    def run(self) -> None:
        """Take orders until nobody can give one any more and the last has ended."""
        takes_orders = True
        signal.set_wakeup_fd(self._rings, warn_on_full_buffer=False)
        with selectors.DefaultSelector() as selector:
            selector.register(self._bell, selectors.EVENT_READ)
            selector.register(self._control, selectors.EVENT_READ)
            selector.register(self._over, selectors.EVENT_READ)
            while takes_orders or self._errands:
                for key, _ in selector.select():
                    if key.fd == self._bell:
                        os.read(self._bell, 64)
                    if key.fileobj is self._control and not self._take_order():
                        takes_orders = False
                        selector.unregister(self._control)
                self._clear()

    def _take_order(self) -> bool:
        """Whether another one may follow."""
        try:
            data, descriptors, _, _ = socket.recv_fds(self._control, MOST_BYTES, 1)
        except OSError:
            return False
        if not data:
            return False
        number = int.from_bytes(data[:8], "big")
        try:
            signals = self._errands[number] = Signals()
            if self._told is not None:
                signals.tell(self._told)
            errand = Errand(data[8:], descriptors[0] if descriptors else -1, signals)
            start_thread(f"errand-{number}", lambda: self._go(number, errand))
        except (OSError, RuntimeError):  # no room for a descriptor, or for a thread
            for descriptor in descriptors:  # whoever is at its other end sees the end
                os.close(descriptor)
            self._end(number, BROKEN)
        return True

    def _go(self, number: int, errand: Errand) -> None:
        status = BROKEN
        try:
            status = self._work(errand)
        finally:
            self._end(number, status)

    def _end(self, number: int, status: int) -> None:
        self._done.append((number, status))
        os.eventfd_write(self._over, 1)

    def _clear(self) -> None:
        """Forget those that have ended, and say so."""
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._over)
        while self._done:
            number, status = self._done.pop(0)
            signals = self._errands.pop(number, None)
            if signals is not None:
                signals.close()
            with contextlib.suppress(OSError):
                self._control.send(number.to_bytes(8, "big") + bytes([status]))


def _expect_threads() -> None:
    """Small stacks for good: a size that whoever starts a thread sets, and sets back, is another one's for a moment.

    And one heap for all (mallopt(3)): one for each thread costs megabytes, and Python lets one at a time allocate.
    """
    threading.stack_size(STACK_BYTES)
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 1)


def _leave_the_terminal() -> None:
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nowhere, descriptor)
    os.close(nowhere)
