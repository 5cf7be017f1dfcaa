"""Who is at work on a guest right now, so that a freeze of it has a reason: PVE's tasks and its replication.

On the node itself the list of running tasks is a file, which needs no API and no privilege. Elsewhere PVE is asked; a
token without Sys.Audit sees its own tasks only, and then nobody seems to be at work.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from snapshot.base.procfs import process_lives
from snapshot.errors import SafeSnapshotError
from snapshot.model import Guest, Upid
from snapshot.pve.access import Access

MOST_BYTES = 1 << 20
"""Of the file of running tasks: PVE keeps a line for each of some dozens."""


def at_work(access: Access, guest: Guest) -> str:
    """The kind of PVE's work on the guest that may have frozen it, e.g. ``vzdump``; empty when none is known."""
    for upid in _running_tasks(access, guest):
        # A backup of several guests carries no vmid; the guest that it is at is locked.
        if upid.id == str(guest.vmid) or (upid.kind == "vzdump" and not upid.id and guest.lock == "backup"):
            return upid.kind
    return "replication" if _is_replicated(access, guest) else ""


def running_here(task_folder: Path) -> list[Upid]:
    """This node's running tasks, by PVE's own list. OSError when that cannot be read."""
    with (task_folder / "active").open(encoding="utf-8", errors="replace") as file:
        text = file.read(MOST_BYTES)
    tasks = (_upid(line.partition(" ")[0]) for line in text.splitlines())
    return [task for task in tasks if task is not None and process_lives(task.pid, task.pstart)]


def _running_tasks(access: Access, guest: Guest) -> Iterator[Upid]:
    if access.is_local(guest):
        with contextlib.suppress(OSError):
            yield from running_here(access.config.local.task_folder)
            return
    for row in _rows(access, f"nodes/{guest.node}/tasks", {"source": "active", "limit": 500}):
        task = _upid(str(row.get("upid")))
        if task is not None and not row.get("endtime"):
            yield task


def _is_replicated(access: Access, guest: Guest) -> bool:
    """Replication is no task: pvescheduler runs it, and its jobs' list has the pid of one that runs."""
    rows = _rows(access, f"nodes/{guest.node}/replication", {"guest": int(guest.vmid)})
    return any(row.get("pid") for row in rows if str(row.get("guest", guest.vmid)) == str(guest.vmid))


def _rows(access: Access, path: str, params: dict[str, object]) -> Iterator[dict[str, object]]:
    try:
        answer = access.main.request("GET", path, params)
    except SafeSnapshotError:
        return
    if isinstance(answer, list):
        yield from (row for row in answer if isinstance(row, dict))


def _upid(text: str) -> Upid | None:
    try:
        return Upid.parse(text)
    except ValueError:
        return None
