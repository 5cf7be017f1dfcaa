"""Where the engine touches the machine by itself (/proc, sockets), a world is put in its place.

One table; an entry whose target is gone is an error, so that a refactoring cannot quietly unhook the campaign.
"""

from __future__ import annotations

import select
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any

from snapshot.guard import __main__ as guard
from snapshot.journal import living
from snapshot.pve import access, connection, doors, qga, routes, seat, tasks
from snapshot.recovery import overdue, settle
from snapshot.window import ownguard
from tests.campaign.seams import WorldJournal, WorldOwner, WorldTransport
from tests.campaign.sockets import FCNTL, SELECT, sockets_of

if TYPE_CHECKING:
    from tests.campaign.scheduler import Scheduler
    from tests.campaign.world import World


def _table(world: World) -> list[tuple[ModuleType, str, Any]]:
    return [
        (ownguard, "process_start", world.process_start),
        (living, "process_lives", world.process_lives),
        (settle, "process_lives", world.process_lives),
        (overdue, "end_if_it_stands_still", lambda pid, start: _end_if_stopped(world, pid)),
        (access, "HttpsTransport", lambda endpoint, complete: WorldTransport(world, endpoint.host)),
        (access, "PveshTransport", lambda path: WorldTransport(world, "pvesh")),
        (doors, "qemu_lives", lambda folder, vmid: world.guest.running and world.is_local),
        (routes, "qemu_lives", lambda folder, vmid: world.guest.running and world.is_local),
        (connection, "socket", sockets_of(world)),
        (connection, "select", SELECT),
        (connection, "fcntl", FCNTL),
        (qga, "listener_at", world.seats.listener_at),
        (seat, "waiting", world.seats.waiting),
        (seat, "is_trusted", world.seats.is_trusted),
        (seat, "start_thread", world.seats.start_thread),
        (seat, "threading", world.seats.threading),
        (tasks, "os", SimpleNamespace(pidfd_open=world.pidfd_open, close=lambda descriptor: None)),
        (tasks, "select", SimpleNamespace(POLLIN=select.POLLIN, poll=lambda: TaskPoll(world))),
        (tasks, "process_start", world.process_start),
        (guard, "process_lives", world.process_lives),
        (guard, "Journal", lambda path: WorldJournal(world)),
    ]


def _end_if_stopped(world: World, pid: int | None) -> bool:
    return pid is not None and WorldOwner(world, pid).end_if_it_stands_still(is_silent=False)


class TaskPoll:
    """select.poll over the pidfd of a task's worker."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._pid = 0

    def register(self, descriptor: int, _events: int) -> None:
        self._pid = descriptor

    def poll(self, milliseconds: float) -> list[tuple[int, int]]:
        """Wait for the worker's end, the limit, or a signal."""
        return self._world.wait_for_worker(self._pid, milliseconds / 1000.0)


class OfWhoAsks:
    """What stands in a module for several worlds at once: the one is asked in which the running process lives."""

    def __init__(self, by_view: dict[Scheduler, Any], core: Scheduler) -> None:
        self._by_view = by_view
        self._core = core

    def _own(self) -> Any:
        return self._by_view[self._core.me().view]

    def __call__(self, *args: Any, **values: Any) -> Any:
        return self._own()(*args, **values)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._own(), name)


def installed_for(worlds: Sequence[World], core: Scheduler) -> AbstractContextManager[None]:
    """The engine's modules, with ``worlds`` under them, whose schedulers are views of one."""
    tables = {world.scheduler: _table(world) for world in worlds}
    first = next(iter(tables.values()))
    shared = [
        (module, name, OfWhoAsks({view: table[number][2] for view, table in tables.items()}, core))
        for number, (module, name, _) in enumerate(first)
    ]
    return _installed(shared)


def installed(world: World) -> AbstractContextManager[None]:
    """The engine's modules, with ``world`` under them."""
    return _installed(_table(world))


@contextmanager
def _installed(table: list[tuple[ModuleType, str, Any]]) -> Iterator[None]:
    earlier: list[tuple[ModuleType, str, Any]] = [(module, name, getattr(module, name)) for module, name, _ in table]
    try:
        for module, name, value in table:
            setattr(module, name, value)
        yield
    finally:
        for module, name, value in earlier:
            setattr(module, name, value)
