"""Retry policies as data, on a clock that moves only when told."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from snapshot.base.retry import Pace, retry_until
from tests.unit.kit import VirtualClock

PACE = Pace(first_seconds=0.2, slowest_seconds=2.0)


def never(_: object) -> bool:
    return False


def test_intervals_grow_by_the_factor_up_to_the_slowest() -> None:
    assert [PACE.interval(n) for n in range(1, 8)] == pytest.approx([0.2, 0.4, 0.8, 1.6, 2.0, 2.0, 2.0])
    assert [PACE.is_slowest(n) for n in range(1, 7)] == [False] * 4 + [True] * 2


@given(
    first=st.floats(0.001, 100),
    slowest=st.floats(0.001, 1000),
    factor=st.floats(1, 100),
    attempt=st.integers(1, 10**9),
)
def test_an_interval_is_never_negative_never_above_the_slowest_and_never_shrinks(
    first: float, slowest: float, factor: float, attempt: int
) -> None:
    pace = Pace(first, slowest, factor)
    assert 0 < pace.interval(attempt) <= slowest
    assert pace.interval(attempt + 1) >= pace.interval(attempt)


def test_the_first_attempt_is_made_at_once_and_a_good_one_is_the_last() -> None:
    clock = VirtualClock()
    assert retry_until(lambda n: n, lambda _: True, PACE, clock) == 1
    assert clock.now == 0
    assert clock.slept == []


def test_attempts_are_numbered_and_separated_by_the_pace() -> None:
    clock = VirtualClock()
    instants: list[tuple[int, float]] = []

    def attempt(number: int) -> int:
        instants.append((number, round(clock.now, 6)))
        return number

    assert retry_until(attempt, lambda n: n == 6, PACE, clock) == 6
    assert instants == [(1, 0.0), (2, 0.2), (3, 0.6), (4, 1.4), (5, 3.0), (6, 5.0)]


def test_without_a_limit_it_goes_on_for_as_long_as_it_takes() -> None:
    clock = VirtualClock()
    assert retry_until(lambda _: clock.now, lambda now: now >= 7200, PACE, clock) >= 7200
    assert len(clock.slept) > 3000


@pytest.mark.parametrize("limit", [0.0, 0.1, 1.0, 10.0, 60.0])
def test_no_attempt_begins_after_the_limit_and_the_last_result_is_returned(limit: float) -> None:
    clock = VirtualClock()
    begun: list[float] = []

    def attempt(number: int) -> int:
        begun.append(clock.now)
        return number

    pace = Pace(0.2, 2.0, limit_seconds=limit)
    assert retry_until(attempt, never, pace, clock) == len(begun)
    assert begun[0] == 0.0
    assert begun[-1] <= limit
    assert clock.now <= limit  # it does not wait for an attempt that it will not make


def test_the_limit_counts_what_the_attempts_take_too() -> None:
    clock = VirtualClock()
    count = itertools.count(1)

    def slow(_: int) -> int:
        clock.now += 4.0
        return next(count)

    assert retry_until(slow, never, Pace(1.0, 1.0, limit_seconds=9.5), clock) == 2


def test_a_limit_in_the_past_still_makes_one_attempt() -> None:
    clock = VirtualClock()
    clock.now = 1e6
    assert retry_until(lambda n: n, never, Pace(1.0, 1.0, limit_seconds=0.0), clock) == 1


def test_an_exception_of_the_attempt_passes_through_unretried() -> None:
    clock = VirtualClock()
    calls: list[int] = []

    def attempt(number: int) -> None:
        calls.append(number)
        raise KeyError(number)

    with pytest.raises(KeyError):
        retry_until(attempt, never, PACE, clock)
    assert calls == [1]


def test_a_result_that_starts_over_is_followed_by_the_first_interval_again() -> None:
    clock = VirtualClock()
    retry_until(lambda n: n, lambda n: n == 9, PACE, clock, starts_over=lambda n: n == 6)
    assert clock.slept == pytest.approx([0.2, 0.4, 0.8, 1.6, 2.0, 0.2, 0.4, 0.8])


def test_starting_over_again_and_again_does_not_outrun_the_limit() -> None:
    clock = VirtualClock()
    retry_until(lambda n: n, never, Pace(0.2, 2.0, limit_seconds=10.0), clock, starts_over=lambda _: True)
    assert 9.7 <= clock.now <= 10.0
    assert set(clock.slept) == {0.2}


def test_a_sleep_of_the_callers_replaces_the_clocks() -> None:
    clock = VirtualClock()
    waits: list[float] = []
    retry_until(lambda n: n, lambda n: n == 4, PACE, clock, sleep=waits.append)
    assert waits == pytest.approx([0.2, 0.4, 0.8])
    assert clock.slept == []


def test_a_signal_in_the_sleep_ends_the_retries() -> None:
    def interrupted(_: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        retry_until(lambda n: n, never, PACE, VirtualClock(), sleep=interrupted)
