"""The last drill of this node, as the journal's notes keep it: what the metrics show of it."""

from __future__ import annotations

import json
from typing import NamedTuple

from snapshot.journal.store import Journal

_NOTE = "drill"


class LastDrill(NamedTuple):
    """When it ended, and whether all was as promised."""

    ended_at: float
    is_kept: bool


def note_drill(journal: Journal, is_kept: bool, now: float) -> None:
    """A drill ends ``now``. JournalError."""
    journal.set_note(_NOTE, json.dumps([now, is_kept]), now)


def last_drill(journal: Journal) -> LastDrill | None:
    """The newest one; None without any. JournalError."""
    try:
        ended_at, is_kept = json.loads(journal.note(_NOTE) or "")
        return LastDrill(float(ended_at), bool(is_kept))
    except (ValueError, TypeError):
        return None
