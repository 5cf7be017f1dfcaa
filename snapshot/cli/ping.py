"""How a run of safe-snapshot ended: written down for the minute's recovery to tell. For take.py and many.py."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing

from snapshot.base.clock import Clock
from snapshot.config.settings import Config
from snapshot.errors import JournalError
from snapshot.journal.families import CONSISTENT_VERDICTS
from snapshot.journal.jobs import pings_file, run_ended
from snapshot.journal.record import new_id
from snapshot.journal.store import Journal


def leave_ping(config: Config, clock: Clock, is_well: Callable[[Journal], bool]) -> list[str]:
    """One for the whole run, where anybody is to be told. What cannot be written, as lines."""
    if pings_file(config) is None:
        return []
    try:
        with closing(Journal(config.journal.path)) as journal:
            run_ended(journal, new_id(), clock.time(), is_well=is_well(journal))
    except JournalError as error:
        return [f"notify: {error}"]
    return []


def has_fallen_back(journal: Journal, vmid: int, name: str | None) -> bool:
    """Whether the guest should have been frozen for this snapshot and was not, as the journal has it."""
    windows = journal.history(vmid=vmid, limit=10)
    window = next((w for w in windows if w.snapshot_name == name), None)
    return window is not None and window.failure_stage is not None and window.verdict not in CONSISTENT_VERDICTS
