"""The QMP side of a scripted guest: its disk, its snapshots, its backup jobs. No sockets, no clock.

A scripted disk is a JSON file in which each snapshot and each backup carries what an oracle would find on a real one:
whether the file systems were frozen at that instant, and how far the writer had come.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.lab.guest.agentmodel import AgentModel
from tests.lab.guest.base import Filesystem
from tests.lab.guest.qmp import QmpError

DISK_FORMAT = "lab-scripted-disk-1"
GREETING = {
    "QMP": {"version": {"qemu": {"micro": 22, "minor": 2, "major": 7}, "package": "scripted"}, "capabilities": []}
}


@dataclasses.dataclass(frozen=True)
class Moment:
    """What a snapshot or a backup holds: the guest's state at one instant, in the guest's seconds."""

    frozen: bool
    counter: int
    at: float


@dataclasses.dataclass
class QmpFaults:
    """``delay``: seconds before a command takes effect. ``refuse``: error text instead of the command.

    ``backup_seconds`` is how long a backup job copies after its point in time; ``sysrq`` whether the guest's kernel
    lets the keyboard thaw (Debian's default does not).
    """

    delay: dict[str, float] = dataclasses.field(default_factory=dict)
    refuse: dict[str, str] = dataclasses.field(default_factory=dict)
    backup_seconds: float = 0.0
    sysrq: bool = False


@dataclasses.dataclass
class _Job:
    identity: str
    target: Path
    moment: Moment
    ends_at: float


class ScriptedMonitor:
    """Carries out QMP commands on an AgentModel. ``events`` fills with what all clients are to be told."""

    def __init__(self, model: AgentModel, disk: Path, fs: Filesystem, node: str, name: str) -> None:
        self.faults = QmpFaults()
        self.events: list[dict[str, Any]] = []
        self.status = "running"
        self._model = model
        self._disk = disk
        self._fs = fs
        self._node = node
        self._name = name
        self._snapshots: dict[str, Moment] = {}
        self._files: dict[str, Path] = {}
        self._jobs: dict[str, _Job] = {}

    def write_disk(self) -> None:
        """Write the disk's file anew, in one step."""
        snapshots = {name: dataclasses.asdict(moment) for name, moment in self._snapshots.items()}
        _write(self._disk, {"format": DISK_FORMAT, "fs": self._fs, "snapshots": snapshots})

    def keep(self, snapshots: Mapping[str, Mapping[str, Any]]) -> None:
        """What stood on the disk before this start."""
        self._snapshots = {name: Moment(**moment) for name, moment in snapshots.items()}
        self.write_disk()

    def execute(self, command: str, arguments: Mapping[str, Any], now: float) -> Any:
        """The ``return`` value. Raises QmpError with QEMU's words."""
        if command in self.faults.refuse:
            raise QmpError("GenericError", self.faults.refuse[command])
        handler = getattr(self, "_do_" + command.replace("-", "_"), None)
        if handler is None:
            raise QmpError("CommandNotFound", f"The command {command} has not been found")
        return handler(arguments, now)

    def next_at(self) -> float | None:
        """When the next job ends, or None."""
        return min((job.ends_at for job in self._jobs.values()), default=None)

    def advance(self, now: float) -> None:
        """End the jobs that are due: write what they copied."""
        for job in [job for job in self._jobs.values() if job.ends_at <= now]:
            del self._jobs[job.identity]
            image = dataclasses.asdict(job.moment)
            _write(job.target, {"format": DISK_FORMAT, "fs": self._fs, "image": image})
            self._job_states(job, "waiting", "pending", "concluded")
            data = {"device": job.identity, "len": 1, "offset": 1, "speed": 0, "type": "backup"}
            self._event("BLOCK_JOB_COMPLETED", data)
            self._job_states(job, "null")

    # -- the machine --------------------------------------------------------------------------------------------------

    def _do_qmp_capabilities(self, _: Mapping[str, Any], __: float) -> Any:
        return {}

    def _do_query_status(self, _: Mapping[str, Any], __: float) -> Any:
        return {"status": self.status, "singlestep": False, "running": self.status == "running"}

    def _do_query_version(self, _: Mapping[str, Any], __: float) -> Any:
        return GREETING["QMP"]["version"]

    def _do_query_name(self, _: Mapping[str, Any], __: float) -> Any:
        return {"name": self._name}

    def _do_query_uuid(self, _: Mapping[str, Any], __: float) -> Any:
        return {"UUID": "00000000-0000-0000-0000-000000000000"}

    def _do_stop(self, _: Mapping[str, Any], now: float) -> Any:
        self._model.pause(now)
        self.status = "paused"
        self._event("STOP", {})
        return {}

    def _do_cont(self, _: Mapping[str, Any], now: float) -> Any:
        self._model.resume(now)
        self.status = "running"
        self._event("RESUME", {})
        return {}

    def _do_system_reset(self, _: Mapping[str, Any], now: float) -> Any:
        self._model.reset(now)
        self._event("RESET", {"guest": False, "reason": "host-qmp-system-reset"})
        return {}

    def _do_quit(self, _: Mapping[str, Any], __: float) -> Any:
        self.status = "shutdown"
        return {}

    def _do_human_monitor_command(self, arguments: Mapping[str, Any], now: float) -> Any:
        words = str(arguments.get("command-line", "")).split()
        if words[:1] == ["savevm"] and len(words) > 1:
            self._snapshots[words[1]] = self._moment(now)
            self.write_disk()
        elif words[:1] == ["delvm"] and len(words) > 1:
            self._snapshots.pop(words[1], None)
            self.write_disk()
        elif words == ["info", "snapshots"]:
            return "".join(f"--        {name}\r\n" for name in self._snapshots) or "There is no snapshot available.\r\n"
        elif words == ["sendkey", "alt-sysrq-j"] and self.faults.sysrq:
            self._model.thaw_from_inside(now)
        return ""

    # -- block devices ------------------------------------------------------------------------------------------------

    def _do_query_block(self, _: Mapping[str, Any], __: float) -> Any:
        inserted = {"node-name": self._node, "drv": "qcow2", "ro": False, "file": str(self._disk)}
        return [{"device": "", "qdev": "/machine/peripheral/virtio0/virtio-backend", "inserted": inserted}]

    def _do_query_named_block_nodes(self, _: Mapping[str, Any], __: float) -> Any:
        nodes = [{"node-name": self._node, "drv": "qcow2", "file": str(self._disk)}]
        return nodes + [{"node-name": name, "drv": "qcow2", "file": str(file)} for name, file in self._files.items()]

    def _do_query_blockstats(self, _: Mapping[str, Any], now: float) -> Any:
        count = self._model.counter(now)
        stats = {"wr_operations": 2 * count, "flush_operations": count, "wr_bytes": 1024 * count, "rd_operations": 0}
        return [{"device": "", "node-name": self._node, "stats": stats}]

    def _do_blockdev_add(self, arguments: Mapping[str, Any], _: float) -> Any:
        file = arguments.get("file", {})
        name = arguments.get("filename") or (file.get("filename") if isinstance(file, dict) else self._files.get(file))
        self._files[arguments["node-name"]] = Path(name or "")
        return {}

    def _do_blockdev_del(self, arguments: Mapping[str, Any], _: float) -> Any:
        self._files.pop(arguments["node-name"], None)
        return {}

    def _do_blockdev_snapshot_internal_sync(self, arguments: Mapping[str, Any], now: float) -> Any:
        name = arguments["name"]
        self._check_node(arguments["device"])
        if name in self._snapshots:
            raise QmpError("GenericError", f"Snapshot with name '{name}' already exists on device '{self._node}'")
        self._snapshots[name] = self._moment(now)
        self.write_disk()
        return {}

    def _do_blockdev_snapshot_delete_internal_sync(self, arguments: Mapping[str, Any], _: float) -> Any:
        name = arguments["name"]
        self._check_node(arguments["device"])
        if name not in self._snapshots:
            text = f"Snapshot with id 'null' and name '{name}' does not exist on device '{self._node}'"
            raise QmpError("GenericError", text)
        del self._snapshots[name]
        self.write_disk()
        return {"name": name, "id": "1", "vm-state-size": 0}

    def _do_blockdev_backup(self, arguments: Mapping[str, Any], now: float) -> Any:
        self._check_node(arguments["device"])
        target = arguments["target"]
        if target not in self._files:
            raise QmpError("GenericError", f"Cannot find device='' nor node-name='{target}'")
        identity = arguments.get("job-id", "backup")
        if identity in self._jobs:
            raise QmpError("GenericError", f"Job ID '{identity}' already in use")
        job = _Job(identity, self._files[target], self._moment(now), now + self.faults.backup_seconds)
        self._jobs[identity] = job
        self._job_states(job, "created", "running")
        return {}

    def _do_transaction(self, arguments: Mapping[str, Any], now: float) -> Any:
        for action in arguments["actions"]:
            if action["type"] not in ("blockdev-backup", "blockdev-snapshot-internal-sync"):
                raise QmpError("GenericError", f"Parameter 'type' does not accept value '{action['type']}'")
            self.execute(action["type"], action["data"], now)
        return {}

    def _do_query_block_jobs(self, _: Mapping[str, Any], __: float) -> Any:
        return [
            {"device": job.identity, "type": "backup", "status": "running", "len": 1, "offset": 0, "busy": True}
            for job in self._jobs.values()
        ]

    def _do_query_jobs(self, _: Mapping[str, Any], __: float) -> Any:
        return [
            {"id": job.identity, "type": "backup", "status": "running", "current-progress": 0, "total-progress": 1}
            for job in self._jobs.values()
        ]

    def _do_job_cancel(self, arguments: Mapping[str, Any], _: float) -> Any:
        job = self._jobs.pop(arguments["id"], None)
        if job is None:
            raise QmpError("GenericError", "Job not found")
        data = {"device": job.identity, "len": 1, "offset": 0, "speed": 0, "type": "backup"}
        self._event("BLOCK_JOB_CANCELLED", data)
        self._job_states(job, "null")
        return {}

    def _do_block_job_cancel(self, arguments: Mapping[str, Any], now: float) -> Any:
        return self._do_job_cancel({"id": arguments["device"]}, now)

    def _do_job_dismiss(self, _: Mapping[str, Any], __: float) -> Any:
        raise QmpError("GenericError", "Job not found")

    _do_job_finalize = _do_job_dismiss

    # -- helpers ------------------------------------------------------------------------------------------------------

    def _moment(self, now: float) -> Moment:
        counter = self._model.counter(now)
        return Moment(self._model.all_frozen, counter, now)

    def _check_node(self, name: str) -> None:
        if name != self._node:
            raise QmpError("GenericError", f"Cannot find device='{name}' nor node-name='{name}'")

    def _job_states(self, job: _Job, *states: str) -> None:
        for state in states:
            self._event("JOB_STATUS_CHANGE", {"id": job.identity, "status": state})

    def _event(self, name: str, data: dict[str, Any]) -> None:
        self.events.append({"event": name, "data": data})


def read_disk(path: Path) -> dict[str, Any] | None:
    """The content of a scripted disk or backup, or None when the file is something else."""
    with path.open("rb") as file:
        if not file.read(64).startswith(b'{"format": "' + DISK_FORMAT.encode()):
            return None
    content: dict[str, Any] = json.loads(path.read_text())
    return content


def _write(path: Path, content: Mapping[str, Any]) -> None:
    scratch = path.with_name(f".{path.name}.new")
    scratch.write_text(json.dumps(content))
    scratch.rename(path)
