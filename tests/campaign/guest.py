"""One guest: the lab's model of agent and kernel, behind the socket that QEMU serves to one client at a time.

Every command that PVE, we or a stranger send carries a tag (the request's ``id``), so that the trace can say afterwards
who froze. Of what our own socket client sends only a freeze has one (sockets.py).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from tests.campaign.scheduler import Scheduler, Timer
from tests.lab.guest.agentmodel import AgentModel, Refusal

_SENTINEL = b"\xff"
_WORKER_PIDS = (1201, 1202, 1203)
"""PVE numbers its syncs by the pid of its worker and a count, so that a later number may be the smaller one."""


@dataclass(frozen=True)
class Executed:
    """A freeze that the guest carried out: when, by whose request, and how many filesystems it froze."""

    at: float
    tag: str
    filesystems: int


class TracedAgent(AgentModel):
    """The model, with a record of whose freezes it carried out."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.freezes: list[Executed] = []
        self.resets: list[float] = []
        self.on_freeze: Callable[[], None] = lambda: None
        self.on_refusal: Callable[[], None] = lambda: None

    def _do(self, what: str, job: Any, at: float) -> dict[str, Any]:
        reply = super()._do(what, job, at)
        if what == "freeze" and isinstance(reply.get("return"), int):
            self.freezes.append(Executed(at, str(job.request_id), reply["return"]))
            self.on_freeze()
        return reply

    def _refusal(self, command: str) -> Refusal | None:
        refusal = super()._refusal(command)
        if refusal is not None:
            self.on_refusal()
        return refusal

    @property
    def first(self) -> object:
        """Who is served, or will be once QEMU runs."""
        return self._clients[0] if self._clients else None

    @property
    def is_free(self) -> bool:
        """Whether the agent runs and has nothing to do."""
        return self._runs() and not self.busy

    @property
    def accepts(self) -> bool:
        """Whether QEMU runs."""
        return not self._suspended

    def has_read(self, client: object) -> bool:
        """Whether nothing that ``client`` sent waits outside the guest."""
        return not self._waiting.get(client)


class Client(Protocol):
    """Somebody at the agent's socket."""

    def deliver(self, data: bytes) -> None: ...

    def hung_up(self) -> None: ...


class Stranger:
    """Somebody who connects to the agent's socket, and asks nothing."""

    def deliver(self, data: bytes) -> None:
        """What was meant for another one."""

    def hung_up(self) -> None:
        """See Client."""


class GuestBox:
    """The guest as the world sees it: on or off, on some node, with its agent's socket."""

    def __init__(self, scheduler: Scheduler, model: TracedAgent, node: str) -> None:
        self.model = model
        self.node = node
        self.switched: list[tuple[float, bool]] = []
        """When it was switched on and off."""
        self._scheduler = scheduler
        self.running = True
        self._timer: Timer | None = None
        self._clients: dict[Client, float] = {}
        """And when each came."""
        self._tokens = 0
        self.seated: Client | None = None
        """Whom QEMU has accepted."""
        self._shown: tuple[Client | None, tuple[Client, ...]] = None, ()
        self.version = 0
        """Of what can be seen from outside: who is there, and what was said."""
        self.on_change: Callable[[], None] = lambda: None
        self.on_ask: Callable[[Exchange], None] = lambda exchange: None
        """PVE has sent something to the agent."""

    @property
    def running(self) -> bool:
        """Whether it is on."""
        return self.switched[-1][1]

    @running.setter
    def running(self, is_on: bool) -> None:
        self.switched.append((self._scheduler.now, is_on))

    def was_off(self, began: float, ended: float) -> bool:
        """Whether it was off for all of that time."""
        before = [is_on for at, is_on in self.switched if at <= began]
        return not before[-1] and not any(is_on for at, is_on in self.switched if began < at <= ended)

    @property
    def queue(self) -> dict[Client, float]:
        """Whoever waits to be accepted, in their order, and when each came."""
        return {client: at for client, at in self._clients.items() if client is not self.seated}

    def has_read(self, client: Client) -> bool:
        """Whether QEMU has accepted the client, and read all that it sent."""
        return self.seated is client and self.model.has_read(client)

    def next_token(self) -> int:
        """As PVE::QMPClient makes it up: the worker's pid, a 0, and a count."""
        self._tokens += 1
        return int(f"{_WORKER_PIDS[self._tokens % 3]}0{self._tokens // 3}")

    def open(self, client: Client) -> bool:
        """Connect; False when QEMU is not there."""
        if not self.running:
            return False
        self._clients[client] = self._scheduler.now
        self.model.connect(client, self._scheduler.now)
        self.pump()
        return True

    def send(self, client: Client, data: bytes) -> None:
        if client in self._clients:
            self.model.receive(client, data, self._scheduler.now)
            self.pump()

    def leave(self, client: Client) -> None:
        if client in self._clients:
            del self._clients[client]
            self.model.disconnect(client, self._scheduler.now)
            self.pump()

    def do(self, action: Callable[[TracedAgent, float], object]) -> None:
        """Something happens to the guest."""
        action(self.model, self._scheduler.now)
        self.pump()

    def power_off(self) -> None:
        """QEMU ends: nothing is frozen any more, every connection breaks."""
        self.running = False
        self.hang_up()
        self.reset()

    def reset(self) -> None:
        self.model.resets.append(self._scheduler.now)
        self.do(lambda model, now: model.reset(now))

    def migrate(self, node: str) -> None:
        """To another node with its memory, frozen or not; the connections stay behind."""
        self.node = node
        self.hang_up()

    def hang_up(self, *some: Client) -> None:
        """Every connection breaks, or ``some``."""
        clients = list(some or self._clients)
        for client in clients:
            del self._clients[client]
            self.model.disconnect(client, self._scheduler.now)
        for client in clients:
            client.hung_up()
        self.pump()

    def pump(self) -> None:
        """Hand out what the agent said, and wake up when it goes on by itself."""
        said = self.model.advance(self._scheduler.now)
        self._accept()
        for client, data in said:
            if client in self._clients:
                self._changed()
                client.deliver(data)  # type: ignore[attr-defined]
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        following = self.model.next_at()
        if following is not None:
            self._timer = self._scheduler.at(following, self.pump)

    def _accept(self) -> None:
        if self.seated not in self._clients:
            self.seated = None
        first = self.model.first
        if self.model.accepts and first in self._clients:
            self.seated = first  # type: ignore[assignment]
        shown = self.seated, tuple(self._clients)
        if shown != self._shown:
            self._shown = shown
            self._changed()

    def _changed(self) -> None:
        self.version += 1
        self.on_change()


@dataclass(frozen=True)
class Reply:
    """What became of one exchange with the agent: exactly one of the three."""

    value: Any = None
    error: dict[str, str] | None = None
    failure: str = ""
    """PVE's words for an exchange without an answer."""

    @property
    def ok(self) -> bool:
        return self.error is None and not self.failure


class Exchange:
    """One command of PVE's: sync and command in one go, and a time limit. Stale answers with smaller numbers are
    skipped; PVE stumbles over one with a greater number.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        box: GuestBox,
        command: str,
        timeout: float,
        tag: str,
        done: Callable[[Reply], None],
    ) -> None:
        self._box = box
        self._done = done
        self._token = box.next_token()
        self._buffer = b""
        self._synced = False
        self.is_over = False
        self.tag = tag
        self._timer = scheduler.after(timeout, lambda: self._finish(Reply(failure="got timeout")))
        if not box.open(self):
            self._finish(Reply(failure="unable to connect to VM 100 qga socket - Connection refused"))
            return
        sync = {"execute": "guest-sync-delimited", "arguments": {"id": self._token}}
        box.send(self, b"%s\n%s\n" % (json.dumps(sync).encode(), json.dumps({"execute": command, "id": tag}).encode()))
        box.on_ask(self)

    def deliver(self, data: bytes) -> None:
        self._buffer += data
        *lines, self._buffer = self._buffer.split(b"\n")
        for line in lines:
            reply = json.loads(line.rpartition(_SENTINEL)[2])
            if self._synced:
                self._finish(Reply(reply.get("return"), reply.get("error")))
                return
            echoed = reply.get("return") if _SENTINEL in line else None
            self._synced = echoed == self._token
            if isinstance(echoed, int) and echoed > self._token:
                self._finish(Reply(failure=f"got wrong command id '{echoed}' (expected {self._token})"))
                return

    def hung_up(self) -> None:
        self._finish(Reply(failure="client closed connection"))

    def abort(self) -> None:
        """The process that asked is gone."""
        if not self.is_over:
            self.is_over = True
            self._timer.cancel()
            self._box.leave(self)

    def _finish(self, reply: Reply) -> None:
        if not self.is_over:
            self.abort()
            self._done(reply)
