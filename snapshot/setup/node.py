"""Where on a node everything stands that setup looks at or changes, and whether this machine is one at all."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from snapshot.config.settings import DEFAULT_PATH, JournalConfig, LocalConfig
from snapshot.doctor.exporter import DEBIANS_FOLDER
from snapshot.errors import SafeSnapshotError
from snapshot.setup import record


class Places(NamedTuple):
    """Paths on this node; the defaults are a real one's."""

    config: Path = DEFAULT_PATH
    vzdump_conf: Path = Path("/etc/vzdump.conf")
    pve: Path = Path("/etc/pve")
    hook: Path = Path("/usr/bin/vzdump-hook")
    state: Path = JournalConfig().path.parent
    proc: Path = Path("/proc")
    textfiles: Path = Path(DEBIANS_FOLDER)
    pvesh: str = LocalConfig().pvesh
    systemctl: str = "/usr/bin/systemctl"

    @property
    def record(self) -> Path:
        """See record.py."""
        return self.state / record.NAME


def node_name(places: Places) -> str:
    """This node's name. SafeSnapshotError, before anything is changed, where that cannot be a node of PVE's, or we are
    not root.
    """
    if os.geteuid() != 0:
        raise SafeSnapshotError(
            "setup changes the node, which takes root: nothing was changed", remedy="run it as root"
        )
    if not places.pve.is_dir() or not os.access(places.pvesh, os.X_OK):
        missing = places.pvesh if places.pve.is_dir() else places.pve
        raise SafeSnapshotError(
            f"this is no Proxmox VE node ({missing} is not there): nothing was changed",
            remedy="run it on a node; elsewhere see docs/install.md",
        )
    try:
        return os.path.basename(os.readlink(places.pve / "local"))
    except OSError:
        raise SafeSnapshotError(
            f"{places.pve} is not mounted: nothing was changed", remedy="`systemctl status pve-cluster`"
        ) from None
