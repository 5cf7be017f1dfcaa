"""What a lab node is told: versions, limits, guests, tokens. One JSON file, written by the test, read by everybody.

The file is the only channel for settings: the server, its workers and ``pvesh_fake`` look at its modification time
before they use it, so a change holds from the next request on, and nothing is lost when a process is killed.
"""

from __future__ import annotations

import dataclasses
import json
import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# PVE's own time limits in seconds: multiplied by ``time_scale``, or replaced by ``limits``.
PVE_LIMITS = {
    "cut": 30.0,  # pveproxy gives up on pvedaemon or another node: 596
    "ping": 3.0,  # the guest-ping before every agent call
    "freeze": 3600.0,  # guest-fsfreeze-freeze through the API
    "task_freeze": 600.0,  # guest-fsfreeze-freeze inside a task, and each of its five status questions
    "thaw": 180.0,
    "command": 5.0,  # every other agent or QMP command
    "snapshot": 3600.0,  # blockdev-snapshot-internal-sync and its deletion
    "stop": 5.0,  # between TERM and KILL when a task is stopped
    "config_lock": 10.0,  # waiting for the lock of a guest's configuration file
}
# An idle connection. Not scaled: a client that keeps its connection would lose it between any two requests.
IDLE_SECONDS = 5.0

# What a snapshot task can be told to spend time on, in seconds: before PVE's own freeze, after it, at the point in
# time itself (between two disks as well), after it, and after the thaw.
TASK_DELAYS = ("prepare", "before", "inside", "after", "finish")


def version_tuple(version: str) -> tuple[int, ...]:
    """``9.1.10`` as (9, 1, 10): versions compare by number, not by letter."""
    return tuple(int(part) for part in version.split("."))


@dataclass
class Settings:
    """Everything a node can be told. Durations are seconds."""

    nodes: dict[str, dict[str, Any]] = field(default_factory=dict)  # name -> address, port, online
    guests: dict[str, dict[str, Any]] = field(default_factory=dict)  # vmid -> kind, run, drives, pool, running
    tokens: dict[str, dict[str, Any]] = field(default_factory=dict)  # id -> secret, acl: [[path, [privilege]]]
    users: dict[str, dict[str, Any]] = field(default_factory=dict)  # id -> password, acl
    storages: dict[str, dict[str, Any]] = field(
        default_factory=dict
    )  # id -> type, content, shared, usage: {node: {disk, maxdisk}}
    quorate: bool = True  # what /cluster/status says of a cluster
    pve_version: str = "9.2.6"  # qemu-server's: decides about privileges and freezing
    manager_version: str = ""  # pve-manager's, for GET /version; empty: the same as pve_version
    json_message: bool = True  # `message` in JSON errors: pve-http-server 5.2.0 and newer
    time_scale: float = 1.0  # PVE's seconds to real ones
    limits: dict[str, float] = field(default_factory=dict)  # real seconds, by a name of PVE_LIMITS
    idle_timeout: float = IDLE_SECONDS
    latency: float = 0.0  # before every answer
    unauthorized_delay: float = 0.0  # PVE answers a 401 after 3 s
    ticket_ttl: float = 7200.0
    task_warnings: int = 0  # a snapshot task that succeeds ends with `WARNINGS: n`
    task_delays: dict[str, float] = field(default_factory=dict)  # by stage; {} lets a task go on that stands in one
    pause_guest: bool = False  # PVE's savevm-start stops the guest's CPUs around the volume snapshots
    sendkey_to_qemu: bool = True  # hand sendkey on to QEMU's monitor
    pvesh_seconds: float = 0.0  # what a pvesh needs to start (about 1 s on a real node)
    pvesh_as_root: bool = True  # False: pvesh refuses, as for any other user
    jobs: list[dict[str, Any]] = field(default_factory=list)  # backup jobs, as GET /cluster/backup lists them
    vzdump: dict[str, dict[str, Any]] = field(default_factory=dict)  # node -> its vzdump.conf
    replication: list[dict[str, Any]] = field(default_factory=list)  # jobs, as GET /cluster/replication lists them
    csrf_key: str = "lab"

    def limit(self, name: str) -> float:
        """A time limit in real seconds. Raises KeyError for a name that PVE does not have."""
        return self.limits.get(name, PVE_LIMITS[name] * self.time_scale)

    def at_least(self, version: str) -> bool:
        """Whether qemu-server has reached a version."""
        return version_tuple(self.pve_version) >= version_tuple(version)


class SettingsFile:
    """The settings of one lab root: ``get()`` is as new as the file."""

    def __init__(self, root: Path) -> None:
        self.path = root / "lab" / "settings.json"
        self._stamp: tuple[int, int] | None = None
        self._settings = Settings()

    def get(self) -> Settings:
        """The settings; the file is read again only when it was replaced."""
        status = os.stat(self.path)
        stamp = (status.st_ino, status.st_mtime_ns)
        if stamp != self._stamp:
            self._settings = Settings(**json.loads(self.path.read_text()))
            self._stamp = stamp
        return self._settings

    def put(self, settings: Settings) -> None:
        """Replace the file in one step: a reader sees the old or the new one."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.path.with_suffix(".new")
        temporary.write_text(json.dumps(dataclasses.asdict(settings), indent=1))
        # The kernel's own stamps step by milliseconds: two changes in one step would look like one.
        now = time.time_ns()
        os.utime(temporary, ns=(now, now))
        temporary.replace(self.path)
