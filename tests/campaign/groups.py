"""A group in virtual time: a world for each member, a leader beside them, and one time for all.

The leader is the real one (snapshot/fleet/lead.py) and so is each member's fence; between them stand two queues in
place of a socketpair. Every member has a guest, a PVE, a journal and a network of its own, as if each ran on another
cluster: what goes wrong there goes wrong for it alone.
"""

from __future__ import annotations

import dataclasses
import json
import random
from collections import deque
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Any

from snapshot.base.signals import NoGate
from snapshot.errors import InterruptedBySignalError, JournalError
from snapshot.fleet import leftover
from snapshot.fleet.group import ENDED, Resolution
from snapshot.fleet.lead import Leader
from snapshot.fleet.member import Bounds, MemberFence
from snapshot.model import Policy
from snapshot.take.fence import Milestone
from snapshot.take.request import Tools
from tests.campaign import faults, groupinvariants, patches
from tests.campaign.plan import Fault, Plan, draw_setup
from tests.campaign.scheduler import Process, Scheduler, View
from tests.campaign.seams import WorldClock, WorldJournal, WorldLauncher
from tests.campaign.world import LONGEST_SECONDS, World

BOUNDS = Bounds(examined=60.0, armed=20.0, judged=120.0)
GROUP_ID = "together-0a1b2c3d"
LEADER_FAULTS = ("leader killed", "leader stopped", "leader signalled")

Message = Mapping[str, Any]


@dataclass(frozen=True)
class GroupPlan:
    """Everything a run depends on."""

    seed: str
    members: tuple[Plan, ...]
    all_or_none: bool = True
    leader: tuple[Fault, ...] = ()
    """What happens to the leader: at a time, a step of its own, or behind the first freeze of any member."""

    def to_json(self) -> str:
        values = dataclasses.asdict(self) | {"members": [plan.to_json() for plan in self.members]}
        return json.dumps(values)

    @classmethod
    def from_json(cls, text: str) -> GroupPlan:
        values = json.loads(text)
        values["members"] = tuple(Plan.from_json(plan) for plan in values["members"])
        values["leader"] = tuple(Fault(**{**f, "when": tuple(f["when"])}) for f in values["leader"])
        return cls(**values)

    def lines(self) -> list[str]:
        told = [f"{len(self.members)} members, {'all or none' if self.all_or_none else 'best effort'}"]
        for number, plan in enumerate(self.members):
            told += [f"member {number}: {line}" for line in plan.lines()]
        return [*told, *(f"leader: {fault}" for fault in self.leader)]


def draw(seed: str) -> GroupPlan:
    """The plan that belongs to a seed."""
    rng = random.Random(f"{seed}/group")
    window = rng.choice((3.0, 12.0, 12.0, 30.0))
    skips = rng.random() < 0.85
    count = rng.choice((2, 2, 3, 3, 4, 5))
    plans = [_member(f"{seed}.{number}", rng, window, skips=skips) for number in range(count)]
    for _ in range(rng.choices((0, 1, 2, 3, 5), (10, 40, 25, 15, 10))[0]):
        at = rng.randrange(len(plans))
        plans[at] = replace(plans[at], faults=(*plans[at].faults, faults.draw_fault(rng)))
    leader = tuple(_leader_fault(rng) for _ in range(rng.choices((0, 1, 2), (70, 25, 5))[0]))
    return GroupPlan(seed, tuple(plans), all_or_none=rng.random() < 0.7, leader=leader)


def _member(seed: str, rng: random.Random, window: float, *, skips: bool) -> Plan:
    plan = replace(draw_setup(seed, rng), second_run_after=-1.0, at_the_knock=False, max_window_seconds=window)
    hour = plan.pve.freeze_seconds > 1000
    pve = replace(plan.pve, freeze_seconds=40.0, thaw_seconds=30.0) if hour else plan.pve
    pve = replace(pve, skips_frozen=skips)
    late = 85.0 if hour else plan.late_freeze_seconds
    policy = rng.choice((Policy.PREFER, Policy.PREFER, Policy.PREFER, Policy.REQUIRE))
    return replace(
        plan, pve=pve, late_freeze_seconds=late, recover_seconds=30.0, policy=policy, windows_guest=rng.random() < 0.02
    )


def _leader_fault(rng: random.Random) -> Fault:
    kind = rng.choice(LEADER_FAULTS)
    value = round(0.05 * 1200 ** rng.random(), 3) if kind == "leader stopped" else 0.0
    when: tuple[str | float | int, ...] = ("time", round(rng.uniform(0.0, 4.0), 4))
    roll = rng.random()
    if roll < 0.35:
        when = ("step", "leader", rng.randint(1, 120))
    elif roll < 0.7:
        when = ("frozen", round(0.001 * 5_000 ** rng.random(), 4))
    return Fault(kind, when, value)


class Wire:
    """One end of the pair. ``wait`` is a member's; the leader is woken by whatever any of them says."""

    def __init__(self, core: Scheduler, world: World) -> None:
        self._core = core
        self._world = world
        self.leader: Process | None = None
        self.member: Process | None = None
        self.to_member: deque[Message] = deque()
        self.to_leader: deque[Message] = deque()
        self.step: int = 0
        """What the member has said last that it has reached."""
        self.must_thaw_from: float | None = None
        """Since when it knows that its group has ended, while it held its guest at the fence."""

    def tell(self, op: str, **values: object) -> bool:
        """See member.Wire."""
        self._core.step()
        if self.leader is None or not self.leader.alive:
            return False
        if op == "at":
            self.step = int(str(values["step"]))
        self.to_leader.append(json.loads(json.dumps({"op": op, **values})))
        self._core.wake(self.leader)
        return True

    def wait(self, seconds: float | None = None) -> Message | None:
        """See member.Wire."""
        me = self._core.step()
        until = self._core.now + (seconds or 0.0)
        while not self.to_member:
            if me.gate_open and me.signal is not None:
                raise InterruptedBySignalError(me.signal)
            if self.leader is None or not self.leader.alive:
                self._has_ended()
                raise EOFError
            if self._core.now >= until:
                return None
            self._core.wait(until)
        message = self.to_member.popleft()
        if message["op"] == ENDED:
            self._has_ended()
        return message

    def send(self, op: str, values: Mapping[str, object]) -> None:
        """The leader's."""
        self._core.step()
        if self.member is not None and self.member.alive:
            self.to_member.append(json.loads(json.dumps({"op": op, **values})))
            self._core.wake(self.member)

    def _has_ended(self) -> None:
        if self.step in (Milestone.FROZEN, Milestone.TAKEN) and self.must_thaw_from is None:
            self.must_thaw_from = self._core.now


@dataclass
class GroupWorld:
    """One run. ``with GroupWorld(plan) as group: group.run()``, then groupinvariants.check(group)."""

    plan: GroupPlan
    worlds: list[World] = field(default_factory=list)
    wires: list[Wire] = field(default_factory=list)
    decisions: list[Resolution] = field(default_factory=list)
    """What was agreed: the first counts."""
    decided: Resolution | None = None
    """What the leader went by."""
    is_not_agreed: bool = False
    """Whether the disk kept somebody from looking what was agreed."""
    told: list[str] = field(default_factory=list)
    """What the leader had to tell in the end."""
    happened: list[str] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)
    leader: Process | None = None
    ends_by: float | None = None

    def __post_init__(self) -> None:
        self.core = Scheduler(self.plan.seed, most_events=200_000 * len(self.plan.members))
        self.core.on_step = self._on_step
        self._view = View(self.core)
        self._stack = ExitStack()
        self._armed = list(self.plan.leader)
        self.worlds = [World(plan, View(self.core)) for plan in self.plan.members]
        self.wires = [Wire(self.core, world) for world in self.worlds]

    def __enter__(self) -> GroupWorld:
        for world in self.worlds:
            self._stack.push(world)
        self._stack.enter_context(patches.installed_for(self.worlds, self.core))
        self._stack.callback(self.core.close)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def run(self) -> None:
        """The whole scenario, until nothing more can happen."""
        self.leader = self._view.spawn("leader", self._lead)
        for world, wire in zip(self.worlds, self.wires, strict=True):
            wire.leader = self.leader
            self._begin(world, wire)
        for fault in self.plan.leader:
            if fault.when[0] == "time":
                self.core.at(float(fault.when[1]), lambda fault=fault: self._strike(fault))  # type: ignore[misc]
        while not self.quiet and self.core.now < max(LONGEST_SECONDS, *(self._longest(w) for w in self.worlds)):
            self.core.run(self.core.now + 5.0)

    def _longest(self, world: World) -> float:
        return world._obstacles_end + 2 * world.plan.recover_seconds

    @property
    def quiet(self) -> bool:
        """Whether nothing can happen any more."""
        return all(world.quiet for world in self.worlds) and not any(p.alive for p in self._view.processes)

    def _begin(self, world: World, wire: Wire) -> None:
        world.fence = MemberFence(
            wire,
            WorldClock(world),
            group_id=GROUP_ID,
            all_or_none=self.plan.all_or_none,
            max_window_seconds=world.plan.max_window_seconds,
            agree=lambda wanted: self._agree(world, wanted),
            bounds=BOUNDS,
        )
        trigger = world.guest.model.on_freeze
        world.guest.model.on_freeze = lambda: (trigger(), self._frozen())[0]
        world.start()
        wire.member = world.owners[0]
        for fault in world.plan.faults:
            world.inject(fault)
        world.owners[0].at_death.append(lambda: self.leader is not None and self.core.wake(self.leader))
        assert self.leader is not None
        self.leader.at_death.append(lambda: self.core.wake(world.owners[0]))

    def _agree(self, world: World, wanted: Resolution) -> Resolution:
        """The journal is one for all; the disk fails where the asker's does."""
        try:
            world.disk("written", None)
        except JournalError:
            self.is_not_agreed = True
            return wanted
        if not self.decisions:
            self.decisions.append(wanted)
        return self.decisions[0]

    # -- the leader

    def _lead(self) -> None:
        clock = WorldClock(self.worlds[0])
        leader = Leader(
            range(100, 100 + len(self.worlds)),
            [lambda op, values, wire=wire: wire.send(op, values) for wire in self.wires],  # type: ignore[misc]
            clock,
            all_or_none=self.plan.all_or_none,
            max_window_seconds=self.plan.members[0].max_window_seconds,
            agree=lambda wanted: self._agree(self.worlds[0], wanted),
        )
        at_work = set(range(len(self.wires)))
        while at_work:
            self._hear(leader, at_work)
            self._mind_signal()
            self._note(leader)
        self._clear(leader)

    def _hear(self, leader: Leader, at_work: set[int]) -> None:
        self.core.step()
        heard = [number for number in sorted(at_work) if self.wires[number].to_leader]
        gone = [n for n in sorted(at_work) if n not in heard and not self.worlds[n].owners[0].alive]
        for number in heard:
            leader.heard(number, self.wires[number].to_leader.popleft())
        for number in gone:
            at_work.discard(number)
            leader.ended(number, "its process has ended")
        if not (heard or gone):
            self.core.wait(None)

    def _mind_signal(self) -> None:
        """Passed on to those who are at work."""
        me = self.core.me()
        if me.signal is not None:
            number, me.signal = me.signal, None
            for world in self.worlds:
                world.owners[0].signal = number
                self.core.wake(world.owners[0])

    def _note(self, leader: Leader) -> None:
        self.decided = leader.decision
        began = leader.group.began
        if began is not None and self.ends_by is None:
            self.ends_by = began + self.plan.members[0].max_window_seconds

    def _clear(self, leader: Leader) -> None:
        """In each member's world: its PVE is asked."""
        me = self.core.me()
        for number, member in leader.may_have_left_some:
            world = self.worlds[number]
            result = world.owners[0].result
            exists = None if result is None else leftover.of_member(result.snapshot_exists, result.exit_code)
            me.view = world.scheduler
            trouble = leftover.remove(replace_vmid(member), self._tools(world), exists=exists)
            me.view = self._view
            self.told += [trouble] if trouble else []

    def _tools(self, world: World) -> Tools:
        return Tools(
            config=world.config,
            access=world.access(),
            clock=WorldClock(world),
            me=world.identity(),
            open_journal=lambda: WorldJournal(world),  # type: ignore[arg-type,return-value]
            launcher=WorldLauncher(world),
            gate=NoGate(),
            publish=world.publish,
            say=world._say,
        )

    # -- faults

    def _frozen(self) -> None:
        for fault in [f for f in self._armed if f.when[0] == "frozen"]:
            self._armed.remove(fault)
            self.core.after(float(fault.when[1]), lambda fault=fault: self._strike(fault))  # type: ignore[misc]

    def _on_step(self, process: Process) -> None:
        process.view.on_step(process)
        if process is not self.leader:
            return
        for fault in list(self._armed):
            if fault.when == ("step", "leader", process.steps):
                self._armed.remove(fault)
                self._strike(fault)

    def _strike(self, fault: Fault) -> None:
        leader = self.leader
        if leader is None or not leader.alive:
            return
        self.happened.append(fault.kind)
        self.worlds[0].events.append((self.core.now, f"FAULT {fault.kind} {fault.value:g}"))
        if fault.kind == "leader killed":
            self.core.kill(leader)
        elif fault.kind == "leader stopped":
            self.core.stop(leader, fault.value)
        else:
            leader.signal = 15
            self.core.wake(leader)

    def story(self) -> list[str]:
        """What happened, in order."""
        told = [f"{line[:9]} [{n}]{line[9:]}" for n, world in enumerate(self.worlds) for line in world.story()]
        ended = self.leader.ended_at if self.leader is not None else None
        told.append(f"{ended or 0.0:9.3f} [-]  the leader ends; {self.decisions} {self.told}")
        return sorted(told, key=lambda line: float(line[:9]))


def replace_vmid(member: Any) -> Any:
    """Every world's guest has the same vmid."""
    return dataclasses.replace(member, vmid=100)


__all__ = ["GroupPlan", "GroupWorld", "draw", "groupinvariants"]
