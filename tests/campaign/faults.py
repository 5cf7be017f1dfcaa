"""What goes wrong, as a table: how each kind of fault is drawn, and what it does to a world.

Faults of kind ``call`` strike one request of ours; the others strike at an instant, or at a step of a process.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from snapshot.guard.core import LATE_LOOKS, SPARSE_LOOK
from tests.campaign.guest import Exchange, Reply, Stranger
from tests.campaign.plan import Fault, Plan, draw_setup
from tests.campaign.pve import Mishap
from tests.lab.guest.agentmodel import FREEZE, STATUS, THAW, Refusal

if TYPE_CHECKING:
    from tests.campaign.world import World

LOOSE_ENDS_SECONDS = 13.0
"""How long a request that went unanswered in an outage may keep its sender after the outage: a thaw attempt's limit."""

FREEZE_COMMANDS = (FREEZE, THAW, STATUS)
STATUSES = (401, 403, 500, 501, 502, 503, 596, 599)

REFUSAL_SECONDS = 3.0
"""What one refusal costs: the pause before the next try, and a round."""

LOST_SEATS = 0.1
"""The share of the runs at the knock whose seat is lost between the knock and the freeze, beside what else is drawn."""

STOPPED_TASKS = 0.1
"""The share of the runs at the knock whose task gets a TERM while its ping waits behind the freeze."""

SPARSE_LOOK_SECONDS = sum(LATE_LOOKS.interval(look) for look in range(1, SPARSE_LOOK + 1))

Draw = Callable[[random.Random], tuple[float, str]]
Apply = Callable[["World", Fault], None]


@dataclass(frozen=True)
class Kind:
    """One kind of fault. ``by_call``: it strikes a request instead of an instant."""

    draw: Draw
    apply: Apply = lambda world, fault: None
    by_call: bool = False
    weight: float = 1.0


# -- values


def _nothing(rng: random.Random) -> tuple[float, str]:
    return 0.0, ""


def _seconds(shortest: float, longest: float) -> Draw:
    def draw(rng: random.Random) -> tuple[float, str]:
        return round(shortest * (longest / shortest) ** rng.random(), 3), ""

    return draw


def _whose(rng: random.Random) -> tuple[float, str]:
    return 0.0, rng.choice(("ours", "all"))


def _node(shortest: float, longest: float) -> Draw:
    seconds = _seconds(shortest, longest)
    return lambda rng: (seconds(rng)[0], rng.choice("ab"))


def _one_of(*targets: str) -> Draw:
    return lambda rng: (float(rng.choice((1, 1, 2, 5))), rng.choice(targets))


# -- the guest


def _stop_agent(world: World, fault: Fault) -> None:
    world.obstacle(fault.value, "agent stopped")
    world.guest.do(lambda model, now: model.stop_agent(now))
    world.scheduler.after(fault.value, lambda: world.guest.do(lambda model, now: model.continue_agent(now)))


def _pause_guest(world: World, fault: Fault) -> None:
    world.obstacle(fault.value, "guest paused")
    world.guest.do(lambda model, now: model.pause(now))
    world.scheduler.after(fault.value, lambda: world.guest.do(lambda model, now: model.resume(now)))


def _stop_qemu(world: World, fault: Fault) -> None:
    world.obstacle(fault.value, "QEMU stopped")
    world.guest.do(lambda model, now: model.suspend_qemu(now))
    world.scheduler.after(fault.value, lambda: world.guest.do(lambda model, now: model.continue_qemu(now)))


def _slow_agent(world: World, fault: Fault) -> None:
    """One command takes long: the agent is busy with it and answers nobody else."""
    world.guest.model.faults.delay[fault.target] = fault.value
    world.obstacle(fault.value * 3, f"{fault.target} is slow")

    def over() -> None:
        world.guest.model.faults.delay.pop(fault.target, None)

    world.scheduler.after(fault.value * 2, over)


def _late_answer(world: World, fault: Fault) -> None:
    """The agent does a command at once and answers it late."""
    linger = world.guest.model.faults.linger
    usual = linger.get(fault.target, 0.0)
    linger[fault.target] = fault.value
    world.obstacle(fault.value * 3, f"{fault.target} is answered late")
    world.scheduler.after(fault.value * 2, lambda: linger.update({fault.target: usual}))


def _deaf_agent(world: World, fault: Fault) -> None:
    """The agent does the command and its answer is lost."""
    world.guest.model.faults.lose_replies[fault.target] = int(fault.value)
    # Whoever asks spares the agent meanwhile; where only the timer is left, each of its recoveries loses one answer.
    world.obstacle(max(45.0, world.plan.recover_seconds) * fault.value, "agent's answers lost")


def _refuse(world: World, fault: Fault) -> None:
    world.guest.model.faults.refuse[fault.target] = Refusal("GenericError", "as the fault wants it", int(fault.value))
    world.guest.model.on_refusal = lambda: world.obstacle(REFUSAL_SECONDS, "agent refuses")


def _freeze_hook_fails(world: World, fault: Fault) -> None:
    world.guest.model.faults.freeze_exit = 3


def _thaw_hook_fails(world: World, fault: Fault) -> None:
    world.guest.model.faults.thaw_exit = 3


def _block_thaw(world: World, fault: Fault) -> None:
    model = world.guest.model
    model.faults.blocked = model.faults.blocked | {THAW}
    world.obstacle(fault.value, "thaw blocked")
    world.scheduler.after(fault.value, lambda: setattr(model.faults, "blocked", model.faults.blocked - {THAW}))


def _kill_agent(world: World, fault: Fault) -> None:
    keep = fault.target == "keeps its state"
    # While only a late freeze is awaited, nothing but a thaw shows that the agent forgot: see GuardCore.
    world.obstacle(fault.value + (0.0 if keep else SPARSE_LOOK_SECONDS), "agent dead")
    world.guest.do(lambda model, now: model.kill_agent(now))
    start = world.guest.do
    world.scheduler.after(fault.value, lambda: start(lambda model, now: model.start_agent(now, keep_state=keep)))


def _reset_guest(world: World, fault: Fault) -> None:
    world.guest.reset()


def _power_off(world: World, fault: Fault) -> None:
    """Off, and perhaps on again."""
    world.obstacle(min(fault.value, 100.0), "guest off")
    if not world.guest.running:
        return
    world.guest.power_off()
    if fault.value < 100.0:
        world.scheduler.after(fault.value, lambda: setattr(world.guest, "running", True))


def _migrate(world: World, fault: Fault) -> None:
    if world.pve.lock:
        return
    world.guest.migrate("b" if world.guest.node == "a" else "a")
    world.obstacle(LOOSE_ENDS_SECONDS, "guest migrating")


def _ask(world: World, command: str) -> None:
    def answered(reply: Reply) -> None:
        return

    Exchange(world.scheduler, world.guest, command, 5.0, "foreign", answered)


def _foreign_thaw(world: World, fault: Fault) -> None:
    _ask(world, THAW)


def _foreign_freeze(world: World, fault: Fault) -> None:
    _ask(world, FREEZE)


def _sit_down(world: World, fault: Fault) -> None:
    """In the queue, and then in the seat."""
    stranger = Stranger()
    if world.guest.open(stranger):
        world.obstacle(fault.value, "a stranger in the agent's seat")
        world.scheduler.after(fault.value, lambda: world.guest.leave(stranger))


def _lose_seat(world: World, fault: Fault) -> None:
    world.seats.cuts = fault.target


def _thaw_inside(world: World, fault: Fault) -> None:
    mounts = 1 if fault.target == "one mount" else None
    world.guest.do(lambda model, now: model.thaw_from_inside(now, mounts))


# -- PVE


def _outage(world: World, seconds: float, node: str, why: str) -> None:
    """An obstacle where our ways to the agent lead over that node's API."""
    if not world.is_local or world.plan_migrates:
        world.obstacle(seconds + LOOSE_ENDS_SECONDS, f"{why} on node {node}")


def _cut_proxy(world: World, fault: Fault) -> None:
    _outage(world, fault.value, fault.target, "no pveproxy")
    world.pve.cut_proxy(world.pve.nodes[fault.target], fault.value)


def _restart_daemons(world: World, fault: Fault) -> None:
    _outage(world, fault.value, fault.target, "no pvedaemon")
    world.pve.restart(world.pve.nodes[fault.target], fault.value)


def _lose_node(world: World, fault: Fault) -> None:
    _outage(world, fault.value, fault.target, "no network")
    world.pve.lose_node(world.pve.nodes[fault.target], fault.value)


def _busy_workers(world: World, fault: Fault) -> None:
    _outage(world, fault.value, fault.target, "no free worker")
    world.pve.occupy(world.pve.nodes[fault.target], fault.value)


def _expire_token(world: World, fault: Fault) -> None:
    _outage(world, fault.value, "any", "401")
    world.pve.denied_until = world.scheduler.now + fault.value


def _drip(world: World, fault: Fault) -> None:
    _outage(world, fault.value, "any", "the API drips")
    world.pve.drips_until = world.scheduler.now + fault.value


def _odd_status(world: World, fault: Fault) -> None:
    odd: dict[str, object] = {"{}": {}, "null": None, "odd": {"status": "odd"}}
    world.pve.odd_status = odd[fault.target], world.scheduler.now + fault.value
    # A guest that is off is asked for until PVE says so.
    world.obstacle(fault.value, "status odd")


def _slow_disks(world: World, fault: Fault) -> None:
    world.pve.disk_extra = fault.value


def _fail_disks(world: World, fault: Fault) -> None:
    world.pve.disk_trouble = 1


def _kill_task(world: World, fault: Fault) -> None:
    """SIGKILL of a snapshot's worker. What PVE itself had frozen stays so: see invariants."""
    for task in world.pve.tasks.values():
        task.kill()
    world.scheduler.after(1.0, lambda: setattr(world.pve, "lock", ""))


def _stop_at_ping(world: World, fault: Fault) -> None:
    """A TERM to a snapshot's worker while it asks its agent: an eval of PVE's swallows it, and it goes on."""
    for task in world.pve.tasks.values():
        task.stop_at_ping()


# -- our own processes, and the machine they run on


def _kill(*roles: str) -> Apply:
    def apply(world: World, fault: Fault) -> None:
        struck = [p for p in world.scheduler.processes if p.alive and (not roles or p.role in roles)]
        mine = world.scheduler.current
        for process in sorted(struck, key=lambda p: p is mine):  # the running one last: its kill raises
            world.scheduler.kill(process)

    return apply


def _crash(world: World, fault: Fault) -> None:
    """The machine we run on loses all of its processes, and comes back; nothing is started again but the timer."""
    world.machine_down_until = world.scheduler.now + fault.value
    _kill()(world, fault)


def _stop(role: str) -> Apply:
    def apply(world: World, fault: Fault) -> None:
        for process in world.scheduler.processes:
            if process.alive and process.role == role:
                world.scheduler.stop(process, fault.value)

    return apply


def _signal(role: str) -> Apply:
    def apply(world: World, fault: Fault) -> None:
        for process in world.scheduler.processes:
            if process.alive and process.role == role:
                process.signal = 15
                world.scheduler.wake(process)

    return apply


def _fill_disk(world: World, fault: Fault) -> None:
    world.full_until = world.scheduler.now + fault.value


def _slow_journal(world: World, fault: Fault) -> None:
    world.slow_disk = fault.value
    world.scheduler.after(20.0, lambda: setattr(world, "slow_disk", 0.0))


def _jump_clock(world: World, fault: Fault) -> None:
    world.clock_offset += fault.value


def _stop_in_seat(world: World, fault: Fault) -> None:
    world.stops_in_its_seat = fault.value


def _no_claims(world: World, fault: Fault) -> None:
    world.claims_fail = True


def _fail_guard(world: World, fault: Fault) -> None:
    world.guard_will_fail = 1
    for process in world.scheduler.processes:
        if process.alive and process.role in ("guard", "takeover"):
            world.scheduler.wake(process)


def _no_guard(world: World, fault: Fault) -> None:
    world.guard_wont_arm = 1


FAULTS: dict[str, Kind] = {
    # one request of ours
    "request lost": Kind(_nothing, by_call=True),
    "reply lost": Kind(_nothing, by_call=True),
    "connection reset before": Kind(_nothing, by_call=True),
    "connection reset after": Kind(_nothing, by_call=True),
    "request slow": Kind(_seconds(0.05, 40.0), by_call=True),
    "status instead": Kind(lambda rng: (float(rng.choice(STATUSES)), ""), by_call=True),
    # the guest
    "agent stopped": Kind(_seconds(0.05, 90.0), _stop_agent, weight=2.0),
    "guest paused": Kind(_seconds(0.05, 60.0), _pause_guest),
    "QEMU stopped": Kind(_seconds(0.05, 30.0), _stop_qemu),
    "agent slow": Kind(lambda rng: (round(0.2 * 200 ** rng.random(), 3), rng.choice(FREEZE_COMMANDS)), _slow_agent),
    "agent answers late": Kind(
        lambda rng: (round(0.2 * 60 ** rng.random(), 3), rng.choice(FREEZE_COMMANDS)), _late_answer
    ),
    "agent's answer lost": Kind(_one_of(*FREEZE_COMMANDS), _deaf_agent),
    "agent refuses": Kind(_one_of(*FREEZE_COMMANDS), _refuse),
    "freeze hook fails": Kind(_nothing, _freeze_hook_fails, weight=0.5),
    "thaw hook fails": Kind(_nothing, _thaw_hook_fails),
    "thaw blocked": Kind(_seconds(1.0, 60.0), _block_thaw),
    "agent killed": Kind(
        lambda rng: (round(0.1 * 100 ** rng.random(), 3), rng.choice(("keeps its state", "forgets"))), _kill_agent
    ),
    "guest reset": Kind(_nothing, _reset_guest),
    "guest off": Kind(lambda rng: (rng.choice((0.5, 5.0, 100.0)), ""), _power_off),
    "guest migrated": Kind(_nothing, _migrate),
    "foreign thaw": Kind(_nothing, _foreign_thaw),
    "foreign freeze": Kind(_nothing, _foreign_freeze, weight=0.5),
    "stranger in the seat": Kind(_seconds(0.05, 60.0), _sit_down),
    "seat lost at the knock": Kind(_whose, _lose_seat),
    "thawed from inside": Kind(lambda rng: (0.0, rng.choice(("all", "one mount"))), _thaw_inside),
    # PVE
    "no pveproxy": Kind(_node(0.1, 60.0), _cut_proxy),
    "pvedaemon restarted": Kind(_node(0.2, 20.0), _restart_daemons),
    "node gone": Kind(_node(0.1, 60.0), _lose_node),
    "workers busy": Kind(_node(0.1, 60.0), _busy_workers),
    "token expired": Kind(_seconds(0.1, 60.0), _expire_token),
    "API drips": Kind(_seconds(0.5, 60.0), _drip),
    "status odd": Kind(
        lambda rng: (round(0.5 * 100 ** rng.random(), 3), rng.choice(("{}", "null", "odd"))), _odd_status
    ),
    "disks slow": Kind(_seconds(0.5, 40.0), _slow_disks),
    "disk snapshot fails": Kind(_nothing, _fail_disks, weight=0.5),
    "snapshot task killed": Kind(_nothing, _kill_task),
    "task terminated at its ping": Kind(_nothing, _stop_at_ping),
    # ourselves
    "owner killed": Kind(_nothing, _kill("owner"), weight=4.0),
    "guard killed": Kind(_nothing, _kill("guard", "takeover"), weight=3.0),
    "owner and guard killed": Kind(_nothing, _kill("owner", "guard", "takeover"), weight=2.0),
    "recovery killed": Kind(_nothing, _kill("recover")),
    "machine crashed": Kind(_seconds(1.0, 30.0), _crash),
    "owner stopped": Kind(_seconds(0.05, 60.0), _stop("owner")),
    "guard stopped": Kind(_seconds(0.05, 60.0), _stop("guard")),
    "owner signalled": Kind(_nothing, _signal("owner")),
    "guard signalled": Kind(_nothing, _signal("guard")),
    "disk full": Kind(_seconds(0.1, 60.0), _fill_disk),
    "journal slow": Kind(_seconds(0.1, 10.0), _slow_journal),
    "clock jumped": Kind(lambda rng: (rng.choice((-86400.0, -30.0, 30.0, 7200.0, 86400.0)), ""), _jump_clock),
    "owner stopped in the agent's seat": Kind(_seconds(0.5, 90.0), _stop_in_seat),
    "no claims": Kind(_nothing, _no_claims, weight=0.5),
    "guard fails": Kind(_nothing, _fail_guard),
    "no guard": Kind(_nothing, _no_guard, weight=0.5),
}

COMMANDS = ("fsfreeze-freeze", "fsfreeze-status", "fsfreeze-thaw", "snapshot", "other")


def mishap(fault: Fault) -> Mishap:
    """What a fault of kind ``call`` does to its request."""
    match fault.kind:
        case "request lost":
            return Mishap(lose_request=True)
        case "reply lost":
            return Mishap(lose_reply=True)
        case "connection reset before":
            return Mishap(lose_request=True, reset=True)
        case "connection reset after":
            return Mishap(lose_reply=True, reset=True)
        case "request slow":
            return Mishap(delay=fault.value)
        case _:
            return Mishap(status=int(fault.value))


def draw_fault(rng: random.Random, *, at_the_knock: bool = False) -> Fault:
    """One fault, mostly at an instant that matters."""
    kinds = list(FAULTS)
    kind = rng.choices(kinds, [FAULTS[k].weight for k in kinds])[0]
    value, target = FAULTS[kind].draw(rng)
    return Fault(kind, _draw_when(rng, kind, at_the_knock), value, target)


def _draw_when(rng: random.Random, kind: str, at_the_knock: bool) -> tuple[str | float | int, ...]:
    if FAULTS[kind].by_call:
        role = rng.choices(("owner", "guard", "recover", "takeover"), (6, 3, 1, 1))[0]
        command = rng.choices(COMMANDS, (3, 3, 4, 2, 1))[0]
        number = rng.choice((1, 1, 2, 3)) if command != "fsfreeze-status" else rng.choice((1, 2, 3, 4))
        return ("call", role, command, number)
    if kind in ("foreign freeze",):
        return ("time", round(rng.uniform(0.0, 20.0), 3))
    if at_the_knock and rng.random() < 0.4:
        return ("knock", round(0.001 * 5_000 ** rng.random(), 4))
    roll = rng.random()
    if roll < 0.25:
        return ("frozen", round(0.001 * 20_000 ** rng.random(), 4))
    if roll < 0.5:
        return ("sent", round(0.001 * 20_000 ** rng.random(), 4))
    if roll < 0.65 and ("killed" in kind or "signalled" in kind or "stopped" in kind or kind == "disk full"):
        role = rng.choices(("owner", "guard", "recover", "takeover"), (6, 4, 1, 1))[0]
        return ("step", role, rng.randint(1, 160) if role == "owner" else rng.randint(1, 60))
    if roll < 0.9:
        return ("time", round(rng.uniform(0.0, 3.0), 4))
    return ("time", round(rng.uniform(0.0, 80.0), 3))


def draw(seed: str) -> Plan:
    """The plan that belongs to a seed."""
    rng = random.Random(f"{seed}/plan")
    setup = draw_setup(seed, rng)
    number = rng.choices((0, 1, 2, 3, 4, 6), (2, 30, 30, 20, 10, 8))[0]
    drawn = [draw_fault(rng, at_the_knock=setup.at_the_knock) for _ in range(number)]
    if setup.at_the_knock and rng.random() < LOST_SEATS:
        drawn.append(Fault("seat lost at the knock", ("time", 0.0), *_whose(rng)))
    if setup.at_the_knock and rng.random() < STOPPED_TASKS:
        at = round(rng.uniform(0.0, setup.freeze_takes), 4)
        drawn.append(Fault("task terminated at its ping", ("sent", at), 0.0, ""))
    return replace(setup, faults=tuple(drawn))
