"""Counters' series that are new: they stand at 0 when they are first published, and show their value a little later.

A guest has a series only for the stages, reasons and causes it has met: all that there are would be half of its series.
One that appears with 1 has not increased for Prometheus, and its first failure would be on no dashboard. So a row
stamps each new one, ``publish`` notes when it was first published, and until Prometheus has scraped it twice it is 0.
Standard library only.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable

NEW = "_new:"
"""Not exported: before a family's name, the instant at which the row's series was first published; 0: not yet."""
SCRAPES = 2


def is_new(published_at: float | None, now: float, scrape_seconds: float) -> bool:
    """Whether a series that was first ``published_at`` (None: no stamp, 0: not yet) still stands at 0."""
    if published_at is None or scrape_seconds <= 0:
        return False
    # A clock that was put back does not keep a failure out of sight.
    return published_at == 0 or published_at <= now < published_at + SCRAPES * scrape_seconds


def has_news(stamps: Iterable[float], now: float, scrape_seconds: float) -> bool:
    """Whether one of the stamps is to be written or to be taken away."""
    return any(at == 0 or not is_new(at, now, scrape_seconds) for at in stamps)


def note_published(db: sqlite3.Connection, now: float, scrape_seconds: float) -> None:
    """Note that the new series are published now, and forget the stamps of those that are new no more."""
    of_stamps = f"substr(name, 1, {len(NEW)}) = '{NEW}'"
    db.execute(
        f"DELETE FROM series WHERE {of_stamps} AND value > 0 AND NOT (value <= ? AND ? < value + ?)",  # noqa: S608 - a constant
        (now, now, SCRAPES * scrape_seconds),
    )
    db.execute(f"UPDATE series SET value = ? WHERE {of_stamps} AND value = 0", (now,))  # noqa: S608 - a constant
