"""The campaign itself: a short one, that it repeats itself, and that it prints what it promises."""

from __future__ import annotations

import functools
from typing import Any

import pytest

from snapshot.config.settings import ThawConfig
from tests.campaign import __main__ as command
from tests.campaign import faults, shrink, world
from tests.campaign.invariants import REQUEST_SECONDS
from tests.campaign.plan import Fault, Plan
from tests.campaign.pve import PveSetup
from tests.campaign.world import World

SEED = "make test 3"
WINDOWS = 1200


def test_a_short_campaign_finds_no_violation(capsys: pytest.CaptureFixture[str]) -> None:
    tally = command.campaign(WINDOWS, SEED)
    assert not tally.failures, capsys.readouterr().out
    assert tally.windows >= WINDOWS
    assert set(tally.faults) == set(faults.FAULTS), "a kind of fault that never struck proves nothing"
    assert {"filesystem-consistent", "crash-consistent", "unknown"} <= set(tally.verdicts)


def test_a_run_depends_on_its_plan_alone() -> None:
    plan = faults.draw("again:7")
    stories = []
    for _ in range(2):
        with World(plan) as world:
            world.run()
            ids = list(world.windows)
            story = "\n".join(world.story())
            for number, window_id in enumerate(ids):
                story = story.replace(window_id, f"window {number}").replace(window_id[:8], f"window {number}")
            stories.append(story)
    assert stories[0] == stories[1]


def test_an_owner_that_stands_still_is_overtaken_by_its_guard_at_the_deadline() -> None:
    outcome = command.run_plan(Plan("by hand", faults=(Fault("owner stopped", ("frozen", 0.05), 55.0),)))
    assert outcome.happened == ["owner stopped"]
    assert not outcome.violations


def test_a_recovery_asks_nothing_for_a_plain_snapshot_that_takes_long() -> None:
    """Found by the campaign: it asked beside the guard of the guest's other window."""
    stopped = Fault("agent stopped", ("frozen", 0.003), 85.579)
    plan = Plan(
        "20261124:32924",
        freeze_timeout_seconds=2.0,
        max_window_seconds=30.0,
        second_run_after=0.0774240702225093,
        faults=(stopped,),
    )
    outcome = command.run_plan(plan)
    assert outcome.windows == 1
    assert outcome.happened == ["agent stopped"]
    assert not outcome.violations


@pytest.mark.parametrize(
    ("number", "settings", "struck"),
    [
        (
            # A guard that was started again, and failed, let a stopped owner sit on the agent's socket.
            "20261131:4584",
            {"local_node": "a", "systemd": True, "max_window_seconds": 3.0},
            (
                Fault("guard fails", ("time", 0.9404), 0.0),
                Fault("owner stopped in the agent's seat", ("frozen", 0.002), 13.624),
                Fault("guard killed", ("frozen", 0.0043), 0.0),
            ),
        ),
        (
            # A recovery that had given a stopped owner up left it on the agent's socket.
            "20261127:39601",
            {"local_node": "a", "recover_seconds": 60.0},
            (
                Fault("owner stopped in the agent's seat", ("sent", 0.0238), 89.897),
                Fault("guard killed", ("sent", 0.0014), 0.0),
            ),
        ),
        (
            # A slow disk between the intent and the guard: a living owner was counted as dead.
            "20261127:5134",
            {"systemd": True},
            (Fault("journal slow", ("time", 1.7096), 8.959), Fault("guard fails", ("time", 2.5813), 0.0)),
        ),
        (
            # The clock jumped over the deadline: the same, by a recovery.
            "20261127:36283",
            {"recover_seconds": 10.0, "freeze_takes": 2.5},
            (
                Fault("guard killed", ("sent", 0.0161), 0.0),
                Fault("clock jumped", ("time", 2.1401), 86400.0),
                Fault("token expired", ("time", 0.7129), 16.364),
            ),
        ),
        (
            # An owner that was stopped at the knock read the freeze's answer when PVE had gone on without its agent.
            "41:6981",
            {"local_node": "a", "at_the_knock": True, "max_window_seconds": 30.0, "freeze_takes": 3.1},
            (Fault("owner stopped", ("knock", 0.3619), 19.801),),
        ),
        (
            # A window that was taken again in sequence counted as a success.
            "41:32",
            {"local_node": "a", "at_the_knock": True, "pve": PveSetup(prepare_seconds=6.5)},
            (),
        ),
        (
            # Elsewhere, and so in sequence: it was removed, and taken again in sequence.
            "41:10",
            {"at_the_knock": True, "max_window_seconds": 3.0, "pve": PveSetup(prepare_seconds=6.5)},
            (),
        ),
    ],
)
def test_what_the_campaign_once_found_is_mended(
    number: str, settings: dict[str, Any], struck: tuple[Fault, ...]
) -> None:
    outcome = command.run_plan(Plan(number, faults=struck, **settings))
    assert sorted(outcome.happened) == sorted(fault.kind for fault in struck)
    assert not outcome.violations


DRIPS = Plan(
    "73:3206",
    local_node="a",
    recover_seconds=60.0,
    max_window_seconds=3.0,
    pve=PveSetup(latency=(0.001, 0.3)),
    faults=(Fault("agent stopped", ("sent", 0.1135), 19.803), Fault("API drips", ("time", 20.69), 5.896)),
)
"""The guest freezes late, while its owner waits for an API that drips, with the agent's socket beside it."""


def test_a_request_that_drips_may_keep_a_thaw_waiting_for_its_limit() -> None:
    outcome = command.run_plan(DRIPS)
    assert len(outcome.happened) == len(DRIPS.faults)
    assert not outcome.violations


def test_a_request_that_drips_past_its_limit_is_a_violation(monkeypatch: pytest.MonkeyPatch) -> None:
    patient = functools.partial(ThawConfig, attempt_timeout_seconds=3 * REQUEST_SECONDS)
    monkeypatch.setattr(world, "ThawConfig", patient)
    assert any(line.startswith("(a)") for line in command.run_plan(DRIPS).violations)


def test_a_plan_survives_being_printed() -> None:
    for number in range(50):
        plan = faults.draw(f"printed:{number}")
        assert Plan.from_json(plan.to_json()) == plan


def test_a_failing_plan_is_shrunk_to_what_matters() -> None:
    culprit = Fault("guest reset", ("time", 1.0))
    others = tuple(Fault("clock jumped", ("time", float(n)), 30.0) for n in range(5))
    plan = Plan("shrink", mounts=3, systemd=True, faults=(*others[:3], culprit, *others[3:]))
    small = shrink.shrink(plan, lambda candidate: ["bad"] if culprit in candidate.faults else [])
    assert small == Plan("shrink", faults=(culprit,))


def test_one_run_can_be_repeated_from_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    plan = Plan("by hand", faults=(Fault("owner killed", ("frozen", 0.05)),))
    assert command.main(["--plan", plan.to_json()]) == 0
    out = capsys.readouterr().out
    assert "owner killed" in out
    assert "GUEST holds 0 filesystems" in out
    assert command.main(["--run", "again:7"]) == 0


def test_a_campaign_says_what_it_did(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["--windows", "20", "--seed", "said"]) == 0
    out = capsys.readouterr().out
    assert "seed said:" in out
    assert "violations: 0" in out
