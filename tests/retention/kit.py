"""A lab whose guest 100 is shut down, with snapshots of the past in its configuration and in the journal."""

from __future__ import annotations

import contextlib
import time
from typing import Any

from snapshot.journal.record import new_id
from snapshot.journal.removals import Removal, Removals
from snapshot.journal.store import Journal
from snapshot.model import GuestKind, Verdict, VerdictKind
from snapshot.pve.snapshots import description_of
from tests.lab.site import Run, Site
from tests.unit.kit import GUEST, VirtualClock, record

HOUR = 3600
CONSISTENT, CRASH = VerdictKind.FILESYSTEM_CONSISTENT, VerdictKind.CRASH_CONSISTENT


def stamp(taken_at: float) -> str:
    return time.strftime("%Y%m%d-%H%M%S", time.gmtime(taken_at))


def plant(
    lab: Site,
    hours: float,
    *,
    label: str = "",
    verdict: VerdictKind = CONSISTENT,
    name: str = "",
    vmid: int = 100,
    mark: str | None = None,
    is_known: bool = True,
    record_values: dict[str, Any] | None = None,
    **section: str,
) -> str:
    """A snapshot of so many hours ago, as a run of ours has left it; its name. ``mark``: another description."""
    run, taken_at = new_id(), int(time.time() - hours * HOUR)
    name = name or f"safe-{f'{label}-' if label else ''}{stamp(taken_at)}"
    said = description_of("", run, Verdict(verdict, "planted"), 0.1, taken_at)
    found = lab.node.config(vmid)
    with lab.node.store.locked(found.node, found.kind, vmid, 10) as locked:
        values = {"snaptime": str(taken_at), "description": said if mark is None else mark, **section}
        locked.snapshots[name] = values
        locked.values["parent"] = max(locked.snapshots, key=lambda one: int(locked.snapshots[one]["snaptime"]))
    if is_known:
        with contextlib.closing(Journal(lab.journal_path)) as journal:
            values_of_record: dict[str, Any] = {
                "state": "thawed",
                "snapshot_name": name,
                "verdict": verdict.value,
                "reason": "planted",
                "closed_at": taken_at + 2.0,
                **(record_values or {}),
            }
            journal.begin(record(run, vmid, at=taken_at - 1.0)._replace(**values_of_record))
    return name


def names(lab: Site, vmid: int = 100) -> set[str]:
    """The snapshots that the guest's configuration has."""
    return set(lab.node.config(vmid).snapshots)


def prune(lab: Site, *arguments: str) -> Run:
    """Run it, and check what must hold for every run."""
    run = lab.safe_snapshot("prune", *arguments)
    assert "Traceback" not in run.text, run
    assert "internal error" not in run.text, run
    return run


def open_removals(lab: Site) -> list[Removal]:
    """Of which nobody knows what became."""
    with contextlib.closing(Journal(lab.journal_path)) as journal:
        guest = GUEST._replace(kind=GuestKind.QEMU)
        return Removals(journal, VirtualClock()).open(guest)


def rows(run: Run, vmid: int = 100) -> dict[str, dict[str, Any]]:
    """The snapshots of one guest in the JSON of `list` or `prune`, by name."""
    (guest,) = (guest for guest in run.json["guests"] if guest["vmid"] == vmid)
    return {row["snapshot"]: row for row in (*guest["snapshots"], *guest["removed"])}
