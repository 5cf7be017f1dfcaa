"""Retry policies as data, run by tenacity on our clock. The only import of tenacity."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeVar

import tenacity

from snapshot.base.clock import Clock

T = TypeVar("T")


class Pace(NamedTuple):
    """Intervals that grow from ``first_seconds`` by ``factor`` to ``slowest_seconds``, for ``limit_seconds`` in all.

    ``limit_seconds`` None means: for as long as it takes.
    """

    first_seconds: float
    slowest_seconds: float
    factor: float = 2.0
    limit_seconds: float | None = None

    def interval(self, attempt: int) -> float:
        """Seconds to wait after attempt number ``attempt`` (from 1)."""
        exponent = min(attempt - 1, 64)
        return min(self.first_seconds * self.factor**exponent, self.slowest_seconds)

    def is_slowest(self, attempt: int) -> bool:
        """Whether the wait after ``attempt`` is the slowest there is."""
        return self.interval(attempt) >= self.slowest_seconds


def retry_until(
    attempt: Callable[[int], T],
    done: Callable[[T], bool],
    pace: Pace,
    clock: Clock,
    sleep: Callable[[float], None] | None = None,
    *,
    starts_over: Callable[[T], bool] = lambda result: False,
) -> T:
    """Call ``attempt(n)`` for n = 1, 2, ... until ``done`` accepts its result or the pace's limit is reached.

    Returns the last result, accepted or not. Exceptions of ``attempt`` pass through unretried: what is worth retrying
    is an outcome, not a surprise. ``sleep`` replaces the clock's own (a guard that must wake for events brings one).
    A result that ``starts_over`` accepts is followed by the pace's first interval again.
    """
    started = clock.monotonic()
    count = before = 0

    def out_of_time(state: tenacity.RetryCallState) -> bool:
        if pace.limit_seconds is None:
            return False
        upcoming = pace.interval(state.attempt_number - before)
        return clock.monotonic() - started + upcoming > pace.limit_seconds

    retrying = tenacity.Retrying(
        sleep=sleep or clock.sleep,
        stop=out_of_time,
        wait=lambda state: pace.interval(state.attempt_number - before),
        retry=tenacity.retry_if_result(lambda result: not done(result)),
        retry_error_callback=lambda state: state.outcome.result() if state.outcome else None,
    )

    def numbered() -> T:
        nonlocal count, before
        count += 1
        result = attempt(count)
        if starts_over(result):
            before = count - 1
        return result

    return retrying(numbered)
