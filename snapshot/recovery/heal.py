"""A guest that a run of ours finds frozen before it begins: thawed if that is ours to do, else said whose it is."""

from __future__ import annotations

from enum import Enum

from snapshot.base.procfs import ProcessIdentity
from snapshot.errors import ForeignFreezeError, JournalError, StillFrozenError
from snapshot.journal.book import JournalBook
from snapshot.journal.living import is_in_progress
from snapshot.journal.record import WindowRecord
from snapshot.journal.rows import taken
from snapshot.model import Guest
from snapshot.pve import remedies
from snapshot.pve.access import Access
from snapshot.recovery import foreign
from snapshot.recovery.overdue import in_vain
from snapshot.recovery.settle import settle
from snapshot.states import State
from snapshot.thaw.rescue import thaw_now


class Healed(Enum):
    """Whose freeze was found, in words for a message."""

    OWN = "an earlier run"
    FOREIGN = "somebody else"
    LEFT_ALONE = "nobody"


def heal(
    guest: Guest,
    access: Access,
    book: JournalBook,
    me: ProcessIdentity,
    *,
    thaw_foreign: bool,
    is_locked: bool = False,
) -> Healed:
    """Thaw a guest that was found frozen, if it is ours or ``thaw_foreign`` says so.

    ``is_locked``: PVE's lock of this backup is on the guest, so nobody can be taking a snapshot of it: whoever froze it
    proves nothing by that any more.

    Raises StillFrozenError when the thaw could not be confirmed; ForeignFreezeError when a living run of ours owns it,
    or when it is somebody else's freeze that may not have lasted for as long as a window may: then it is recorded, so
    that the next one who asks knows since when.
    """
    try:
        windows = book.journal.open_windows(guest.vmid)
    except JournalError:
        windows = []
    now = access.clock.time()
    ours = [window for window in windows if not window.is_foreign]
    living = next((w for w in ours if is_in_progress(w, access.config, now, me)), None)
    if living is not None and living.state == State.STUCK.value:
        raise StillFrozenError(
            f"GUEST {guest.vmid} MAY STILL BE FROZEN: {in_vain(living, now)}",
            remedy=remedies.of_stuck(guest.vmid, living.thaw_detail),
        )
    if living is not None:
        why = taken(living)
        raise ForeignFreezeError(why.message, remedy=why.remedy)
    if not ours:
        if not thaw_foreign:
            return Healed.LEFT_ALONE
        if not is_locked:
            windows = [_foreign_long_enough(guest, windows, access, book)]
    report = thaw_now(guest, access)
    for window in windows:
        if window.is_foreign:
            foreign.close(book, window, f"thawed before a run of ours, over {report.route}", access.clock)
        else:
            settle(book, window, report, access, me)
    return Healed.OWN if ours else Healed.FOREIGN


def _foreign_long_enough(guest: Guest, known: list[WindowRecord], access: Access, book: JournalBook) -> WindowRecord:
    """The window of somebody else's freeze that may be thawed by now; ForeignFreezeError when it may not."""
    settings, now = access.settings_for(guest), access.clock.time()
    window = next(iter(known), None)
    if window is None:
        window = foreign.first_seen(guest, settings, now)
        book.try_begin(window)
    wait = foreign.thaw_wait_seconds(window, access.config, settings, now)
    if wait > 0:
        raise ForeignFreezeError(
            f"guest {guest.vmid} is frozen by somebody else, for {foreign.span(now - window.intent_at)} as far as is "
            "known: that may be a window of another machine of ours, which a thaw would break",
            remedy=f"try again in {wait:.0f} s, or `safe-snapshot thaw {guest.vmid}` thaws it now",
        )
    return window
