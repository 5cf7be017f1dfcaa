"""The nursery: ``python -I -m snapshot.guard.nursery --socket ADDRESS [--config FILE]``. It forks many windows' guards.

A guard that is started by itself has 26 MB of memory for its own, and takes a third of a second of a processor to get
there. One in a process that is forked from one that has imported and read everything is there in milliseconds, and
shares most of it. The rest is some seven megabytes a process: so up to MOST_HOSTS guards have one each, and more than
that share them, each in a thread of its own (hosted.py). All else is as ever: a session of its own, nothing inherited,
memory that stays, and it outlives the nursery. What systemd does for a guard that is a unit of its own, the nursery
does for its wards: one that fails, or whose process is killed, begins again and takes its window over, and a process in
which one does not move any more is killed for that.

It ends when whoever started it has hung up and the last guard is done. Where it is gone guards are started one by one
again (launcher.py).
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import json
import os
import selectors
import signal
import socket
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from snapshot.base import detached, host, logfmt
from snapshot.base.clock import Clock, SystemClock
from snapshot.base.hardening import harden, open_log
from snapshot.base.host import Calling
from snapshot.base.procfs import ProcessIdentity
from snapshot.base.signals import SIGNALS
from snapshot.config import reading
from snapshot.errors import ApiError, ApiUnreachableError, SafeSnapshotError
from snapshot.guard.__main__ import with_peers
from snapshot.guard.hosted import DONE, LEFT, NOT_BEGUN, RESTART_SECONDS, Guards, Order
from snapshot.guard.wards import Nest, Ward
from snapshot.metrics import exposition
from snapshot.pve.access import Access, open_access
from snapshot.pve.doors import AHEAD_SECONDS

__all__ = ["exposition", "main"]  # the guards' metrics, which they would import otherwise each for itself

MOST_HOSTS = 8
"""How many processes the guards of a run share. Each has some seven megabytes for itself and one for each guard: 50
guards in 8 need a quarter of what 50 processes would. One that is killed takes at most an eighth of the guards along,
for as long as the next one needs to begin."""

LOOK_SECONDS = 0.25

ORDER_SECONDS = 1.0
"""How long one who orders a guard may take to say which."""

THREAD_SECONDS = 1.0
"""How long a thread that has done its work may take to end."""


class Again(NamedTuple):
    """A guard that is to begin once more."""

    due: float
    order: Order
    is_alone: bool
    """In a process of its own, for it has failed by itself: what made it fail shall not end others."""


class Nursery:
    """Forks hosts, orders guards, and watches both. One thread; nothing in its loop waits but for its events."""

    def __init__(self, starter: socket.socket, listener: socket.socket, calling: Calling, clock: Clock) -> None:
        self._calling = calling
        self._clock = clock
        self._log = open_log("vzdump-hooks-guards")
        self._nests: list[Nest] = []
        self._count = 0
        self._to_begin_again: list[Again] = []
        self._is_ending = False
        self._has_starter = True
        self._starter = starter
        self._listener = listener
        self._selector = selectors.DefaultSelector()
        self._on(starter, self._starter_speaks)
        self._on(listener, self._take_order)
        self._bell, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        for number in SIGNALS:
            signal.signal(number, self._on_signal)
        self._on(self._bell, lambda: os.read(self._bell, 64))

    def run(self) -> None:
        """Until nobody can order a guard any more and the last one is done. Hosts end when nobody can order any."""
        while (self._has_starter and not self._is_ending) or self._wards or self._to_begin_again:
            for key, _ in self._selector.select(LOOK_SECONDS):
                key.data()
            self._hear_hosts()
            if self._is_ending:
                self._let_them_thaw()
            self._end_those_that_hang()
            self._begin_again()

    @property
    def _wards(self) -> list[Ward]:
        return [ward for nest in self._nests for ward in nest.wards.values()]

    def _on(self, source: socket.socket | host.Host | int, call: Callable[[], object]) -> None:
        self._selector.register(source, selectors.EVENT_READ, call)

    def _on_signal(self, _number: int, _frame: object) -> None:
        self._is_ending = True

    def _let_them_thaw(self) -> None:
        """TERM makes a guard thaw first; a window that stays open then is recovery's."""
        self._to_begin_again.clear()
        for nest in self._nests:
            if not nest.is_told:
                nest.is_told = True
                os.kill(nest.host.pid, signal.SIGTERM)

    def _starter_speaks(self) -> None:
        with contextlib.suppress(BlockingIOError):
            if self._starter.recv(64) == b"":
                self._selector.unregister(self._starter)
                self._has_starter = False

    def _take_order(self) -> None:
        with contextlib.suppress(BlockingIOError):
            connection, _ = self._listener.accept()
            with connection:
                if detached.peer_uid(connection) != os.geteuid() or self._is_ending:
                    return
                connection.settimeout(ORDER_SECONDS)
                with contextlib.suppress(OSError):
                    connection.sendall(json.dumps(self._answer(connection)).encode() + b"\n")

    def _answer(self, connection: socket.socket) -> dict[str, object]:
        try:
            return {"pid": self._place(Order.parse(detached.read_line(connection)))}
        except (OSError, ValueError, TypeError, KeyError) as error:
            return {"error": str(error)}

    def _place(self, order: Order, *, is_alone: bool = False) -> int:
        """The pid of the process in which a new guard begins. OSError when there is no room for one."""
        now = self._clock.monotonic()
        nest = self._fork() if is_alone else self._nest(now)
        ward = Ward(order, now)
        self._count += 1
        try:
            nest.host.order(self._count, ward.order.to_json())
        except BaseException:
            ward.notify.close()
            raise
        nest.wards[self._count] = ward
        self._on(ward.notify, lambda: ward.hear(self._clock.monotonic()))
        if is_alone:
            nest.retire()
        return nest.host.pid

    def _nest(self, now: float) -> Nest:
        """A process that has nothing to do, else a new one, else the one with the fewest guards."""
        self._hear_hosts()
        usable = [nest for nest in self._nests if nest.takes_more]
        best = min(usable, key=lambda nest: nest.burden(now), default=None)
        if best is not None and (len(usable) >= MOST_HOSTS or not best.wards):
            return best
        try:
            return self._fork()
        except OSError:
            if best is None:
                raise
            return best

    def _fork(self) -> Nest:
        nest = Nest(host.fork(self._calling))
        self._nests.append(nest)
        self._on(nest.host, lambda: None)  # heard in each round, and before one of them is chosen
        return nest

    def _hear_hosts(self) -> None:
        for nest in list(self._nests):
            ended: dict[int, int] = {}
            with contextlib.suppress(EOFError):
                ended = nest.host.ended()
            for number, status in ended.items():
                if status in (LEFT, NOT_BEGUN):
                    nest.retire()
                self._ward_ended(nest, number, status, by_itself=True)
            if nest.host.status is not None:  # it has ended, and its descriptor is closed
                self._nests.remove(nest)
                self._selector.unregister(nest.host)
                for number in list(nest.wards):
                    self._ward_ended(nest, number, nest.host.status, by_itself=False)

    def _ward_ended(self, nest: Nest, number: int, status: int | None, *, by_itself: bool) -> None:
        ward = nest.wards.pop(number)
        self._selector.unregister(ward.notify)
        ward.notify.close()
        if self._is_ending or (by_itself and status in (DONE, LEFT)):
            return
        is_alone, due = by_itself or ward.has_hung, self._clock.monotonic()
        if by_itself and status == NOT_BEGUN:
            is_alone = False
        else:
            self._log.warning("%s", logfmt.line("guard-ended", **ward.order.spec.log_keys, status=status))
            due += RESTART_SECONDS
        self._to_begin_again.append(Again(due, ward.order, is_alone))

    def _end_those_that_hang(self) -> None:
        now = self._clock.monotonic()
        for nest in self._nests:
            hanging = nest.hanging(now)
            if hanging:
                for ward in hanging:
                    ward.has_hung, ward.heard_at = True, now
                os.kill(nest.host.pid, signal.SIGKILL)

    def _begin_again(self) -> None:
        now = self._clock.monotonic()
        due = [again for again in self._to_begin_again if again.due <= now]
        self._to_begin_again = [again for again in self._to_begin_again if again.due > now]
        for again in due:
            try:
                self._place(again.order, is_alone=again.is_alone)
            except OSError:
                self._to_begin_again.append(again._replace(due=now + RESTART_SECONDS))


def main(argv: Sequence[str] | None = None) -> int:
    """Fork guards until nobody needs one; 1 when it cannot."""
    parser = argparse.ArgumentParser(prog="vzdump-hooks-guards", description="internal: forks many windows' guards")
    parser.add_argument("--socket", required=True)
    parser.add_argument("--config", type=Path)
    parser.add_argument("--peer", action="append", default=[])
    options = parser.parse_args(argv)
    starter = detached.connect(options.socket)
    if starter is None:
        return 1
    clock = SystemClock()
    try:
        config = with_peers(reading.load(options.config), options.peer)
        access = open_access(config, clock)
        _rehearse(access)
        listener = detached.listen(address := detached.new_address("guards"))
    except (SafeSnapshotError, OSError) as error:
        _say(starter, {"op": "failed", "error": str(error)})
        return 1
    harden("fsfreeze-nurse")
    starter.setblocking(False)
    listener.setblocking(False)
    nursery = Nursery(starter, listener, Guards(config, access, ProcessIdentity.own().pid).calling, clock)
    gc.collect()
    gc.freeze()  # no guard's collector looks through, and so copies, what all share
    _say(starter, {"op": "ready", "address": address})
    nursery.run()
    return 0


def _rehearse(access: Access) -> None:
    """One request, as each guard makes it ahead: what it imports, and Python writes to its own code, all share then.

    ApiUnreachableError while the token cannot be read, or the host's name is looked up: a thread is not to be forked.
    """
    if access.api is not None:
        if access.credentials is not None:
            access.credentials.wait()
        with contextlib.suppress(ApiError):
            access.api.request("GET", "version", timeout_seconds=AHEAD_SECONDS)
        access.close()
    for thread in threading.enumerate():
        if thread is not threading.current_thread():
            thread.join(THREAD_SECONDS)
            if thread.is_alive():
                raise ApiUnreachableError(f"{access.config.api.host} is not resolved in time")


def _say(starter: socket.socket, message: dict[str, object]) -> None:
    with contextlib.suppress(OSError):
        starter.send(json.dumps(message).encode() + b"\n")


if __name__ == "__main__":
    sys.exit(main())
