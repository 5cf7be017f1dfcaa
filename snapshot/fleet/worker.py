"""A worker: a forked process that does one guest, with signals, a guard and a journal connection of its own.

The parent has one thread and has imported everything; a fork costs a millisecond and hardly any memory. A worker is in
a process group of its own: what a terminal sends (Ctrl-C, Ctrl-Z) reaches the parent, which passes it on once. A worker
that is killed costs its own guest: the guard thaws it, and the others go on. One whose parent is gone begins no window,
and finishes the one that it is in.
"""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from snapshot.base.procfs import call_process, process_start
from snapshot.base.signals import SIGNALS, SignalGate
from snapshot.errors import InterruptedBySignalError
from snapshot.fleet.link import Link, Stage, pair

HELD_BACK = (*SIGNALS, signal.SIGTSTP)
"""From before the fork until the worker can handle them: one that comes in between is not lost."""

THREADS_SECONDS = 2.0
"""How long the parent waits for a thread of its own (a resolver's, say) before it forks all the same."""

_ENDS: weakref.WeakSet[Link] = weakref.WeakSet()
"""The parent's ends of its workers' links: a later worker that kept one open would hide the parent's death."""

BROKEN = 70
"""The exit status of a worker that ends without a result though nobody killed it (sysexits(3), EX_SOFTWARE)."""


class WorkerGate(SignalGate):
    """A worker's signals. The end of its parent counts as one (HUP) until a window begins: what has begun is finished,
    judged and recorded.
    """

    def __init__(self, link: Link) -> None:
        super().__init__()
        self._link = link
        self._has_begun = False

    def check(self) -> None:
        """See Gate."""
        if not self._has_begun:
            self._mind_parent()
        super().check()

    @contextmanager
    def unstoppable(self) -> Iterator[None]:
        """See Gate. From here on a guard is armed, and the guest frozen: said before and after, not in between."""
        self._mind_parent()
        self.check()
        self._has_begun = True
        self._link.tell("stage", stage=Stage.WINDOW.value)
        with super().unstoppable():
            yield
        self._link.tell("stage", stage=Stage.THAWED.value)

    def _mind_parent(self) -> None:
        if self.pending is None and self._link.is_closed:
            self.pending = int(signal.SIGHUP)


class FencedGate(WorkerGate):
    """A member's of a group. The end of its parent ends the group; a snapshot that goes with it is removed still."""

    def check(self) -> None:
        """See Gate."""
        SignalGate.check(self)


class GuestWorker:
    """A worker, as its parent holds it."""

    def __init__(self, pid: int, link: Link) -> None:
        self.pid = pid
        self.start = process_start(pid) or 0
        """As the journal names an owner: with its pid."""
        self.link = link
        self.status: int | None = None
        """As os.waitstatus_to_exitcode has it, once it has ended: below 0 a signal's number."""

    def signal(self, number: int) -> None:
        """Pass a signal on."""
        if self.status is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)
                os.kill(self.pid, signal.SIGCONT)  # one that is stopped would not hear it

    def reap(self) -> int:
        """Wait for its end, which its closed link has announced."""
        if self.status is None:
            self.link.close()
            self.status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return self.status


def prepare() -> None:
    """Before the first fork: everything that is there now is never looked through again by a worker's collector, which
    would copy the pages that it shares.
    """
    for thread in threading.enumerate():
        if thread is not threading.current_thread():
            thread.join(THREADS_SECONDS)
    gc.collect()
    gc.freeze()


def fork(work: Callable[[Link, WorkerGate], None]) -> GuestWorker:
    """Start a worker that does ``work``. OSError when the system has no room for one.

    ``work`` must not use a connection or a database that its parent has open.
    """
    ours, theirs = pair()
    _ENDS.add(ours)
    earlier = signal.pthread_sigmask(signal.SIG_BLOCK, HELD_BACK)
    try:
        try:
            pid = os.fork()
        except OSError:
            ours.close()
            raise
        if pid == 0:
            _be(work, theirs, earlier)
        theirs.close()
        with contextlib.suppress(OSError):  # the worker does it too: whoever comes first
            os.setpgid(pid, pid)
        return GuestWorker(pid, ours)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, earlier)


def _be(work: Callable[[Link, WorkerGate], None], link: Link, mask: set[int | signal.Signals]) -> None:
    """The worker's whole life. Never returns."""
    status = BROKEN
    try:
        os.setpgid(0, 0)
        signal.set_wakeup_fd(-1)
        for end in _ENDS:
            end.close()
        _take_leave_of_the_terminal()
        call_process("safe-snapshot")
        gate = WorkerGate(link)
        signal.signal(signal.SIGTSTP, lambda *_: None)  # our parent waits for us before it stops
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        with contextlib.suppress(InterruptedBySignalError):
            work(link, gate)
            status = 0
    except BaseException:  # noqa: BLE001 - nobody is above us; the parent says how we ended
        status = BROKEN
    finally:
        os._exit(status)


def _take_leave_of_the_terminal() -> None:
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nowhere, descriptor)
    os.close(nowhere)
