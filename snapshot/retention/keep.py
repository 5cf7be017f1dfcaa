"""What a rule keeps: PVE's own prune options by name and by count, and our care for consistent snapshots. Pure.

The counting is PVE's (PVE::Storage, prune_mark_backup_group), option by option, shorter periods first:

- ``keep-last`` N: the N newest. Then, in this order, ``keep-hourly``, ``-daily``, ``-weekly``, ``-monthly`` and
  ``-yearly`` N: the newest of each of the N last periods that no earlier option has covered.
- A period is one of local time, the zone of the machine that prunes (PVE: of the node): an hour is the number that a
  clock shows, so the one that is shown twice when summer time ends is one hour; weeks are ISO 8601's.
- Without any number above zero everything is kept, and so it is with ``keep-all``.
- Of two of the very same second one is kept by ``keep-last``.

One rule is our own: **a snapshot is removed only where both counts remove it, that over all of them and that over the
consistent ones alone.** So a group of consistent snapshots is pruned exactly as PVE would, newer crash-consistent ones
never cost a consistent one its place, one consistent snapshot is left as long as there is one, and the group holds at
most twice what the rule says.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import date
from typing import NamedTuple

from snapshot.base.clock import local_time

Local = Callable[[float], time.struct_time]
"""A Unix time as local time."""


class Rule(NamedTuple):
    """How many to keep; 0: the option does not count. The fields are PVE's options without their ``keep-``."""

    last: int = 0
    hourly: int = 0
    daily: int = 0
    weekly: int = 0
    monthly: int = 0
    yearly: int = 0

    @property
    def keeps_all(self) -> bool:
        """Whether nothing is ever removed: PVE takes a rule without a number for that (validate_prune_backups)."""
        return not any(self)

    def __str__(self) -> str:
        return ",".join(f"keep-{name}={n}" for name, n in self._asdict().items() if n) or "keep-all=1"


class Point(NamedTuple):
    """What the rule needs to know of a snapshot: when it was taken (Unix time, whole seconds), and what it is worth."""

    taken_at: int
    is_consistent: bool = True


class Decision(NamedTuple):
    """What becomes of one snapshot, and why."""

    keeps: bool
    why: str
    """E.g. ``keep-daily 2 of 7 (2026-11-27)``; of one that goes, ``no option keeps it``."""


GONE = "no option keeps it"
ALL = "keep-all"


def decide(found: Sequence[Point], rule: Rule, local: Local = local_time) -> list[Decision]:
    """What becomes of each of ``found``, the snapshots of one label of one guest, in their order."""
    if rule.keeps_all:
        return [Decision(True, ALL) for _ in found]
    by_all = counted([point.taken_at for point in found], rule, local)
    chosen = [n for n, point in enumerate(found) if point.is_consistent]
    alone = counted([found[n].taken_at for n in chosen], rule, local)
    by_consistent = dict(zip(chosen, alone, strict=True))
    return [
        Decision(True, why)
        if why
        else Decision(True, f"{among}, among the consistent ones")
        if (among := by_consistent.get(n, ""))
        else Decision(False, GONE)
        for n, why in enumerate(by_all)
    ]


def counted(instants: Sequence[int], rule: Rule, local: Local = local_time) -> list[str]:
    """PVE's own count: for each instant the option that keeps it, with its number and period; "" where none does."""
    if rule.keeps_all:
        return [ALL] * len(instants)
    newest_first = sorted(range(len(instants)), key=lambda n: -instants[n])
    marks: list[str | None] = [None] * len(instants)
    for name, most in rule._asdict().items():
        if most:
            periods = [_PERIODS[name](taken_at, local) for taken_at in instants]
            _mark(marks, newest_first, f"keep-{name}", most, periods)
    return [mark or "" for mark in marks]


def _mark(marks: list[str | None], newest_first: Sequence[int], option: str, most: int, periods: Sequence[str]) -> None:
    """One option's turn (PVE::Storage, $prune_mark). None: nobody has decided yet; "": it goes."""
    covered = {periods[n] for n in newest_first if marks[n]}
    ours: set[str] = set()
    for n in newest_first:
        period = periods[n]
        if marks[n] is not None or period in covered:
            continue
        if period in ours:
            marks[n] = ""
            continue
        if len(ours) >= most:
            return
        ours.add(period)
        shown = "" if option == "keep-last" else f" ({period})"
        marks[n] = f"{option} {len(ours)} of {most}{shown}"


def _week(taken_at: int, local: Local) -> str:
    day = local(taken_at)
    year, week, _ = date(day.tm_year, day.tm_mon, day.tm_mday).isocalendar()
    return f"{year}-W{week:02}"


def _by(pattern: str) -> Callable[[int, Local], str]:
    return lambda taken_at, local: time.strftime(pattern, local(taken_at))


_PERIODS: dict[str, Callable[[int, Local], str]] = {
    "last": lambda taken_at, local: str(taken_at),
    "hourly": _by("%Y-%m-%d %H h"),
    "daily": _by("%Y-%m-%d"),
    "weekly": _week,
    "monthly": _by("%Y-%m"),
    "yearly": _by("%Y"),
}
