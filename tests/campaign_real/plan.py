"""What goes wrong in one window, drawn from its seed. Drawing costs nothing, so a window can be drawn again alone."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

# What can be done to a window, with the weight at which it is drawn.
ACTIONS = {
    "kill owner": 6,
    "kill guard": 4,
    "kill both": 3,
    "kill api": 3,
    "cut front": 3,
    "stop agent": 4,
    "stop owner": 2,
    "reset guest": 1,
    "nothing": 2,
}
# These are undone after a while; the window's bounds count from then.
PASSING = frozenset({"kill api", "cut front", "stop agent"})
KNOCKS = 0.6
"""The share of the windows on the node that freeze at the knock."""


@dataclass(frozen=True)
class Blow:
    """One thing that happens, ``after`` seconds from the plan's start; undone ``lasts`` seconds later."""

    action: str
    after: float
    lasts: float

    def __str__(self) -> str:
        lasts = f" for {self.lasts:.2f} s" if self.action in PASSING else ""
        return f"{self.action} at {self.after:.2f} s{lasts}"


@dataclass(frozen=True)
class Plan:
    """A window's conditions and its blows, in order of time."""

    index: int
    vmid: int
    on_the_node: bool
    freeze_sleep: float
    thaw_sleep: float
    task_seconds: float
    start: str
    """What the blows' times count from: ``guard`` (its process is there) or ``freeze`` (the node has the request; at
    the knock the snapshot's, which comes before it).
    """
    blows: tuple[Blow, ...]
    at_the_knock: bool = False
    """On the node, with three short freezes in the journal."""
    prepare_seconds: float = 0.0
    """How long the task is at work before its knock."""

    def has(self, *actions: str) -> bool:
        """Whether any of these is among the blows."""
        return any(blow.action in actions for blow in self.blows)

    def __str__(self) -> str:
        where = "on the node" if self.on_the_node else "over the API"
        where += f" at the knock after {self.prepare_seconds:g} s" if self.at_the_knock else ""
        pace = f"freeze hook {self.freeze_sleep:g} s, thaw hook {self.thaw_sleep:g} s, task {self.task_seconds:g} s"
        blows = ", ".join(str(blow) for blow in self.blows)
        return f"window {self.index}: guest {self.vmid} {where}, {pace}; from the {self.start} on: {blows}"


def draw(seed: int, index: int, vmids: tuple[int, ...]) -> Plan:
    """Window number ``index`` of the campaign with ``seed``."""
    dice = random.Random(f"{seed}:{index}")
    names, weights = list(ACTIONS), list(ACTIONS.values())
    chosen: list[str] = []
    for action in dice.choices(names, weights, k=dice.choice((1, 1, 2))):
        if action not in chosen:
            chosen.append(action)
    blows = [Blow(action, round(dice.uniform(0.0, 1.0), 3), round(dice.uniform(0.3, 5.0), 3)) for action in chosen]
    plan = Plan(
        index=index,
        vmid=dice.choice(vmids),
        on_the_node=dice.random() < 0.4,
        freeze_sleep=dice.choice((0, 0, 0, 0.3, 1)),
        thaw_sleep=dice.choice((0, 0, 0, 0.3)),
        task_seconds=dice.choice((0, 0, 0.3, 0.8)),
        start=dice.choice(("guard", "freeze", "freeze", "freeze")),
        blows=tuple(sorted(blows, key=lambda blow: blow.after)),
    )
    if not plan.on_the_node or dice.random() >= KNOCKS:
        return plan
    return replace(plan, at_the_knock=True, prepare_seconds=dice.choice((0, 0, 0.3, 0.8)))
