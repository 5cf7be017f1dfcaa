"""PVE's snapshot tasks, with PVE's own freezing around the disks, before and after qemu-server 9.1.10.

The order of steps and the texts are those of PVE::QemuConfig and PVE::QemuServer::Agent (pve-facts.md section 5).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.campaign.guest import Reply
from tests.campaign.jobs import Ask, Job, Sleep, Steps

if TYPE_CHECKING:
    from tests.campaign.pve import Call, Pve

_STATUS_ROUNDS = 5


@dataclass
class Snapshot:
    """A snapshot as PVE lists it, with the truth about its point in time: from the first disk to the last."""

    name: str
    description: str
    began: float
    ended: float
    running: bool
    removed: bool = False


@dataclass(eq=False)
class PveTask:
    """One task and its worker process."""

    upid: str
    pid: int
    kind: str
    call: Call
    log: list[str] = field(default_factory=list)
    exitstatus: str | None = None
    job: Job | None = None
    began: float | None = None
    """When its first disk was taken."""
    talks: list[tuple[float, float]] = field(default_factory=list)
    """Times in which it had the agent's socket, or waited for it."""
    is_pinging: bool = False

    @property
    def running(self) -> bool:
        return self.exitstatus is None

    @property
    def tag(self) -> str:
        return f"task:{self.pid}"

    def finish(self, exitstatus: str) -> None:
        self.exitstatus = exitstatus

    def stop_at_ping(self) -> None:
        """A TERM while the worker's ping waits: taken for an agent that is not there (qga_check_running)."""
        if self.job is not None and self.is_pinging:
            self.job.interrupt("interrupted by signal")

    def kill(self) -> None:
        """SIGKILL: no clean-up of any kind."""
        if self.job is not None and self.running:
            self.job.kill()
            self.exitstatus = "unexpected status"


def snapshot_steps(pve: Pve, task: PveTask, name: str, description: str) -> Steps:
    """The body of a snapshot task; its value is the exit status."""
    setup, box, clock = pve.setup, pve.box, pve.scheduler
    yield Sleep(setup.prepare_seconds)
    if pve.lock:
        return f"VM is locked ({pve.lock})"
    if name in pve.snapshots and not pve.snapshots[name].removed:
        return f"snapshot name '{name}' already used"
    pve.lock = "snapshot"
    pve.preparing[name] = description
    freeze = False
    if box.running:
        freeze = yield from _needs_freeze(pve, task)
    if freeze:
        yield from _freeze(pve, task)
    task.began = began = clock.now
    running = box.running
    for seconds in pve.disk_seconds():
        yield Sleep(seconds)
    ended = clock.now
    if freeze:
        yield from _thaw(pve, task)
    if pve.disk_trouble > 0:
        pve.disk_trouble -= 1
        pve.lock = ""
        pve.preparing.pop(name, None)
        return "storage error: the disk could not be snapshotted"
    yield Sleep(setup.finish_seconds)
    pve.preparing.pop(name, None)
    pve.snapshots[name] = Snapshot(name, description, began, ended, running)
    pve.lock = ""
    return "OK"


def delete_steps(pve: Pve, task: PveTask, name: str) -> Steps:
    """The body of a task that removes a snapshot."""
    yield Sleep(pve.setup.prepare_seconds)
    if pve.lock:
        return f"VM is locked ({pve.lock})"
    pve.snapshots[name].removed = True
    return "OK"


def _ask(pve: Pve, task: PveTask, command: str, timeout: float, tag: str) -> Steps:
    began, task.is_pinging = pve.scheduler.now, command == "guest-ping"
    try:
        return (yield Ask(command, timeout, tag))
    finally:
        task.is_pinging = False
        task.talks.append((began, pve.scheduler.now))


def _needs_freeze(pve: Pve, task: PveTask) -> Steps:
    ping: Reply = yield from _ask(pve, task, "guest-ping", 3.0, "knock")
    if not ping.ok:
        task.log.append("skipping guest filesystem freeze - agent configured but not running?")
        return False
    if not pve.setup.skips_frozen:
        return True
    status: Reply = yield from _ask(pve, task, "guest-fsfreeze-status", 5.0, "status")
    if status.value == "frozen":
        task.log.append("skipping guest filesystem freeze - already frozen")
        return False
    return True


def _freeze(pve: Pve, task: PveTask) -> Steps:
    seconds = pve.setup.task_freeze_seconds
    reply: Reply = yield from _ask(pve, task, "guest-fsfreeze-freeze", seconds, task.tag)
    if reply.error is not None:
        task.log.append(f"unable to freeze guest fs - {reply.error.get('desc', 'unknown')}")
        return
    if reply.ok:
        return
    status: Any = None
    for left in range(_STATUS_ROUNDS, 0, -1):
        task.log.append(f"still waiting on guest fs freeze - timeout in {10 * left} minutes")
        asked: Reply = yield from _ask(pve, task, "guest-fsfreeze-status", seconds, "status")
        if not asked.failure or "timeout" not in asked.failure:
            status = asked.value
            break
    if status != "frozen":
        task.log.append(f"unable to freeze guest fs - unexpected status '{status}'")


def _thaw(pve: Pve, task: PveTask) -> Steps:
    reply: Reply = yield from _ask(pve, task, "guest-fsfreeze-thaw", pve.setup.thaw_seconds, task.tag)
    if not reply.ok:
        why = reply.failure or (reply.error or {}).get("desc", "unknown")
        task.log.append(f"guest-fsfreeze-thaw problems - {why}")
