"""The minute's look at labels: which of them the guests here ask for by their tags, and which did not come.

The journal is this machine's, but a label may be taken from another node: before one is called missed, PVE is asked for
the guest's snapshots. Only for those that are overdue by the journal, and for so many a minute.
"""

from __future__ import annotations

from collections.abc import Iterable

from snapshot.config.labels import labels_of
from snapshot.config.naming import SnapshotName
from snapshot.errors import SafeSnapshotError
from snapshot.journal.labelruns import label_runs, note_expected, note_seen, overdue_since
from snapshot.journal.store import Journal
from snapshot.model import Guest
from snapshot.pve.access import Access
from snapshot.pve.guests import GuestApi
from snapshot.pve.snapshots import marked_run

MOST_ASKED = 10
DAY_SECONDS = 86400.0


def look_at_labels(access: Access, journal: Journal, guests: Iterable[Guest], now: float) -> None:
    """Note what the tags of ``guests`` ask for, and what PVE has of it. JournalError; an API that fails ends the look
    at what is overdue: it stays so until it can be asked.
    """
    running = {guest.id: guest for guest in guests if guest.running}
    wanted = [
        (guest, label.name)
        for guest in running.values()
        if guest.tags
        for label in labels_of(guest.tags, access.folds_tags).labels
    ]
    note_expected(journal, wanted, now, now - access.config.metrics.forget_guest_after_days * DAY_SECONDS)
    overdue = [run for run in label_runs(journal) if run.id in running and overdue_since(run, now) is not None]
    for run in overdue[:MOST_ASKED]:
        guest = running[run.id]
        try:
            newest = _newest(access, guest, run.label)
        except SafeSnapshotError:
            return
        if newest > (run.last_at or 0.0):
            note_seen(journal, run.label, guest, newest)


def _newest(access: Access, guest: Guest, label: str) -> float:
    """When the newest snapshot of ours with this label was taken, as PVE lists them; 0: there is none."""
    prefix = access.config.snapshot.name_prefix
    found = (
        one.taken_at
        for one in GuestApi(access.main).snapshots(guest).values()
        if one.is_whole and marked_run(one.description) is not None
        if (name := SnapshotName.parse(one.name, prefix)) is not None and name.label == label
    )
    return float(max(found, default=0))
