"""What a window is made of: what is wanted, what it needs, and how it breaks. What it does stands in window.py."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

from snapshot.base.clock import Clock
from snapshot.base.procfs import ProcessIdentity
from snapshot.base.signals import Gate
from snapshot.guard.link import GuardSpec, Launcher
from snapshot.journal.record import WindowRecord
from snapshot.model import Guest, Owner
from snapshot.pve.agent import AgentChannel
from snapshot.thaw.thawer import Thawer
from snapshot.words import Word


class Book(Protocol):
    """What a window needs of the journal."""

    def begin(self, record: WindowRecord, rival: Callable[[WindowRecord], bool]) -> None:
        """Commit the intent; JournalError when that is not possible, WindowTakenError when the guest has a rival."""
        ...

    def update(self, window_id: str, **values: object) -> object:
        """Commit new values; JournalError when that is not possible."""
        ...


class WindowBrokenError(Exception):
    """The window cannot be held any longer; the reason is the operator's, ``word`` the journal's. Internal: it never
    leaves an operation.
    """

    def __init__(self, reason: str, word: Word) -> None:
        super().__init__(reason)
        self.word = word


class WindowSpec(NamedTuple):
    """What kind of window is wanted. Durations in seconds."""

    guest: Guest
    source: str
    owner: Owner
    freeze_timeout_seconds: float
    max_window_seconds: float
    late_freeze_seconds: float
    owner_limit_seconds: float
    snapshot_name: str | None = None
    upid: str | None = None
    watch: tuple[tuple[int, int], ...] = ()

    def intent(self, window_id: str, at: float, me: ProcessIdentity) -> WindowRecord:
        """The row that is committed before anything else is done."""
        record = WindowRecord.begun(self.guest, self.owner, self.source, at, me, limit_seconds=self.max_window_seconds)
        return record._replace(id=window_id, snapshot_name=self.snapshot_name, upid=self.upid)

    def order_of(self, record: WindowRecord) -> GuardSpec:
        """What the window's guard is told."""
        return GuardSpec(
            window_id=record.id,
            vmid=record.vmid,
            node=record.node,
            guest_name=record.guest_name,
            source=record.source,
            deadline_seconds=self.max_window_seconds,
            owner_limit_seconds=self.owner_limit_seconds,
            late_freeze_seconds=self.late_freeze_seconds,
            owner_pid=record.owner_pid,
            owner_pid_start=record.owner_pid_start,
            upid=record.upid or "",
            watch=self.watch,
        )


class WindowTools(NamedTuple):
    """The collaborators of a window."""

    clock: Clock
    me: ProcessIdentity
    book: Book
    launcher: Launcher
    thawer: Thawer
    freezing: AgentChannel
    """Where the freeze is sent."""
    gate: Gate
