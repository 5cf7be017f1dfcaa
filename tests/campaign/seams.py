"""What our code holds in a simulated world: clock, transport, gate, journal, and the link to its guard.

Each method is a step of the process that calls it, so that the process can be killed there, and has its effect after
that step or not at all.
"""

from __future__ import annotations

import json
import sqlite3
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from snapshot.errors import GuardError, InterruptedBySignalError, JournalError, WindowTakenError
from snapshot.guard.background import FINISH_SECONDS
from snapshot.guard.link import AnotherGuardError, GuardSpec, Op
from snapshot.guard.seams import Happening, Message
from snapshot.journal import schema, series
from snapshot.journal.looks import GuestLook
from snapshot.journal.record import COLUMNS, Cause, WindowRecord, not_reopening
from snapshot.journal.store import Journal
from snapshot.model import ThawReport
from tests.campaign.scheduler import Process
from tests.campaign.seats import ROLE

if TYPE_CHECKING:
    from tests.campaign.world import World


Rival = Callable[[WindowRecord], bool]


class WorldClock:
    """clock.Clock in virtual time. The wall clock may jump, the monotonic one does not."""

    def __init__(self, world: World) -> None:
        self._world = world

    def monotonic(self) -> float:
        self._world.scheduler.step()
        return self._world.scheduler.now

    def time(self) -> float:
        self._world.scheduler.step()
        return self._world.wall()

    def sleep(self, seconds: float) -> None:
        process = self._world.scheduler.step()
        if process.role == ROLE:
            self._world.seats.pause(process)
        else:
            self._world.scheduler.sleep(seconds)


class WorldTransport:
    """transport.Transport to a node's proxy, or to pvesh."""

    def __init__(self, world: World, via: str) -> None:
        self.name = "pvesh" if via == "pvesh" else f"https://{via}:8006"
        self._world = world
        self._via = via

    def request(
        self, method: str, path: str, params: Mapping[str, object] | None = None, *, timeout_seconds: float = 10.0
    ) -> object:
        return self._world.pve.request(self._via, method, path, params or {}, timeout_seconds)

    def close(self) -> None:
        self._world.scheduler.step()


class WorldGate:
    """signals.Gate: a signal that came, or comes, while it is open raises."""

    def __init__(self, world: World) -> None:
        self._world = world

    @contextmanager
    def open(self) -> Iterator[None]:
        process = self._world.scheduler.step()
        if process.signal is not None:
            raise InterruptedBySignalError(process.signal)
        process.gate_open = True
        try:
            yield
        finally:
            process.gate_open = False

    def unstoppable(self) -> AbstractContextManager[None]:
        return nullcontext()


@dataclass
class Link:
    """The connection between an owner and its guard."""

    spec: GuardSpec
    owner: Process
    guard: Process | None = None
    inbox: deque[Message] = field(default_factory=deque)
    armed: bool = False
    failed: str = ""
    taken: Process | None = None
    """Who has the claim already."""
    owner_open: bool = True
    guard_open: bool = True


class WorldLauncher:
    """guard.link.Launcher: the guard is another simulated process."""

    def __init__(self, world: World) -> None:
        self._world = world

    def arm(self, spec: GuardSpec) -> WorldGuard:
        world, scheduler = self._world, self._world.scheduler
        owner = scheduler.step()
        timeout = world.config.guard.arm_timeout_seconds
        deadline = scheduler.now + timeout
        link = Link(spec, owner)
        guard = world.start_guard(link)
        owner.at_death.append(lambda: world.owner_hangs_up(link))
        guard.at_death.append(lambda: scheduler.wake(owner))
        while not (link.armed or link.failed or link.taken) and guard.alive and scheduler.now < deadline:
            scheduler.wait(deadline)
        if link.taken is not None:
            raise AnotherGuardError(link.taken.pid, int(link.taken.started_at * 100) + 1)
        if not link.armed:
            if guard.alive:
                scheduler.kill(guard)
            raise GuardError(f"the guard did not report within {timeout:g} s ({link.failed or 'no answer'})")
        scheduler.step()
        return WorldGuard(world, link, guard)


class WorldGuard:
    """guard.link.Guard."""

    def __init__(self, world: World, link: Link, guard: Process) -> None:
        self.pid = guard.pid
        self._world = world
        self._link = link
        self._guard = guard

    def tell(self, op: Op, **values: float) -> None:
        self._world.scheduler.step()
        self._world.note_tell(self._link, op)
        if self._link.owner_open:
            self._link.inbox.append(Message(op, dict(values)))
            self._world.scheduler.wake(self._guard)

    def is_alive(self) -> bool:
        self._world.scheduler.step()
        return self._guard.alive and self._link.owner_open and self._link.guard_open

    def release(self) -> None:
        self._world.scheduler.step()
        self._world.owner_hangs_up(self._link)


class WorldInbox:
    """guard.seams.Inbox of a guard, or of one that was started again and has no owner to listen to."""

    def __init__(self, world: World, messages: deque[Message]) -> None:
        self._world = world
        self._messages = messages
        self._process = world.scheduler.step()

    def wait(self, seconds: float | None) -> Message | None:
        self._world.scheduler.step()
        self._world.fail_if_wanted()
        deadline = None if seconds is None else self._world.scheduler.now + seconds
        while True:
            if self._process.signal is not None:
                self._process.signal = None
                self._messages.append(Message(Happening.SIGNAL))
            if self._messages:
                return self._messages.popleft()
            if deadline is not None and self._world.scheduler.now >= deadline:
                return None
            self._world.scheduler.wait(deadline)

    def close(self) -> None:
        """See Inbox."""
        self._world.inbox_closed(self._process)

    def put_back(self, message: Message) -> None:
        """See ProcessInbox.put_back."""
        self._messages.appendleft(message)

    def bring(self, message: Message) -> None:
        """Something happened that wakes the guard."""
        self._messages.append(message)
        self._world.scheduler.wake(self._process)


class WorldOwner:
    """guard.turn.OwnerLife: another simulated process, seen from outside."""

    def __init__(self, world: World, pid: int) -> None:
        self._world = world
        self._pid = pid

    def is_gone(self) -> bool:
        self._world.scheduler.step()
        owner = self._world.scheduler.process_of(self._pid)
        return owner is None or not owner.alive

    def end_if_it_stands_still(self, *, is_silent: bool) -> bool:
        scheduler = self._world.scheduler
        scheduler.step()
        owner = scheduler.process_of(self._pid)
        if owner is None or not owner.alive or not (is_silent or owner.stopped_until > scheduler.now):
            return False
        self._world.events.append((scheduler.now, f"{scheduler.me()} ends {owner}"))
        scheduler.kill(owner)
        return True


class WorldBackground:
    """background.BackgroundRecorder: the real recorder in a thread of the guard's own process."""

    def __init__(self, world: World, spec: GuardSpec) -> None:
        scheduler = world.scheduler
        self._world = world
        self._guard = guard = scheduler.step()
        self._behind = world.journal_recorder(spec)
        self._work: deque[Callable[[], None] | None] = deque()
        self._thread = thread = scheduler.spawn("recorder", self._run, pid=guard.pid)
        guard.at_death.append(lambda: scheduler.kill(thread) if guard.dead else None)
        thread.at_death.append(lambda: scheduler.wake(guard))

    def intervened(self, cause: Cause, report: ThawReport) -> None:
        self._put(lambda: self._behind.intervened(cause, report))

    def stuck(self, cause: Cause, report: ThawReport) -> None:
        self._put(lambda: self._behind.stuck(cause, report))

    def thawed(self, cause: Cause, report: ThawReport, *, watching_seconds: float) -> None:
        self._put(lambda: self._behind.thawed(cause, report, watching_seconds=watching_seconds))

    def late_freeze(self) -> None:
        self._put(self._behind.late_freeze)

    def left_open(self) -> None:
        self._world.guard_is_done(self._guard)
        self._put(self._behind.left_open)

    def closed(self, *, by_owner: bool) -> None:
        self._world.guard_is_done(self._guard)
        self._put(lambda: self._behind.closed(by_owner=by_owner))

    def finish(self) -> None:
        self._put(None)
        deadline = self._world.scheduler.now + FINISH_SECONDS
        while self._thread.alive and self._world.scheduler.now < deadline:
            self._world.scheduler.wait(deadline)
        self._world.scheduler.kill(self._thread)

    def _put(self, record: Callable[[], None] | None) -> None:
        self._world.scheduler.step()
        self._work.append(record)
        self._world.scheduler.wake(self._thread)

    def _run(self) -> None:
        while True:
            while not self._work:
                self._world.scheduler.wait(None)
            record = self._work.popleft()
            if record is None:
                return
            record()


def _marks(db: sqlite3.Connection, window_id: str) -> dict[str, float]:
    """What the metrics have counted of a window."""
    row = db.execute("SELECT counted FROM windows WHERE id = ?", (window_id,)).fetchone()
    found: dict[str, float] = json.loads((row[0] if row else None) or "{}")
    return found


class MemoryJournal:
    """The rows of a journal without the file: what is committed is there, what is not is not."""

    def __init__(self) -> None:
        self.rows: dict[str, WindowRecord] = {}
        self.metrics = sqlite3.connect(":memory:", check_same_thread=False, isolation_level=None)
        """The real series' own tables."""
        self.metrics.execute("CREATE TABLE windows (id TEXT PRIMARY KEY, counted TEXT)")
        self.metrics.execute(schema.SERIES)
        self.notes: dict[str, str] = {}
        self.seen: dict[str, GuestLook] = {}

    def close(self) -> None:
        self.metrics.close()

    def begin(self, record: WindowRecord, rival: Rival = lambda other: False) -> None:
        if any(map(rival, self.open_windows(record.vmid))):
            raise WindowTakenError("another run has the guest in its freeze window")
        self.rows[record.id] = record
        self.metrics.execute("INSERT INTO windows VALUES (?, NULL)", (record.id,))
        series.apply(self.metrics, None, record)

    def counted(self, window_id: str) -> dict[str, float]:
        return _marks(self.metrics, window_id)

    def update(self, window_id: str, **values: Any) -> None:
        unknown = set(values) - set(COLUMNS)
        if unknown:
            raise KeyError(f"no such columns: {sorted(unknown)}")
        if window_id in self.rows:
            before = self.rows[window_id]
            kept: dict[str, Any] = dict(not_reopening(before, values))
            self.rows[window_id] = before._replace(**kept)
            series.apply(self.metrics, before, self.rows[window_id])

    def get(self, window_id: str) -> WindowRecord | None:
        return self.rows.get(window_id)

    def history(self, *, vmid: int, limit: int) -> list[WindowRecord]:
        rows = sorted((r for r in self.rows.values() if r.vmid == vmid), key=lambda r: r.intent_at, reverse=True)
        return rows[:limit]

    def open_windows(self, vmid: int | None = None) -> list[WindowRecord]:
        rows = [r for r in self.rows.values() if r.closed_at is None and vmid in (None, r.vmid)]
        return sorted(rows, key=lambda r: r.intent_at)

    def note(self, key: str) -> str | None:
        return self.notes.get(key)

    def set_note(self, key: str, value: str, at: float) -> None:
        self.notes[key] = value

    def looks(self) -> dict[str, GuestLook]:
        return dict(self.seen)

    def put_looks(self, found: Iterable[GuestLook]) -> None:
        self.seen = {look.id: look for look in found}


class FileJournal:
    """The real journal, opened anew for each use: a connection of SQLite's belongs to one thread."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def begin(self, record: WindowRecord, rival: Rival = lambda other: False) -> None:
        with closing(Journal(self._path)) as journal:
            journal.begin(record, rival)

    def update(self, window_id: str, **values: Any) -> None:
        with closing(Journal(self._path)) as journal:
            journal.update(window_id, **values)

    def looks(self) -> dict[str, GuestLook]:
        with closing(Journal(self._path)) as journal:
            return journal.looks()

    def put_looks(self, found: Iterable[GuestLook]) -> None:
        with closing(Journal(self._path)) as journal:
            journal.put_looks(found)

    def counted(self, window_id: str) -> dict[str, float]:
        with closing(sqlite3.connect(self._path)) as db:
            return _marks(db, window_id)

    def get(self, window_id: str) -> WindowRecord | None:
        with closing(Journal(self._path)) as journal:
            return journal.get(window_id)

    def history(self, *, vmid: int, limit: int) -> list[WindowRecord]:
        with closing(Journal(self._path)) as journal:
            return journal.history(vmid=vmid, limit=limit)

    def open_windows(self, vmid: int | None = None) -> list[WindowRecord]:
        with closing(Journal(self._path)) as journal:
            return journal.open_windows(vmid)

    def note(self, key: str) -> str | None:
        with closing(Journal(self._path)) as journal:
            return journal.note(key)

    def set_note(self, key: str, value: str, at: float) -> None:
        with closing(Journal(self._path)) as journal:
            journal.set_note(key, value, at)


class WorldJournal:
    """An open journal, as one process holds it: writes take time, and fail while the disk is full."""

    def __init__(self, world: World) -> None:
        self._world = world
        world.disk("opened", 0.001)

    def begin(self, record: WindowRecord, rival: Rival = lambda other: False) -> None:
        self._world.disk("written", None)
        self._world.backing.begin(record, rival)
        self._world.note_begin(record)
        self._world.scheduler.step()

    def update(self, window_id: str, **values: object) -> bool:
        self._world.disk("written", None)
        before = self._world.backing.get(window_id)
        self._world.backing.update(window_id, **values)
        after = self._world.backing.get(window_id)
        self._world.note_update(before, after, values)
        self._world.scheduler.step()
        return after is not None

    def get(self, window_id: str) -> WindowRecord | None:
        self._world.scheduler.step()
        found: WindowRecord | None = self._world.backing.get(window_id)
        return found

    def open_windows(self, vmid: int | None = None) -> list[WindowRecord]:
        self._world.scheduler.step()
        found: list[WindowRecord] = self._world.backing.open_windows(vmid)
        return found

    def history(self, *, vmid: int, limit: int) -> list[WindowRecord]:
        self._world.scheduler.step()
        found: list[WindowRecord] = self._world.backing.history(vmid=vmid, limit=limit)
        return found

    def lost_windows(self) -> list[str]:
        """No row of a campaign's journal is odd."""
        self._world.scheduler.step()
        return []

    def close_lost_windows(self, at: float) -> None:
        self._world.disk("written", None)
        self._world.scheduler.step()

    def note(self, key: str) -> str | None:
        self._world.scheduler.step()
        found: str | None = self._world.backing.note(key)
        return found

    def set_note(self, key: str, value: str, at: float) -> None:
        self._world.disk("written", None)
        self._world.backing.set_note(key, value, at)
        self._world.scheduler.step()

    def looks(self) -> dict[str, GuestLook]:
        self._world.scheduler.step()
        found: dict[str, GuestLook] = self._world.backing.looks()
        return found

    def put_looks(self, found: Iterable[GuestLook]) -> None:
        self._world.disk("written", None)
        self._world.backing.put_looks(found)
        self._world.scheduler.step()

    def query(self, sql: str, values: Sequence[object] = ()) -> list[Any]:
        """No guest of a campaign asks for a label, and none has come."""
        return []

    def transaction(self, what: str) -> AbstractContextManager[None]:
        """What only the metrics need is written nowhere, which the engine must not mind."""
        self._world.disk(what, None)
        raise JournalError("no metrics in a campaign")

    def close(self) -> None:
        self._world.scheduler.step()


def disk_full(world: World) -> JournalError:
    return JournalError(f"the journal cannot be written (database or disk is full) at {world.scheduler.now:.3f}")
