"""What vzdump knows of guests: their configuration, whether they run, and the ``lock: backup`` it puts on them.

Guests come from the lab node's files below ``<root>/etc/pve`` where there are any, so that API and driver see the same
lock; otherwise from the job's GuestSpecs, with the lock as a file ``<root>/locks/<vmid>``.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tests.lab.guest.base import vm_running
from tests.lab.node.config import WORDS
from tests.lab.node.host import Host
from tests.lab.vzdump.errors import Die
from tests.lab.vzdump.options import JobOptions


@dataclass(frozen=True)
class Found:
    """A guest as its configuration describes it. ``name`` is None where the configuration has none."""

    vmid: int
    kind: str
    name: str | None
    agent: str | None
    disks: dict[str, str]  # key and volume
    storage_snapshots: bool


class Guests:
    """The guests that one job can see."""

    def __init__(self, options: JobOptions) -> None:
        self._options = options
        cluster = options.cluster or options.root
        self._host = Host(cluster) if (cluster / "lab/settings.json").exists() else None
        self._where = {}
        if self._host is not None:
            self._where = {vmid: (node, kind) for node, kind, vmid in self._host.store.everywhere()}

    def on_other_nodes(self) -> list[int]:
        """The wanted guests that live elsewhere in the cluster: vzdump skips them with a line."""
        here = self._options.node
        return sorted(v for v in self._options.vmids if self._where.get(v, (here, ""))[0] != here)

    def kind(self, vmid: int) -> str | None:
        """``qemu`` or ``lxc``; None when the cluster has no such guest."""
        if self._host is not None:
            return self._where.get(vmid, ("", None))[1]
        spec = self._options.guest(vmid)
        return None if spec.kind == "missing" else spec.kind

    def load(self, vmid: int) -> Found:
        """The configuration as it is now. Raises Die."""
        if self._host is None:
            spec = self._options.guest(vmid)
            disks = {key: f"local:{vmid}/vm-{vmid}-disk-{n}.qcow2" for n, key in enumerate(spec.disks)}
            return Found(vmid, spec.kind, spec.name, spec.agent, disks, spec.storage_snapshots)
        node, kind = self._where[vmid]
        config = self._host.load(node, kind, vmid)
        name = config.values.get("name" if kind == "qemu" else "hostname")
        snapshots = config.can_snapshot(self._host.settings.storages)
        return Found(vmid, kind, name, config.values.get("agent"), config.disks(), snapshots)

    def dump_folder(self) -> Path:
        """Where the storage keeps archives that are files, or the folder of a bare --dumpdir."""
        if self._host is None or self._options.storage_kind == "dumpdir":
            return self._options.root / "dump"
        entry = self._host.settings.storages.get(self._options.storage, {})
        return Path(entry.get("path") or self._options.root / "var/lib/vz") / "dump"

    def run_folder(self, vmid: int) -> Path:
        """Where the guest's sockets stand."""
        if self._host is not None:
            return self._host.run_path(vmid, "pid").parent
        return self._options.run

    def running(self, vmid: int) -> bool:
        if self.kind(vmid) == "qemu":
            return vm_running(self.run_folder(vmid), vmid)
        if self._host is not None:
            return bool(self._host.pid(vmid))
        return self._options.guest(vmid).running

    def lock(self, vmid: int) -> None:
        """Raises Die with PVE's words when somebody else holds the guest."""
        if self._host is not None:
            node, kind = self._where[vmid]
            with self._host.locked(self._host.load(node, kind, vmid)) as config:
                config.check_lock()
                config.values["lock"] = "backup"
            return
        path = self._options.root / "locks" / str(vmid)
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with path.open("x") as handle:
                handle.write("backup")
        except FileExistsError:
            word = WORDS[self.kind(vmid) or "qemu"]
            raise Die(f"{word} is locked ({path.read_text()})") from None

    def unlock(self, vmid: int) -> None:
        """Raises Die when the lock is gone or somebody else's."""
        if self._host is not None:
            node, kind = self._where[vmid]
            with self._host.locked(self._host.load(node, kind, vmid)) as config:
                _check_is_backup(config.lock)
                del config.values["lock"]
            return
        path = self._options.root / "locks" / str(vmid)
        _check_is_backup(path.read_text() if path.exists() else "")
        path.unlink()


def _check_is_backup(lock: str) -> None:
    if not lock:
        raise Die("no lock found trying to remove 'backup'  lock")
    if lock != "backup":
        raise Die(f"found lock '{lock}' trying to remove 'backup' lock")
