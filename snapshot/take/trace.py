"""A guest of which a run took no snapshot is in the journal too, as one that policy require refuses is: whoever looks
the next day finds it in `history`, in the metrics and among the alarms.
"""

from __future__ import annotations

from snapshot.errors import JournalError, SafeSnapshotError, UsageError
from snapshot.journal.book import open_book, plain_record
from snapshot.model import CheckResult, Guest
from snapshot.take.request import Result, Tools

RECENT = 10
"""So many of the guest's newest rows are looked at for one of this process."""


def leave_trace(guest: Guest, result: Result, tools: Tools, since: float) -> list[str]:
    """A row for a guest of which this process has written none ``since`` (Unix time). What cannot be written, as lines.

    Nothing is written where a signal ended the run before the guest was begun, or the command line makes no sense:
    whoever sent the one or wrote the other knows.
    """
    error = result.error
    if (
        result.snapshot_exists
        or not isinstance(error, SafeSnapshotError)
        or isinstance(error, JournalError | UsageError)
    ):
        return []
    book, me = open_book(tools.open_journal), tools.me
    try:
        rows = book.journal.history(vmid=guest.vmid, limit=RECENT)
    except JournalError as failure:
        return [str(failure)]
    mine = (row for row in rows if (row.owner_pid, row.owner_pid_start, row.boot_id) == (me.pid, me.start, me.boot_id))
    if any(row.intent_at >= since for row in mine):
        return []
    failed = (check for check in result.checks if check.result is CheckResult.FAILED and check.message == error.message)
    reason = next((check.code for check in failed if check.code), error.code)
    record = plain_record(guest, result.name, tools.clock, me, tools.fence.group_id)
    return [*book.try_refuse(record, tools.clock, error.message, reason), *book.publish(tools.publish)]
