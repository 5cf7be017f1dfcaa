"""A year of windows in one pass, as the numbers a page shows: over time, by length, by guest, by failure.

Memory grows with the guests, the days and eight bytes a window, not with the records.
"""

from __future__ import annotations

import bisect
import time
from array import array
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from snapshot.journal.families import BUCKETS_SECONDS, VERDICTS
from snapshot.journal.record import may_be_frozen
from snapshot.report import history
from snapshot.report.history import Question

MAX_STEPS = 90
"""How many columns the picture over time has at most: more are narrower than a finger on a phone."""
DAY_SECONDS = 86400.0
_STEPS_SECONDS = (3600.0, 6 * 3600.0, DAY_SECONDS, 2 * DAY_SECONDS, 7 * DAY_SECONDS, 14 * DAY_SECONDS)
_COLUMNS = (
    "vmid",
    "kind",
    "guest_name",
    "node",
    "source",
    "intent_at",
    "window_seconds",
    "verdict",
    "failure_stage",
    "failure_reason",
    "guard_cause",
)


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


@dataclass(frozen=True)
class GuestRow:
    """One guest: its runs by verdict, its windows, its last run."""

    id: str
    vmid: int
    name: str
    node: str
    verdicts: dict[str, int]
    failures: int
    guard_thaws: int
    spread: Spread | None
    last_at: float
    last_verdict: str

    @property
    def runs(self) -> int:
        """How many runs were judged."""
        return sum(self.verdicts.values())


@dataclass(frozen=True)
class Digest:
    """Everything the page shows."""

    made_at: float
    since_at: float
    windows: int
    judged: int
    guests: tuple[GuestRow, ...]
    verdicts: dict[str, int]
    spread: Spread | None
    distribution: tuple[int, ...]
    """Windows a bucket: BUCKETS_SECONDS, then longer ones."""
    step_seconds: float
    steps: tuple[Step, ...]
    failures: tuple[tuple[str, str, int, int], ...]
    """(stage, reason, windows, guests), most frequent first."""
    frozen_now: tuple[tuple[str, str, float], ...]
    """(guest, node, since) of open windows in which the guest may be frozen."""


@dataclass
class _Guest:
    name: str
    node: str
    last_at: float
    last_verdict: str = ""
    verdicts: Counter[str] = field(default_factory=Counter)
    failures: int = 0
    guard_thaws: int = 0
    lengths: array[float] = field(default_factory=lambda: array("d"))


def digest(path: Path, question: Question, now: float) -> Digest:
    """The digest of the journal at ``path``. JournalError when it cannot be read."""
    guests: dict[tuple[str, int], _Guest] = {}
    failures: dict[tuple[str, str], Counter[tuple[str, int]]] = defaultdict(Counter)
    runs_a_step: Counter[int] = Counter()
    failures_a_step: Counter[int] = Counter()
    lengths_a_step: dict[int, array[float]] = defaultdict(lambda: array("d"))
    oldest, total = now, 0
    for row in history.read(path, question, _COLUMNS):
        total += 1
        oldest = min(oldest, row["intent_at"])
        key = (row["kind"], row["vmid"])
        # Rows come newest first: the first one seen names the guest.
        guest = guests.get(key) or guests.setdefault(key, _Guest(row["guest_name"], row["node"], row["intent_at"]))
        step = int(_wall_seconds(row["intent_at"]) // _STEPS_SECONDS[0])
        runs_a_step[step] += 1
        if row["verdict"] is not None:
            guest.verdicts[row["verdict"] if row["verdict"] in VERDICTS else "unknown"] += 1
            guest.last_verdict = guest.last_verdict or row["verdict"]
        if row["failure_stage"] is not None:
            guest.failures += 1
            failures_a_step[step] += 1
            failures[row["failure_stage"], row["failure_reason"] or "unspecified"][key] += 1
        if row["guard_cause"] is not None:
            guest.guard_thaws += 1
        if row["window_seconds"] is not None:
            guest.lengths.append(row["window_seconds"])
            lengths_a_step[step].append(row["window_seconds"])
    begins_at = oldest if question.since_at is None else max(question.since_at, oldest)
    width = _step_seconds(now - begins_at)
    verdicts: Counter[str] = Counter()
    for guest in guests.values():
        verdicts.update(guest.verdicts)
    return Digest(
        made_at=now,
        since_at=begins_at if question.since_at is None else question.since_at,
        windows=total,
        judged=sum(verdicts.values()),
        guests=tuple(sorted((_row(key, guest) for key, guest in guests.items()), key=lambda row: row.vmid)),
        verdicts=dict(verdicts),
        spread=_spread(array("d", (length for guest in guests.values() for length in guest.lengths))),
        distribution=_distribution(guest.lengths for guest in guests.values()),
        step_seconds=width,
        steps=_steps((begins_at, now), width, runs_a_step, failures_a_step, lengths_a_step) if total else (),
        failures=tuple(
            sorted(
                ((stage, reason, sum(by.values()), len(by)) for (stage, reason), by in failures.items()),
                key=lambda found: (-found[2], found[0], found[1]),
            )
        ),
        frozen_now=_frozen_now(path, question),
    )


def _step_seconds(span: float) -> float:
    return next((step for step in _STEPS_SECONDS if span / step <= MAX_STEPS), 30 * DAY_SECONDS)


def _steps(
    period: tuple[float, float],
    width: float,
    runs: Counter[int],
    failures: Counter[int],
    lengths: dict[int, array[float]],
) -> tuple[Step, ...]:
    """The finest steps, in which everything was counted, put together to steps of ``width`` seconds."""
    fine = _STEPS_SECONDS[0]
    all_runs: Counter[int] = Counter()
    all_failures: Counter[int] = Counter()
    all_lengths: dict[int, array[float]] = defaultdict(lambda: array("d"))
    for step, count in runs.items():
        all_runs[int(step * fine // width)] += count
    for step, count in failures.items():
        all_failures[int(step * fine // width)] += count
    for step, some in lengths.items():
        all_lengths[int(step * fine // width)].extend(some)
    first, last = (int(_wall_seconds(instant) // width) for instant in period)
    return tuple(
        Step(_instant_of(step * width), all_runs[step], all_failures[step], _spread(all_lengths.get(step, array("d"))))
        for step in range(first, last + 1)
    )


def _wall_seconds(instant: float) -> float:
    """What the clock on the reader's wall said at ``instant``: days begin at its midnight, in winter and in summer."""
    return instant + time.localtime(instant).tm_gmtoff


def _instant_of(wall_seconds: float) -> float:
    """The instant at which the clock on the wall said so."""
    return time.mktime((*time.gmtime(wall_seconds)[:8], -1))


def _spread(lengths: array[float]) -> Spread | None:
    if not lengths:
        return None
    ordered = sorted(lengths)
    return Spread(len(ordered), _quantile(ordered, 50), _quantile(ordered, 95), ordered[-1])


def _quantile(ordered: Sequence[float], percent: int) -> float:
    """Nearest rank: the shortest length that really occurred and that ``percent`` of 100 windows keep within."""
    return ordered[-(-percent * len(ordered) // 100) - 1]


def _distribution(lengths: Iterable[array[float]]) -> tuple[int, ...]:
    counts = [0] * (len(BUCKETS_SECONDS) + 1)
    for some in lengths:
        for length in some:
            counts[bisect.bisect_left(BUCKETS_SECONDS, length)] += 1
    return tuple(counts)


def _row(key: tuple[str, int], guest: _Guest) -> GuestRow:
    kind, vmid = key
    return GuestRow(
        id=f"{kind}/{vmid}",
        vmid=vmid,
        name=history.plain(guest.name),
        node=guest.node,
        verdicts=dict(guest.verdicts),
        failures=guest.failures,
        guard_thaws=guest.guard_thaws,
        spread=_spread(guest.lengths),
        last_at=guest.last_at,
        last_verdict=guest.last_verdict,
    )


def _frozen_now(path: Path, question: Question) -> tuple[tuple[str, str, float], ...]:
    return tuple(
        (window.guest.id, window.node, window.frozen_at or window.intent_at)
        for window in history.open_windows(path, question)
        if may_be_frozen(window)
    )
