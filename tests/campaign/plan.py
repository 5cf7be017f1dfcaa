"""A scenario as data: how this world is made, and what goes wrong in it when. Drawn from a seed; printed; run again."""

from __future__ import annotations

import dataclasses
import json
import random
from dataclasses import dataclass, field, replace

from snapshot.model import Policy
from tests.campaign.pve import PveSetup

KNOCKS = 0.5
"""The share of the runs on the guest's node that freeze at the knock."""


@dataclass(frozen=True)
class Fault:
    """One thing that goes wrong: a kind of faults.FAULTS, when, and the kind's own value and target.

    ``when`` is one of: ``("time", seconds)``, ``("step", role, number)`` (the n-th step of a process of ours),
    ``("call", role, command, number)`` (the n-th such request), ``("frozen", seconds)`` (after the first freeze),
    ``("sent", seconds)`` (after the first freeze request), ``("knock", seconds)`` (after a task's ping was sent).
    """

    kind: str
    when: tuple[str | float | int, ...]
    value: float = 0.0
    target: str = ""

    def __str__(self) -> str:
        text = f"{self.kind} at {' '.join(str(part) for part in self.when)}"
        return f"{text} value={self.value:g} target={self.target}"


@dataclass(frozen=True)
class Plan:
    """Everything a run depends on."""

    seed: str
    host: str = "a"
    """The node whose API we are configured for; the guest runs on node a."""
    local_node: str = ""
    """The node we run on; empty: another machine."""
    policy: Policy = Policy.PREFER
    mounts: int = 1
    windows_guest: bool = False
    """VSS: lets go by itself after 10 s."""
    systemd: bool = False
    """A guard that was killed is started again after half a second."""
    recover_seconds: float = 30.0
    """How often `safe-snapshot recover` runs while a window is open."""
    recover_adopts: bool = True
    """Whether it can start guards."""
    freeze_timeout_seconds: float = 8.0
    max_window_seconds: float = 12.0
    owner_limit_seconds: float = 20.0
    late_freeze_seconds: float = 85.0
    freeze_takes: float = 0.08
    thaw_takes: float = 0.03
    second_run_after: float = -1.0
    """Another `safe-snapshot` of the same guest, so long after the first one began; negative: none."""
    at_the_knock: bool = False
    """On the guest's node, whose earlier freezes the journal knows as short."""
    sqlite: bool = False
    """The journal is the real one, in a file."""
    pve: PveSetup = field(default_factory=PveSetup)
    faults: tuple[Fault, ...] = ()

    def to_json(self) -> str:
        return json.dumps({**dataclasses.asdict(self), "policy": self.policy.value})

    @classmethod
    def from_json(cls, text: str) -> Plan:
        values = json.loads(text)
        values["policy"] = Policy(values["policy"])
        pve = {key: tuple(v) if isinstance(v, list) else v for key, v in values["pve"].items()}
        values["pve"] = PveSetup(**pve)
        values["faults"] = tuple(Fault(**{**f, "when": tuple(f["when"])}) for f in values["faults"])
        return cls(**values)

    def lines(self) -> list[str]:
        """For a person: only what is not the default."""
        plain = Plan(self.seed)
        told = [
            f"{f.name}={getattr(self, f.name)}"
            for f in dataclasses.fields(self)
            if f.name not in ("faults", "pve") and getattr(self, f.name) != getattr(plain, f.name)
        ]
        told += [
            f"pve.{f.name}={getattr(self.pve, f.name)}"
            for f in dataclasses.fields(self.pve)
            if getattr(self.pve, f.name) != getattr(plain.pve, f.name)
        ]
        return [", ".join(told) or "all defaults", *(str(fault) for fault in self.faults)]


def draw_setup(seed: str, rng: random.Random) -> Plan:
    """A world without faults."""
    hour = rng.random() < 0.004
    api_freeze = 3600.0 if hour else rng.choice((15.0, 40.0))
    local = rng.choice(("", "", "a", "a", "b"))
    plan = Plan(
        seed=seed,
        host=rng.choice(("a", "a", "b")) if local != "a" else "a",
        local_node=local,
        policy=rng.choice((Policy.PREFER, Policy.PREFER, Policy.REQUIRE)),
        mounts=rng.choice((1, 1, 2, 3)),
        windows_guest=rng.random() < 0.08,
        systemd=rng.random() < 0.4,
        recover_seconds=600.0 if hour else rng.choice((10.0, 30.0, 60.0)),
        recover_adopts=rng.random() < 0.7,
        freeze_timeout_seconds=rng.choice((2.0, 8.0, 25.0)),
        max_window_seconds=rng.choice((3.0, 12.0, 30.0)),
        owner_limit_seconds=rng.choice((8.0, 20.0, 40.0)),
        # A request may be on its way for 40 s (faults.py) before PVE's own limit for it begins.
        late_freeze_seconds=api_freeze if hour else api_freeze + 45.0,
        freeze_takes=rng.choice((0.01, 0.08, 0.08, 0.5, 2.5)),
        thaw_takes=rng.choice((0.005, 0.03, 0.03, 0.3)),
        second_run_after=rng.uniform(0.0, 2.0) if rng.random() < 0.06 else -1.0,
        sqlite=rng.random() < 0.03,
        pve=PveSetup(
            skips_frozen=rng.random() < 0.7,
            freeze_seconds=api_freeze,
            thaw_seconds=180.0 if hour else 30.0,
            task_freeze_seconds=rng.choice((5.0, 30.0)),
            latency=rng.choice(((0.002, 0.03), (0.001, 0.3))),
            prepare_seconds=rng.choice((0.02, 0.15, 0.5)),
            disk_seconds=rng.choice(((0.005,), (0.005, 0.02), (0.3, 0.3))),
            finish_seconds=rng.choice((0.01, 0.1)),
        ),
    )
    return _at_the_knock(plan, rng) if local == "a" and rng.random() < KNOCKS else plan


def _at_the_knock(plan: Plan, rng: random.Random) -> Plan:
    """A guest that was quick so far, and may not be this time; a task that prepares for a moment, or for long."""
    pve = replace(
        plan.pve,
        skips_frozen=rng.random() < 0.85,
        prepare_seconds=rng.choice((0.0, 0.02, 0.15, 0.5, 1.0, 2.0, 5.5, 6.5)),
    )
    freeze_takes = rng.choice((0.01, 0.08, 0.08, 0.5, 1.0, 2.0, 2.4, 2.6, 3.1, 10.0))
    return replace(plan, at_the_knock=True, freeze_takes=freeze_takes, pve=pve)
