"""The agent's seat in a world, and freezing at the knock: that both happen there, and that what breaks them is seen."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from snapshot.guard.turn import DEADLINE_MARGIN_SECONDS
from snapshot.model import FreezeReply
from snapshot.pve import seat
from snapshot.take import judging
from snapshot.window import knock
from tests.campaign import __main__ as command
from tests.campaign import faults
from tests.campaign.plan import Fault, Plan
from tests.campaign.pve import PveSetup
from tests.campaign.world import World

KNOCK = Plan("at the knock", local_node="a", at_the_knock=True, pve=PveSetup(prepare_seconds=0.3))
SLOW = Plan("slow", local_node="a", at_the_knock=True, freeze_takes=3.1, max_window_seconds=30.0)


def violations(plan: Plan) -> set[str]:
    """By their letters."""
    return {line[:3] for line in command.run_plan(plan).violations}


def test_a_guest_is_frozen_at_the_knock_when_the_task_has_prepared() -> None:
    with World(KNOCK) as world:
        world.run()
        (frozen_at, _), (thawed_at, _) = world.guest.model.transitions
        task = next(iter(world.pve.tasks.values()))
        assert task.began is not None
        assert frozen_at < task.began < thawed_at
        assert world.seats.knocks == 1
        assert any("already frozen" in line for line in task.log)
        assert not [call for call in world.pve.calls if call.command == "fsfreeze-freeze" and call.via != "socket"]
    assert command.run_plan(KNOCK).verdicts == ["filesystem-consistent"]


def test_the_seat_is_kept_where_we_run_on_the_guests_node() -> None:
    for plan, taken in ((Plan("here", local_node="a"), 2), (Plan("elsewhere"), 0)):
        with World(plan) as world:
            world.run()
            assert world.seats.taken <= taken
            assert bool(world.seats.taken) is bool(taken)


def test_a_campaign_draws_knocks_that_come_to_a_freeze_and_some_that_do_not() -> None:
    plans = [plan for plan in (faults.draw(f"drawn:{number}") for number in range(120)) if plan.at_the_knock]
    knocks = []
    for plan in plans:
        with World(plan) as world:
            world.run()
            knocks.append(world.seats.knocks)
    assert any(knocks)
    assert not all(knocks)


def test_whoever_waits_behind_a_seat_that_is_kept_for_nothing_is_a_violation(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not violations(Plan("here", local_node="a"))
    monkeypatch.setattr(seat.Seat, "_is_in_the_way", lambda *_: False)
    assert "(k)" in violations(Plan("here", local_node="a"))


@pytest.mark.parametrize("plan", [KNOCK, Plan("in sequence", local_node="a")])
def test_a_stranger_who_comes_while_the_guest_is_frozen_and_stays_is_in_nobodys_way(
    monkeypatch: pytest.MonkeyPatch, plan: Plan
) -> None:
    slow = replace(plan, pve=replace(plan.pve, disk_seconds=(0.5,)))
    struck = replace(slow, faults=(Fault("stranger in the seat", ("frozen", 0.1), 60.0),))
    assert 0.5 < _frozen_seconds(slow) < 5.0
    assert 0.5 < _frozen_seconds(struck) < 5.0
    monkeypatch.setattr("tests.campaign.seats.Seats.is_trusted", lambda *_: True)
    assert _frozen_seconds(struck) > 50.0, "it is the seat that keeps it away"


def test_an_owner_stopped_in_its_seat_keeps_no_rescue_waiting() -> None:
    """Its guard ends it before its first request: that finds the agent, and not a route that gives no answer."""
    faults = (Fault("owner stopped", ("frozen", 0.001), 40.0), Fault("API drips", ("frozen", 4.0), 15.0))
    plan = Plan("stopped", local_node="a", max_window_seconds=3.0, pve=PveSetup(prepare_seconds=0.1), faults=faults)
    assert _frozen_seconds(plan) < 3.0 + DEADLINE_MARGIN_SECONDS + 1.0


def _frozen_seconds(plan: Plan) -> float:
    with World(plan) as world:
        world.run()
        (frozen_at, _), (thawed_at, _) = world.guest.model.transitions
        return thawed_at - frozen_at


def _taken_as_it_comes(at_knock: knock.Knock, reply: FreezeReply, _at: float) -> FreezeReply:
    at_knock.seat.sit()
    return reply


@pytest.mark.parametrize(
    ("where", "name", "value"),
    [(knock, "PING_WAITS_SECONDS", 30.0), (knock.Knock, "answered", _taken_as_it_comes)],
    ids=["waits for too long", "read too late"],
)
def test_a_freeze_that_outlasts_pves_patience_and_counts_is_a_violation(
    monkeypatch: pytest.MonkeyPatch, where: Any, name: str, value: object
) -> None:
    struck = (Fault("owner stopped", ("knock", 0.3619), 19.801),)
    plan = replace(SLOW, faults=struck)
    assert not violations(SLOW)
    assert not violations(plan)
    monkeypatch.setattr(where, name, value)
    assert not violations(SLOW) | violations(plan), "the task's own log is asked too"
    monkeypatch.setattr(judging, "asked_in_vain", lambda *_: "")
    assert "(b)" in violations(SLOW) | violations(plan)


def test_a_task_that_is_terminated_at_its_ping_and_counts_is_a_violation(monkeypatch: pytest.MonkeyPatch) -> None:
    struck = (Fault("task terminated at its ping", ("knock", 0.3)),)
    plan = replace(KNOCK, freeze_takes=0.9, max_window_seconds=30.0, faults=struck)
    assert not violations(plan)
    monkeypatch.setattr(judging, "asked_in_vain", lambda *_: "")
    assert "(b)" in violations(plan)


def test_a_freeze_over_another_connection_is_a_violation(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = replace(KNOCK, faults=(Fault("seat lost at the knock", ("time", 0.0), 0.0, "all"),))
    assert not violations(plan)
    real = seat.Seat.knock
    monkeypatch.setattr("snapshot.pve.qga.SocketChannel.knock", lambda self, seconds: real(self._seat, seconds))
    monkeypatch.setattr(judging, "asked_in_vain", lambda *_: "")
    assert "(b)" in violations(plan)
