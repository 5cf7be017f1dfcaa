"""How long windows were: spreads, steps over time, windows a bucket. Pure functions of lengths in seconds."""

from __future__ import annotations

import bisect
import time
from array import array
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from snapshot.journal.families import BUCKETS_SECONDS

MAX_STEPS = 90
"""How many columns the picture over time has at most: more are narrower than a finger on a phone."""
DAY_SECONDS = 86400.0
STEPS_SECONDS = (3600.0, 6 * 3600.0, DAY_SECONDS, 2 * DAY_SECONDS, 7 * DAY_SECONDS, 14 * DAY_SECONDS)


@dataclass(frozen=True)
class Spread:
    """How long windows were, in seconds; None without any."""

    count: int
    median: float
    p95: float
    longest: float


@dataclass(frozen=True)
class Step:
    """One column of the picture over time."""

    begins_at: float
    runs: int
    failures: int
    spread: Spread | None


def _lengths() -> array[float]:
    return array("d")


@dataclass
class Fine:
    """Everything counted in the finest steps, by their number since 1970 on the reader's wall."""

    runs: Counter[int] = field(default_factory=Counter)
    failures: Counter[int] = field(default_factory=Counter)
    lengths: dict[int, array[float]] = field(default_factory=lambda: defaultdict(_lengths))

    def count(self, instant: float, length: float | None, *, failed: bool) -> None:
        """One window that began at ``instant``."""
        step = int(_wall_seconds(instant) // STEPS_SECONDS[0])
        self.runs[step] += 1
        if failed:
            self.failures[step] += 1
        if length is not None:
            self.lengths[step].append(length)


def step_seconds(span: float) -> float:
    """How wide a step is, for a time of ``span`` seconds to have at most MAX_STEPS of them."""
    return next((step for step in STEPS_SECONDS if span / step <= MAX_STEPS), 30 * DAY_SECONDS)


def steps(period: tuple[float, float], width: float, fine: Fine) -> tuple[Step, ...]:
    """The finest steps put together to steps of ``width`` seconds."""
    finest = STEPS_SECONDS[0]
    runs: Counter[int] = Counter()
    failures: Counter[int] = Counter()
    lengths: dict[int, array[float]] = defaultdict(_lengths)
    for step, count in fine.runs.items():
        runs[int(step * finest // width)] += count
    for step, count in fine.failures.items():
        failures[int(step * finest // width)] += count
    for step, some in fine.lengths.items():
        lengths[int(step * finest // width)].extend(some)
    first, last = (int(_wall_seconds(instant) // width) for instant in period)
    return tuple(
        Step(_instant_of(step * width), runs[step], failures[step], spread_of(lengths.get(step, _lengths())))
        for step in range(first, last + 1)
    )


def _wall_seconds(instant: float) -> float:
    """What the clock on the reader's wall said at ``instant``: days begin at its midnight, in winter and in summer."""
    return instant + time.localtime(instant).tm_gmtoff


def _instant_of(wall_seconds: float) -> float:
    """The instant at which the clock on the wall said so."""
    return time.mktime((*time.gmtime(wall_seconds)[:8], -1))


def spread_of(lengths: Sequence[float]) -> Spread | None:
    """Of these lengths; None of none."""
    if not lengths:
        return None
    ordered = sorted(lengths)
    return Spread(len(ordered), quantile(ordered, 50), quantile(ordered, 95), ordered[-1])


def quantile(ordered: Sequence[float], percent: int) -> float:
    """Nearest rank: the shortest length that really occurred and that ``percent`` of 100 windows keep within."""
    return ordered[-(-percent * len(ordered) // 100) - 1]


def distribution(lengths: Sequence[float]) -> tuple[int, ...]:
    """Windows a bucket: BUCKETS_SECONDS, then longer ones."""
    counts = [0] * (len(BUCKETS_SECONDS) + 1)
    for length in lengths:
        counts[bisect.bisect_left(BUCKETS_SECONDS, length)] += 1
    return tuple(counts)
