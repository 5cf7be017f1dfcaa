"""Groups in virtual time: a short campaign, that it repeats itself, and what it once found."""

from __future__ import annotations

import pytest

from tests.campaign import grouprun, groups
from tests.campaign.groups import LEADER_FAULTS, GroupPlan, GroupWorld
from tests.campaign.plan import Fault, Plan
from tests.campaign.pve import PveSetup

SEED = "make test"
WINDOWS = 500


def plain(count: int = 3, **settings: object) -> GroupPlan:
    """A group on its guests' own node, to which nothing happens."""
    members = tuple(Plan(f"plain.{number}", local_node="a") for number in range(count))
    return GroupPlan("plain", members, **settings)  # type: ignore[arg-type]


def of_member(plan: GroupPlan, number: int, *struck: Fault) -> GroupPlan:
    """The plan, with faults of one member's."""
    member = Plan(f"plain.{number}", local_node="a", faults=struck)
    return GroupPlan(plan.seed, (*plan.members[:number], member, *plan.members[number + 1 :]), plan.all_or_none)


def test_a_short_campaign_with_groups_finds_no_violation(capsys: pytest.CaptureFixture[str]) -> None:
    tally = grouprun.campaign(WINDOWS, SEED)
    assert not tally.failures, capsys.readouterr().out
    assert tally.windows >= WINDOWS
    assert set(LEADER_FAULTS) <= set(tally.faults)
    assert {"owner killed", "guard killed"} <= set(tally.faults)
    assert tally.of_one_point > tally.runs / 20, "a group that never gets that far proves nothing"


def test_a_group_to_which_nothing_happens_is_of_one_point_in_time() -> None:
    outcome = grouprun.run_plan(plain())
    assert not outcome.violations
    assert outcome.is_of_one_point
    assert outcome.verdicts == ["filesystem-consistent"] * 3


def test_a_run_depends_on_its_plan_alone() -> None:
    plan = groups.draw("again:7")
    assert grouprun.run_plan(plan).verdicts == grouprun.run_plan(plan).verdicts


@pytest.mark.parametrize(
    "kind", ["owner killed", "guard killed", "owner and guard killed", "agent killed", "guest reset"]
)
@pytest.mark.parametrize("member", [0, 1, 2])
@pytest.mark.parametrize("at", [0.001, 0.05, 0.15, 0.3])
def test_what_strikes_one_member_at_whatever_step_breaks_no_rule(kind: str, member: int, at: float) -> None:
    target = "forgets" if kind == "agent killed" else ""
    outcome = grouprun.run_plan(of_member(plain(), member, Fault(kind, ("frozen", at), 0.5, target)))
    assert not outcome.violations


@pytest.mark.parametrize("step", range(1, 60, 3))
def test_a_leader_that_is_killed_at_whatever_step_breaks_no_rule(step: int) -> None:
    outcome = grouprun.run_plan(plain(leader=(Fault("leader killed", ("step", "leader", step)),)))
    assert not outcome.violations


def test_a_leader_that_stands_still_keeps_nobody_frozen_past_the_deadline() -> None:
    outcome = grouprun.run_plan(plain(leader=(Fault("leader stopped", ("frozen", 0.01), 60.0),)))
    assert outcome.happened == ["leader stopped"]
    assert not outcome.violations
    assert not outcome.is_of_one_point


@pytest.mark.parametrize(
    "plan",
    [
        # A run that a signal had ended kept its snapshot, and the others theirs.
        plain(2, leader=(Fault("leader signalled", ("frozen", 0.35)),)),
        # One whose request was on its way was not looked for long enough.
        GroupPlan(
            "c:1430",
            (Plan("c:1430.0", freeze_takes=0.5), Plan("c:1430.1", local_node="a", pve=PveSetup(prepare_seconds=6.5))),
            leader=(Fault("leader signalled", ("frozen", 0.1534)),),
        ),
        # A full disk at the leader's: what it had decided was known to it alone.
        of_member(plain(2), 0, Fault("disk full", ("sent", 0.4), 18.0)),
    ],
)
def test_what_the_campaign_once_found_is_mended(plan: GroupPlan) -> None:
    assert not grouprun.run_plan(plan).violations


def test_a_plan_survives_being_printed() -> None:
    for number in range(20):
        plan = groups.draw(f"printed:{number}")
        assert GroupPlan.from_json(plan.to_json()) == plan


def test_a_failing_plan_is_shrunk_to_what_matters() -> None:
    culprit = Fault("guest reset", ("time", 1.0))
    plan = of_member(plain(), 1, Fault("clock jumped", ("time", 1.0), 30.0), culprit)
    small = grouprun.shrunk(plan, lambda found: ["bad"] if culprit in found.members[1].faults else [])
    assert small == of_member(plain(), 1, culprit)


def test_one_run_can_be_repeated_from_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert grouprun.main(["--plan", plain(2).to_json()]) == 0
    assert "one point in time of guests 100, 101" in capsys.readouterr().out
    assert grouprun.main(["--windows", "6", "--seed", "said"]) == 0
    assert "violations: 0" in capsys.readouterr().out


def test_a_world_is_closed_behind_its_run() -> None:
    with GroupWorld(plain(2)) as group:
        group.run()
    assert all(process.done for process in group.core.processes)
