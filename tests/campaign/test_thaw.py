"""The rules of the thaw, one at a time, over scripted routes."""

from __future__ import annotations

import pytest

from snapshot.errors import ConfigError, GuestRemovedError
from snapshot.model import FreezeState
from snapshot.pve.agent import AgentRefusedError, AgentReplyLostError, CommandNotSentError
from snapshot.pve.ladder import Ladder
from tests.campaign.kit import ManualClock, ScriptedChannel, thawer

BUSY = CommandNotSentError("QEMU guest agent is not running", busy_or_gone=True)
MOVED = CommandNotSentError("Configuration file 'nodes/a/qemu-server/100.conf' does not exist")
OFF = CommandNotSentError("VM 100 is not running", guest_off=True)


def test_a_thaw_is_sent_although_the_status_says_thawed() -> None:
    clock = ManualClock()
    route = ScriptedChannel(clock, [0, "thawed"])
    report = thawer(clock, [route]).until_confirmed(60.0)
    assert route.commands == ["thaw", "status"]
    assert (report.confirmed, report.filesystems) == (True, 0)


def test_a_busy_agent_is_never_taken_for_a_thawed_guest() -> None:
    clock = ManualClock()
    route = ScriptedChannel(clock, [BUSY, BUSY, BUSY, 1, "thawed"])
    report = thawer(clock, [route]).until_confirmed(60.0)
    assert route.commands == ["thaw", "thaw", "thaw", "thaw", "status"]
    assert (report.confirmed, report.attempts) == (True, 4)


def test_a_lost_reply_to_the_thaw_is_no_acknowledgement() -> None:
    clock = ManualClock()
    route = ScriptedChannel(clock, [AgentReplyLostError("no answer"), 1, "thawed"])
    report = thawer(clock, [route]).until_confirmed(60.0)
    assert route.commands == ["thaw", "thaw", "status"]
    assert (report.filesystems, report.thaw_replies_lost) == (1, 1)


def test_a_guest_that_still_says_frozen_is_thawed_again() -> None:
    clock = ManualClock()
    route = ScriptedChannel(clock, [1, "frozen", "frozen", 1, "thawed"])
    assert thawer(clock, [route]).until_confirmed(60.0).confirmed
    assert route.commands == ["thaw", "status", "status", "thaw", "status"]


def test_a_failing_thaw_hook_is_reported_and_not_retried() -> None:
    clock = ManualClock()
    route = ScriptedChannel(
        clock, [AgentRefusedError("GenericError", "fsfreeze hook has failed with status 1"), "thawed"]
    )
    report = thawer(clock, [route]).until_confirmed(60.0)
    assert route.commands == ["thaw", "status"]
    assert (report.hook_failed, report.filesystems) == (True, None)


def test_an_acknowledged_thaw_is_not_repeated_while_the_status_is_missing() -> None:
    clock = ManualClock()
    route = ScriptedChannel(clock, [1, AgentReplyLostError("no answer"), BUSY, "thawed"])
    assert thawer(clock, [route]).until_confirmed(60.0).confirmed
    assert route.commands == ["thaw", "status", "status", "status"]


def test_no_request_is_begun_after_the_limit() -> None:
    clock = ManualClock()
    began = clock.now
    routes = [ScriptedChannel(clock, [BUSY], seconds=3.0), ScriptedChannel(clock, [BUSY], seconds=3.0)]
    report = thawer(clock, routes).until_confirmed(7.0)
    assert not report.confirmed
    assert max(at for route in routes for at, _, _ in route.calls) <= began + 7.0


def test_the_first_thaw_is_sent_even_without_any_time() -> None:
    clock = ManualClock()
    route = ScriptedChannel(clock, [1, "thawed"])
    thawer(clock, [route]).until_confirmed(0.0)
    assert route.commands[0] == "thaw"


def test_whoever_stands_behind_hears_of_each_request_before_it() -> None:
    clock = ManualClock()
    routes = [ScriptedChannel(clock, [BUSY, 1, "thawed"]), ScriptedChannel(clock, [BUSY])]
    heard: list[int] = []
    thawer(clock, routes).until_confirmed(60.0, ahead=lambda: heard.append(sum(len(r.calls) for r in routes)))
    assert heard == [0, 1, 2, 3]


def test_a_refusal_of_the_agent_is_not_asked_for_over_the_other_routes() -> None:
    clock = ManualClock()
    refusal = AgentRefusedError("CommandNotFound", "has been disabled")
    first = ScriptedChannel(clock, [refusal, "frozen", 1, "thawed"])  # whether it was thawed from inside is asked
    second = ScriptedChannel(clock, [AssertionError("asked")])
    assert thawer(clock, [first, second]).until_confirmed(60.0).confirmed


def test_a_bug_in_a_route_does_not_end_the_retries() -> None:
    clock = ManualClock()
    broken = ScriptedChannel(clock, [RuntimeError("a bug")])
    good = ScriptedChannel(clock, [BUSY, BUSY, 1, "thawed"])
    tool = thawer(clock, [broken, good])
    assert tool.until_confirmed(60.0).confirmed
    assert tool.look() is FreezeState.THAWED


def test_a_guest_that_is_off_is_not_frozen() -> None:
    clock = ManualClock()
    for second, gone in ((True, True), (False, False)):
        tool = thawer(clock, [ScriptedChannel(clock, [OFF])], is_off=lambda second=second: second)
        report = tool.until_confirmed(60.0)
        assert (report.confirmed, report.guest_gone) == (gone, gone)


@pytest.mark.parametrize("action", ["thaw", "look"])
def test_a_guest_that_migrated_is_followed(action: str) -> None:
    """Also by the sparse looks for a late freeze: found by the campaign, where such a watch never ended."""
    clock = ManualClock()
    there = ScriptedChannel(clock, [1, "thawed"] if action == "thaw" else ["frozen"])
    tool = thawer(clock, [ScriptedChannel(clock, [MOVED])], relocate=lambda: Ladder([there]))
    if action == "thaw":
        assert tool.until_confirmed(60.0).confirmed
    else:
        assert tool.look() is FreezeState.FROZEN


def test_a_guest_that_was_removed_holds_nothing() -> None:
    def removed() -> Ladder | None:
        raise GuestRemovedError("gone")

    clock = ManualClock()
    tool = thawer(clock, [ScriptedChannel(clock, [MOVED])], relocate=removed)
    assert tool.look() is FreezeState.THAWED
    assert tool.until_confirmed(60.0).guest_gone


@pytest.mark.parametrize("action", ["thaw", "look"])
def test_routes_that_cannot_be_found_anew_do_not_end_the_retries(action: str) -> None:
    """The guest has moved, and the token's file was replaced at that moment: finding the new routes reads it."""
    clock = ManualClock()
    there = ScriptedChannel(clock, [1, "thawed"])
    failures: list[Exception] = [ConfigError("there is no API token"), RuntimeError("a bug")]

    def relocate() -> Ladder | None:
        if failures:
            raise failures.pop(0)
        return Ladder([there])

    tool = thawer(clock, [ScriptedChannel(clock, [MOVED])], relocate=relocate)
    if action == "look":
        assert tool.look() is None
        assert "there is no API token" in tool.report().detail
    assert tool.until_confirmed(60.0).confirmed


def test_a_last_resort_that_fails_does_not_end_the_retries() -> None:
    def broken() -> str:
        raise RuntimeError("a bug")

    clock = ManualClock()
    route = ScriptedChannel(clock, [*[BUSY] * 10, 1, "thawed"])
    assert thawer(clock, [route], last_resort=broken).until_confirmed(60.0).confirmed


def test_the_last_resort_is_used_only_after_many_rounds() -> None:
    clock = ManualClock()
    route = ScriptedChannel(clock, [BUSY])
    rounds: list[int] = []
    tool = thawer(clock, [route], last_resort=lambda: str(rounds.append(len(route.calls))))
    tool.until_confirmed(20.0)
    assert rounds[:2] == [8, 16]
