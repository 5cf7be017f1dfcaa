"""The guests' configuration files, in PVE's own format, below ``<root>/etc/pve/nodes/<node>/{qemu-server,lxc}``.

A file has the configuration first, then ``[PENDING]``, then one section a snapshot; descriptions are comment lines at
the top of a section. Being files, they outlive a killed server, and tasks, pvesh and the vzdump driver share them with
it under PVE's lock (``/var/lock/...``, flock).
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import time
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.lab.node.errors import Die

FOLDERS = {"qemu": "qemu-server", "lxc": "lxc"}
WORDS = {"qemu": "VM", "lxc": "CT"}
_LOCK_POLL_SECONDS = 0.01
_DISK = re.compile(r"^(?:(?:ide|sata|scsi|virtio|efidisk|tpmstate|mp)\d+|rootfs)$")
# Storage types whose volumes can be snapshotted whatever their format (PVE::Storage plugins, volume_has_feature).
_SNAPSHOT_STORAGES = ("lvmthin", "zfspool", "zfs", "rbd", "btrfs", "cephfs")
# What a snapshot section does not repeat (PVE::AbstractConfig, __snapshot_copy_config).
_NOT_IN_SNAPSHOTS = ("lock", "description", "digest", "parent", "vmstate", "snaptime", "snapstate")


@dataclass
class GuestConfig:
    """One guest's configuration. ``pending`` holds the value a key gets at the next start, None: it is deleted."""

    node: str
    kind: str
    vmid: int
    values: dict[str, str] = field(default_factory=dict)
    pending: dict[str, str | None] = field(default_factory=dict)
    snapshots: dict[str, dict[str, str]] = field(default_factory=dict)
    digest: str = ""

    @property
    def lock(self) -> str:
        return self.values.get("lock", "")

    def check_lock(self) -> None:
        """Raise Die with PVE's words when somebody holds the guest."""
        if self.lock:
            raise Die(f"{WORDS[self.kind]} is locked ({self.lock})")

    def disks(self) -> dict[str, str]:
        """Key and volume of every disk that is not a CD-ROM, in the file's order."""
        return {
            key: value.split(",")[0]
            for key, value in self.values.items()
            if _DISK.match(key) and "media=cdrom" not in value and not value.startswith(("none", "cdrom"))
        }

    def can_snapshot(self, storages: dict[str, dict[str, str]]) -> bool:
        """Whether every disk's storage or format takes snapshots."""
        for volume in self.disks().values():
            storage, _, name = volume.partition(":")
            kind = storages.get(storage, {}).get("type", "dir")
            if kind not in _SNAPSHOT_STORAGES and not (kind == "dir" and name.endswith(".qcow2")):
                return False
        return True

    def snapshot_values(self) -> dict[str, str]:
        """The values a new snapshot section starts with."""
        kept = {k: v for k, v in self.values.items() if k not in _NOT_IN_SNAPSHOTS and not k.startswith("unused")}
        if "parent" in self.values:
            kept["parent"] = self.values["parent"]
        return kept

    def with_pending(self) -> dict[str, str]:
        """The values as the next start will see them: what GET config answers without ``current=1``."""
        values = dict(self.values)
        for key, value in self.pending.items():
            if value is None:
                values.pop(key, None)
            else:
                values[key] = value
        return values

    def apply_pending(self) -> None:
        """What a start of the guest does."""
        self.values, self.pending = self.with_pending(), {}


class ConfigStore:
    """The configuration files of one lab root."""

    def __init__(self, root: Path) -> None:
        self._nodes = root / "etc" / "pve" / "nodes"
        self._locks = root / "var" / "lock"

    def path(self, node: str, kind: str, vmid: int) -> Path:
        return self._nodes / node / FOLDERS[kind] / f"{vmid}.conf"

    def load(self, node: str, kind: str, vmid: int) -> GuestConfig:
        """Read a configuration. Raises Die with PVE's words when there is none on that node."""
        try:
            text = self.path(node, kind, vmid).read_text()
        except FileNotFoundError:
            raise Die(f"Configuration file 'nodes/{node}/{FOLDERS[kind]}/{vmid}.conf' does not exist") from None
        return parse(text, node, kind, vmid)

    def write(self, config: GuestConfig) -> None:
        """Replace the file in one step."""
        path = self.path(config.node, config.kind, config.vmid)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f"{path.name}.tmp.{os.getpid()}")
        temporary.write_text(render(config))
        temporary.replace(path)

    @contextlib.contextmanager
    def locked(self, node: str, kind: str, vmid: int, timeout: float) -> Iterator[GuestConfig]:
        """Hold the file's lock, and write what the block made of the configuration unless it raised."""
        path = self._locks / FOLDERS[kind] / f"lock-{vmid}.conf"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a") as handle:
            deadline = time.monotonic() + timeout
            while True:
                try:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() >= deadline:
                        text = f"can't lock file '/var/lock/{FOLDERS[kind]}/lock-{vmid}.conf' - got timeout"
                        raise Die(text) from None
                    time.sleep(_LOCK_POLL_SECONDS)
            config = self.load(node, kind, vmid)
            yield config
            self.write(config)

    def everywhere(self) -> Iterator[tuple[str, str, int]]:
        """Node, kind and vmid of every guest of the cluster."""
        for node in sorted(os.listdir(self._nodes)):
            for kind, folder in FOLDERS.items():
                with contextlib.suppress(FileNotFoundError):
                    names = os.listdir(self._nodes / node / folder)
                    vmids = sorted(int(name[:-5]) for name in names if name.endswith(".conf"))
                    yield from ((node, kind, vmid) for vmid in vmids)


def parse(text: str, node: str, kind: str, vmid: int) -> GuestConfig:
    """A configuration file's text as a GuestConfig."""
    config = GuestConfig(node, kind, vmid, digest=hashlib.sha1(text.encode()).hexdigest())
    section = config.values
    pending: dict[str, str] = {}
    for line in text.splitlines():
        if line.startswith("["):
            name = line.strip("[]")
            section = pending if name == "PENDING" else config.snapshots.setdefault(name, {})
        elif line.startswith("#"):
            section["description"] = section.get("description", "") + urllib.parse.unquote(line[1:]) + "\n"
        elif line.strip():
            key, _, value = line.partition(":")
            section[key] = value.strip()
    for values in (config.values, *config.snapshots.values()):
        if "description" in values:
            values["description"] = values["description"].rstrip()
    deleted = pending.pop("delete", "")
    config.pending = {**pending, **dict.fromkeys(filter(None, deleted.split(",")))}
    return config


def render(config: GuestConfig) -> str:
    """The file's text: keys sorted as PVE writes them."""
    lines = _section(config.values)
    if config.pending:
        values = {key: value for key, value in config.pending.items() if value is not None}
        deleted = [key for key, value in config.pending.items() if value is None]
        lines += ["", "[PENDING]", *_section({**values, **({"delete": ",".join(deleted)} if deleted else {})})]
    for name, values in config.snapshots.items():
        lines += ["", f"[{name}]", *_section(values)]
    return "\n".join(lines) + "\n"


def _section(values: dict[str, str]) -> list[str]:
    description = values.get("description", "")
    comments = ["#" + urllib.parse.quote(line, safe=" /:;,.()=+'") for line in description.splitlines()]
    return comments + [f"{key}: {values[key]}" for key in sorted(values) if key != "description"]
