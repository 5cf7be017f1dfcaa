"""A world: our processes, PVE and one guest in virtual time, and everything that is worth knowing about a run.

Real code runs in it: safe_snapshot() with Window, Thawer and verdicts, GuardCore with its recorder, the take-over of a
guard that systemd started again, and recover(). The seams are fake (seams.py), and PVE and the guest are models.
"""

from __future__ import annotations

import atexit
import shutil
import tempfile
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from snapshot.base.procfs import TICKS, ProcessIdentity
from snapshot.config.settings import (
    ApiConfig,
    Config,
    FreezeConfig,
    GuardConfig,
    JournalConfig,
    LocalConfig,
    SnapshotConfig,
    ThawConfig,
)
from snapshot.errors import InterruptedBySignalError, SafeSnapshotError
from snapshot.guard import __main__ as guard_process
from snapshot.guard.core import GuardCore
from snapshot.guard.link import GuardSpec, Op
from snapshot.guard.recorder import JournalRecorder
from snapshot.guard.seams import Happening, Message
from snapshot.journal.record import Cause, WindowRecord
from snapshot.model import Vmid
from snapshot.pve.access import Access
from snapshot.recovery.recover import recover
from snapshot.recovery.strangers import Recovered
from snapshot.states import State
from snapshot.take.fence import Fence, NoFence
from snapshot.take.operation import safe_snapshot
from snapshot.take.request import Request, Result, Tools
from snapshot.window.knock import FREEZES
from tests.campaign import faults, invariants, patches
from tests.campaign.guest import GuestBox, TracedAgent
from tests.campaign.plan import Fault, Plan
from tests.campaign.pve import Call, Mishap, Pve
from tests.campaign.scheduler import Process, Scheduler
from tests.campaign.seams import (
    FileJournal,
    Link,
    MemoryJournal,
    WorldBackground,
    WorldClock,
    WorldGate,
    WorldInbox,
    WorldJournal,
    WorldLauncher,
    WorldOwner,
    WorldTransport,
    disk_full,
)
from tests.campaign.seats import Seats
from tests.lab.guest.agentmodel import FREEZE, THAW, Faults
from tests.unit.kit import record

VMID = 100
RESTART_SECONDS = 0.5
"""RestartSec of the guard's unit (launcher.systemd_run)."""
GATEWAY_STATUS = 502
"""From here on an answer says nothing about the request."""
LONGEST_SECONDS = 400.0
"""A run that is not over by then has its open windows looked at by the invariants as they are."""


@dataclass
class WindowTrace:
    """What a run did to one window, seen from outside."""

    id: str
    owner: Process
    max_window_seconds: float
    freeze_sent_at: float | None = None
    since: list[float] = field(default_factory=list)
    """When a deadline of its began: with its freeze, and anew with each of PVE's own that it lets pass."""
    closed_at: float | None = None
    states: list[tuple[State, str]] = field(default_factory=list)
    """What the journal was told of its state, and by whom."""
    silent: set[int] = field(default_factory=set)
    """Processes that must not write before they have asked for a thaw."""
    left: set[int] = field(default_factory=set)
    """Guards that have ended their watch."""
    disarmed_at: float | None = None
    decided: list[float] = field(default_factory=list)
    """When the owner told its guard that it thaws."""
    ends_by: float = float("inf")
    """The deadline that a group's windows share."""
    known_deadlines: list[tuple[float, float]] = field(default_factory=list)
    """What the journal had for its deadline, and from when on."""


class GuardFaultError(Exception):
    """What a guard's own code may raise."""


class World:
    """One run. ``with World(plan) as world: world.run()``, then invariants.check(world)."""

    folder: Path | None = None
    """Files that every world shares: the token, the agent's socket as a name."""

    def __init__(self, plan: Plan, scheduler: Scheduler | None = None) -> None:
        self.plan = plan
        self.scheduler = scheduler or Scheduler(plan.seed)
        self.scheduler.on_step = self._on_step
        model = TracedAgent(
            mounts=plan.mounts,
            hook=True,
            faults=Faults(
                freeze_sleep=plan.freeze_takes,
                linger={THAW: plan.thaw_takes, FREEZE: 0.005},
                self_thaw_after=10.0 if plan.windows_guest else None,
            ),
        )
        model.on_freeze = lambda: self.trigger("frozen")
        self.guest = GuestBox(self.scheduler, model, "a")
        self.seats = Seats(self)
        self.pve = Pve(self.scheduler, plan.pve, self.guest, VMID, plan.seed, self._judge)
        self.config = _config(plan, shared_folder())
        self.clock = WorldClock(self)
        self._stack = ExitStack()
        self.backing: Any = self._stack.enter_context(closing(MemoryJournal()))
        self.clock_offset = 0.0
        self.full_until = -1.0
        self.slow_disk = 0.0
        self.owners: list[Process] = []
        self.guards: list[tuple[Link, Process]] = []
        self.windows: dict[str, WindowTrace] = {}
        self.obstacles: list[tuple[float, float, str]] = []
        self.violations: list[str] = []
        self.happened: list[str] = []
        """Faults that really struck, by kind."""
        self.said: list[str] = []
        self.events: list[tuple[float, str]] = []
        self.asked: list[tuple[Process, float]] = []
        """Who turned to the agent, over whatever route, and when."""
        self.guard_wont_arm = 0
        self.guard_will_fail = 0
        self.stops_in_its_seat = 0.0
        self.machine_down_until = -1.0
        self._armed: list[Fault] = []
        self._seen: dict[tuple[str, str], int] = {}
        self._recovering: Process | None = None
        self._claims: dict[str, Process] = {}
        self.claims_fail = False
        self.fence: Fence = NoFence()
        """The place of its guest in a group (groups.py)."""
        self.ends_by = float("inf")
        """When the group's deadline is."""
        self.unclaimed = False
        """Whether a guard went on without a claim: then a second one may live beside it."""

    def __enter__(self) -> World:
        if self.plan.sqlite:
            folder = self._stack.enter_context(tempfile.TemporaryDirectory(dir=shared_folder()))
            self.backing = FileJournal(Path(folder) / "journal.sqlite")
        self._stack.enter_context(self.installed())
        return self

    @contextmanager
    def installed(self) -> Iterator[None]:
        """The engine runs in this world alone."""
        with patches.installed(self), closing(self.scheduler):
            yield

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    # -- driving

    def run(self) -> None:
        """The whole scenario, until nothing more can happen."""
        self.start()
        for fault in self.plan.faults:
            self.inject(fault)
        self.finish()

    def start(self) -> None:
        if self.plan.at_the_knock:
            self._remember_short_freezes()
        self._spawn_owner(0, 0.0)
        if self.plan.second_run_after >= 0:
            self._spawn_owner(1, self.plan.second_run_after)
        self.scheduler.after(self.plan.recover_seconds, self._recover_timer)

    def _remember_short_freezes(self) -> None:
        """What the journal knows of the guest's freezes before this run."""
        for number in range(FREEZES):
            at = invariants.EPOCH - 1000.0 + number
            ended = record(f"earlier-{number}", VMID, at, state="thawed", closed_at=at, freeze_outcome="acknowledged")
            self.backing.begin(ended._replace(freezing_seconds=0.1))

    def inject(self, fault: Fault) -> None:
        """Let a fault strike when it says; one that is for a time past strikes now."""
        if fault.when[0] == "time":
            self.scheduler.at(float(fault.when[1]), lambda: self.strike(fault))
        else:
            self._armed.append(fault)

    def advance(self, seconds: float) -> None:
        self.scheduler.run(self.scheduler.now + seconds)

    def finish(self) -> None:
        """Go on until nothing more can happen, or for LONGEST_SECONDS (three times PVE's limit for a freeze; two rounds
        of the recovery's timer after the last obstacle).
        """
        longest = self.scheduler.now + max(LONGEST_SECONDS, 3 * self.plan.pve.freeze_seconds)
        while not self.quiet and self.scheduler.now < max(longest, self._obstacles_end + 2 * self.plan.recover_seconds):
            self.advance(5.0)

    @property
    def _obstacles_end(self) -> float:
        return max((end for _, end, _ in self.obstacles), default=0.0)

    @property
    def quiet(self) -> bool:
        """Whether nothing of ours and nothing that we caused can still happen."""
        return not (
            any(p.alive for p in self.scheduler.processes)
            or any(task.running for task in self.pve.tasks.values())
            or any(call.known_at is not None and call.over_at is None for call in self.pve.calls if call.command)
            or self.guest.model.busy
            or any(not row.is_foreign for row in self.backing.open_windows())
            or self._obstacles_end > self.scheduler.now
        )

    def story(self) -> list[str]:
        """What happened, in order, for whoever looks at a failing run."""
        told: list[tuple[float, str]] = []
        for process in self.scheduler.processes:
            told.append((process.started_at, f"{process} begins"))
            if process.ended_at is not None:
                told.append((process.ended_at, f"{process} {'is killed' if process.dead else 'ends'}"))
        for call in self.pve.calls:
            answer = call.answer or call.broken or call.unreachable or "no answer"
            if call.method == "GET" and call.answer is not None and call.answer[0] == 200:
                continue  # looks that went well tell nothing
            what = call.command or call.path
            told.append((call.sent_at, f"{call.process} -> {call.via}: {what} [{call.number}]"))
            if call.abandoned_at is not None:
                told.append((call.abandoned_at, f"  [{call.number}] {str(answer)[:110]}"))
            if call.over_at is not None and call.abandoned_at is not None and call.over_at > call.abandoned_at + 0.1:
                told.append((call.over_at, f"  [{call.number}] is over in PVE only now"))
        told += [(at, f"GUEST holds {mounts} filesystems") for at, mounts in self.guest.model.transitions]
        told += [(start, f"OBSTACLE until {end:.3f}: {why}") for start, end, why in self.obstacles]
        told += self.events
        return [f"{at:9.3f}  {text}" for at, text in sorted(told, key=lambda entry: entry[0])]

    # -- our processes

    def _spawn_owner(self, number: int, after: float) -> None:
        process = self.scheduler.spawn("owner", lambda: self._take_snapshot(number), after=after)
        self.owners.append(process)

    def _take_snapshot(self, number: int) -> Result:
        tools = Tools(
            config=self.config,
            access=self.access(),
            clock=self.clock,
            me=self.identity(),
            open_journal=lambda: WorldJournal(self),  # type: ignore[arg-type,return-value]
            launcher=WorldLauncher(self),
            gate=WorldGate(self),
            publish=self.publish,
            say=self._say,
            fence=self.fence,
        )
        return safe_snapshot(Request(vmid=Vmid(VMID), name=f"s{number}", policy=self.plan.policy), tools)

    def access(self) -> Access:
        return Access(
            config=self.config,
            clock=self.clock,
            api=WorldTransport(self, self.plan.host),
            local_node=self.plan.local_node,
        )

    def start_guard(self, link: Link) -> Process:
        """As the launcher does it."""
        process = self.scheduler.spawn("guard", lambda: self._guard(link), after=0.15)
        link.guard = process
        self.guards.append((link, process))
        process.at_death.append(lambda: self._guard_ended(link.spec, process))
        return process

    def _guard(self, link: Link) -> None:
        """As guard.main does it when an owner waits: get ready, say so, guard."""
        if self.guard_wont_arm > 0:
            self.guard_wont_arm -= 1
            link.failed = "as the fault wants it"
            self.scheduler.wake(link.owner)
            return
        link.taken = self._claimed_by(link.spec.window_id)
        if link.taken is not None:
            self.scheduler.wake(link.owner)
            return
        recorder = WorldBackground(self, link.spec)
        thawer = guard_process.prepare(link.spec, self.access())
        inbox = WorldInbox(self, link.inbox)
        self.scheduler.step()
        link.armed = True
        self.scheduler.wake(link.owner)
        owner = WorldOwner(self, link.spec.owner_pid)
        core = GuardCore(link.spec, inbox, thawer, self.clock, recorder, owner)
        self._to_its_end(core.run, link.spec, recorder)

    def _to_its_end(self, work: Callable[[], None], spec: GuardSpec, recorder: WorldBackground) -> None:
        """As guard.main does it: one that fails is started again by systemd."""
        try:
            work()
        except GuardFaultError:
            if self.plan.systemd:
                self._spawn_takeover(spec, Cause.OWNER_DIED, RESTART_SECONDS)
        recorder.finish()

    def _guard_ended(self, spec: GuardSpec, process: Process) -> None:
        """systemd starts a guard that was killed again. A detached one is gone."""
        if process.dead and self.plan.systemd and self.scheduler.now >= self.machine_down_until:
            self._spawn_takeover(spec, Cause.OWNER_DIED, RESTART_SECONDS)

    def adopt(self, spec: GuardSpec) -> None:
        """recover() starts a guard for a window that has to stay open."""
        self.scheduler.step()
        self._spawn_takeover(spec, Cause.RECOVERY, 0.15)

    def _spawn_takeover(self, spec: GuardSpec, cause: Cause, after: float) -> None:
        process = self.scheduler.spawn("takeover", lambda: self._take_over(spec, cause), after=after)
        process.at_death.append(lambda: self._guard_ended(spec, process))

    def _claimed_by(self, window_id: str) -> Process | None:
        """As claim.take does it: another guard, or None when the claim is ours, or cannot be had by anybody."""
        self.scheduler.step()
        holder = self._claims.get(window_id)
        if holder is not None and holder.alive:
            return holder
        if holder is not None or (self.scheduler.now >= self.full_until and not self.claims_fail):
            self._claims[window_id] = self.scheduler.me()
        else:
            self.unclaimed = True
        return None

    def family(self, process: Process) -> int:
        """The owner whose window a process is concerned with; 0 for a recovery, which is concerned with all."""
        link = next((link for link, guard in self.guards if guard is process), None)
        return process.pid if process.role == "owner" else link.owner.pid if link else 0

    def _take_over(self, spec: GuardSpec, cause: Cause) -> None:
        """As guard.main does it when nobody waits at its address."""
        if self._claimed_by(spec.window_id) is not None:
            return
        recorder = WorldBackground(self, spec)
        thawer = guard_process.prepare(spec, self.access())
        inbox = WorldInbox(self, deque())
        owner = self.scheduler.process_of(spec.owner_pid)
        if owner is None or not owner.alive:
            inbox.put_back(Message(Happening.WATCHED_DIED))
        else:
            owner.at_death.append(lambda: inbox.bring(Message(Happening.WATCHED_DIED)))
        core = GuardCore(spec, inbox, thawer, self.clock, recorder, WorldOwner(self, spec.owner_pid))
        orphan: guard_process.Orphan | None
        try:
            orphan = guard_process._orphan(spec, inbox, self.config, self.clock, recorder, me=self.identity())  # type: ignore[arg-type]
        except GuardFaultError:
            orphan = guard_process.unknown_orphan(spec, self.clock)
        if orphan is not None:
            late, due, why = orphan
            self._to_its_end(lambda: core.take_over(why or cause, late_seconds=late, due=due), spec, recorder)
            return
        recorder.finish()

    def _recover_timer(self) -> None:
        busy = self._recovering is not None and self._recovering.alive
        if self.backing.open_windows() and not busy and self.scheduler.now >= self.machine_down_until:
            self._recovering = self.scheduler.spawn("recover", self._recover)
        self.scheduler.after(self.plan.recover_seconds, self._recover_timer)

    def _recover(self) -> list[Recovered]:
        adopt = self.adopt if self.plan.recover_adopts else None
        try:
            return recover(self.access(), self.identity(), lambda: WorldJournal(self), self._say, adopt)  # type: ignore[arg-type,return-value]
        except SafeSnapshotError as error:
            self.said.append(f"recover: {error}")
            return []

    def journal_recorder(self, spec: GuardSpec) -> JournalRecorder:
        """What a guard's background thread writes with."""
        return JournalRecorder(
            spec,
            lambda: WorldJournal(self),  # type: ignore[arg-type,return-value]
            self.publish,
            self.clock,
            self._log(),
            me=self.identity(),
        )

    def fail_if_wanted(self) -> None:
        """In a guard: an error of its own."""
        if self.guard_will_fail:
            self.guard_will_fail -= 1
            raise GuardFaultError("as the fault wants it")

    def inbox_closed(self, guard: Process) -> None:
        """A guard hangs up: its owner sees it."""
        for link, process in self.guards:
            if process is guard:
                link.guard_open = False

    def owner_hangs_up(self, link: Link) -> None:
        if link.owner_open:
            link.owner_open = False
            link.inbox.append(Message(Happening.OWNER_GONE))
            if link.guard is not None:
                self.scheduler.wake(link.guard)

    # -- the machine we run on

    def wall(self) -> float:
        return invariants.EPOCH + self.scheduler.now + self.clock_offset

    def disk(self, what: str, seconds: float | None) -> None:
        """A write to the disk, or the opening of the journal: it takes time, and may fail."""
        process = self.scheduler.step()
        self._note_write(process, f"journal {what}")
        if self.scheduler.now < self.full_until:
            raise disk_full(self)
        took = self.scheduler.rng.uniform(0.001, 0.02) + self.slow_disk if seconds is None else seconds
        self.scheduler.sleep(took)
        if self.scheduler.now < self.full_until:
            raise disk_full(self)

    def identity(self) -> ProcessIdentity:
        """The process's that asks."""
        process = self.scheduler.me()
        return ProcessIdentity(process.pid, self.process_start(process.pid) or 0, "boot")

    def process_start(self, pid: int | None, *_: object) -> int | None:
        process = self.scheduler.process_of(pid)
        if process is not None:
            return int(process.started_at * TICKS) + 1 if process.alive else None
        task = self._task_of(pid)
        return 1 if task is not None and task.running else None

    def process_lives(self, pid: int | None, start: int | None, *_: object) -> bool:
        return pid is not None and start is not None and self.process_start(pid) == start

    def pidfd_open(self, pid: int) -> int:
        self.scheduler.step()
        task = self._task_of(pid)
        if task is None or not task.running:
            raise ProcessLookupError
        return pid

    def wait_for_worker(self, pid: int, seconds: float) -> list[tuple[int, int]]:
        process = self.scheduler.step()
        deadline = self.scheduler.now + seconds
        while (task := self._task_of(pid)) is not None and task.running:
            if self.scheduler.now >= deadline:
                return []
            self.scheduler.wait(min(deadline, self.scheduler.now + 0.002))
            if process.gate_open and process.signal is not None:
                raise InterruptedBySignalError(process.signal)
        return [(pid, 1)]

    def _task_of(self, pid: int | None) -> Any:
        return next((t for t in self.pve.tasks.values() if t.pid == pid), None)

    def publish(self, *_: object) -> list[str]:
        self._note_write(self.scheduler.step(), "metrics")
        return []

    def _say(self, line: str, at: float | None = None) -> None:
        self._note_write(self.scheduler.step(), "a line")
        self.said.append(line)

    def _log(self) -> Any:
        def log(_level: int, *_: object) -> None:
            self._note_write(self.scheduler.step(), "syslog")

        return SimpleNamespace(log=log, error=lambda *_: log(0))

    # -- faults

    def strike(self, fault: Fault) -> None:
        self.happened.append(fault.kind)
        self.events.append((self.scheduler.now, f"FAULT {fault.kind} {fault.value:g} {fault.target}"))
        faults.FAULTS[fault.kind].apply(self, fault)

    def obstacle(self, seconds: float, why: str) -> None:
        """From now on and for so long nobody can be expected to thaw."""
        self.obstacles.append((self.scheduler.now, self.scheduler.now + seconds, why))

    @property
    def plan_migrates(self) -> bool:
        return any(fault.kind == "guest migrated" for fault in self.plan.faults)

    @property
    def is_local(self) -> bool:
        """Whether we run on the guest's node: then the agent's socket is a route."""
        return self.plan.local_node == self.guest.node

    def _on_step(self, process: Process) -> None:
        if not self._armed:
            return
        for fault in list(self._armed):
            if fault.when == ("step", process.role, process.steps):
                self._armed.remove(fault)
                self.strike(fault)

    def calls_so_far(self, role: str, command: str) -> int:
        """How many such requests there were; a fault's trigger counts them."""
        return self._seen.get((role, command), 0)

    def trigger(self, what: str) -> None:
        """Something happened that faults wait for."""
        for fault in [f for f in self._armed if f.when[0] == what]:
            self._armed.remove(fault)
            self.scheduler.after(float(fault.when[1]), lambda fault=fault: self.strike(fault))  # type: ignore[misc]

    def _judge(self, call: Call) -> Mishap:
        """What happens to a request: the faults that wait for it."""
        self._note_call(call)
        command = call.command or ("snapshot" if call.path.endswith("/snapshot") else "other")
        key = (call.process.role, command)
        number = self._seen[key] = self._seen.get(key, 0) + 1
        for fault in list(self._armed):
            if fault.when == ("call", *key, number):
                self._armed.remove(fault)
                self.happened.append(fault.kind)
                self.obstacles.append((self.scheduler.now, self.scheduler.now + 30.5, f"call {call.number}"))
                return faults.mishap(fault)
        return Mishap()

    # -- the record, for the invariants

    def note_begin(self, record: WindowRecord) -> None:
        self.windows[record.id] = WindowTrace(record.id, self.scheduler.me(), self.plan.max_window_seconds)

    def note_tell(self, link: Link, op: Op) -> None:
        trace = self.windows.get(link.spec.window_id)
        if trace is not None and op is Op.THAWING:
            trace.decided.append(self.scheduler.now)
        if trace is not None and op is Op.DISARM:
            trace.disarmed_at = self.scheduler.now
            trace.silent.clear()  # the thaw is confirmed, or nothing was frozen: what is written delays nobody
        if trace is not None and op is Op.FREEZING:
            trace.since.append(self.scheduler.now)
        if trace is not None and op is Op.FREEZING and trace.freeze_sent_at is not None:
            trace.silent.clear()  # nothing of ours is frozen: PVE's own freeze may follow
        if trace is not None and op is Op.FREEZING and trace.freeze_sent_at is None:
            trace.freeze_sent_at = self.scheduler.now
            trace.silent = {link.owner.pid, *({link.guard.pid} if link.guard else ())} - trace.left
            self.trigger("sent")

    def note_update(self, before: WindowRecord | None, after: WindowRecord | None, values: dict[str, object]) -> None:
        """The journal was told something of a window."""
        trace = self.windows.get(after.id) if after is not None else None
        if before is None or after is None or trace is None:
            return
        told = ", ".join(f"{key}={value}" for key, value in values.items() if value is not None)
        self.events.append((self.scheduler.now, f"journal by {self.scheduler.me()}: {told[:180]}"))
        if after.deadline_at != before.deadline_at:
            trace.known_deadlines.append((self.scheduler.now, after.deadline_at - invariants.EPOCH))
        if after.state != before.state:
            trace.states.append((State(after.state), str(self.scheduler.me())))
        problem = invariants.counted_as_died(self, trace, before, after)
        if problem is not None:
            self.violations.append(problem)
        if after.closed_at is not None and before.closed_at is None:
            trace.closed_at = self.scheduler.now
            self.guest.pump()
            problem = invariants.closed_while_frozen(self, trace)
            if problem is not None:
                self.violations.append(problem)

    def note_agent_asked(self, process: Process) -> None:
        """Over the agent's own socket: by its guard always, and by an owner that has decided, to thaw."""
        self.asked.append((process, self.scheduler.now))
        if process.role == "owner" and self.stops_in_its_seat and any(t.freeze_sent_at for t in self.windows.values()):
            seconds, self.stops_in_its_seat = self.stops_in_its_seat, 0.0
            self.events.append((self.scheduler.now, f"{process} is stopped in the agent's seat for {seconds:g} s"))
            self.scheduler.stop(process, seconds)
        if process.role != "owner" or any(trace.decided for trace in self.windows.values()):
            self._thaw_requested(process)

    def _note_call(self, call: Call) -> None:
        """A request over the API."""
        if call.command:
            self.asked.append((call.process, self.scheduler.now))
        if call.command == "fsfreeze-thaw":
            self._thaw_requested(call.process)

    def _thaw_requested(self, process: Process) -> None:
        for trace in self.windows.values():
            trace.silent.discard(process.pid)

    def guard_is_done(self, guard: Process) -> None:
        """It thaws nothing any more, whatever its owner tells it from now on."""
        for trace in self.windows.values():
            trace.silent.discard(guard.pid)
            trace.left.add(guard.pid)

    def _was_refused(self, trace: WindowTrace) -> bool:
        """Whether PVE has done with the freeze, and the guest holds nothing: no thaw is to come. Also where none was
        sent: at the knock PVE's task, which may freeze by itself, is at work already.
        """
        freezes = [c for c in self.pve.calls if c.process is trace.owner and c.command == "fsfreeze-freeze"]
        if not freezes:
            return True
        over = (c.over_at is not None or (c.answer is not None and c.answer[0] < GATEWAY_STATUS) for c in freezes)
        return not self.guest.model.frozen and all(over)

    def _note_write(self, process: Process, what: str) -> None:
        """Something of ours writes: not before the first thaw request of the process that is to thaw."""
        for trace in self.windows.values():
            if process.pid in trace.silent and process.alive and not self._was_refused(trace):
                self.violations.append(f"(f) {process} writes {what} at {self.scheduler.now:.3f} before its first thaw")


def shared_folder() -> Path:
    """Token and socket names, once for all worlds of this interpreter."""
    if World.folder is None:
        in_memory = "/dev/shm" if Path("/dev/shm").is_dir() else None
        World.folder = Path(tempfile.mkdtemp(prefix="campaign-", dir=in_memory))
        atexit.register(shutil.rmtree, World.folder, ignore_errors=True)
        token = World.folder / "token"
        token.write_text("secret")
        token.chmod(0o600)
        (World.folder / f"{VMID}.qga").touch()
        (World.folder / "none.sqlite").touch()
    return World.folder


def _config(plan: Plan, folder: Path) -> Config:
    return Config(
        api=ApiConfig(host=plan.host, token_id="root@pam!t", token_file=folder / "token"),
        freeze=FreezeConfig(
            policy=plan.policy,
            freeze_timeout_seconds=plan.freeze_timeout_seconds,
            max_window_seconds=plan.max_window_seconds,
            late_freeze_seconds=plan.late_freeze_seconds,
            at_the_knock=plan.at_the_knock,
        ),
        thaw=ThawConfig(owner_limit_seconds=plan.owner_limit_seconds),
        local=LocalConfig(node=plan.local_node, socket_folder=folder, product_uuid_file=folder / "none"),
        journal=JournalConfig(path=folder / "none.sqlite"),
        guard=GuardConfig(),
        snapshot=SnapshotConfig(task_timeout_seconds=60.0),
    )
