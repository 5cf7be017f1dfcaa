"""A scripted guest: an agent and a monitor on real unix sockets, without QEMU.

It starts in about a millisecond and can be told to misbehave. What it answers is AgentModel's and ScriptedMonitor's
business; here are the sockets, the thread and the clock.

As a process: ``python -m tests.lab.guest.scripted --vmid 100 --run DIR``, until SIGTERM.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import functools
import heapq
import itertools
import json
import os
import selectors
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from tests.lab.guest.agentfacts import LINUX, WINDOWS, GuestFacts
from tests.lab.guest.agentmodel import AgentModel, Faults
from tests.lab.guest.base import KNOBS, Filesystem, Guest, HookLog, write_pid_file
from tests.lab.guest.qmp import QmpError
from tests.lab.guest.scriptedqmp import GREETING, QmpFaults, ScriptedMonitor, read_disk

FLAVOURS = {"linux": LINUX, "windows": WINDOWS}
# As QEMU's own sockets: one client is served, one more waits, one more may connect.
_BACKLOG = 1
_Handler = Callable[[], None]


class ScriptedGuest(Guest):
    """A guest that is a thread. Times are seconds; the guest's clock starts at 0 with ``start``.

    ``faults`` and ``qmp_faults`` say what goes wrong; change them inside ``with guest.held() as (model, now):`` when
    the guest is busy, freely when it is not. ``uuid`` and other arguments of RealGuest do not exist here.
    """

    def __init__(
        self,
        vmid: int,
        run: Path,
        *,
        fs: Filesystem = "ext4",
        mounts: int = 1,
        facts: GuestFacts = LINUX,
        faults: Faults | None = None,
        qmp_faults: QmpFaults | None = None,
        hook: bool = True,
        agent: bool = True,
    ) -> None:
        super().__init__(vmid, run, fs)
        self.faults = faults or Faults()
        self.qmp_faults = qmp_faults or QmpFaults()
        self.mounts = mounts
        self._facts = facts
        self._hook = hook
        self._agent = agent
        self._loop: _Loop | None = None

    @property
    def running(self) -> bool:
        return self._loop is not None and self._loop.is_alive()

    def start(self) -> None:
        if self.running:
            raise RuntimeError(f"guest {self.vmid} is running")
        self.run.mkdir(parents=True, exist_ok=True)
        model = AgentModel(
            mounts=self.mounts, facts=self._facts, faults=self.faults, hook=self._hook, epoch=time.time()
        )
        if not self._agent:
            model.kill_agent(0.0)
        monitor = ScriptedMonitor(model, self.disk, self.fs, self.drive_node, f"lab-{self.vmid}")
        monitor.faults = self.qmp_faults
        monitor.write_disk()
        self._loop = _Loop(model, monitor, self.agent_socket, self._monitors())
        self._loop.start()
        write_pid_file(self.pid_file)

    def start_again(self) -> None:
        """Start after ``stop`` with the disk as it was left."""
        kept = read_disk(self.disk)
        self.start()
        with self.held():
            if self._loop is not None and kept is not None:
                self._loop.monitor.keep(kept["snapshots"])

    def stop(self) -> None:
        if self._loop is not None:
            self._loop.end()
        self.pid_file.unlink(missing_ok=True)

    def wait(self) -> None:
        """Wait until the guest ends (QMP quit, or ``stop`` in another thread)."""
        if self._loop is not None:
            self._loop.join()

    @contextlib.contextmanager
    def held(self) -> Iterator[tuple[AgentModel, float]]:
        """The guest's model and its time, while the guest stands still; it goes on with what was changed."""
        if self._loop is None or not self.running:
            raise ConnectionError(f"guest {self.vmid} is not running")
        with self._loop.held() as now:
            yield self._loop.model, now

    def reset(self) -> None:
        with self.held() as (model, now):
            model.reset(now)

    def pause(self) -> None:
        with self.held() as (model, now):
            model.pause(now)

    def resume(self) -> None:
        with self.held() as (model, now):
            model.resume(now)

    def suspend_qemu(self) -> None:
        with self.held() as (model, now):
            model.suspend_qemu(now)

    def continue_qemu(self) -> None:
        with self.held() as (model, now):
            model.continue_qemu(now)

    def is_frozen(self) -> bool:
        with self.held() as (model, now):
            model.run_until(now)
            return model.frozen

    def hook_log(self) -> HookLog:
        with self.held() as (model, now):
            model.run_until(now)
            return list(model.hook_log)

    def counter(self) -> int:
        with self.held() as (model, now):
            return model.counter(now)

    def set_knob(self, name: str, value: float) -> None:
        if name not in KNOBS:
            raise ValueError(f"no such knob: {name}; there are: {', '.join(KNOBS)}")
        with self.held():
            setattr(self.faults, name, value)

    def stop_agent(self) -> None:
        with self.held() as (model, now):
            model.stop_agent(now)

    def continue_agent(self) -> None:
        with self.held() as (model, now):
            model.continue_agent(now)

    def kill_agent(self) -> None:
        with self.held() as (model, now):
            model.kill_agent(now)

    def start_agent(self, *, keep_state: bool = True) -> None:
        with self.held() as (model, now):
            model.start_agent(now, keep_state=keep_state)

    def freeze_from_inside(self) -> None:
        with self.held() as (model, now):
            model.freeze_from_inside(now)

    def thaw_from_inside(self) -> None:
        with self.held() as (model, now):
            model.thaw_from_inside(now)

    def _monitors(self) -> tuple[Path, ...]:
        return (self.qmp_api, self.qmp_driver, self.qmp_tests, self.qmp_own)


class _Port:
    """A listening socket that serves one client at a time."""

    def __init__(self, path: Path, selector: selectors.BaseSelector) -> None:
        path.unlink(missing_ok=True)
        self.client: socket.socket | None = None
        self._selector = selector
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen(_BACKLOG)
        self._listener.setblocking(False)
        self._watch()

    def _watch(self) -> None:
        self._selector.register(self._listener, selectors.EVENT_READ, self._accept)

    def _accept(self) -> None:
        with contextlib.suppress(BlockingIOError):
            client, _ = self._listener.accept()
            client.setblocking(False)
            self.client = client
            self._selector.unregister(self._listener)
            self._selector.register(client, selectors.EVENT_READ, self._readable)
            self.on_connect()

    def _readable(self) -> None:
        assert self.client is not None
        try:
            data = self.client.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if data:
            self.on_data(data)
        else:
            self.drop()

    def drop(self) -> None:
        """Part with the client and take the next."""
        if self.client is not None:
            self._selector.unregister(self.client)
            self.client.close()
            self.client = None
            self.on_disconnect()
            self._watch()

    def send(self, data: bytes) -> None:
        """Best effort: a client that left loses its answer, as with QEMU."""
        if self.client is not None:
            with contextlib.suppress(OSError):
                self.client.sendall(data)

    def close(self) -> None:
        if self.client is not None:
            self.client.close()
        self._listener.close()

    def on_connect(self) -> None:
        """A client is served from now on."""

    def on_disconnect(self) -> None:
        """The client has left."""

    def on_data(self, data: bytes) -> None:
        """Bytes from the client."""


class _AgentPort(_Port):
    def __init__(self, loop: _Loop, path: Path) -> None:
        self._loop = loop
        super().__init__(path, loop.selector)

    def on_connect(self) -> None:
        self._token = object()
        self._loop.model.connect(self._token, self._loop.now())

    def on_disconnect(self) -> None:
        self._loop.model.disconnect(self._token, self._loop.now())

    def on_data(self, data: bytes) -> None:
        self._loop.model.receive(self._token, data, self._loop.now())

    def deliver(self, to: object, data: bytes) -> None:
        if self.client is not None and to is self._token:
            self.send(data)


class _QmpPort(_Port):
    def __init__(self, loop: _Loop, path: Path) -> None:
        self._loop = loop
        self._buffer = b""
        super().__init__(path, loop.selector)

    def on_connect(self) -> None:
        self._buffer = b""
        self.tell(GREETING)

    def on_data(self, data: bytes) -> None:
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        for line in filter(None, (line.strip() for line in lines)):
            request = json.loads(line)
            delay = self._loop.monitor.faults.delay.get(request.get("execute"), 0.0)
            if delay:
                self._loop.later(delay, functools.partial(self._execute, request))
            else:
                self._execute(request)

    def _execute(self, request: Mapping[str, Any]) -> None:
        try:
            value = self._loop.monitor.execute(request["execute"], request.get("arguments", {}), self._loop.now())
            reply: dict[str, Any] = {"return": value}
        except QmpError as error:
            reply = {"error": {"class": error.class_, "desc": error.desc}}
        if "id" in request:
            reply["id"] = request["id"]
        self.tell(reply)

    def tell(self, message: Mapping[str, Any]) -> None:
        self.send(json.dumps(message).encode() + b"\r\n")


class _Loop(threading.Thread):
    """The guest's thread: sockets, timers, the model's own events."""

    def __init__(self, model: AgentModel, monitor: ScriptedMonitor, agent: Path, monitors: tuple[Path, ...]) -> None:
        super().__init__(name=f"scripted {agent.name}", daemon=True)
        self.model = model
        self.monitor = monitor
        self.selector = selectors.DefaultSelector()
        self._lock = threading.Lock()
        self._ending = False
        self._born = time.monotonic()
        self._timers: list[tuple[float, int, _Handler]] = []
        self._order = itertools.count()
        self._bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self.selector.register(self._bell, selectors.EVENT_READ, self._hush)
        self._agent_port = _AgentPort(self, agent)
        self._qmp_ports = [_QmpPort(self, path) for path in monitors]

    def now(self) -> float:
        return time.monotonic() - self._born

    def later(self, seconds: float, handler: _Handler) -> None:
        heapq.heappush(self._timers, (self.now() + seconds, next(self._order), handler))

    @contextlib.contextmanager
    def held(self) -> Iterator[float]:
        with self._lock:
            # What clients did before this call counts as done before it: above all, that they have left.
            while ready := self.selector.select(0):
                self._serve(ready)
            yield self.now()
            # What was set in motion is sent before the caller looks at it from outside.
            self._flush()
            self._ring()

    def end(self) -> None:
        with self._lock:
            self._ending = True
            self._ring()
        self.join()
        # Only here: the thread may end by itself, and a later ring must not reach a reused descriptor.
        with self._lock:
            if self._bell >= 0:
                os.close(self._bell)
                self._bell = -1

    def _hush(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._bell)

    def _ring(self) -> None:
        if self._bell >= 0:
            os.eventfd_write(self._bell, 1)

    def run(self) -> None:
        try:
            while not self._ending and self.monitor.status != "shutdown":
                with self._lock:
                    timeout = self._timeout()
                ready = self.selector.select(timeout)
                with self._lock:
                    self._serve(ready)
                    while self._timers and self._timers[0][0] <= self.now():
                        heapq.heappop(self._timers)[2]()
                    self._flush()
        finally:
            for port in (self._agent_port, *self._qmp_ports):
                port.close()
            self.selector.close()

    def _serve(self, ready: list[tuple[selectors.SelectorKey, int]]) -> None:
        for key, _ in ready:
            # A handler before this one, or ``held`` in another thread, may have closed the socket meanwhile.
            if self.selector.get_map().get(key.fd) is key:
                key.data()

    def _timeout(self) -> float | None:
        instants = [self.model.next_at(), self.monitor.next_at(), self._timers[0][0] if self._timers else None]
        due = [instant for instant in instants if instant is not None]
        return max(0.0, min(due) - self.now()) if due else None

    def _flush(self) -> None:
        now = self.now()
        self.monitor.advance(now)
        for to, data in self.model.advance(now):
            self._agent_port.deliver(to, data)
        events, self.monitor.events = self.monitor.events, []
        wall = time.time()
        stamp = {"seconds": int(wall), "microseconds": int(wall % 1 * 1e6)}
        for event in events:
            for port in self._qmp_ports:
                port.tell({"timestamp": stamp, **event})


def main() -> None:
    """Serve one guest until SIGTERM, SIGINT or QMP quit."""
    parser = argparse.ArgumentParser(prog="python -m tests.lab.guest.scripted", description=__doc__)
    parser.add_argument("--vmid", type=int, required=True)
    parser.add_argument("--run", type=Path, required=True, help="folder for the guest's sockets and disk")
    parser.add_argument("--fs", choices=("ext4", "xfs"), default="ext4")
    parser.add_argument("--mounts", type=int, default=1, help="how many file systems a freeze freezes")
    parser.add_argument("--flavour", choices=sorted(FLAVOURS), default="linux")
    parser.add_argument("--faults", default="{}", help='fields of Faults as JSON, such as {"freeze_sleep": 2}')
    options = parser.parse_args()
    settings = json.loads(options.faults)
    if unknown := set(settings) - {field.name for field in dataclasses.fields(Faults)}:
        parser.error(f"no such fault: {', '.join(sorted(unknown))}")
    guest = ScriptedGuest(
        options.vmid,
        options.run,
        fs=options.fs,
        mounts=options.mounts,
        facts=FLAVOURS[options.flavour],
        faults=Faults(**settings),
    )
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: threading.Thread(target=guest.stop).start())
    with guest:
        guest.wait()


if __name__ == "__main__":
    main()
