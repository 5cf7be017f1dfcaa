"""What became of the guest of a worker that died without a word: the journal knows, and its guard thaws."""

from __future__ import annotations

import signal
from collections.abc import Callable
from contextlib import closing

from snapshot.errors import JournalError, SafeSnapshotError, StillFrozenError
from snapshot.fleet.outcome import GuestOutcome
from snapshot.fleet.worker import GuestWorker
from snapshot.journal.record import WindowRecord, may_be_frozen, was_sent
from snapshot.journal.store import Journal
from snapshot.model import Guest

LAST_WINDOWS = 10


def fate_of(
    guest: Guest, worker: GuestWorker, *, is_last_look: bool, open_journal: Callable[[], Journal]
) -> GuestOutcome | None:
    """The outcome; None while its guard is still at work and this is not the last look."""
    how = _how(worker)
    try:
        window = _window(guest, worker, open_journal)
    except JournalError as error:
        return _doubtful(guest, f"{how}, and the journal does not tell what it had begun ({error.message})")
    if window is None:
        return GuestOutcome.failed(
            guest,
            SafeSnapshotError(f"guest {guest.vmid}: {how} before anything was frozen", remedy="run again for it"),
        )
    if may_be_frozen(window):
        return _doubtful(guest, f"{how} in its window") if is_last_look else None
    was_frozen = "the guest is thawed" if was_sent(window) else "the guest was not frozen"
    judged = f"the journal calls it {window.verdict}" if window.verdict else "nobody has judged it"
    told = SafeSnapshotError(
        f"guest {guest.vmid}: {how}; {was_frozen}; of the snapshot {window.snapshot_name}: {judged}",
        remedy="look at the guest's list of snapshots, and run again for it",
    )
    outcome = GuestOutcome.failed(guest, told)
    return outcome._replace(snapshot=window.snapshot_name, snapshot_exists=None)


def _how(worker: GuestWorker) -> str:
    status = worker.status or 0
    if status < 0:
        return f"its worker was ended by signal {-status} ({signal.Signals(-status).name})"
    return f"its worker ended without a word (status {status})"


def _doubtful(guest: Guest, why: str) -> GuestOutcome:
    error = StillFrozenError(
        f"GUEST {guest.vmid} MAY STILL BE FROZEN: {why}",
        remedy="its guard goes on thawing; look with `safe-snapshot status`",
    )
    return GuestOutcome.failed(guest, error)


def _window(guest: Guest, worker: GuestWorker, open_journal: Callable[[], Journal]) -> WindowRecord | None:
    with closing(open_journal()) as journal:
        windows = journal.history(vmid=guest.vmid, limit=LAST_WINDOWS)
    owned = (w for w in windows if (w.owner_pid, w.owner_pid_start) == (worker.pid, worker.start))
    return next(owned, None)
