"""Histories of snapshots to prune: made from a seed, in many zones, about the hours in which clocks are changed.

A history is what PVE's rule is asked: a zone, a rule, and instants in any order.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple
from zoneinfo import ZoneInfo

from snapshot.retention.keep import Local, Rule

ZONES = (
    *("Europe/Berlin", "Europe/London", "America/New_York", "America/Sao_Paulo", "UTC", "Asia/Kolkata"),
    *("Australia/Lord_Howe", "Pacific/Apia", "Asia/Kathmandu", "Africa/Casablanca", "America/St_Johns"),
)
"""With summer time and without; half hours, a half hour of summer time, and a day that was left out (Apia)."""

_TURNS = (
    *("2010-11-07", "2019-02-17", "2011-12-30"),
    *("2024-03-31", "2024-10-27", "2025-03-09", "2025-11-02", "2026-01-01", "2020-12-31", "2026-04-05"),
)
_STEPS = (60, 900, 3600, 6 * 3600, 86400, 7 * 86400, 31 * 86400, 200 * 86400)


class History(NamedTuple):
    """What the rule is asked."""

    zone: str
    rule: Rule
    instants: tuple[int, ...]


def histories(seed: int, number: int, most: int = 60) -> Iterator[History]:
    """So many of them, with at most ``most`` snapshots each; the same for the same seed."""
    chance = random.Random(seed)
    for _ in range(number):
        rule = Rule(*(chance.choice((0, 0, 1, 2, 3, 5, 8, 24)) if chance.random() < 0.5 else 0 for _ in Rule._fields))
        turn = datetime.fromisoformat(chance.choice(_TURNS)).replace(tzinfo=UTC)
        at, step = int(turn.timestamp()) + chance.randrange(-3 * 86400, 3 * 86400), chance.choice(_STEPS)
        instants = []
        for _ in range(chance.randint(0, most)):
            instants.append(at)
            jitter = chance.choice((0, 0, chance.randint(-step // 3, step // 3), step * chance.randint(1, 5), -step))
            at += chance.choice((step, step, 0)) + jitter
        if chance.random() < 0.3:
            chance.shuffle(instants)
        yield History(chance.choice(ZONES), rule, tuple(instants))


def local_of(zone: str) -> Local:
    """Local time in ``zone``."""
    place = ZoneInfo(zone)
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    return lambda instant: (epoch + timedelta(seconds=instant)).astimezone(place).timetuple()


def model(history: History) -> list[bool]:
    """Another way to the same answer, written from PVE's documentation and not from its code: option by option, the
    periods that are covered are taken away, and of each of the newest N that are left the newest snapshot stays.
    """
    if not any(history.rule):
        return [True] * len(history.instants)
    place = ZoneInfo(history.zone)
    wall = [datetime.fromtimestamp(at, place) for at in history.instants]
    spans = {
        "last": lambda n: history.instants[n],
        "hourly": lambda n: (wall[n].date(), wall[n].hour),
        "daily": lambda n: wall[n].date(),
        "weekly": lambda n: wall[n].isocalendar()[:2],
        "monthly": lambda n: (wall[n].year, wall[n].month),
        "yearly": lambda n: wall[n].year,
    }
    kept: set[int] = set()
    left = set(range(len(wall)))  # which nobody has decided
    for name, most in history.rule._asdict().items():
        if not most:
            continue
        span = spans[name]
        covered = {span(n) for n in kept}
        groups: dict[object, list[int]] = {}
        for n in sorted(left, key=lambda n: (-history.instants[n], n)):
            if span(n) not in covered:
                groups.setdefault(span(n), []).append(n)
        chosen = list(groups.values())
        for number, group in enumerate(chosen[:most]):
            kept.add(group[0])
            # Behind the last period that counts nothing is looked at any more, not even more of its own.
            end = None if number + 1 < len(chosen[:most]) or len(chosen) <= most else chosen[most][0]
            left -= {n for n in group if end is None or _order(history, n) < _order(history, end)}
    return [n in kept for n in range(len(wall))]


def recorded(path: Path) -> Iterator[tuple[History, list[bool]]]:
    """The histories of a file of PVE's answers, and what PVE keeps of each."""
    for line in path.read_text().splitlines():
        if line.startswith("#"):
            continue
        zone, rule, answer, *steps = line.split(" ")
        numbers = dict(part.removeprefix("keep-").split("=") for part in rule.split(","))
        numbers.pop("all", None)
        instants = tuple(itertools.accumulate(map(int, steps)))
        kept = [] if answer == "-" else [mark == "k" for mark in answer]
        yield History(zone, Rule(**{name: int(n) for name, n in numbers.items()}), instants), kept


def _order(history: History, n: int) -> tuple[int, int]:
    return -history.instants[n], n
