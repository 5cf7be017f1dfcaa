"""A guest's snapshots as PVE lists them, and the mark that ours carry in their description.

The mark is a line of its own, the last one: ``safe-snapshot run <id>``, with the id of the run's window in the journal.
Whoever takes it out has made the snapshot his own: nothing of ours removes it then. Earlier versions left no such line,
but began one with ``safe-snapshot:``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from snapshot.base.clock import duration, iso
from snapshot.base.text import clean
from snapshot.model import DiskWord, Verdict

CURRENT = "current"
"""PVE's row for the guest itself: its parent is the snapshot that it was taken from or rolled back to last."""

_RUN = re.compile(r"^safe-snapshot run (?P<run>[0-9a-f]{32})[ \t\r]*$", re.MULTILINE)
_EARLIER = re.compile(r"^safe-snapshot: ", re.MULTILINE)


class Snapshot(NamedTuple):
    """A snapshot as PVE lists it. ``state`` is empty once it is whole, else ``prepare`` or ``delete``."""

    name: str
    description: str
    state: str
    taken_at: int = 0
    """Unix time, by the node's clock."""
    parent: str = ""
    holds_ram: bool = False

    @property
    def is_whole(self) -> bool:
        """Whether PVE has finished it."""
        return not self.state


class Tree(NamedTuple):
    """All snapshots of a guest by name, and the one that it stands on now."""

    snapshots: Mapping[str, Snapshot]
    parent: str = ""

    def depth(self, one: Snapshot) -> int:
        """How many others it was taken upon."""
        above: set[str] = set()
        parent = self.snapshots.get(one.parent)
        while parent is not None and parent.name not in above:
            above.add(parent.name)
            parent = self.snapshots.get(parent.parent)
        return len(above)


def tree_of(rows: Iterable[Mapping[str, object]]) -> Tree:
    """From PVE's list (PVE::API2::Qemu and LXC::Snapshot, snapshot_list)."""
    found: dict[str, Snapshot] = {}
    parent = ""
    for row in rows:
        name = row.get("name")
        if not name:
            continue
        if name == CURRENT:
            parent = str(row.get("parent") or "")
            continue
        at = row.get("snaptime")
        found[str(name)] = Snapshot(
            name=str(name),
            description=str(row.get("description", "")),
            state=clean(str(row.get("snapstate", "")), 40),
            taken_at=int(at) if isinstance(at, int | str) and str(at).isascii() and str(at).isdigit() else 0,
            parent=str(row.get("parent") or ""),
            holds_ram=str(row.get("vmstate", 0)) in ("1", "True"),
        )
    return Tree(found, parent)


def description_of(
    text: str,
    run: str,
    verdict: Verdict | None,
    frozen_seconds: float | None,
    at: float,
    *,
    disk: DiskWord | None = None,
) -> str:
    """A description of ours: the operator's ``text``, the verdict once it is known, the disk's word, and the mark."""
    if verdict is None:
        said = f"safe-snapshot: verdict pending (run {run})"
    else:
        span = f"; freeze window {duration(frozen_seconds)}" if frozen_seconds is not None else ""
        word = f"; disk: {disk.word.value}" if disk is not None else ""
        said = f"safe-snapshot: {verdict}{span}{word}; {iso(at)}"
    return "\n".join([*([text] if text else []), said, f"safe-snapshot run {run}"])


def marked_run(description: str) -> str | None:
    """The id of the run that a description names; "" of one that an earlier version wrote; None: none of ours."""
    found = _RUN.findall(description)
    if found:
        return str(found[-1])
    return "" if _EARLIER.search(description) else None
