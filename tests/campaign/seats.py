"""The agent's seat in a world: the real Seat of snapshot/pve/seat.py, whose thread is one more of its owner's process.

It looks when something happens at the agent's socket, and now and then: 500 looks a second in which nothing has changed
would show nothing. The first look at somebody new is one of the instant before it came; the next one, LOOK_SECONDS
later, sees it.
"""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from snapshot.errors import InterruptedBySignalError
from snapshot.pve.seat import LOOK_SECONDS
from tests.campaign.guest import Client, Exchange, GuestBox, Stranger
from tests.campaign.scheduler import Process, Scheduler
from tests.campaign.sockets import WorldSocket

if TYPE_CHECKING:
    from tests.campaign.world import World

ROLE = "seat"

WAITED_FOR_SECONDS = 0.01
"""Between two looks while somebody waits for us, and we for the agent."""
IDLE_SECONDS = 0.5

PATIENCE_SECONDS = 1.0
"""How long PVE may be kept waiting by a seat of ours that nobody needs, where its agent is free: a knock, or a sync
that was lost, and a sync's turn.
"""
SAMPLE_SECONDS = 0.05


class WorldLock:
    """threading.Lock."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._holder: Process | None = None
        self._waiting: list[Process] = []

    def __enter__(self) -> None:
        me = self._scheduler.step()
        while self._holder is not None:
            self._waiting.append(me)
            self._scheduler.wait(None)
        self._holder = me

    def __exit__(self, *_: object) -> None:
        self._holder = None
        waiting, self._waiting = self._waiting, []
        for process in waiting:
            self._scheduler.wake(process)


class WorldEvent:
    """threading.Event. Waiting for it ends at a signal, as a handler that raises ends the real one."""

    def __init__(self, scheduler: Scheduler, on_seen: Callable[[], None]) -> None:
        self._scheduler = scheduler
        self._on_seen = on_seen
        self._is_set = False
        self._waiting: list[Process] = []

    def set(self) -> None:
        self._is_set = True
        waiting, self._waiting = self._waiting, []
        for process in waiting:
            self._scheduler.wake(process)

    def wait(self, seconds: float) -> bool:
        me = self._scheduler.step()
        deadline = self._scheduler.now + seconds
        while not self._is_set and self._scheduler.now < deadline:
            self._waiting.append(me)
            self._scheduler.wait(deadline)
            if me.gate_open and me.signal is not None:
                raise InterruptedBySignalError(me.signal)
        if self._is_set:
            self._on_seen()
        return self._is_set


class Seats:
    """What a world knows of the seats in it."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._scheduler = world.scheduler
        self._guest: GuestBox = world.guest
        self._seen: dict[Process, tuple[int, bool]] = {}
        """Of each seat's last look: what the queue was like, and whether somebody waited."""
        self._pausing: set[Process] = set()
        self._clients: list[Client] = []
        """Who was seen to wait; the place in it is the socket's number."""
        self._is_knocked = False
        self.cuts: str = ""
        """Whose connections break when an owner has seen its knock: see faults.py."""
        self.taken = 0
        """So many seats were kept."""
        self.knocks = 0
        """So many freezes went over one of them."""
        self._guest.on_change = self._changed
        self._guest.on_ask = self._asked

    # -- for patches.py

    @property
    def threading(self) -> Any:
        return SimpleNamespace(
            Lock=lambda: WorldLock(self._scheduler), Event=lambda: WorldEvent(self._scheduler, self._cut)
        )

    def start_thread(self, _name: str, run: Callable[[], None]) -> None:
        """See snapshot.base.threads: it keeps nobody from ending."""
        owner = self._scheduler.step()
        self.taken += 1
        thread = self._scheduler.spawn(ROLE, run, pid=owner.pid)
        owner.at_death.append(lambda: self._scheduler.kill(thread))

    def listener_at(self, *_: object) -> int | None:
        """See snapshot.pve.backlog."""
        self._scheduler.step()
        return 1 if self._world.is_local and self._guest.running else None

    def waiting(self, *_: object) -> list[int] | None:
        """See snapshot.pve.backlog: as it was a moment ago."""
        process = self._scheduler.step()
        if not (self._world.is_local and self._guest.running):
            return None
        now = self._scheduler.now
        seen = [client for client, at in self._guest.queue.items() if at < now]
        self._seen[process] = (-1 if len(seen) < len(self._guest.queue) else self._guest.version, bool(seen))
        return [self._number(client) for client in seen]

    def is_trusted(self, client: int) -> bool:
        """See snapshot.pve.backlog."""
        return not isinstance(self._clients[client - 1], Stranger)

    def _number(self, client: Client) -> int:
        if client not in self._clients:
            self._clients.append(client)
        return self._clients.index(client) + 1

    def pause(self, process: Process) -> None:
        """Between two looks of a seat."""
        seen, is_waited_for = self._seen[process]
        if seen != self._guest.version:
            self._scheduler.sleep(LOOK_SECONDS)
            return
        deadline = self._scheduler.now + (WAITED_FOR_SECONDS if is_waited_for else IDLE_SECONDS)
        self._pausing.add(process)
        while seen == self._guest.version and self._scheduler.now < deadline:
            self._scheduler.wait(deadline)
        self._pausing.discard(process)

    def _cut(self) -> None:
        """Somebody has seen what it waited for: its knock, if there was one."""
        if self._is_knocked and self.cuts:
            cuts, self.cuts = self.cuts, ""
            self._world.events.append((self._scheduler.now, f"connections to the agent break: {cuts}"))
            self._guest.hang_up(*([self._guest.seated] if cuts == "ours" and self._guest.seated else []))

    def _changed(self) -> None:
        for process in list(self._pausing):
            self._scheduler.wake(process)

    # -- for the invariants

    def _asked(self, exchange: Exchange) -> None:
        if exchange.tag == "knock":
            self._is_knocked = True
            self._world.trigger("knock")
        self._follow(exchange, 0.0)

    def _follow(self, exchange: Exchange, kept: float) -> None:
        """Count how long PVE waits behind a seat that is kept for nothing."""
        seated = self._guest.seated
        if exchange.is_over or seated is exchange:
            return
        is_free = self._guest.model.is_free and not any(isinstance(one, Stranger) for one in self._guest.queue)
        if isinstance(seated, WorldSocket) and seated.is_idle and is_free:
            kept += SAMPLE_SECONDS
        if kept > PATIENCE_SECONDS + SAMPLE_SECONDS:
            self._world.violations.append(
                f"(k) PVE is kept waiting for the agent by {seated.process} at {self._scheduler.now:.3f}, for nothing"  # type: ignore[union-attr]
            )
            return
        self._scheduler.after(SAMPLE_SECONDS, lambda: self._follow(exchange, kept))
