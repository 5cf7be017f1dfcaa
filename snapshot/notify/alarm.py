"""One alarm, as it is told and kept. Which there are is alarms.py's and runs.py's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

BAD, WORSE, FROZEN = 1, 2, 3
"""Levels: something is not as it should be; there is no backup at all; a guest stands still."""


class Alarm(NamedTuple):
    """Something that is wrong."""

    key: str
    level: int
    head: str
    """A few words, for a mail's subject."""
    text: str
    """What happened."""
    todo: str
    """What to do about it."""
    since_at: float
    guest: Mapping[str, object] | None = None
    """``vmid``, ``name`` and ``node``, where it is one's."""
    has_end: bool = True
    """An event is told once, and its end is none."""
    over: str = ""
    """In place of ``head`` when it has ended: who is half asleep reads the first words alone. Empty: it is over."""


def named(vmid: int, name: str) -> str:
    """A guest, for a person."""
    return f"guest {vmid} ({name})" if name else f"guest {vmid}"
