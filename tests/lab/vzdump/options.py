"""What one vzdump job of the lab is told: its guests, its storage, the age of the node, and the faults to play.

Plain data, frozen, and able to travel to the job's own process as JSON. Guests' names may hold any bytes (as
surrogate escapes): hooks have to survive them.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Self

Mode = Literal["snapshot", "suspend", "stop"]
StorageKind = Literal["file", "dumpdir", "pbs", "provider"]
GuestKind = Literal["qemu", "lxc", "missing"]
FailBackup = Literal["", "start", "copy"]
TermInFreeze = Literal["swallowed", "raised"]

MODES: tuple[Mode, ...] = ("snapshot", "suspend", "stop")
STORAGE_KINDS: tuple[StorageKind, ...] = ("file", "dumpdir", "pbs", "provider")
DEFAULT_VERSION = "9.2.6"

# The storage ids that a fresh installation and PVE's documentation use. A bare --dumpdir has none.
_STOREIDS: dict[StorageKind, str] = {"file": "local", "dumpdir": "", "pbs": "pbs", "provider": "provider"}


@dataclass(frozen=True)
class Limits:
    """PVE's own time limits in seconds (qemu-server: Agent.pm, QMPClient.pm, VZDump/QemuServer.pm)."""

    ping: float = 3.0
    other: float = 5.0  # every agent and QMP command that has no limit of its own
    freeze: float = 600.0  # since qemu-server 9.0.23, and for each of the five status polls behind it
    old_freeze: float = 3600.0  # before 9.0.23
    thaw: float = 180.0
    start_file: float = 30.0  # the QMP command that starts the backup job
    start_pbs: float = 125.0
    cancel: float = 600.0
    poll: float = 1.0  # between two looks at the backup job

    def scaled(self, factor: float) -> Limits:
        """All limits times ``factor``: a test that waits for one need not wait ten minutes."""
        return Limits(**{name: value * factor for name, value in dataclasses.asdict(self).items()})


@dataclass(frozen=True)
class GuestSpec:
    """What vzdump reads of a guest without a configuration file below ``root``. ``missing``: there is no such guest."""

    vmid: int
    kind: GuestKind = "qemu"
    name: str | None = "lab"
    agent: str | None = "1"  # the value of the `agent:` line; None when the line is not there
    disks: tuple[str, ...] = ("virtio0",)  # QEMU guests only: a guest without disks is never frozen
    running: bool = True  # containers only: a QEMU guest runs when its process does
    storage_snapshots: bool = True  # containers only: whether their storage can snapshot


@dataclass(frozen=True)
class JobOptions:
    """One job. ``root`` stands for the node's ``/``; ``run`` holds the guests' sockets (tests.lab.guest.base.Guest).

    Below a LabNode's root, guests and their sockets are the LabNode's. A second node of the same cluster has a ``root``
    of its own, with ``cluster`` pointing at the LabNode's and its ``var/log/pve/tasks`` being a link to it.
    """

    root: Path
    run: Path
    vmids: tuple[int, ...]
    script: str | None = None
    mode: Mode = "snapshot"
    node: str = "pve1"
    user: str = "root@pam"
    storage_kind: StorageKind = "file"
    storeid: str | None = None  # None: the kind's usual one
    guests: tuple[GuestSpec, ...] = ()  # vmids without an entry get the defaults
    cluster: Path | None = None  # root of the LabNode that knows the guests; None: ``root``, if there is one
    power_socket: Path | None = None  # tests.lab.vzdump.power: who really switches guests off and on
    terminal: bool = False  # a job started by hand: `vzdump 100` on a terminal
    qemu_server_version: str = DEFAULT_VERSION
    compress: bool = False  # a compressor is forked before the freeze, and a fork writes the guest's log out
    lockwait_seconds: float = 10_800.0
    limits: Limits = field(default_factory=Limits)
    backup_delay: float = 0.0  # seconds inside the QMP command, before the point in time: connecting to PBS
    archive_seconds: float = 0.0  # the copy takes at least that long
    fail_backup: FailBackup = ""
    term_in_freeze: TermInFreeze = "swallowed"  # what PVE's evals do to a TERM that lands in the freeze

    @property
    def version(self) -> tuple[int, ...]:
        return tuple(int(part) for part in self.qemu_server_version.split("."))

    @property
    def storage(self) -> str:
        """The storage's id, empty for a bare --dumpdir."""
        return _STOREIDS[self.storage_kind] if self.storeid is None else self.storeid

    @property
    def writes_files(self) -> bool:
        """Whether archives are files on the node, so that LOGFILE and DUMPDIR exist."""
        return self.storage_kind in ("file", "dumpdir")

    def guest(self, vmid: int) -> GuestSpec:
        return next((spec for spec in self.guests if spec.vmid == vmid), GuestSpec(vmid))

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self), default=str)

    @classmethod
    def from_json(cls, text: str) -> Self:
        raw: dict[str, Any] = json.loads(text)
        raw["root"], raw["run"] = Path(raw["root"]), Path(raw["run"])
        raw["vmids"] = tuple(raw["vmids"])
        raw["guests"] = tuple(GuestSpec(**spec | {"disks": tuple(spec["disks"])}) for spec in raw["guests"])
        raw["limits"] = Limits(**raw["limits"])
        for name in ("cluster", "power_socket"):
            raw[name] = Path(raw[name]) if raw[name] else None
        return cls(**raw)
