"""A stateful property test: hypothesis drives a world step by step, and shrinks what breaks an invariant."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from snapshot.model import Policy
from tests.campaign import faults, invariants
from tests.campaign.plan import Fault, Plan
from tests.campaign.pve import PveSetup
from tests.campaign.world import World

AT_AN_INSTANT = sorted(kind for kind, how in faults.FAULTS.items() if not how.by_call)
BY_CALL = sorted(kind for kind, how in faults.FAULTS.items() if how.by_call)
TARGETS = {
    "agent slow": faults.FREEZE_COMMANDS,
    "agent answers late": faults.FREEZE_COMMANDS,
    "agent's answer lost": faults.FREEZE_COMMANDS,
    "agent refuses": faults.FREEZE_COMMANDS,
    "agent killed": ("keeps its state", "forgets"),
    "status odd": ("{}", "null", "odd"),
    "thawed from inside": ("all", "one mount"),
}


class SnapshotUnderFaults(RuleBasedStateMachine):
    """One `safe-snapshot` in a world in which anything may happen next."""

    world: World | None = None

    @initialize(
        host=st.sampled_from("ab"),
        local_node=st.sampled_from(["", "a", "b"]),
        mounts=st.integers(1, 3),
        systemd=st.booleans(),
        skips_frozen=st.booleans(),
        policy=st.sampled_from([Policy.PREFER, Policy.REQUIRE]),
        seed=st.integers(0, 99),
    )
    def begin(
        self,
        host: str,
        local_node: str,
        mounts: int,
        systemd: bool,
        skips_frozen: bool,
        policy: Policy,
        seed: int,
    ) -> None:
        plan = Plan(f"machine:{seed}", host=host if local_node != "a" else "a", local_node=local_node)
        plan = replace(plan, mounts=mounts, systemd=systemd, policy=policy, pve=PveSetup(skips_frozen=skips_frozen))
        self.world = World(plan)
        self.world.__enter__()
        self.world.start()

    @precondition(lambda self: self.world is not None)
    @rule(milliseconds=st.integers(1, 1000))
    def a_little_later(self, milliseconds: int) -> None:
        assert self.world is not None
        self.world.advance(milliseconds / 1000.0)

    @precondition(lambda self: self.world is not None)
    @rule(seconds=st.integers(2, 30))
    def later(self, seconds: int) -> None:
        assert self.world is not None
        self.world.advance(float(seconds))

    @precondition(lambda self: self.world is not None)
    @rule(kind=st.sampled_from(AT_AN_INSTANT), size=st.integers(1, 40), choice=st.integers(0, 5))
    def something_goes_wrong(self, kind: str, size: int, choice: int) -> None:
        assert self.world is not None
        node = "ab"[choice % 2]
        target = TARGETS[kind][choice % len(TARGETS[kind])] if kind in TARGETS else node
        value = {"guest off": (0.5, 5.0, 100.0)[choice % 3], "clock jumped": (7200.0, -30.0)[choice % 2]}.get(kind)
        many = kind in ("agent's answer lost", "agent refuses")
        self.world.strike(Fault(kind, ("now",), value or (1 + choice % 2 if many else size / 2.0), target))

    @precondition(lambda self: self.world is not None)
    @rule(
        kind=st.sampled_from(BY_CALL),
        role=st.sampled_from(["owner", "guard"]),
        command=st.sampled_from(faults.COMMANDS),
        size=st.integers(1, 40),
        status=st.sampled_from(faults.STATUSES),
    )
    def the_next_such_request_fails(self, kind: str, role: str, command: str, size: int, status: int) -> None:
        assert self.world is not None
        value = float(status) if kind == "status instead" else float(size)
        self.world.inject(Fault(kind, ("call", role, command, self.world.calls_so_far(role, command) + 1), value))

    def teardown(self) -> None:
        world, self.world = self.world, None
        if world is None:
            return
        try:
            world.finish()
            violations = invariants.check(world)
            assert not violations, "\n".join([*violations, *world.plan.lines(), *world.story()])
        finally:
            world.__exit__()


TestSnapshotUnderFaults = SnapshotUnderFaults.TestCase
TestSnapshotUnderFaults.settings = settings(
    max_examples=120,
    stateful_step_count=12,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
