"""Every rule of the thaw, with fake channels in virtual time."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from snapshot.base.retry import Pace
from snapshot.errors import GuestRemovedError
from snapshot.model import FreezeOutcome, FreezeReply, FreezeState, ThawReport, VerdictKind
from snapshot.pve import agent
from snapshot.pve.agent import AgentRefusedError, CommandNotSentError
from snapshot.pve.ladder import Ladder
from snapshot.thaw.thawer import Thawer, Thawing
from snapshot.window.verdict import Evidence, Proof, judge
from tests.lab.guest.agentfacts import WINDOWS
from tests.lab.guest.agentmodel import VSS_TEXT, AgentModel, Faults
from tests.unit.kit import ModelChannel, ScriptedChannel, VirtualClock, busy, flat, lost

ROOT = Path(__file__).resolve().parents[2]
THAWING = Thawing(Pace(first_seconds=0.2, slowest_seconds=2.0), attempt_seconds=10.0)
HOOK_FAILED = AgentRefusedError("GenericError", "fsfreeze hook has failed with status 3")
OFF = CommandNotSentError("VM 100 is not running", guest_off=True)
MOVED = CommandNotSentError("Configuration file 'nodes/pve1/qemu-server/100.conf' does not exist")


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


def thawer(clock: VirtualClock, *routes: object, **ladder: object) -> Thawer:
    return Thawer(Ladder(list(routes), **ladder), THAWING, clock)  # type: ignore[arg-type]


# -------------------------------------------------------------------------- at least one thaw, whatever the status says


def test_a_thaw_is_sent_first_and_the_status_asked_after_it(clock: VirtualClock) -> None:
    channel = ScriptedChannel(clock, name="api", thaw=1, status="thawed")
    report = thawer(clock, channel).until_confirmed(None)
    assert flat(channel.calls) == ["thaw", "status"]
    assert report == ThawReport(confirmed=True, attempts=1, filesystems=1, route="api")
    assert clock.now == 0


def test_a_thaw_that_counts_nothing_is_an_acknowledged_thaw(clock: VirtualClock) -> None:
    report = thawer(clock, ScriptedChannel(clock, thaw=0, status="thawed")).until_confirmed(None)
    assert (report.confirmed, report.filesystems) == (True, 0)


def test_a_status_of_thawed_without_an_acknowledged_thaw_confirms_nothing(clock: VirtualClock) -> None:
    channel = ScriptedChannel(clock, thaw=lost(), status="thawed")
    report = thawer(clock, channel).until_confirmed(60.0)
    assert not report.confirmed
    assert channel.count("status") == 0
    assert report.thaw_replies_lost == report.attempts == channel.count("thaw")


@pytest.mark.parametrize("answer", [busy(), CommandNotSentError("no connection"), lost()], ids=str)
def test_a_busy_agent_a_lost_reply_and_a_missing_route_are_never_taken_for_a_thawed_guest(
    clock: VirtualClock, answer: Exception
) -> None:
    report = thawer(clock, ScriptedChannel(clock, thaw=answer, status="thawed")).until_confirmed(3600.0)
    assert not report.confirmed
    assert not report.guest_gone
    assert report.detail == str(answer)


def test_a_silent_agent_is_asked_for_as_long_as_it_takes_and_thawed_once_it_answers(clock: VirtualClock) -> None:
    channel = ScriptedChannel(clock, thaw=lambda: 2 if clock.now >= 7200 else _raise(busy()), status="thawed")
    report = thawer(clock, channel).until_confirmed(None)
    assert report.confirmed
    assert 7200 <= clock.now <= 7200 + THAWING.pace.slowest_seconds
    assert report.detail == ""


def _raise(error: Exception) -> object:
    raise error


# ------------------------------------------------------------------------------------------------ the agent forbids it

FORBIDDEN = AgentRefusedError("CommandNotFound", "Command guest-fsfreeze-thaw has been disabled")


def test_who_has_a_limit_does_not_use_it_up_on_a_thaw_that_the_agent_forbids(clock: VirtualClock) -> None:
    report = thawer(clock, ScriptedChannel(clock, thaw=FORBIDDEN, status="frozen")).until_confirmed(120.0)
    assert (report.confirmed, report.forbidden) == (False, True)
    assert clock.now <= 8.0


def test_who_has_no_limit_goes_on_until_the_operator_allows_the_thaw(clock: VirtualClock) -> None:
    channel = ScriptedChannel(clock, thaw=lambda: 1 if clock.now >= 600 else _raise(FORBIDDEN), status="thawed")
    report = thawer(clock, channel).until_confirmed(None)
    assert (report.confirmed, report.forbidden, report.from_inside) == (True, False, False)
    assert clock.now >= 600


def test_an_error_in_the_middle_of_a_thaw_is_tried_to_the_end(clock: VirtualClock) -> None:
    failed = AgentRefusedError("GenericError", "failed to thaw /data: Input/output error")
    channel = ScriptedChannel(clock, thaw=failed, status="thawed")
    report = thawer(clock, channel, written=lambda: int(clock.now * 1000)).until_confirmed(120.0)
    assert (report.confirmed, report.forbidden) == (False, False)
    assert clock.now > 100


@pytest.mark.parametrize(
    ("status", "rate", "confirmed"),
    [
        ("thawed", 1000, True),
        ("thawed", 0, False),
        ("thawed", -1000, False),
        ("thawed", None, False),
        ("frozen", 1000, False),
        ("", 1000, False),
    ],
)
def test_a_guest_that_was_thawed_inside_is_believed_when_its_agent_says_so_and_it_writes(
    clock: VirtualClock, status: str, rate: int | None, confirmed: bool
) -> None:
    def written() -> int | None:
        return None if rate is None else 10**9 + int(clock.now * rate)

    channel = ScriptedChannel(clock, name="api", thaw=FORBIDDEN, status=status)
    report = thawer(clock, channel, written=written).until_confirmed(120.0)
    assert (report.confirmed, report.from_inside, report.forbidden) == (confirmed, confirmed, not confirmed)
    assert ("thawed from inside" in report.how) is confirmed
    found = judge(Evidence(freeze=FreezeReply(FreezeOutcome.ACKNOWLEDGED, 1), proof=Proof.STILL_FROZEN, thaw=report))
    assert found.kind is VerdictKind.UNKNOWN


def test_a_guest_that_wrote_before_its_agent_said_thawed_has_not_written_since(clock: VirtualClock) -> None:
    """What it writes up to the agent's word is nothing that the word is believed for."""
    says = iter(["frozen", "frozen", "frozen"])
    channel = ScriptedChannel(clock, thaw=FORBIDDEN, status=lambda: next(says, "thawed"))
    report = thawer(clock, channel, written=lambda: 4711 if clock.now < 0.3 else 4712).until_confirmed(120.0)
    assert not report.confirmed


# ----------------------------------------------------------------------------------- repeated only while it says frozen


def test_after_an_acknowledged_thaw_only_the_status_is_asked_again(clock: VirtualClock) -> None:
    channel = ScriptedChannel(clock, thaw=1, status=(lost(), busy(), "thawed"))
    report = thawer(clock, channel).until_confirmed(None)
    assert report.confirmed
    assert channel.count("thaw") == 1
    assert flat(channel.calls) == ["thaw", "status", "status", "status"]


def test_a_thaw_is_repeated_while_the_status_says_frozen(clock: VirtualClock) -> None:
    channel = ScriptedChannel(clock, thaw=(1, 2, 0), status=("frozen", "frozen", "frozen", "frozen", "thawed"))
    report = thawer(clock, channel).until_confirmed(None)
    assert report.confirmed
    assert flat(channel.calls) == ["thaw", "status", "status", "thaw", "status", "status", "thaw", "status"]
    assert report.filesystems == 2  # the highest count of the window


def test_a_status_that_makes_no_sense_confirms_nothing(clock: VirtualClock) -> None:
    channel = ScriptedChannel(clock, thaw=1, status=(None, "", "THAWED", 1, {}, "thawed"))
    report = thawer(clock, channel).until_confirmed(None)
    assert report.confirmed
    assert (report.attempts, channel.count("thaw")) == (6, 1)


@pytest.mark.parametrize("count", [True, False, -1, "1", 1.0, None, {}, [1], 2**63, 10**30])
def test_an_answer_that_is_no_count_acknowledges_nothing(clock: VirtualClock, count: object) -> None:
    channel = ScriptedChannel(clock, thaw=(count, 1), status="thawed")
    report = thawer(clock, channel).until_confirmed(None)
    assert report.confirmed
    assert (report.filesystems, report.attempts, report.thaw_replies_lost) == (1, 2, 1)


# ------------------------------------------------------------------------------------------------- the guest's own hook


@pytest.mark.parametrize(
    "text",
    [
        "fsfreeze hook has failed with status 3",
        "fsfreeze hook has terminated abnormally",
        "child process has failed to execute fsfreeze hook: exit status 3",
        "child process has failed to execute fsfreeze hook: what it wrote",
        "child process has terminated abnormally",
    ],
)
def test_a_thaw_hook_that_fails_is_reported_and_not_repeated(clock: VirtualClock, text: str) -> None:
    """In the words of agents up to QEMU 9.0, and in those of later ones (qga/commands-posix.c, ga_run_command)."""
    channel = ScriptedChannel(clock, thaw=AgentRefusedError("GenericError", text), status="thawed")
    report = thawer(clock, channel).until_confirmed(None)
    assert (report.confirmed, report.hook_failed, report.filesystems) == (True, True, None)
    assert channel.count("thaw") == 1


def test_a_thaw_hook_that_fails_on_a_guest_that_stays_frozen_is_no_confirmation(clock: VirtualClock) -> None:
    channel = ScriptedChannel(clock, thaw=(HOOK_FAILED, 1), status=("frozen", "frozen", "thawed"))
    report = thawer(clock, channel).until_confirmed(None)
    assert (report.confirmed, report.hook_failed, report.filesystems) == (True, True, 1)


def test_any_other_refusal_is_retried_and_leads_to_no_other_route(clock: VirtualClock) -> None:
    """Every route leads to the same agent."""
    first = ScriptedChannel(clock, thaw=(AgentRefusedError("GenericError", "no"), 1), status="thawed")
    second = ScriptedChannel(clock, thaw=1, status="thawed")
    asked = thawer(clock, first, second)
    assert not asked.round()
    assert asked.report().detail == "the agent failed to thaw: no (GenericError)"
    assert second.calls == []
    assert asked.until_confirmed(None).confirmed
    assert second.calls == []


# ------------------------------------------------------------------------------------------------------------ the limit


@pytest.mark.parametrize("seconds", [0.0, 0.3, 4.0, 10.0, 16.0])
@pytest.mark.parametrize("limit", [0.0, 0.1, 5.0, 30.0, 120.0])
def test_no_request_begins_after_the_limit_but_the_first_is_always_made(
    clock: VirtualClock, limit: float, seconds: float
) -> None:
    routes = [
        ScriptedChannel(clock, seconds=seconds, thaw=lost(), status=lost()),
        ScriptedChannel(clock, seconds=seconds, thaw=1, status="frozen"),
        ScriptedChannel(clock, seconds=seconds, thaw=busy(), status=busy()),
    ]
    report = thawer(clock, *routes).until_confirmed(limit)
    assert not report.confirmed
    instants = sorted(instant for route in routes for instant in route.instants)
    assert instants[0] == 0.0
    assert all(instant < limit for instant in instants[1:])
    assert clock.now <= limit + seconds


def test_who_stood_still_until_its_limit_was_over_asks_all_the_same(clock: VirtualClock) -> None:
    """A process that was stopped before its thaw was sent: else a guest that nobody has asked would be called stuck."""
    first = ScriptedChannel(clock, seconds=20.0, thaw=busy())
    second = ScriptedChannel(clock, thaw=1, status="thawed")
    report = thawer(clock, first, second).until_confirmed(5.0)
    assert (report.confirmed, report.attempts) == (True, 1)


def test_and_has_the_time_of_one_attempt_for_it(clock: VirtualClock) -> None:
    routes = [ScriptedChannel(clock, seconds=20.0, thaw=busy()) for _ in range(5)]
    report = thawer(clock, *routes).until_confirmed(5.0)
    assert not report.confirmed
    assert [len(route.calls) for route in routes] == [1, 1, 0, 0, 0]


def test_every_request_has_the_attempts_time(clock: VirtualClock) -> None:
    channel = ScriptedChannel(clock, thaw=1, status=("frozen", "frozen", "thawed"))
    thawer(clock, channel).until_confirmed(None)
    assert set(channel.timeouts) == {THAWING.attempt_seconds}


def test_a_limit_holds_for_its_own_call_only(clock: VirtualClock) -> None:
    channel = ScriptedChannel(clock, thaw=(*[lost()] * 30, 1), status="thawed")
    asked = thawer(clock, channel)
    assert not asked.until_confirmed(1.0).confirmed
    assert asked.until_confirmed(None).confirmed


# --------------------------------------------------------------------------------------------------------------- routes


def test_routes_are_tried_in_order_until_one_confirms(clock: VirtualClock) -> None:
    first = ScriptedChannel(clock, name="first", thaw=busy(), status=busy())
    second = ScriptedChannel(clock, name="second", thaw=lost(), status=lost())
    third = ScriptedChannel(clock, name="third", thaw=1, status="thawed")
    report = thawer(clock, first, second, third).until_confirmed(None)
    assert (report.route, report.attempts, report.thaw_replies_lost) == ("third", 1, 1)
    assert len(first.calls) == len(second.calls) == 1


def test_one_peer_a_round_is_asked_in_turn_after_the_first_route(clock: VirtualClock) -> None:
    order: list[str] = []

    def channel(name: str) -> ScriptedChannel:
        def note() -> object:
            order.append(name)
            raise busy()

        return ScriptedChannel(clock, name=name, thaw=note, status=note)

    asked = thawer(clock, channel("a"), channel("b"), peers=[channel("p1"), channel("p2")])
    for _ in range(3):
        asked.round()
    assert order == ["a", "p1", "b", "a", "p2", "b", "a", "p1", "b"]


def test_what_one_route_acknowledged_another_may_confirm(clock: VirtualClock) -> None:
    first = ScriptedChannel(clock, name="first", thaw=1, status=busy())
    second = ScriptedChannel(clock, name="second", thaw=7, status="thawed")
    report = thawer(clock, first, second).until_confirmed(None)
    assert (report.route, report.filesystems, second.count("thaw")) == ("second", 1, 0)


def test_a_guest_that_is_off_holds_nothing(clock: VirtualClock) -> None:
    route = ScriptedChannel(clock, name="api", thaw=OFF, status=OFF)
    report = thawer(clock, route, is_off=lambda: True).until_confirmed(None)
    assert (report.confirmed, report.guest_gone, report.filesystems, report.route) == (True, True, None, "api")


def test_one_routes_word_that_a_guest_is_off_is_no_proof(clock: VirtualClock) -> None:
    """A peer that is wrong about it, and the guest frozen: the next route has the agent."""
    wrong = ScriptedChannel(clock, name="wrong", thaw=OFF, status=OFF)
    right = ScriptedChannel(clock, name="right", thaw=(busy(), 1), status="thawed")
    report = thawer(clock, wrong, right).until_confirmed(None)
    assert (report.confirmed, report.guest_gone, report.filesystems, report.route) == (True, False, 1, "right")


@pytest.mark.parametrize("second", [lambda: False, lambda: _raise(RuntimeError("a bug"))])
def test_a_guest_of_which_only_one_source_says_that_it_is_off_is_asked_for_on_and_on(
    clock: VirtualClock, second: object
) -> None:
    asked = thawer(clock, ScriptedChannel(clock, thaw=OFF, status=OFF), is_off=second)
    report = asked.until_confirmed(60.0)
    assert (report.confirmed, report.guest_gone) == (False, False)
    assert "nobody else says so" in report.detail
    assert asked.look() is None


def test_the_second_source_is_asked_once_a_round(clock: VirtualClock) -> None:
    questions: list[float] = []
    routes = [ScriptedChannel(clock, thaw=OFF, status=OFF) for _ in range(3)]
    thawer(clock, *routes, is_off=lambda: bool(questions.append(clock.now))).round()
    assert len(questions) == 1


def test_a_guest_that_moved_is_followed(clock: VirtualClock) -> None:
    there = ScriptedChannel(clock, name="there", thaw=1, status="thawed")
    here = ScriptedChannel(clock, name="here", thaw=MOVED, status=MOVED)
    report = thawer(clock, here, relocate=lambda: Ladder([there])).until_confirmed(None)
    assert (report.confirmed, report.route, report.guest_gone) == (True, "there", False)
    assert report.attempts == 2


def test_a_guest_that_moved_nobody_knows_where_is_asked_for_on_and_on(clock: VirtualClock) -> None:
    asked = thawer(clock, ScriptedChannel(clock, thaw=MOVED, status=MOVED))
    assert not asked.until_confirmed(60.0).confirmed


def test_a_guest_that_was_removed_holds_nothing(clock: VirtualClock) -> None:
    report = thawer(
        clock,
        ScriptedChannel(clock, thaw=MOVED, status=MOVED),
        relocate=lambda: _raise(GuestRemovedError("guest 100 does not exist in this cluster")),
    ).until_confirmed(None)
    assert (report.confirmed, report.guest_gone) == (True, True)


# ---------------------------------------------------------------------------------------------------- pace, last resort


def test_the_pace_grows_to_its_slowest_and_stays_there(clock: VirtualClock) -> None:
    channel = ScriptedChannel(clock, thaw=busy(), status=busy())
    asked = thawer(clock, channel)
    asked.until_confirmed(12.0)
    assert clock.slept == pytest.approx([0.2, 0.4, 0.8, 1.6, 2.0, 2.0, 2.0, 2.0])
    assert asked.slowest_after == 5


def test_an_agent_that_wakes_up_is_asked_again_soon(clock: VirtualClock) -> None:
    """PVE waits 3 s for a silent agent; the first quick answer, even a bad one, says that somebody is there."""

    def silent() -> object:
        clock.now += 3.0
        raise busy()

    stumbles = lost("got wrong command id")
    channel = ScriptedChannel(clock, thaw=(*[silent] * 10, stumbles, stumbles, 1), status="thawed")
    assert thawer(clock, channel).until_confirmed(None).confirmed
    assert clock.slept[-3:] == pytest.approx([2.0, 0.2, 0.4])


def test_the_last_resort_is_used_every_so_many_rounds_and_said(clock: VirtualClock) -> None:
    pressed: list[float] = []

    def press() -> str:
        pressed.append(clock.now)
        return "SysRq j sent"

    channel = ScriptedChannel(clock, thaw=busy(), status=busy())
    report = thawer(clock, channel, last_resort=press).until_confirmed(60.0)
    assert len(pressed) == report.attempts // THAWING.last_resort_after > 2
    assert "last resort: SysRq j sent" in report.detail or report.attempts % THAWING.last_resort_after
    assert channel.count("thaw") >= THAWING.last_resort_after


def test_the_last_resort_is_not_used_on_a_guest_that_is_thawed(clock: VirtualClock) -> None:
    channel = ScriptedChannel(clock, thaw=(*[busy()] * (THAWING.last_resort_after - 1), 1), status="thawed")
    asked = thawer(clock, channel, last_resort=lambda: pytest.fail("used"))
    assert asked.until_confirmed(None).attempts == THAWING.last_resort_after


def test_between_comes_after_a_failed_round_and_never_before_the_first_request(clock: VirtualClock) -> None:
    channel = ScriptedChannel(clock, thaw=(busy(), busy(), 1), status="thawed")
    seen: list[tuple[int, int]] = []

    def between(report: ThawReport) -> bool:
        seen.append((report.attempts, len(channel.calls)))
        return False

    thawer(clock, channel).until_confirmed(None, between=between)
    assert seen == [(1, 1), (2, 2)]


def test_between_ends_the_retries_when_it_says_so(clock: VirtualClock) -> None:
    asked = thawer(clock, ScriptedChannel(clock, thaw=busy(), status=busy()))
    report = asked.until_confirmed(None, between=lambda report: report.attempts == 3)
    assert (report.attempts, report.confirmed) == (3, False)


def test_a_sleep_of_the_guards_replaces_the_clocks(clock: VirtualClock) -> None:
    waits: list[float] = []
    asked = thawer(clock, ScriptedChannel(clock, thaw=(busy(), busy(), 1), status="thawed"))
    asked.until_confirmed(None, sleep=waits.append)
    assert waits == pytest.approx([0.2, 0.4])
    assert clock.slept == []


# ----------------------------------------------------------------------------------------------- looking, starting over


def test_a_look_sends_no_thaw_and_takes_the_first_route_that_answers(clock: VirtualClock) -> None:
    routes = [
        ScriptedChannel(clock, thaw=1, status=busy()),
        ScriptedChannel(clock, thaw=1, status=lost()),
        ScriptedChannel(clock, thaw=1, status="frozen"),
        ScriptedChannel(clock, thaw=1, status="thawed"),
    ]
    assert thawer(clock, *routes).look() is FreezeState.FROZEN
    assert sum(route.count("thaw") for route in routes) == 0
    assert routes[3].calls == []


def test_a_look_at_a_silent_agent_says_nothing(clock: VirtualClock) -> None:
    assert thawer(clock, ScriptedChannel(clock, status=busy()), ScriptedChannel(clock, status=lost())).look() is None
    assert thawer(clock, ScriptedChannel(clock, status=AgentRefusedError("", "no"))).look() is None


def test_a_look_at_a_guest_that_is_off_or_gone_finds_nothing_held(clock: VirtualClock) -> None:
    assert thawer(clock, ScriptedChannel(clock, status=OFF), is_off=lambda: True).look() is FreezeState.THAWED
    removed = thawer(clock, ScriptedChannel(clock, status=MOVED), relocate=lambda: _raise(GuestRemovedError("gone")))
    assert removed.look() is FreezeState.THAWED


def test_a_look_follows_a_guest_that_moved(clock: VirtualClock) -> None:
    there = ScriptedChannel(clock, status="frozen")
    asked = thawer(clock, ScriptedChannel(clock, status=MOVED), relocate=lambda: Ladder([there]))
    assert asked.look() is FreezeState.FROZEN


def test_a_late_freeze_needs_a_thaw_of_its_own(clock: VirtualClock) -> None:
    channel = ScriptedChannel(clock, thaw=(1, 3), status="thawed")
    asked = thawer(clock, channel)
    asked.until_confirmed(None)
    asked.start_over()
    assert asked.report() == ThawReport(confirmed=False, attempts=0)
    assert asked.until_confirmed(None).filesystems == 3
    assert channel.count("thaw") == 2


# ------------------------------------------------------------------------------------------------- the agent's own ways


def frozen_model(clock: VirtualClock, **options: object) -> tuple[AgentModel, ModelChannel]:
    model = AgentModel(**options)  # type: ignore[arg-type]
    channel = ModelChannel(model, clock)
    assert agent.freeze(channel, 10.0).filesystems == model.mounts
    return model, channel


def test_windows_that_let_go_by_itself_is_thawed_and_never_called_consistent(clock: VirtualClock) -> None:
    """VSS holds writes for 10 s; the status stays frozen, the next thaw fails with its text, one more returns 0."""
    model = AgentModel(facts=WINDOWS, faults=Faults(self_thaw_after=10.0), hook=False)
    channel = ModelChannel(model, clock)
    reply = agent.freeze(channel, 10.0)
    clock.now = 12.0
    assert agent.status(channel) is FreezeState.FROZEN  # the lie that the proof would believe
    model.run_until(clock.now)
    assert not model.frozen
    report = thawer(clock, channel).until_confirmed(120.0)
    assert (report.confirmed, report.filesystems, report.attempts) == (True, 0, 2)
    assert "guest-fsfreeze-thaw" in [name for _, name in model.executed]
    verdict = judge(Evidence(reply, Proof.STILL_FROZEN, report))
    assert not verdict.is_consistent
    assert verdict.kind is VerdictKind.CRASH_CONSISTENT


def test_the_words_of_vss_are_a_refusal_and_no_acknowledgement(clock: VirtualClock) -> None:
    channel = ScriptedChannel(clock, thaw=(AgentRefusedError("GenericError", VSS_TEXT), 0), status="thawed")
    asked = thawer(clock, channel)
    assert not asked.round()
    assert not asked.acknowledged
    assert VSS_TEXT.strip() in asked.report().detail
    assert asked.round()
    assert not asked.report().hook_failed


def test_windows_that_was_thawed_in_time_is_consistent(clock: VirtualClock) -> None:
    model, channel = frozen_model(clock, facts=WINDOWS, faults=Faults(self_thaw_after=10.0), mounts=2)
    clock.now = 3.0
    report = thawer(clock, channel).until_confirmed(120.0)
    assert report.filesystems == 2
    assert not model.frozen


def test_an_agent_that_lost_its_memory_while_frozen_is_thawed(clock: VirtualClock) -> None:
    model, channel = frozen_model(clock)
    model.kill_agent(1.0)
    model.start_agent(2.0, keep_state=False)
    clock.now = 3.0
    assert agent.status(channel) is FreezeState.THAWED
    assert model.frozen
    report = thawer(clock, channel).until_confirmed(None)
    assert (report.confirmed, report.filesystems) == (True, 1)
    assert not model.frozen


def test_a_guest_that_was_thawed_from_inside_counts_nothing(clock: VirtualClock) -> None:
    model, channel = frozen_model(clock, mounts=3)
    model.thaw_from_inside(1.0)
    clock.now = 2.0
    assert thawer(clock, channel).until_confirmed(None).filesystems == 0


def test_a_kernel_that_lies_about_a_thaw_is_beyond_us_but_one_that_says_frozen_is_thawed(clock: VirtualClock) -> None:
    model, channel = frozen_model(clock, faults=Faults(status="frozen"))
    report = thawer(clock, channel).until_confirmed(30.0)
    assert not report.confirmed
    assert not model.frozen


def test_lost_replies_of_the_agents_are_retried_without_running_the_guests_hook_more_than_needed(
    clock: VirtualClock,
) -> None:
    model, channel = frozen_model(clock, faults=Faults(lose_replies={"guest-fsfreeze-status": 3}))
    assert thawer(clock, channel).until_confirmed(None).confirmed
    assert [what for _, what in model.hook_log] == ["freeze", "thaw"]


@given(st.data())
def test_whatever_the_channels_answer_a_confirmed_thaw_was_acknowledged_and_said_thawed(data: st.DataObject) -> None:
    clock = VirtualClock()
    seen = {"acknowledged": False, "thawed": False}

    def thaw() -> object:
        answer = data.draw(st.sampled_from([0, 1, True, "x", None, busy(), lost(), HOOK_FAILED]))
        if isinstance(answer, Exception):
            seen["acknowledged"] |= answer is HOOK_FAILED
            raise answer
        seen["acknowledged"] |= type(answer) is int
        return answer

    def status() -> object:
        answer = data.draw(st.sampled_from(["frozen", "thawed", "", None, busy(), lost()]))
        if isinstance(answer, Exception):
            raise answer
        seen["thawed"] = answer == "thawed"
        return answer

    routes = [ScriptedChannel(clock, thaw=thaw, status=status) for _ in range(2)]
    report = thawer(clock, *routes).until_confirmed(10.0)
    if report.confirmed:
        assert seen == {"acknowledged": True, "thawed": True}


# ------------------------------------------------------------------------------------- nothing before the first request

SILENT = """
import sys
from tests.unit.kit import ScriptedChannel, VirtualClock
from tests.unit.test_thaw import THAWING
from snapshot.pve.ladder import Ladder
from snapshot.thaw.thawer import Thawer

events, watching = [], False
sys.addaudithook(lambda event, arguments: events.append((event, str(arguments)[:80])) if watching else None)

class Channel(ScriptedChannel):
    def call(self, command, *, timeout_seconds, keep_open=False):
        global watching
        watching = False
        return super().call(command, timeout_seconds=timeout_seconds)

clock = VirtualClock()
asked = Thawer(Ladder([Channel(clock, thaw=1, status="thawed")]), THAWING, clock)
watching = True
report = asked.until_confirmed(None, between=lambda report: False)
assert report.confirmed and not watching
assert not events, events
"""


def test_nothing_is_opened_written_or_imported_between_the_decision_and_the_first_request() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SILENT], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
