"""The journal as an operation uses it: strict before a freeze, lenient after it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from snapshot.base.clock import Clock, SystemClock
from snapshot.base.procfs import ProcessIdentity
from snapshot.errors import JournalError
from snapshot.journal.file import patiently
from snapshot.journal.record import WindowRecord
from snapshot.journal.series import agent_seen
from snapshot.journal.store import Journal
from snapshot.model import Guest, Health, Owner, Verdict, VerdictKind
from snapshot.states import State


class JournalBook:
    """The window's Book (window/parts.py) over a journal that is opened on first use and may be broken.

    ``begin`` and ``update`` raise JournalError; the ``try_`` methods return what went wrong as lines for the operator.
    """

    def __init__(self, open_journal: Callable[[], Journal], clock: Clock | None = None) -> None:
        self._open = open_journal
        self._clock = clock or SystemClock()
        self._journal: Journal | None = None
        self._begun: dict[str, WindowRecord] = {}
        self.failed = False

    @property
    def journal(self) -> Journal:
        """The open journal. JournalError when it cannot be opened."""
        if self._journal is None:
            with self._failing():
                self._journal = self._open()
        return self._journal

    def begin(self, record: WindowRecord, rival: Callable[[WindowRecord], bool] = lambda other: False) -> None:
        """See Book."""
        with self._failing():
            self.journal.begin(record, rival)
        self._begun[record.id] = record

    def update(self, window_id: str, **values: object) -> None:
        """See Book. A journal that was begun anew meanwhile gets the window once more."""
        with self._failing():
            known = self._begun.get(window_id)
            if not self.journal.update(window_id, **values) and known is not None:
                self.journal.begin(known)
                self.journal.update(window_id, **values)

    @contextlib.contextmanager
    def _failing(self) -> Iterator[None]:
        """Whether the last thing that was asked of the journal failed: then the rest of a run is not tried."""
        try:
            yield
        except JournalError:
            self.failed = True
            raise
        self.failed = False

    def try_begin(self, record: WindowRecord) -> list[str]:
        """Record what needs no guarantee."""
        try:
            patiently(lambda: self.begin(record), self._clock)
        except JournalError as error:
            return [str(error)]
        return []

    def try_close(
        self, window_id: str, clock: Clock, verdict: Verdict, stage: str | None, reason: str | None
    ) -> list[str]:
        """Close a record that had no freeze."""
        if self.failed:
            return []  # said already
        values = {
            "closed_at": clock.time(),
            "state": State.THAWED.value,
            "verdict": verdict.kind.value,
            "reason": verdict.reason,
            "failure_stage": stage,
            "failure_reason": reason,
        }
        try:
            patiently(lambda: self.update(window_id, **values), clock)
        except JournalError as error:
            return [str(error)]
        return []

    def try_refuse(self, record: WindowRecord, clock: Clock, why: str, reason: str) -> list[str]:
        """Record a run that came to nothing before its guest was at risk, with a fixed word for the reason."""
        verdict = Verdict(VerdictKind.UNKNOWN, f"no snapshot taken: {why}")
        return self.try_begin(record) + self.try_close(record.id, clock, verdict, "preflight", reason)

    def try_update(self, window_id: str, **values: object) -> list[str]:
        """Add to a record what needs no guarantee."""
        if self.failed:
            return []  # said already
        try:
            patiently(lambda: self.update(window_id, **values), self._clock)
        except JournalError as error:
            return [str(error)]
        return []

    def agent_seen(self, health: Health, clock: Clock) -> None:
        """Let the metrics know whether the agent answered. What cannot be written is said by what follows."""
        if health.guest is None or health.agent_up is None:
            return
        with contextlib.suppress(JournalError), self.journal.transaction("written") as db:
            agent_seen(db, health.guest, health.agent_up, clock.time())

    def publish(self, publish: Callable[[Journal], list[str]]) -> list[str]:
        """Metrics from the journal; the problems as lines."""
        if self.failed:
            return []
        try:
            return publish(self.journal)
        except JournalError as error:
            return [str(error)]


def open_book(open_journal: Callable[[], Journal]) -> JournalBook:
    """A book that opens its journal when it is first needed."""
    return JournalBook(open_journal)


def plain_record(
    guest: Guest,
    snapshot_name: str,
    clock: Clock,
    me: ProcessIdentity | None = None,
    group_id: str | None = None,
) -> WindowRecord:
    """The record of a snapshot without a freeze."""
    begun = WindowRecord.begun(guest, Owner.SNAPSHOT, "snapshot", clock.time(), me or ProcessIdentity.own())
    return begun._replace(snapshot_name=snapshot_name, group_id=group_id)
