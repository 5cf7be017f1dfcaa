"""The names of our snapshots: ``safe-20260131-030005``, and with a label ``safe-daily-20260131-030005``. Pure.

A name says by itself when the snapshot was taken, in local time, and for which label. Two of one guest would have the
same one within a second, and in the hour that the end of summer time brings twice: what is taken already gets a number
behind it, ``safe-20261025-023000-2``. The name is what PVE, the journal's row and retention have of the label; the
description says it too (``label: daily``).
"""

from __future__ import annotations

import re
from collections.abc import Container
from typing import NamedTuple

from snapshot.base.clock import compact

_REST = re.compile(r"(?:-(?P<label>[a-z][a-z0-9_]*))?-(?P<at>[0-9]{8}-[0-9]{6})(?:-(?P<number>[1-9][0-9]?))?\Z")
"""Behind the prefix. A label has no dash (labels.py), so nothing in it can be taken for another part."""

LABEL_LINE = "label: "
"""Begins the line of a snapshot's description that names its label."""

LAST_NUMBER = 99


class SnapshotName(NamedTuple):
    """A name in its parts. ``at`` is local time as ``compact`` writes it; ``number`` is 1 where none is written."""

    prefix: str
    label: str
    at: str
    number: int = 1

    def __str__(self) -> str:
        parts = [self.prefix, self.label, self.at, str(self.number) if self.number > 1 else ""]
        return "-".join(part for part in parts if part)

    @classmethod
    def parse(cls, text: str, prefix: str) -> SnapshotName | None:
        """The parts of a name that begins with ``prefix``; None for any other name."""
        found = _REST.match(text, len(prefix)) if text.startswith(prefix) else None
        if found is None:
            return None
        return cls(prefix, found["label"] or "", found["at"], int(found["number"] or 1))


def free_name(prefix: str, label: str, at: float, taken: Container[str]) -> str:
    """The name of a snapshot that is taken now (``at``, Unix time) of a guest that has snapshots ``taken``."""
    name = SnapshotName(prefix, label, compact(at))
    while str(name) in taken and name.number < LAST_NUMBER:
        name = name._replace(number=name.number + 1)
    return str(name)


def described(description: str, label: str) -> str:
    """The operator's description, with the label's line where there is one."""
    return "\n".join(line for line in (description, f"{LABEL_LINE}{label}" if label else "") if line)
