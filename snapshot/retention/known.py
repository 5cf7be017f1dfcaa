"""What the journal knows of the runs that took snapshots."""

from __future__ import annotations

from snapshot.journal.record import COLUMNS, WindowRecord
from snapshot.journal.store import Journal
from snapshot.model import Guest
from snapshot.retention.ours import RunLookup


def known_of(journal: Journal) -> RunLookup:
    """Questions to an open journal."""

    def by_name(guest: Guest, name: str) -> list[WindowRecord]:
        rows = journal.query(
            f"SELECT {', '.join(COLUMNS)} FROM windows WHERE vmid = ? AND snapshot_name = ? ORDER BY intent_at DESC",  # noqa: S608 - our own fields
            (guest.vmid, name),
        )
        return [WindowRecord(**row) for row in journal.checked(rows)]

    return RunLookup(journal.get, by_name)
