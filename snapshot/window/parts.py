"""What a window is given (WindowSpec, WindowTools), how it breaks, and its instants. What it does is in window.py."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

from snapshot.base.clock import Clock
from snapshot.base.procfs import ProcessIdentity
from snapshot.base.signals import Gate
from snapshot.base.slots import Slot
from snapshot.guard.link import GuardSpec, Launcher
from snapshot.journal.record import WindowRecord
from snapshot.model import FreezeOutcome, Guest, Owner, WindowTimes
from snapshot.pve.agent import AgentChannel
from snapshot.states import Event
from snapshot.thaw.thawer import Thawer
from snapshot.words import Word

ANSWERED = {
    FreezeOutcome.ACKNOWLEDGED: Event.FREEZE_ACKNOWLEDGED,
    FreezeOutcome.REFUSED: Event.FREEZE_REFUSED,
    FreezeOutcome.FAILED: Event.FREEZE_FAILED,
    FreezeOutcome.NOTHING_FROZEN: Event.FREEZE_FAILED,
    FreezeOutcome.UNKNOWN: Event.FREEZE_UNCLEAR,
}
"""What each answer to the freeze does to the window's state."""


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
    others_freeze: bool = False
    """Whether PVE is at work before our freeze is sent: should its owner die, every freeze that is seen is thawed."""
    group_id: str | None = None
    """The group whose member it is."""

    def intent(self, window_id: str, at: float, me: ProcessIdentity) -> WindowRecord:
        """The row that is committed before anything else is done."""
        record = WindowRecord.begun(self.guest, self.owner, self.source, at, me, limit_seconds=self.max_window_seconds)
        return record._replace(id=window_id, snapshot_name=self.snapshot_name, upid=self.upid, group_id=self.group_id)

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
            others_freeze=self.others_freeze,
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
    turn: Callable[[Callable[[], object]], Slot] = lambda still_waits: Slot()
    """Waits until the freeze may be sent, and says from time to time that it does. It is over when the freeze is
    answered, or thawed. TimeoutError when it never comes."""
    thawed: Callable[[], None] = lambda: None
    """Called once the thaw is confirmed and the guard disarmed, ahead of what is written. Must not raise."""


class Instants(NamedTuple):
    """When a window's steps were done (monotonic), as far as they were."""

    freeze_sent: float | None
    freeze_answered: float | None
    thaw_decided: float | None
    thaw_confirmed: float | None

    @property
    def times(self) -> WindowTimes:
        """The parts of the window."""
        return WindowTimes(
            freezing_seconds=_between(self.freeze_sent, self.freeze_answered),
            held_seconds=_between(self.freeze_answered, self.thaw_decided),
            thawing_seconds=_between(self.thaw_decided, self.thaw_confirmed),
        )


def _between(earlier: float | None, later: float | None) -> float | None:
    return None if earlier is None or later is None else later - earlier
