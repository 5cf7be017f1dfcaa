"""A made-up year of a fleet in a journal, the same every time: for reports, dashboards and costs.

Rows are written in bulk: counting the series is tested elsewhere, here only its results are needed.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

from snapshot.journal import series
from snapshot.journal.record import COLUMNS, WindowRecord
from snapshot.journal.store import Journal
from tests.metrics.conftest import DAY, record

_NAMES = ("web", "db", "mail", "files", "build", "erp", "proxy", "git")
_FAILURES = (
    ("freeze", "refused", 8),
    ("hold", "deadline", 5),
    ("freeze", "unknown", 3),
    ("preflight", "agent", 4),
    ("thaw", "no-answer", 1),
)


def windows(guests: int, runs: int, until: float, span: float = 365 * DAY) -> Iterator[WindowRecord]:
    """``runs`` windows of each of ``guests`` guests, spread over ``span`` seconds before ``until``, oldest first."""
    rng = random.Random(7)
    step = span / max(runs, 1)
    for run in range(runs):
        for number in range(guests):
            vmid = 100 + number
            at = until - span + run * step + number * min(20.0, step / (guests + 1))
            yield _window(rng, f"{run:08x}{vmid:024x}", vmid, number, at)


def _window(rng: random.Random, window: str, vmid: int, number: int, at: float) -> WindowRecord:
    weak = number % 10 == 9
    values: dict[str, Any] = record(window, vmid, at)._asdict() | {
        "guest_name": f"{_NAMES[number % len(_NAMES)]}-{number:03d}",
        "node": f"pve{number % 3 + 1}",
        "source": "vzdump",
        "state": "thawed",
        "closed_at": at + 1,
        "thawed_at": at + 1,
        "filesystems_frozen": 2,
        "filesystems_thawed": 2,
        "thaw_attempts": 1,
        "freeze_outcome": "acknowledged",
        "verdict": "filesystem-consistent",
        "reason": "2 filesystems frozen, proven after the point in time, and thawed",
    }
    kind = rng.random()
    if number % 17 == 5:
        values |= {"verdict": "offline", "freeze_outcome": None, "thaw_attempts": None, "reason": "shut down"}
        return WindowRecord(**values)
    seconds = rng.lognormvariate(-1.2, 0.4) * (6 if weak else 1)
    if kind < (0.25 if weak else 0.01):
        stage, reason, _ = rng.choices(_FAILURES, [w for _, _, w in _FAILURES])[0]
        values |= {"verdict": "crash-consistent", "failure_stage": stage, "failure_reason": reason, "reason": reason}
        if reason == "deadline":
            seconds = 30 + rng.random() * 2
            values["guard_cause"] = "deadline"
    values |= {
        "window_seconds": seconds,
        "freezing_seconds": seconds * 0.4,
        "held_seconds": seconds * 0.3,
        "thawing_seconds": seconds * 0.3,
        "frozen_at": at + seconds * 0.4,
    }
    return WindowRecord(**values)


def fill(
    journal: Journal, guests: int, runs: int, until: float, *, span: float = 365 * DAY, project: bool = True
) -> int:
    """Write them; how many. With ``project`` False only the last run of each guest is counted into the series."""
    insert = f"INSERT INTO windows ({', '.join(COLUMNS)}) VALUES ({', '.join('?' * len(COLUMNS))})"
    count = 0
    with journal.transaction("written") as db:
        for window in windows(guests, runs, until, span):
            values = window._asdict()
            db.execute(insert, [values[name] for name in COLUMNS])
            count += 1
            if project or count > guests * (runs - 1):
                series.apply(db, None, window)
    return count
