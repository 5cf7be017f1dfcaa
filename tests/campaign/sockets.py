"""A client of the agent's socket as our code holds it, and who is seated there."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from snapshot.errors import InterruptedBySignalError
from tests.campaign.scheduler import Process

if TYPE_CHECKING:
    from tests.campaign.pve import Call
    from tests.campaign.world import World

QUEUE = 2
"""So many may wait for QEMU to accept them (listen with a backlog of 1)."""

_FREEZE = b'{"execute": "guest-fsfreeze-freeze"}'


class WorldSocket:
    """As much of socket.socket as our client of the agent's socket uses. It belongs to a process, not to one thread."""

    def __init__(self, world: World) -> None:
        self._world = world
        scheduler = world.scheduler
        self.process = scheduler.process_of(scheduler.step().pid) or scheduler.me()
        self._reader: Process | None = None
        """Who waits for what comes."""
        self._buffer = b""
        self._eof = False
        self._open = False
        self._timeout = 0.0
        self._blocks = True
        self._freeze: Call | None = None

    @property
    def is_idle(self) -> bool:
        """Whether its process runs, and waits for nothing here."""
        is_stopped = self.process.stopped_until > self._world.scheduler.now
        return self._open and self._reader is None and self.process.alive and not is_stopped

    @property
    def is_readable(self) -> bool:
        """As select says it."""
        return bool(self._buffer) or self._eof

    @property
    def is_read(self) -> bool:
        """Whether QEMU has accepted us and read everything."""
        return self._eof or self._world.guest.has_read(self)

    def settimeout(self, seconds: float) -> None:
        self._timeout = seconds

    def setblocking(self, blocks: bool) -> None:
        self._blocks = blocks

    def connect(self, _path: str) -> None:
        self._world.scheduler.step()
        self.process.at_death.append(self.close)
        self._world.note_agent_asked(self.process)
        if self._world.guest.node != self._world.plan.local_node or not self._world.guest.running:
            raise ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused")
        if not self._blocks and len(self._world.guest.queue) >= QUEUE:
            raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")
        self._open = self._world.guest.open(self)

    def sendall(self, data: bytes) -> None:
        self._world.scheduler.step()
        self._world.note_agent_asked(self.process)
        if self._eof:
            raise BrokenPipeError(errno.EPIPE, "Broken pipe")
        if _FREEZE in data:
            self._freeze = call = self._world.pve.freeze_past_it(self.process)
            self._world.seats.knocks += 1
            data = data.replace(_FREEZE, _FREEZE[:-1] + b', "id": "%s"}' % call.tag.encode())
        self._world.guest.send(self, data)

    def recv(self, _size: int) -> bytes:
        self._reader = self._world.scheduler.step()
        deadline = self._world.scheduler.now + self._timeout
        try:
            while not self._buffer and not self._eof:
                if self._world.scheduler.now >= deadline:
                    raise TimeoutError("timed out")
                self._world.scheduler.wait(deadline)
                if self._reader.gate_open and self._reader.signal is not None:
                    raise InterruptedBySignalError(self._reader.signal)
        finally:
            self._reader = None
        data, self._buffer = self._buffer, b""
        return data

    def deliver(self, data: bytes) -> None:
        self._buffer += data
        if self._freeze is not None and self._freeze.tag.encode() in data:
            self._freeze.over_at = self._freeze.abandoned_at = self._world.scheduler.now
        self._wake()

    def hung_up(self) -> None:
        self._eof = True
        self._open = False
        self._wake()

    def close(self) -> None:
        if self._freeze is not None and self._freeze.abandoned_at is None:
            self._freeze.abandoned_at = self._world.scheduler.now
        if self._open:
            self._open = False
            self._world.guest.leave(self)

    def _wake(self) -> None:
        if self._reader is not None:
            self._world.scheduler.wake(self._reader)


def sockets_of(world: World) -> Any:
    """The module ``socket``."""
    return SimpleNamespace(AF_UNIX=1, SOCK_STREAM=1, socket=lambda *_: WorldSocket(world))


def _select(readers: Sequence[WorldSocket], *_: object) -> tuple[list[WorldSocket], list[Any], list[Any]]:
    return [one for one in readers if one.is_readable], [], []


SELECT = SimpleNamespace(select=_select)
"""The module ``select``."""

FCNTL = SimpleNamespace(ioctl=lambda one, *_: bytes([0 if one.is_read else 1, 0, 0, 0]))
"""The module ``fcntl``: how many bytes wait to be read (SIOCOUTQ); none and some are told apart, no more."""
