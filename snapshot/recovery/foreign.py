"""Freezes by somebody else: how long they last, when they are an alarm, and when they may be thawed.

PVE freezes for replication, clones, moved disks, imports and its own snapshot button, and only warns when its thaw
fails; so do other tools. Such a freeze is a window in the journal like any other, with the owner ``foreign``: open
while the guest is frozen, past its deadline an alarm. Who has opened it nobody knows: another machine of ours, perhaps,
that is about to prove that its guest was frozen throughout. So it is not thawed before the longest window that anybody
of us may hold has passed since it was first seen, whatever the deadline.

The exception is a journal that is new: it may stand in the place of one that got lost, with the windows of this very
machine in it. A guest that its first look finds frozen is an alarm at once, and thawed where that is wanted.
"""

from __future__ import annotations

from snapshot.base.clock import Clock
from snapshot.base.procfs import ProcessIdentity
from snapshot.config.settings import Config, ForeignFreeze, GuestSettings
from snapshot.errors import JournalError
from snapshot.journal.book import JournalBook
from snapshot.journal.looks import GuestLook
from snapshot.journal.record import WindowRecord
from snapshot.journal.store import Journal
from snapshot.model import FreezeOutcome, FreezeState, Guest, Owner, ThawReport
from snapshot.states import State

SOURCE = "foreign"

MARGIN_SECONDS = 15.0
"""On top of a longest window: for requests on their way, and for clocks that differ."""

AT_WORK_LIMIT_SECONDS = 900.0
"""A task of PVE's that is at work on the guest explains a freeze for so long: it freezes, and thaws, within minutes. A
backup that lost its thaw goes on for hours."""


def deadline_of(since_at: float, settings: GuestSettings, work: str, *, is_lost: bool) -> float:
    """When a freeze that has lasted since ``since_at`` becomes an alarm.

    ``is_lost``: the journal is new, and the freeze may be one of ours that the one before it knew.
    """
    limit = settings.foreign_limit_seconds
    if work:
        return since_at + max(limit, AT_WORK_LIMIT_SECONDS)
    return since_at if is_lost else since_at + limit


def longest_window_seconds(config: Config, settings: GuestSettings) -> float:
    """How long a window of ours, of whatever machine, may hold this guest frozen."""
    return settings.max_window_seconds + config.thaw.owner_limit_seconds + MARGIN_SECONDS


def thaw_wait_seconds(window: WindowRecord, config: Config, settings: GuestSettings, now: float) -> float:
    """For how long it must not be thawed yet; 0 when it may be."""
    seen_at = window.frozen_at if window.frozen_at is not None else window.intent_at
    earliest = max(
        window.intent_at + settings.foreign_limit_seconds, seen_at + longest_window_seconds(config, settings)
    )
    return max(0.0, earliest - now)


def may_thaw(settings: GuestSettings) -> bool:
    """Whether the operator wants such guests thawed."""
    return settings.foreign is ForeignFreeze.THAW


_THAWED_NOTE = "thawed-by-hand:"
"""In the journal, with a vmid behind it: when that guest was thawed and no window was there to say so."""


def note_thaw(journal: Journal, vmid: int, now: float) -> None:
    """A thaw of this guest was confirmed. JournalError as usual."""
    journal.set_note(f"{_THAWED_NOTE}{vmid}", "", now)


def last_thaw(journal: Journal, vmid: int) -> float | None:
    """When a thaw of this guest was last confirmed to us. JournalError as usual."""
    found = journal.query(
        "SELECT thawed_at AS at FROM windows WHERE vmid = ? AND thaw_route > '' "
        "UNION SELECT at FROM notes WHERE key = ?",
        (vmid, f"{_THAWED_NOTE}{vmid}"),
    )
    return max((row["at"] for row in found if isinstance(row["at"], float)), default=None)


def first_seen(
    guest: Guest,
    settings: GuestSettings,
    now: float,
    look: GuestLook | None = None,
    before: GuestLook | None = None,
    *,
    thawed_at: float | None = None,
) -> WindowRecord:
    """The window of a freeze that is seen for the first time, by ``look``; ``before`` is the look before that.

    It has lasted since the guest's disks stand still, at most, and not since before the agent last answered otherwise,
    or a thaw was confirmed (``thawed_at``).
    """
    known = [look.still_since_at if look is not None else None, thawed_at]
    if before is not None and before.silent == 0 and before.state != FreezeState.FROZEN.value:
        known.append(before.asked_at)
    since_at = max((at for at in known if at is not None and at <= now), default=now)
    limit, nobody = settings.foreign_limit_seconds, ProcessIdentity(0, 0, "")
    record = WindowRecord.begun(guest, Owner.FOREIGN, SOURCE, since_at, nobody, limit_seconds=limit)
    return record._replace(state=State.FROZEN.value, freeze_outcome=FreezeOutcome.ACKNOWLEDGED.value, frozen_at=now)


def close(book: JournalBook, window: WindowRecord, how: str, clock: Clock, **values: object) -> JournalError | None:
    """Close the window: ``how`` says what ended the freeze. What cannot be written is returned."""
    now = clock.time()
    try:
        book.update(
            window.id,
            state=State.THAWED.value,
            closed_at=now,
            thawed_at=now,
            reason=f"frozen by somebody else for {span(now - window.intent_at)} at most: {how}",
            **values,
        )
    except JournalError as error:
        return error
    return None


def span(seconds: float) -> str:
    """A while that may be hours, for a person."""
    if seconds < 120:
        return f"{max(0.0, seconds):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.0f} h"


def thawed_values(report: ThawReport) -> dict[str, object]:
    """What a confirmed thaw tells of a window."""
    return {
        "thaw_attempts": report.attempts,
        "thaw_route": report.route,
        "filesystems_thawed": report.filesystems,
    }
