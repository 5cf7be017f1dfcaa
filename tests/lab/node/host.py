"""One lab root as PVE's own code sees a node: its guests' files, processes and sockets. No HTTP here."""

from __future__ import annotations

import contextlib
import json
import os
import time
from pathlib import Path
from typing import Any

from tests.lab.node.config import ConfigStore, GuestConfig
from tests.lab.node.errors import Die
from tests.lab.node.qmp import agent_command, qmp_command
from tests.lab.node.settings import Settings, SettingsFile
from tests.lab.node.tasks import TaskLog, is_running, say
from tests.lab.node.usercfg import UserFile

_LINGER_SECONDS = 0.02  # how often a task that lingers looks whether it still shall
_LIMIT_OF_COMMAND = {
    "guest-fsfreeze-freeze": "freeze",
    "guest-fsfreeze-thaw": "thaw",
    "blockdev-snapshot-internal-sync": "snapshot",
    "blockdev-snapshot-delete-internal-sync": "snapshot",
}


class Host:
    """A lab root, opened by the server's workers, by tasks, and by ``pvesh_fake``."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.settings_file = SettingsFile(root)
        self.store = ConfigStore(root)
        self.tasks = TaskLog(root)
        self.users = UserFile(root)

    @property
    def settings(self) -> Settings:
        return self.settings_file.get()

    # ---------------------------------------------------------------- guests

    def guest_settings(self, vmid: int) -> dict[str, Any]:
        return self.settings.guests.get(str(vmid), {})

    def run_path(self, vmid: int, suffix: str) -> Path:
        return Path(self.guest_settings(vmid).get("run") or self.root / "run") / f"{vmid}.{suffix}"

    def pid(self, vmid: int) -> int:
        """The pid of a running guest's QEMU process, or 0. A container runs when its settings say so."""
        guest = self.guest_settings(vmid)
        if guest.get("kind") == "lxc":
            return 1 if guest.get("running", True) else 0
        with contextlib.suppress(OSError, ValueError):
            pid = int(self.run_path(vmid, "pid").read_text())
            return pid if is_running(pid) else 0
        return 0

    def load(self, node: str, kind: str, vmid: int) -> GuestConfig:
        """A guest's configuration; what was pending is applied once the guest was stopped and started. Raises Die."""
        config = self.store.load(node, kind, vmid)
        if config.pending and self._restarted(vmid):
            with self.store.locked(node, kind, vmid, self.settings.limit("config_lock")) as locked:
                locked.apply_pending()
            config = self.store.load(node, kind, vmid)
        return config

    def locked(self, config: GuestConfig) -> contextlib.AbstractContextManager[GuestConfig]:
        """Change a configuration under PVE's lock: see ConfigStore.locked."""
        return self.store.locked(config.node, config.kind, config.vmid, self.settings.limit("config_lock"))

    def note_pending(self, vmid: int) -> None:
        """Remember which QEMU process the pending values wait for."""
        path = self.root / "lab" / f"pending-{vmid}"
        path.write_text(str(self.pid(vmid)))

    def _restarted(self, vmid: int) -> bool:
        try:
            waited_for = int((self.root / "lab" / f"pending-{vmid}").read_text())
        except (OSError, ValueError):
            return False
        return self.pid(vmid) != waited_for

    # --------------------------------------------------------------- sockets

    def mon(self, vmid: int, execute: str, *, timeout: float | None = None, **arguments: Any) -> Any:
        """An agent or QMP command with PVE's time limit for it. Raises Die in PVE's words."""
        is_agent = execute.startswith("guest-")
        if not self.pid(vmid):
            raise Die(f"VM {vmid} not running")
        path = self.run_path(vmid, "qga" if is_agent else "qmp")
        if not path.exists():
            raise Die("unable to open monitor socket")
        seconds = self.settings.limit(_LIMIT_OF_COMMAND.get(execute, "command")) if timeout is None else timeout
        run = agent_command if is_agent else qmp_command
        return run(vmid, path, execute, arguments, timeout=seconds)

    # ------------------------------------------------------------------ tasks

    def linger(self, stage: str) -> None:
        """Spend the time a test asked for at a stage of a task; it may change its mind meanwhile."""
        began = time.monotonic()
        while time.monotonic() - began < self.settings.task_delays.get(stage, 0.0):
            time.sleep(_LINGER_SECONDS)

    def warn(self, count: int) -> int:
        """Log warnings as PVE's log_warn does; returns their number."""
        for number in range(count):
            say(f"WARN: lab warning {number + 1}")
        return count

    def note_point(self, vmid: int, name: str, began: float, ended: float) -> None:
        """Record when the snapshot was really taken (time.monotonic), for tests: see LabNode.points()."""
        entry = {"vmid": vmid, "name": name, "began": began, "ended": ended}
        path = self.root / "lab" / "points.jsonl"
        output = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        os.write(output, json.dumps(entry).encode() + b"\n")
        os.close(output)
