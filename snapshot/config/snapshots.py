"""What may be set of safe-snapshot itself: one snapshot, and many at once. See settings.py, which holds all of it."""

from __future__ import annotations

from typing import NamedTuple


class SnapshotConfig(NamedTuple):
    """``[snapshot]``: safe-snapshot's own settings."""

    name_prefix: str = "safe"
    task_timeout_seconds: float = 1800.0
    """How long to wait for the snapshot task's end once the guest is thawed."""
    lost_reply_seconds: float = 30.0
    """How long to look for a snapshot whose request PVE never answered."""
    verify: bool = False
    """Ask the disk in each snapshot whether it was at rest (docs/verify.md): a verdict that it contradicts falls."""


class FleetConfig(NamedTuple):
    """``[fleet]``: safe-snapshot with many guests at once."""

    at_once: int = 8
    """How many guests are in work at the same time."""
    at_once_per_node: int = 2
    """Of these on one node. Each of PVE's nodes answers with three workers (pvedaemon), which others need too."""
    at_once_per_storage: int = 4
    """Of these with a disk on one storage; one that is not shared is another storage on each node."""
    wait_seconds: float = 600.0
    """How long a guest that is locked (it is being backed up, say), or that another run is at work on, is tried again
    before it is named as not done."""
    storage_full_percent: float = 95.0
    """A guest with a disk on a storage that is so full gets no snapshot; of a thin pool its data count, as PVE reports
    them, not its metadata. 100: only on one that is full."""
