"""Many at once: begins workers as the limits allow, hears them, and has an outcome for every guest at the end.

One thread, one selector. Nothing here asks PVE or opens a database; what takes time is a worker's. A guest that fails,
a worker that dies and a node that goes away cost their own guests. The end by a signal: what is frozen is thawed (each
worker's own business), what has not begun does not begin.
"""

from __future__ import annotations

import selectors
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from snapshot.base.clock import Clock
from snapshot.errors import SafeSnapshotError
from snapshot.fleet.bell import Bell
from snapshot.fleet.job import Board, Fate, Hire, Job, Unit
from snapshot.fleet.limits import AtOnce, Ledger, storage_of
from snapshot.fleet.link import Said, Stage
from snapshot.fleet.outcome import GuestOutcome, ToldError
from snapshot.fleet.waiting import next_try
from snapshot.fleet.worker import GuestWorker

LOOK_SECONDS = 0.2
"""How often the journal is asked about the guest of a worker that died."""

FATE_SECONDS = 20.0
"""How long: its guard thaws within seconds, and goes on whatever we say."""


class Lost(NamedTuple):
    """A worker that died without a result."""

    job: Job
    worker: GuestWorker
    until: float


@dataclass
class Crew:
    """One run. ``heard`` gets each outcome at once."""

    units: Iterable[Unit]
    limits: AtOnce
    wait_seconds: float
    hire: Hire
    fate: Fate
    board: Board
    clock: Clock
    heard: Callable[[GuestOutcome], None] = lambda outcome: None
    bell: Bell = field(default_factory=Bell)

    def __post_init__(self) -> None:
        self._queue = list(self.units)
        self._order = [job.guest.vmid for unit in self._queue for job in unit.jobs]
        self._unit_of = {job: unit for unit in self._queue for job in unit.jobs}
        self._ledger = Ledger(self.limits)
        self._at_work: dict[Job, Unit] = {}
        self._lost: list[Lost] = []
        self._done: dict[int, GuestOutcome] = {}
        self._selector = selectors.DefaultSelector()
        self._is_over = False
        self._rings = 0
        self._is_stopping = False
        self._is_short = False
        """The system has no room for another process: nobody is begun until one has ended."""
        self._has_changed = True
        """Whether somebody may begin who could not before."""
        self._room: Said | None = None
        """What a worker was told of the cluster: those that begin next need not ask."""
        self._due_at: float | None = None
        """When the next of those that wait is to be tried again."""

    def run(self) -> list[GuestOutcome]:
        """Every guest's outcome, in the order of the units."""
        with self.bell, self._selector:
            self._selector.register(self.bell, selectors.EVENT_READ)
            while self._queue or self._at_work or self._lost:
                now = self.clock.monotonic()
                if self._has_changed or (self._due_at is not None and now >= self._due_at):
                    self._has_changed = False
                    self._begin(now)
                    self._grant()
                self._listen()
                self._mind_signals()
                self._look_for_lost()
        return [self._done[vmid] for vmid in self._order]

    # ------------------------------------------------------------ beginning

    def _begin(self, now: float) -> None:
        """Those that the limits let begin."""
        self._due_at = None
        if self._is_over or self._is_short or self.bell.wants_stop or self.bell.ended_by is not None:
            return
        ready = [unit for unit in self._queue if all(job.not_before <= now for job in unit.jobs)]
        for unit in self._ledger.admit((unit, unit.needs) for unit in ready):
            self._queue.remove(unit)
            started = [self._start(job, unit, now) for job in unit.jobs]
            if not all(started):
                break
        later = [job.not_before for unit in self._queue for job in unit.jobs if job.not_before > now]
        self._due_at = min(later, default=None)

    def _start(self, job: Job, unit: Unit, now: float) -> bool:
        """Whether there was room for its worker."""
        is_last = self.wait_seconds <= 0 or (job.since is not None and now >= job.since + self.wait_seconds)
        job.tries += 1
        job.stage, job.asks_for, job.told, job.room = Stage.LOOKING, None, None, self._room
        try:
            job.worker = self.hire(job, is_last or len(unit.jobs) > 1)
        except OSError as error:
            self._no_room(job, unit, error)
            return False
        self._at_work[job] = unit
        self._selector.register(job.worker.link, selectors.EVENT_READ, job)
        self.board.begins(job.guest)
        return True

    def _no_room(self, job: Job, unit: Unit, error: OSError) -> None:
        """The system has no room for a process: later, when another one has ended; if there is none, that is it."""
        self._ledger.give_back(unit)
        if self._at_work and len(unit.jobs) == 1:
            job.tries -= 1
            self._is_short = True
            self._queue.insert(0, unit)
            return
        self._has_changed = True
        why = f"no process can be started for guest {job.guest.vmid} ({error.strerror})"
        self._end(GuestOutcome.failed(job.guest, SafeSnapshotError(why, remedy="look at memory and `ulimit -u`")))
        unit.ended(job)

    def _grant(self) -> None:
        """Let those begin whose storages are free now: the members of a unit together, so that none keeps another's."""
        asking = list(dict.fromkeys(unit for job, unit in self._at_work.items() if job.asks_for is not None))
        ready = [unit for unit in asking if all(job.asks_for is not None for job in self._members(unit))]
        wanted = (
            (unit, sum((Counter(job.asks_for or {}) for job in self._members(unit)), Counter())) for unit in ready
        )
        for unit in self._ledger.admit(wanted):
            for job in self._members(unit):
                job.asks_for = None
                if job.worker is not None:
                    job.worker.link.tell("go")

    def _members(self, unit: Unit) -> list[Job]:
        """Those of a unit that are at work and have not had their turn at the storages."""
        return [job for job in unit.jobs if job in self._at_work and job.stage in (Stage.LOOKING, Stage.WAITING)]

    # -------------------------------------------------------------- hearing

    def _listen(self) -> None:
        if not (self._queue or self._at_work or self._lost):
            return
        for key, _ in self._selector.select(self._patience()):
            if key.fileobj is self.bell:
                self.bell.answer()
            else:
                self._hear(key.data)
        if self.board.pace_seconds is not None:
            self.board.draw()

    def _patience(self) -> float | None:
        """How long nothing but a word of a worker can change anything."""
        if self._has_changed or (self.bell.wants_stop and not self._at_work):
            return 0.0
        until = [LOOK_SECONDS] if self._lost else []
        if self._due_at is not None:
            until.append(self._due_at - self.clock.monotonic())
        if self.board.pace_seconds is not None:
            until.append(self.board.pace_seconds)
        return max(0.0, min(until)) if until else None

    def _hear(self, job: Job) -> None:
        assert job.worker is not None
        try:
            while (said := job.worker.link.take()) is not None:
                self._understand(job, said)
        except EOFError:
            self._selector.unregister(job.worker.link)
            self._ended(job, job.worker)

    def _understand(self, job: Job, said: Said) -> None:
        op = said["op"]
        if op == "say":
            self.board.says(job.guest, said["line"], said["at"])
        elif op == "stage":
            job.stage = Stage(said["stage"])
            self.board.stands(job.guest, job.stage)
        elif op == "storages":
            job.asks_for = Counter(storage_of(name, node) for name, node in said["places"])
            self._has_changed = True
        elif op == "room":
            self._room = said
        elif op in ("result", "later"):
            job.told = said
        else:
            self._at_work[job].heard(job, said)

    def _ended(self, job: Job, worker: GuestWorker) -> None:
        worker.reap()
        unit = self._at_work.pop(job)
        job.worker, self._is_short, self._has_changed = None, False, True
        if not any(member in self._at_work for member in unit.jobs):
            self._ledger.give_back(unit)
        told = job.told
        if told is None:
            self._lost.append(Lost(job, worker, self.clock.monotonic() + FATE_SECONDS))
        elif told["op"] == "result":
            self._end(self._outcome(job, told))
        elif self.bell.ended_by is not None:
            self._end(GuestOutcome.not_begun(job.guest, self.bell.ended_by))
        else:
            self._later(job, unit, told)
        unit.ended(job)

    def _later(self, job: Job, unit: Unit, told: Said) -> None:
        now = self.clock.monotonic()
        job.since = now if job.since is None else job.since
        at = next_try(job.since, now, job.tries, self.wait_seconds)
        job.not_before = now if at is None else at
        self._queue.append(unit)
        self.board.waits(job.guest, told["why"], job.not_before - now)

    def _outcome(self, job: Job, told: Said) -> GuestOutcome:
        values: dict[str, Any] = {name: told[name] for name in told if name in GuestOutcome._fields}
        error, line = values.get("error"), values.get("logfmt")
        values["error"] = ToldError(*error) if error else None
        values["logfmt"] = (line[0], line[1]) if line else None
        values |= {name: tuple(values.get(name, ())) for name in ("warnings", "removed", "would_remove")}
        waited = 0.0 if job.since is None else self.clock.monotonic() - job.since
        return GuestOutcome(job.guest, **values, tries=job.tries, waited_seconds=waited)

    def _end(self, outcome: GuestOutcome) -> None:
        self._done[outcome.guest.vmid] = outcome
        self.board.ends(outcome)
        self.heard(outcome)

    # -------------------------------------------------------- what goes wrong

    def _look_for_lost(self) -> None:
        now = self.clock.monotonic()
        for one in list(self._lost):
            found = self.fate(one.job.guest, one.worker, now >= one.until)
            if found is not None:
                self._lost.remove(one)
                self._end(found)

    def _mind_signals(self) -> None:
        bell = self.bell
        if bell.ended_by is not None and bell.rings > self._rings:
            if not self._is_over:
                self._break_off(bell.ended_by)
            self._rings = bell.rings
            if self._at_work:
                self.board.note(f"ended by signal {bell.ended_by}: {self._waited_for()}")
        if bell.wants_stop and not self._at_work and not self._lost:
            bell.stop_now()
            self._has_changed, self._is_stopping = True, False
        elif bell.wants_stop and not self._is_stopping:
            self._is_stopping = True
            self.board.note(f"to be stopped: {self._waited_for()}")

    def _break_off(self, number: int) -> None:
        """Once: a second Ctrl-C must not tear what the first has begun."""
        self._is_over = True
        for job in self._at_work:
            if job.worker is not None:
                job.worker.signal(number)
        queue, self._queue = self._queue, []
        for unit in queue:
            for job in unit.jobs:
                self._end(GuestOutcome.not_begun(job.guest, number))

    def _waited_for(self) -> str:
        named = [f"{job.guest.vmid} ({job.stage.value})" for job in self._at_work]
        rest = f" and {len(named) - 6} more" if len(named) > 6 else ""
        return f"nothing more is begun, waiting for {', '.join(named[:6])}{rest}"
