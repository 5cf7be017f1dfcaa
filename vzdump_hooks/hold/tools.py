"""What both kinds of window need, ours and vzdump's own: the collaborators, and whether another window is open."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from snapshot.base.clock import Clock
from snapshot.base.procfs import ProcessIdentity
from snapshot.base.signals import Gate
from snapshot.config.settings import Config
from snapshot.errors import JournalError
from snapshot.guard.link import GuardSpec, Launcher
from snapshot.journal.book import JournalBook
from snapshot.journal.store import Journal
from snapshot.pve.access import Access
from snapshot.pve.ladder import Ladder
from snapshot.thaw.pace import thawing_of
from snapshot.thaw.thawer import Thawer
from vzdump_hooks.hold.order import HoldReport
from vzdump_hooks.tasklog.follow import BackupFollower


class HoldTools(NamedTuple):
    """The holder's collaborators."""

    config: Config
    access: Access
    clock: Clock
    me: ProcessIdentity
    open_journal: Callable[[], Journal]
    launcher: Launcher
    adopt: Callable[[GuardSpec], None]
    """Starts a guard for a window that nobody else will thaw. Raises GuardError."""
    gate: Gate
    publish: Callable[[Journal], list[str]]
    report: Callable[[HoldReport], bool]
    """Tells the waiting hook; False when it is gone, and with it vzdump's order to hold on."""
    follower: BackupFollower

    def thawer(self, ladder: Ladder) -> Thawer:
        """A thawer for one window."""
        return Thawer(ladder, thawing_of(self.config), self.clock)


def is_alone(book: JournalBook, vmid: int, window_id: str) -> bool:
    """Whether no other window of ours is open for this guest: a guard of such a one may thaw at any time."""
    try:
        return all(window.id == window_id for window in book.journal.open_windows(vmid))
    except JournalError:
        return False
