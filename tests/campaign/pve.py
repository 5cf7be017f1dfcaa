"""Proxmox VE in front of the guest, as pve-facts.md sections 3 to 5 describe it: proxies, workers, agent calls.

A call is delivered to a proxy, which hands it to the guest's node; there one of three workers pings the agent for 3 s
and then sends the command. After 30 s the proxy answers 596 and the worker goes on. Tasks are in tasks.py.
"""

from __future__ import annotations

import itertools
import random
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

from snapshot.errors import ApiError, ApiUnreachableError, InterruptedBySignalError, ReplyLostError
from snapshot.pve.transport import error_of_status
from tests.campaign.guest import GuestBox, Reply
from tests.campaign.jobs import Ask, Job, Sleep, Steps
from tests.campaign.scheduler import Process, Scheduler
from tests.campaign.tasks import PveTask, Snapshot, delete_steps, snapshot_steps

PING_SECONDS = 3.0
CUT_SECONDS = 30.0
COMMAND_SECONDS = 5.0
CONNECT_SECONDS = 3.05
PVESH_START_SECONDS = 6.0
WORKERS = 3
NOT_RUNNING = "QEMU guest agent is not running"


@dataclass(frozen=True)
class PveSetup:
    """How this PVE behaves. Its hour for a freeze and its 3 min for a thaw are shorter in a campaign."""

    skips_frozen: bool = True
    """qemu-server 9.1.10 and newer."""
    freeze_seconds: float = 40.0
    thaw_seconds: float = 30.0
    task_freeze_seconds: float = 60.0
    latency: tuple[float, float] = (0.002, 0.03)
    prepare_seconds: float = 0.1
    disk_seconds: tuple[float, ...] = (0.01,)
    finish_seconds: float = 0.05
    agent_option: str = "1"


@dataclass
class Mishap:
    """What the network does to one request: see faults.py."""

    lose_request: bool = False
    lose_reply: bool = False
    reset: bool = False
    """A loss shows at once, as a broken connection, instead of as silence."""
    delay: float = 0.0
    status: int = 0
    """Answered with this status instead of being handled."""


@dataclass(eq=False)
class Call:
    """One request of ours, from its sending to whatever comes back."""

    number: int
    process: Process
    via: str
    method: str
    path: str
    params: Mapping[str, Any]
    sent_at: float
    mishap: Mishap
    answer: tuple[int, Any] | None = None
    broken: str = ""
    """The connection ended without an answer."""
    unreachable: str = ""
    abandoned_at: float | None = None
    """The client does not wait any more."""
    known_at: float | None = None
    """When PVE took it up."""
    over_at: float | None = None
    """When PVE had done with it."""

    @property
    def command(self) -> str:
        return self.path.rpartition("/agent/")[2] if "/agent/" in self.path else ""

    @property
    def tag(self) -> str:
        return f"ours:{self.number}"


class Node:
    """One node: its pveproxy, and its pvedaemon with three workers and a queue."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.up = True
        self.proxy_up = True
        self.free = WORKERS
        self.backlog: deque[tuple[Call, Callable[[], Job]]] = deque()
        self.jobs: dict[Job, Call] = {}


@dataclass(eq=False)
class Pve:
    """The cluster."""

    scheduler: Scheduler
    setup: PveSetup
    box: GuestBox
    vmid: int
    seed: object
    judge: Callable[[Call], Mishap] = lambda call: Mishap()
    nodes: dict[str, Node] = field(default_factory=lambda: {name: Node(name) for name in ("a", "b")})
    calls: list[Call] = field(default_factory=list)
    tasks: dict[str, PveTask] = field(default_factory=dict)
    snapshots: dict[str, Snapshot] = field(default_factory=dict)
    preparing: dict[str, str] = field(default_factory=dict)
    """Snapshots that are not whole yet: name and description."""
    lock: str = ""
    denied_until: float = -1.0
    """The token is not accepted until then."""
    disk_extra: float = 0.0
    """What the next snapshot's first disk takes longer."""
    drips_until: float = -1.0
    """Whoever asks over HTTPS hears a byte now and then until then, and gives up when his time is over."""
    odd_status: tuple[object, float] | None = None
    """What `status/current` answers instead, and until when."""
    disk_trouble: int = 0
    """So many of the next snapshots fail."""

    def __post_init__(self) -> None:
        self.rng = random.Random(f"{self.seed}/pve")
        self._numbers = itertools.count(1)

    # -- our side

    def request(self, via: str, method: str, path: str, params: Mapping[str, Any], timeout: float) -> object:
        """In a process: send a request over ``via`` (a node's name, or pvesh) and wait. Raises as Transport does."""
        process = self.scheduler.step()
        call = Call(next(self._numbers), process, via, method, path, params, self.scheduler.now, Mishap())
        call.mishap = self.judge(call)
        self.calls.append(call)
        where = "pvesh" if via == "pvesh" else f"https://{via}:8006"
        if not call.mishap.lose_request:
            self.scheduler.after(self._latency() + call.mishap.delay, lambda: self._arrive(call))
        elif call.mishap.reset:
            self.scheduler.after(self._latency(), lambda: self._break(call, "reset by peer"))
        deadline = self.scheduler.now + timeout + (PVESH_START_SECONDS if via == "pvesh" else 0.0)
        process.at_death.append(lambda: self._abandon(call))
        try:
            while call.answer is None and not call.broken and not call.unreachable:
                if self.scheduler.now >= deadline:
                    raise ReplyLostError(f"{where} did not answer in time: the request may still be carried out")
                self.scheduler.wait(deadline)
                if process.gate_open and process.signal is not None:
                    raise InterruptedBySignalError(process.signal)
        finally:
            self._abandon(call)
        self.scheduler.step()
        return self._result(call, where)

    def freeze_past_it(self, process: Process) -> Call:
        """A freeze that goes over the agent's own socket: PVE never knows of it."""
        path = f"nodes/{self.box.node}/qemu/{self.vmid}/agent/fsfreeze-freeze"
        call = Call(next(self._numbers), process, "socket", "POST", path, {}, self.scheduler.now, Mishap())
        self.calls.append(call)
        return call

    def _result(self, call: Call, where: str) -> object:
        if call.unreachable:
            raise ApiUnreachableError(f"{where} cannot be reached ({call.unreachable})")
        if call.answer is None:
            raise ReplyLostError(f"{where}: the connection broke before an answer came ({call.broken})")
        status, data = call.answer
        if status != 200:
            error: ApiError = error_of_status(status, str(data), where)
            raise error
        return data

    def _abandon(self, call: Call) -> None:
        if call.abandoned_at is None:
            call.abandoned_at = self.scheduler.now

    def _latency(self) -> float:
        return self.rng.uniform(*self.setup.latency)

    # -- PVE's side

    def _arrive(self, call: Call) -> None:
        if call.via == "pvesh":
            self.scheduler.after(self.rng.uniform(0.3, 1.0), lambda: self._run(call, None))
            return
        proxy = self.nodes[call.via]
        if not proxy.up:
            self.scheduler.after(CONNECT_SECONDS, lambda: self._refuse(call, "connect timeout"))
            return
        if not proxy.proxy_up:
            self._refuse(call, "Connection refused")
            return
        call.known_at = self.scheduler.now
        if self.scheduler.now < self.denied_until:
            self._reply(call, 401, "authentication failure")
            return
        if call.mishap.status:
            self._reply(call, call.mishap.status, "as the fault wants it")
            return
        target = self._target(call)
        if target is None:
            self._reply(call, 500, f"hostname lookup '{call.path.split('/')[1]}' failed - no such node")
            return
        if target is not proxy and not (target.up and target.proxy_up):
            self._reply(call, 595, "No route to host" if not target.up else "Connection refused")
            return
        self.scheduler.after(CUT_SECONDS, lambda: self._reply(call, 596, "Connection timed out"))
        self._run(call, target)

    def _target(self, call: Call) -> Node | None:
        first, _, rest = call.path.partition("/")
        if first != "nodes" or not rest:
            return self.nodes[call.via]
        return self.nodes.get(rest.split("/")[0])

    def _run(self, call: Call, node: Node | None) -> None:
        """Handle the call in one of the node's workers (or, for pvesh, in a process of its own)."""
        call.known_at = call.known_at if call.known_at is not None else self.scheduler.now
        if node is None:
            self._work(call, None)
        elif node.free > 0:
            node.free -= 1
            self._work(call, node)
        else:
            node.backlog.append((call, lambda: self._work(call, node)))

    def disk_seconds(self) -> list[float]:
        """What each disk of the next snapshot takes."""
        first, *others = self.setup.disk_seconds
        extra, self.disk_extra = self.disk_extra, 0.0
        return [first + extra, *others]

    def _work(self, call: Call, node: Node | None) -> Job:
        job: Job | None = None

        def done(outcome: tuple[int, Any]) -> None:
            call.over_at = self.scheduler.now
            self._reply(call, *outcome)
            if node is not None:
                node.jobs.pop(job, None)  # type: ignore[arg-type]
                self.release(node)

        job = Job(self.scheduler, self.box, self._steps(call), done)
        if node is not None and job.running:
            node.jobs[job] = call
        return job

    def release(self, node: Node) -> None:
        """A worker is free again."""
        node.free += 1
        if node.backlog and node.free > 0:
            node.free -= 1
            _, begin = node.backlog.popleft()
            begin()

    def _reply(self, call: Call, status: int, data: object) -> None:
        if call.answer is not None or call.broken or call.abandoned_at is not None:
            return
        if call.via != "pvesh" and self.scheduler.now < self.drips_until:
            return
        if call.mishap.lose_reply:
            if call.mishap.reset:
                self._break(call, "reset by peer")
            return

        def arrive() -> None:
            if call.answer is None and not call.broken:
                call.answer = (status, data)
                self.scheduler.wake(call.process)

        self.scheduler.after(self._latency() / 2, arrive)

    def _refuse(self, call: Call, why: str) -> None:
        call.unreachable = why
        self.scheduler.wake(call.process)

    def _break(self, call: Call, why: str) -> None:
        if call.answer is None:
            call.broken = why
            call.abandoned_at = call.abandoned_at or self.scheduler.now
            self.scheduler.wake(call.process)

    def restart(self, node: Node, seconds: float) -> None:
        """pveproxy and pvedaemon of a node end, their whole control group with them, and come back."""
        node.proxy_up = False
        for job, call in list(node.jobs.items()):
            job.kill()
            call.over_at = self.scheduler.now
        node.jobs.clear()
        for call, _ in node.backlog:
            call.over_at = self.scheduler.now
        node.backlog.clear()
        node.free = WORKERS
        self._cut_clients(node)
        self.scheduler.after(seconds, lambda: setattr(node, "proxy_up", True))

    def cut_proxy(self, node: Node, seconds: float) -> None:
        """Only pveproxy ends: what its workers do goes on."""
        node.proxy_up = False
        self._cut_clients(node)
        self.scheduler.after(seconds, lambda: setattr(node, "proxy_up", True))

    def lose_node(self, node: Node, seconds: float) -> None:
        """The node's network is gone: nothing is refused, nothing is answered."""
        node.up = False
        self.scheduler.after(seconds, lambda: setattr(node, "up", True))

    def occupy(self, node: Node, seconds: float) -> None:
        """Every worker that is free hangs in somebody else's call."""
        taken, node.free = node.free, 0

        def give_back() -> None:
            for _ in range(taken):
                self.release(node)

        self.scheduler.after(seconds, give_back)

    def _cut_clients(self, node: Node) -> None:
        for call in self.calls:
            waits = call.answer is None and call.abandoned_at is None
            if waits and call.via != "pvesh" and (call.via == node.name or self._target(call) is node):
                self._break(call, "closed by peer")

    # -- what the API does

    def _steps(self, call: Call) -> Steps:
        if call.command:
            return self._agent_steps(call)
        return self._quick_steps(call)

    def _quick_steps(self, call: Call) -> Steps:
        yield Sleep(self._latency() / 4)
        try:
            return 200, self._quick(call)
        except LookupError as error:
            return 500, str(error.args[0])

    def _agent_steps(self, call: Call) -> Steps:
        command = call.command
        yield Sleep(0.001)
        try:
            self._config(call)
        except LookupError as error:
            return 500, str(error.args[0])
        if not self.box.running:
            return 500, f"VM {self.vmid} is not running"
        ping: Reply = yield Ask("guest-ping", PING_SECONDS, "ping")
        if not ping.ok:
            return 500, NOT_RUNNING
        limits = {"fsfreeze-freeze": self.setup.freeze_seconds, "fsfreeze-thaw": self.setup.thaw_seconds}
        reply: Reply = yield Ask(f"guest-{command}", limits.get(command, COMMAND_SECONDS), call.tag)
        if reply.failure:
            return 500, f"VM {self.vmid} qga command 'guest-{command}' failed - {reply.failure}"
        return 200, {"result": {"error": reply.error} if reply.error is not None else reply.value}

    def _config(self, call: Call) -> dict[str, Any]:
        node = call.path.split("/")[1]
        if node != self.box.node:
            raise LookupError(f"Configuration file 'nodes/{node}/qemu-server/{self.vmid}.conf' does not exist")
        return (
            {"agent": self.setup.agent_option, "lock": self.lock} if self.lock else {"agent": self.setup.agent_option}
        )

    def _quick(self, call: Call) -> object:
        path, status = call.path, "running" if self.box.running else "stopped"
        if path == "cluster/resources":
            row = {"vmid": self.vmid, "type": "qemu", "node": self.box.node, "name": "guest", "status": status}
            return [row]
        if path == "cluster/status":
            return [{"type": "node", "name": n.name, "online": int(n.up), "ip": n.name} for n in self.nodes.values()]
        if path == "nodes":
            return [{"node": n.name, "status": "online" if n.up else "offline"} for n in self.nodes.values()]
        if path.endswith("/replication"):
            return []
        if path.endswith("/tasks"):
            return [{"upid": upid} for upid, task in self.tasks.items() if task.exitstatus is None]
        if path == "access/permissions":
            return {"/": {"VM.GuestAgent.Unrestricted": 1, "VM.Snapshot": 1, "VM.Audit": 1, "VM.Config.Options": 1}}
        if path == "version":
            return {"version": "9.2"}
        if "/tasks/" in path:
            return self._task(path)
        config = self._config(call)
        rest = path.split(f"/{self.vmid}", 1)[1]
        if rest == "/config":
            return config
        if rest == "/status/current" and self.odd_status is not None and self.scheduler.now < self.odd_status[1]:
            return self.odd_status[0]
        if rest == "/status/current":
            return {"status": status}
        if rest == "/pending":
            return [{"key": "agent", "value": self.setup.agent_option}]
        if rest == "/feature":
            return {"hasFeature": 1}
        if rest == "/sendkey":
            self.box.do(lambda model, now: model.thaw_from_inside(now))
            return None
        return self._snapshot_request(call, rest)

    def _snapshot_request(self, call: Call, rest: str) -> object:
        if rest == "/snapshot" and call.method == "GET":
            whole = [{"name": s.name, "description": s.description} for s in self.snapshots.values() if not s.removed]
            begun = [{"name": n, "description": d, "snapstate": "prepare"} for n, d in self.preparing.items()]
            return [*whole, *begun, {"name": "current"}]
        if rest == "/snapshot":
            name, text = str(call.params["snapname"]), str(call.params.get("description", ""))
            return self._begin(call, "qmsnapshot", lambda task: snapshot_steps(self, task, name, text))
        name = rest.split("/")[2]
        found = self.snapshots.get(name)
        if found is None or found.removed:
            raise LookupError(f"snapshot '{name}' does not exist")
        if call.method == "DELETE":
            return self._begin(call, "qmdelsnapshot", lambda task: delete_steps(self, task, name))
        found.description = str(call.params.get("description", found.description))
        return None

    def _begin(self, call: Call, kind: str, steps: Callable[[PveTask], Steps]) -> str:
        pid = 50_000 + call.number
        upid = f"UPID:{self.box.node}:{pid:08X}:{1:08X}:{int(self.scheduler.now) + 1_700_000_000:08X}:{kind}:"
        task = PveTask(f"{upid}{self.vmid}:root@pam!t:", pid, kind, call)
        self.tasks[task.upid] = task
        task.job = Job(self.scheduler, self.box, steps(task), task.finish)
        return task.upid

    def _task(self, path: str) -> object:
        upid = unquote(path.split("/tasks/")[1].rpartition("/")[0])
        task = self.tasks.get(upid)
        if task is None:
            raise LookupError("no such task")
        if path.endswith("/log"):
            return [{"n": n, "t": line} for n, line in enumerate(task.log, 1)]
        if task.exitstatus is None:
            return {"status": "running"}
        return {"status": "stopped", "exitstatus": task.exitstatus}
