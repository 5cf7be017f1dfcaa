"""What a rule keeps: as PVE's own prune does, and no consistent snapshot makes room for newer ones that are not."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from snapshot.base.clock import local_time
from snapshot.retention.keep import GONE, Decision, Point, Rule, counted, decide
from tests.retention.histories import History, histories, local_of, model, recorded

ANSWERS = Path(__file__).with_name("pve-answers.txt")
UTC = local_of("UTC")
DAY = 86400
NOON = 1_768_651_200  # 2026-01-17, a Saturday, 12:00 UTC

rules = st.one_of(
    st.builds(Rule, *[st.sampled_from((0, 0, 1, 2, 3, 7)) for _ in Rule._fields]),
    st.integers(1, 2).map(lambda n: Rule(last=n)),
    st.tuples(st.integers(1, 2), st.integers(0, 1)).map(lambda n: Rule(daily=n[0], monthly=n[1])),
)
points = st.lists(
    st.builds(Point, st.integers(0, 200).map(lambda n: NOON + n * 7 * 3600), st.booleans()),
    max_size=30,
    unique_by=lambda point: point.taken_at,
)


def left_of(found: list[Point], rule: Rule) -> list[Point]:
    """What a prune leaves."""
    return [one for one, decision in zip(found, decide(found, rule, UTC), strict=True) if decision.keeps]


def kept(history: History) -> list[bool]:
    return [bool(why) for why in counted(history.instants, history.rule, local_of(history.zone))]


def test_each_recorded_history_gets_pves_own_answer() -> None:
    found = list(recorded(ANSWERS))
    assert len(found) == 2000
    assert sum(len(history.instants) for history, _ in found) > 15_000
    wrong = [history for history, answer in found if kept(history) != answer]
    assert not wrong, wrong[:3]


def test_the_second_model_gives_pves_answers_too() -> None:
    assert not [history for history, answer in recorded(ANSWERS) if model(history) != answer][:3]


@pytest.mark.slow
def test_100_000_histories_are_kept_alike_by_two_models() -> None:
    wrong = [history for history in histories(2026, 100_000) if kept(history) != model(history)]
    assert not wrong, wrong[:3]


def test_some_thousand_histories_are_kept_alike_by_two_models() -> None:
    assert not [history for history in histories(7, 3000) if kept(history) != model(history)][:3]


@given(points, rules)
def test_consistent_snapshots_alone_are_kept_as_pve_keeps_them(found: list[Point], rule: Rule) -> None:
    alike = [point._replace(is_consistent=True) for point in found]
    marks = counted([point.taken_at for point in found], rule, UTC)
    assert [decision.keeps for decision in decide(alike, rule, UTC)] == [bool(mark) for mark in marks]


@given(points, rules)
def test_what_either_count_keeps_is_kept_and_nothing_else(found: list[Point], rule: Rule) -> None:
    everything = counted([point.taken_at for point in found], rule, UTC)
    alone = iter(counted([point.taken_at for point in found if point.is_consistent], rule, UTC))
    by_consistent = [next(alone) if point.is_consistent else "" for point in found]
    wanted = [bool(one or other) for one, other in zip(everything, by_consistent, strict=True)]
    assert [decision.keeps for decision in decide(found, rule, UTC)] == wanted


@given(points, rules)
def test_a_consistent_one_is_left_as_long_as_there_is_one(found: list[Point], rule: Rule) -> None:
    left = left_of(found, rule)
    assert any(point.is_consistent for point in left) == any(point.is_consistent for point in found)
    assert rule.keeps_all or len(left) <= 2 * sum(rule)
    assert not found or max(found) in left, "the newest is always kept"


@given(points, rules)
def test_who_prunes_again_removes_nothing_more(found: list[Point], rule: Rule) -> None:
    left = left_of(found, rule)
    assert all(decision.keeps for decision in decide(left, rule, UTC))


@settings(deadline=None)
@given(points, rules)
def test_in_time_there_are_never_fewer_consistent_ones_than_without_the_others(found: list[Point], rule: Rule) -> None:
    """One taken after the other, each followed by a prune; beside it a world in which only consistent ones were."""
    ours: list[Point] = []
    alone: list[Point] = []
    for point in sorted(found):
        ours.append(point)
        ours = left_of(ours, rule)
        if point.is_consistent:
            alone.append(point)
            alone = left_of(alone, rule)
        assert sum(one.is_consistent for one in ours) >= len(alone)


def test_newer_crash_consistent_ones_cost_a_consistent_one_nothing() -> None:
    found = [Point(NOON + n * DAY, is_consistent=n < 3) for n in range(8)]
    assert [decision.keeps for decision in decide(found, Rule(last=2), UTC)] == [
        False,
        True,
        True,
        *[False] * 3,
        True,
        True,
    ]
    assert decide(found, Rule(last=2), UTC)[1] == Decision(True, "keep-last 2 of 2, among the consistent ones")
    assert decide(found, Rule(last=2), UTC)[0] == Decision(False, GONE)


def test_the_option_that_keeps_is_named_with_its_number_and_period() -> None:
    found = [Point(NOON - n * DAY) for n in range(9)]
    whys = [why for _, why in decide(found, Rule(last=1, daily=2, weekly=2, monthly=1), UTC)]
    assert whys[0] == "keep-last 1 of 1"
    assert whys[1:3] == ["keep-daily 1 of 2 (2026-01-16)", "keep-daily 2 of 2 (2026-01-15)"]
    assert whys[6] == "keep-weekly 1 of 2 (2026-W02)"
    assert whys.count(GONE) == 5


@pytest.mark.parametrize("rule", [Rule(), Rule(last=0, daily=0)])
def test_a_rule_without_a_number_keeps_all_as_in_pve(rule: Rule) -> None:
    assert all(decision.keeps for decision in decide([Point(NOON), Point(NOON - DAY)], rule, UTC))
    assert str(rule) == "keep-all=1"


def test_a_rule_is_written_as_pve_writes_it() -> None:
    assert str(Rule(last=3, weekly=2)) == "keep-last=3,keep-weekly=2"


@pytest.fixture
def berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    before = os.environ.get("TZ")
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    yield
    if before is None:
        monkeypatch.delenv("TZ")
    else:
        monkeypatch.setenv("TZ", before)
    time.tzset()


@pytest.mark.usefixtures("berlin")
def test_the_zone_is_that_of_the_machine_that_prunes() -> None:
    late = 1_768_604_400  # 2026-01-17 00:00 in Berlin, still the 16th in UTC
    whys = counted([late, late - 60], Rule(daily=2))
    assert whys == ["keep-daily 1 of 2 (2026-01-17)", "keep-daily 2 of 2 (2026-01-16)"]
    assert [bool(why) for why in counted([late, late - 60], Rule(daily=2), UTC)] == [True, False]
    assert local_time(late).tm_mday == 17


@pytest.mark.usefixtures("berlin")
def test_the_hour_that_comes_twice_in_autumn_is_one() -> None:
    first, second = 1_792_888_200, 1_792_891_800  # 2026-10-25 02:30 in summer time, and an hour later 02:30 again
    assert [bool(why) for why in counted([first, second], Rule(hourly=5))] == [False, True]
