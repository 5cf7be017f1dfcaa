"""The nursery: ``python -I -m snapshot.guard.nursery --socket ADDRESS [--config FILE]``. It forks many windows' guards.

A guard that is started by itself has 26 MB of memory for its own, and takes a third of a second of a processor to get
there. One that is forked from a process that has imported and read everything is there in milliseconds, and shares most
of it. All else is as ever: a process and a session of its own, nothing inherited, memory that stays, and it outlives
the nursery. What systemd does for a guard that is a unit of its own, the nursery does for its wards: one that is killed
or fails is forked again and takes its window over, and one that does not move any more is killed for that.

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
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from snapshot.base import detached, logfmt
from snapshot.base.clock import Clock, SystemClock
from snapshot.base.hardening import harden, open_log
from snapshot.config import reading
from snapshot.errors import ApiError, SafeSnapshotError
from snapshot.guard.__main__ import Moves, Ready, guard, with_peers
from snapshot.guard.link import GuardSpec
from snapshot.metrics import exposition
from snapshot.pve.access import Access, open_access
from snapshot.pve.doors import AHEAD_SECONDS

__all__ = ["exposition", "main"]  # the guards' metrics, which they would import otherwise each for itself

LOOK_SECONDS = 0.25
RESTART_SECONDS = 0.5
"""As RestartSec of a guard's unit."""

ORDER_SECONDS = 1.0
"""How long one who orders a guard may take to say which."""

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)
_MOST_DESCRIPTORS = 1 << 20


class Order(NamedTuple):
    """Which guard is wanted: its window, and where its owner listens."""

    spec: GuardSpec
    address: str

    @classmethod
    def parse(cls, line: bytes) -> Order:
        """From what ``launcher.Preloaded`` sends. ValueError, TypeError or KeyError for anything else."""
        values = json.loads(line)
        return cls(GuardSpec.from_json(values["spec"]), str(values["address"]))


class Ward:
    """A guard that lives, and what is heard of it."""

    def __init__(self, pid: int, order: Order, notify: socket.socket, now: float) -> None:
        self.pid = pid
        self.order = order
        self.notify = notify
        self.heard_at = now
        self.limit_seconds = float("inf")
        """From its first word on: one that is slow to start does not hang."""

    def hear(self, now: float) -> None:
        """Read what it has said (sd_notify(3))."""
        with contextlib.suppress(BlockingIOError):
            while words := self.notify.recv(256):
                self.heard_at = now
                for word in words.split(b"\n"):
                    name, _, value = word.partition(b"=")
                    if name == b"WATCHDOG_USEC" and value.isdigit():
                        self.limit_seconds = int(value) / 1e6


class Nursery:
    """Forks guards, and watches them. One thread; nothing in its loop waits but for its events."""

    def __init__(self, starter: socket.socket, listener: socket.socket, ready: Ready, clock: Clock) -> None:
        self._ready = ready
        self._clock = clock
        self._log = open_log("vzdump-hooks-guards")
        self._wards: dict[int, Ward] = {}
        self._to_fork_again: list[tuple[float, Order]] = []
        self._is_ending = False
        self._has_starter = True
        self._starter = starter
        self._listener = listener
        self._selector = selectors.DefaultSelector()
        self._on(starter, self._starter_speaks)
        self._on(listener, self._take_order)
        self._bell, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        for number in _SIGNALS:
            signal.signal(number, self._on_signal)
        self._on(self._bell, lambda: os.read(self._bell, 64))

    def run(self) -> None:
        """Until nobody can order a guard any more and the last one is done."""
        while (self._has_starter and not self._is_ending) or self._wards or self._to_fork_again:
            for key, _ in self._selector.select(LOOK_SECONDS):
                key.data()
            self._bury()
            self._end_those_that_hang()
            self._fork_again()

    def _on(self, source: socket.socket | int, call: Callable[[], object]) -> None:
        self._selector.register(source, selectors.EVENT_READ, call)

    def _on_signal(self, number: int, _frame: object) -> None:
        """TERM makes a guard thaw first; a window that stays open then is recovery's."""
        if number == signal.SIGCHLD or self._is_ending:
            return
        self._is_ending = True
        self._to_fork_again.clear()
        for pid in self._wards:
            os.kill(pid, signal.SIGTERM)

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
            return {"pid": self._fork(Order.parse(detached.read_line(connection)))}
        except (OSError, ValueError, TypeError, KeyError) as error:
            return {"error": str(error)}

    def _fork(self, order: Order) -> int:
        """The pid of a new guard. OSError when there is no room for one."""
        address = f"@{detached.new_address('notify')}"
        notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        notify.bind("\0" + address[1:])
        held = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        try:
            pid = os.fork()
            if pid == 0:
                self._be_guard(order, address, held)
        except OSError:
            notify.close()
            raise
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, held)
        ward = self._wards[pid] = Ward(pid, order, notify, self._clock.monotonic())
        self._on(notify, lambda: ward.hear(self._clock.monotonic()))
        return pid

    def _be_guard(self, order: Order, notify: str, mask: Iterable[int]) -> None:
        """The guard's whole life. Never returns."""
        status = 1
        try:
            os.setsid()
            signal.set_wakeup_fd(-1)
            for number in _SIGNALS:
                signal.signal(number, signal.SIG_DFL)
            os.closerange(3, _MOST_DESCRIPTORS)
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            status = guard(order.spec, order.address, notify=notify, ready=self._ready)
        finally:
            os._exit(status)

    def _bury(self) -> None:
        for pid in list(self._wards):
            found, status = os.waitpid(pid, os.WNOHANG)
            if not found:
                continue
            ward = self._wards.pop(pid)
            self._selector.unregister(ward.notify)
            ward.notify.close()
            if status != 0 and not self._is_ending:
                how = os.waitstatus_to_exitcode(status)
                self._log.warning("%s", logfmt.line("guard-ended", **ward.order.spec.log_keys, status=how))
                self._to_fork_again.append((self._clock.monotonic() + RESTART_SECONDS, ward.order))

    def _end_those_that_hang(self) -> None:
        now = self._clock.monotonic()
        for ward in self._wards.values():
            if now - ward.heard_at > ward.limit_seconds:
                os.kill(ward.pid, signal.SIGKILL)
                ward.heard_at = now

    def _fork_again(self) -> None:
        now = self._clock.monotonic()
        due = [order for at, order in self._to_fork_again if at <= now]
        self._to_fork_again = [entry for entry in self._to_fork_again if entry[0] > now]
        for order in due:
            try:
                self._fork(order)
            except OSError:
                self._to_fork_again.append((now + RESTART_SECONDS, order))


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
    clock, moves = SystemClock(), Moves()
    try:
        config = with_peers(reading.load(options.config), options.peer)
        access = open_access(config, clock, moves=moves)
        _rehearse(access)
        listener = detached.listen(address := detached.new_address("guards"))
    except (SafeSnapshotError, OSError) as error:
        _say(starter, {"op": "failed", "error": str(error)})
        return 1
    harden("fsfreeze-nurse")
    starter.setblocking(False)
    listener.setblocking(False)
    nursery = Nursery(starter, listener, Ready(config, access, moves), clock)
    gc.collect()
    gc.freeze()  # no guard's collector looks through, and so copies, what all share
    _say(starter, {"op": "ready", "address": address})
    nursery.run()
    return 0


def _rehearse(access: Access) -> None:
    """One request, as each guard makes it ahead: what it imports, and Python writes to its own code, all share then.

    ApiUnreachableError while the token cannot be read: a thread that reads is not to be forked.
    """
    if access.api is None:
        return
    if access.credentials is not None:
        access.credentials.wait()
    with contextlib.suppress(ApiError):
        access.api.request("GET", "version", timeout_seconds=AHEAD_SECONDS)
    access.api.close()


def _say(starter: socket.socket, message: dict[str, object]) -> None:
    with contextlib.suppress(OSError):
        starter.send(json.dumps(message).encode() + b"\n")


if __name__ == "__main__":
    sys.exit(main())
