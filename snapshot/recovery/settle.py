"""Ending a window whose own processes cannot, by what is now known of it. recover.py, heal.py and byhand.py use it."""

from __future__ import annotations

from snapshot.base.clock import Clock
from snapshot.base.procfs import ProcessIdentity, process_lives
from snapshot.errors import JournalError
from snapshot.journal.book import JournalBook
from snapshot.journal.living import late_seconds
from snapshot.journal.record import Cause, WindowRecord, was_never_armed
from snapshot.model import FreezeState, ThawReport, VerdictKind
from snapshot.pve.access import Access
from snapshot.recovery import foreign
from snapshot.recovery.frozen import guest_state
from snapshot.states import State
from snapshot.thaw.rescue import thaw_now
from snapshot.thaw.thawer import CARRIED_OUT_SECONDS
from snapshot.words import Word


def settle(book: JournalBook, window: WindowRecord, report: ThawReport, access: Access, me: ProcessIdentity) -> float:
    """Close a window whose processes are gone, after a confirmed thaw; 0 then.

    A thaw that counted nothing says nothing of a freeze that may still come: such a window stays open, for `recover`
    and its guards, and the answer is for how many seconds that may be. What cannot be written is left to the next one.
    """
    clock = access.clock
    watch_behind_another(window, report, access, me)
    late = 0.0 if was_never_armed(window) else late_seconds(window, access.config, clock, me, report)
    if late > 0:
        write(book, window, thawed_at=clock.time(), state=State.UNKNOWN.value)
    else:
        close_recovered(book, window, report, clock)
    return late


def watch_behind_another(
    window: WindowRecord,
    report: ThawReport,
    access: Access,
    me: ProcessIdentity,
    limit_seconds: float | None = None,
) -> None:
    """A thaw that counted a filesystem has undone the window's one freeze, unless another's was in front of it in PVE's
    queue: it is watched for as long as a guard would, for nobody does afterwards.

    StillFrozenError when it was, and cannot be thawed.
    """
    if not report.filesystems or was_never_armed(window):
        return
    if late_seconds(window, access.config, access.clock, me) > 0:
        access.clock.sleep(CARRIED_OUT_SECONDS)
        if guest_state(window.guest, access) is not FreezeState.THAWED:
            thaw_now(window.guest, access, limit_seconds)


def close_recovered(
    book: JournalBook, window: WindowRecord, report: ThawReport | None, clock: Clock
) -> JournalError | None:
    """Close a window that its owner did not. What cannot be written is returned, and tried again by the next recovery.

    An owner may live and be given up all the same: the clock has jumped, or it stands still. It has not died.
    """
    lives = process_lives(window.owner_pid, window.owner_pid_start)
    values: dict[str, object] = {
        "closed_at": clock.time(),
        "state": State.THAWED.value,
        "guard_cause": window.guard_cause or Cause.RECOVERY.value,
        "failure_stage": window.failure_stage or "hold",
        "failure_reason": window.failure_reason or (Word.DEADLINE if lives else Word.OWNER_DIED).value,
    }
    if report is not None:
        values |= {"thawed_at": clock.time(), **foreign.thawed_values(report)}
    if window.verdict is None:
        why = "its owner had not closed it by its deadline" if lives else "its owner died"
        values |= {"verdict": VerdictKind.UNKNOWN.value, "reason": f"{why}; recovered afterwards"}
    return write(book, window, **values)


def write(book: JournalBook, window: WindowRecord, **values: object) -> JournalError | None:
    """Write what is known of a window; what went wrong."""
    try:
        book.update(window.id, **values)
    except JournalError as error:
        return error  # the window stays open in the journal, so the next recovery comes back to it
    return None
