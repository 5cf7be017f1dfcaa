"""Workers: each does one guest, in a thread of a forked host, with a journal connection and a guard of its own.

The parent has one thread and has imported everything; a fork costs a millisecond, and shares what is there. Up to
MOST_HOSTS guests at once have a host each: one that is killed costs its own guest, which its guard thaws, and the
others go on. More than that share hosts, for memory's sake. A host is in a process group of its own: what a terminal
sends (Ctrl-C, Ctrl-Z) reaches the parent, which passes it on once. A worker whose parent is gone begins no window, and
finishes the one that it is in.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from snapshot.base import interruption
from snapshot.base.host import BROKEN, Calling, Errand, Host, fork
from snapshot.base.procfs import call_process
from snapshot.base.signals import SIGNALS
from snapshot.errors import InterruptedBySignalError
from snapshot.fleet.link import Link, Stage, pair

MOST_HOSTS = 8
"""Processes of one run. Each has some ten megabytes for itself, and each guest in it one more."""

THREADS_SECONDS = 2.0
"""How long the parent waits for a thread of its own (a resolver's, say) before it forks all the same."""


class WorkerGate:
    """See Gate. A worker's signals come by its host; the end of its parent counts as one (HUP) until a window begins:
    what has begun is finished, judged and recorded.

    Python interrupts no thread: where the gate is open a signal comes through at the next wait that minds it
    (base/interruption.py), or at the next opening.
    """

    def __init__(self, link: Link, signals: interruption.Signals) -> None:
        self._link = link
        self._signals = signals
        self._has_begun = False
        self._is_parent_gone = False

    @property
    def pending(self) -> int | None:
        """The signal that has come."""
        return self._signals.pending or (int(signal.SIGHUP) if self._is_parent_gone else None)

    def check(self) -> None:
        """See Gate."""
        if not self._has_begun:
            self._mind_parent()
        self._raise_pending()

    @contextmanager
    def open(self) -> Iterator[None]:
        """See Gate."""
        self.check()
        with interruption.minding(self._signals):
            yield

    @contextmanager
    def unstoppable(self) -> Iterator[None]:
        """See Gate. From here on a guard is armed, and the guest frozen: said before and after, not in between."""
        self._mind_parent()
        self.check()
        self._has_begun = True
        self._link.tell("stage", stage=Stage.WINDOW.value)
        yield
        self._link.tell("stage", stage=Stage.THAWED.value)

    def fenced(self) -> FencedGate:
        """For a member of a group."""
        return FencedGate(self._link, self._signals)

    def _mind_parent(self) -> None:
        self._is_parent_gone = self._is_parent_gone or self._link.is_closed

    def _raise_pending(self) -> None:
        if self.pending is not None:
            raise InterruptedBySignalError(self.pending)


class FencedGate(WorkerGate):
    """A member's of a group. The end of its parent ends the group; a snapshot that goes with it is removed still."""

    def check(self) -> None:
        """See Gate."""
        self._raise_pending()


Do = Callable[[Mapping[str, Any], Link, WorkerGate], None]
"""Does one guest, in the host, by its order: a few values, as JSON has them."""


class GuestWorker:
    """A worker, as its parent holds it."""

    def __init__(self, host: Host, number: int, link: Link) -> None:
        self.host = host
        self.number = number
        self.link = link
        self.status: int | None = None
        """0, BROKEN where it ended without a result, or below 0 the number of the signal that has ended its host."""

    @property
    def pid(self) -> int:
        """As the journal names an owner: with ``start``."""
        return self.host.pid

    @property
    def start(self) -> int:
        """In clock ticks."""
        return self.host.start

    def signal(self, number: int) -> None:
        """Pass a signal on, to all that share its host."""
        if self.status is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)
                os.kill(self.pid, signal.SIGCONT)  # one that is stopped would not hear it

    def reap(self) -> int:
        """Wait for its end, which its closed link has announced."""
        if self.status is None:
            self.link.close()
            self.status = self.host.end_of(self.number)
        return self.status


class Workers:
    """The hosts of one run. ``do`` must not use a connection or a database that the parent has open."""

    def __init__(self, do: Do) -> None:
        self._calling = Calling(lambda errand: _work(do, errand), SIGNALS, ignored=(signal.SIGTSTP,), begin=_begin)
        self._hosts: list[Host] = []
        self._count = 0

    def begin(self, order: Mapping[str, Any]) -> GuestWorker:
        """Start a worker. OSError when the system has no room for one."""
        ours, theirs = pair()
        try:
            self._count += 1
            try:
                host = self._order(order, theirs)
            except ConnectionError:  # it was killed since it was chosen
                host = self._order(order, theirs)
            return GuestWorker(host, self._count, ours)
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()

    def dismiss(self) -> None:
        """No further worker is wanted: each host ends behind its last one, and is waited for."""
        hosts, self._hosts = self._hosts, []
        for host in hosts:
            host.dismiss()
        for host in hosts:
            host.reap()

    def _order(self, order: Mapping[str, Any], link: Link) -> Host:
        host = self._host()
        host.order(self._count, json.dumps(order).encode(), link.fileno())
        return host

    def _host(self) -> Host:
        """One that has nothing to do, else a new one, else the one with the fewest guests."""
        self._hosts = [host for host in self._hosts if not host.has_ended()]
        idlest = min(self._hosts, key=lambda host: host.load, default=None)
        if idlest is not None and (idlest.load == 0 or len(self._hosts) >= MOST_HOSTS):
            return idlest
        made = fork(self._calling)
        with contextlib.suppress(OSError):  # the host does it too: whoever comes first
            os.setpgid(made.pid, made.pid)
        self._hosts.append(made)
        return made


def prepare() -> None:
    """Before the first fork: everything that is there now is never looked through again by a host's collector, which
    would copy the pages that it shares.
    """
    for thread in threading.enumerate():
        if thread is not threading.current_thread():
            thread.join(THREADS_SECONDS)
    gc.collect()
    gc.freeze()


def _begin() -> None:
    os.setpgid(0, 0)
    call_process("safe-snapshot")


def _work(do: Do, errand: Errand) -> int:
    """One worker's whole life."""
    link = Link(socket.socket(fileno=errand.descriptor))
    try:
        do(json.loads(errand.order), link, WorkerGate(link, errand.signals))
    except InterruptedBySignalError:
        return BROKEN
    finally:
        link.close()
        gc.collect()  # by itself it comes so seldom that a host of fifty guests has grown by two thirds
    return 0
