"""A year of windows in one pass, as the numbers a page shows: backups and snapshots apart, over time, by length, by
guest, by failure, by group.

Memory grows with the guests, the days, the groups' runs and sixteen bytes a window, not with the records. How things
stand right now is standing.py's.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from snapshot.journal.families import VERDICTS
from snapshot.journal.record import DRILL
from snapshot.model import Owner
from snapshot.report import history, lengths
from snapshot.report.digested import (
    BACKUP,
    NAMED,
    SNAPSHOT,
    SOURCES,
    Digest,
    Failed,
    GuestPart,
    GuestRow,
    Half,
    NewestRun,
)
from snapshot.report.grouped import Groups
from snapshot.report.history import Question
from snapshot.report.lengths import Fine

NEWEST = 8
"""So many of the newest runs are shown one by one."""
_COLUMNS = (
    *("vmid", "kind", "guest_name", "node", "source", "owner", "intent_at", "window_seconds"),
    *("verdict", "reason", "failure_stage", "failure_reason", "group_id", "disk_word"),
)


@dataclass
class _GuestPart:
    last_at: float
    last_verdict: str
    verdicts: Counter[str] = field(default_factory=Counter)
    failures: int = 0
    lengths: array[float] = field(default_factory=lambda: array("d"))

    def done(self) -> GuestPart:
        return GuestPart(
            dict(self.verdicts), self.failures, lengths.spread_of(self.lengths), self.last_at, self.last_verdict
        )


@dataclass
class _Guest:
    name: str
    node: str
    parts: dict[str, _GuestPart] = field(default_factory=dict)


@dataclass
class _Failed:
    last_at: float
    last_guest: str
    last_why: str
    windows: Counter[str] = field(default_factory=Counter)
    guests: dict[tuple[str, int], None] = field(default_factory=dict)


class _Pass:
    """What was counted while the rows went by, newest first."""

    def __init__(self) -> None:
        self.windows = self.drills = self.strangers = 0
        self.first_at: float | None = None
        self.last_at: float | None = None
        self.guests: dict[tuple[str, int], _Guest] = {}
        self.fine: dict[str, Fine] = {}
        self.failures: dict[tuple[str, str], _Failed] = {}
        self.groups = Groups()
        self.newest: list[NewestRun] = []

    def take(self, row: Mapping[str, Any]) -> None:
        """One window."""
        if row["source"] == DRILL:
            self.drills += 1
            return
        if row["owner"] == Owner.FOREIGN.value:
            self.strangers += 1
            return
        at, seconds = row["intent_at"], row["window_seconds"]
        self.windows += 1
        self.first_at = at if self.first_at is None else min(self.first_at, at)
        self.last_at = at if self.last_at is None else max(self.last_at, at)
        source = BACKUP if row["source"] == BACKUP else SNAPSHOT
        failed = row["failure_stage"] is not None
        key = (row["kind"], row["vmid"])
        # Rows come newest first: the first one seen names the guest, and is its last run.
        guest = self.guests.get(key) or self.guests.setdefault(key, _Guest(row["guest_name"], row["node"]))
        part = guest.parts.get(source) or guest.parts.setdefault(source, _GuestPart(at, row["verdict"] or ""))
        (self.fine.get(source) or self.fine.setdefault(source, Fine())).count(at, seconds, failed=failed)
        if row["verdict"] is not None:
            part.verdicts[row["verdict"] if row["verdict"] in VERDICTS else "unknown"] += 1
        if failed:
            part.failures += 1
            self._failed(row, key, source)
        if seconds is not None:
            part.lengths.append(seconds)
        if row["group_id"]:
            self.groups.take(row)
        if len(self.newest) < NEWEST:
            self.newest.append(_run(row, source))

    def _failed(self, row: Mapping[str, Any], key: tuple[str, int], source: str) -> None:
        word = (row["failure_stage"], row["failure_reason"] or "unspecified")
        found = self.failures.get(word)
        if found is None:
            why = history.plain(row["reason"] or "")
            found = self.failures[word] = _Failed(row["intent_at"], _id(key), why)
        found.windows[source] += 1
        found.guests[key] = None

    def part(self, source: str, period: tuple[float, float], width: float) -> Half:
        """Backups, or snapshots."""
        parts = [guest.parts[source] for guest in self.guests.values() if source in guest.parts]
        all_lengths = array("d", (length for part in parts for length in part.lengths))
        verdicts: Counter[str] = Counter()
        for part in parts:
            verdicts.update(part.verdicts)
        fine = self.fine[source]
        return Half(
            source=source,
            windows=sum(fine.runs.values()),
            judged=sum(verdicts.values()),
            failed=sum(fine.failures.values()),
            guests=len(parts),
            verdicts=dict(verdicts),
            spread=lengths.spread_of(all_lengths),
            distribution=lengths.distribution(all_lengths),
            steps=lengths.steps(period, width, fine),
        )


def digest(path: Path, question: Question, now: float) -> Digest:
    """The digest of the journal at ``path``. JournalError when it cannot be read."""
    seen = _Pass()
    for row in history.read(path, question, _COLUMNS):
        seen.take(row)
    period = (now if seen.first_at is None else min(seen.first_at, now), now)
    width = lengths.step_seconds(period[1] - period[0])
    return Digest(
        made_at=now,
        since_at=question.since_at,
        first_at=seen.first_at,
        last_at=seen.last_at,
        before_at=None if seen.windows else _before(path, question),
        windows=seen.windows,
        parts=tuple(seen.part(source, period, width) for source in SOURCES if source in seen.fine),
        guests=_rows(seen.guests),
        step_seconds=width,
        failures=_worst_first(seen.failures),
        groups=seen.groups.done(),
        newest=tuple(seen.newest),
        drills=seen.drills,
        strangers=seen.strangers,
    )


def _before(path: Path, question: Question) -> float | None:
    ever = _Pass()
    for row in history.read(path, question._replace(since_at=None), _COLUMNS):
        ever.take(row)
        if ever.last_at is not None:
            break
    return ever.last_at


def _worst_first(found: Mapping[tuple[str, str], _Failed]) -> tuple[Failed, ...]:
    failures: Iterable[Failed] = (
        Failed(
            stage,
            reason,
            dict(one.windows),
            tuple(vmid for _, vmid in one.guests)[:NAMED],
            len(one.guests),
            one.last_at,
            one.last_guest,
            one.last_why,
        )
        for (stage, reason), one in found.items()
    )
    return tuple(sorted(failures, key=lambda one: (one.stage != "thaw", -one.count, one.stage, one.reason)))


def _rows(guests: Mapping[tuple[str, int], _Guest]) -> tuple[GuestRow, ...]:
    rows = (
        GuestRow(
            _id(key),
            key[1],
            history.plain(guest.name),
            guest.node,
            {source: guest.parts[source].done() for source in SOURCES if source in guest.parts},
        )
        for key, guest in guests.items()
    )
    return tuple(sorted(rows, key=lambda row: row.vmid))


def _run(row: Mapping[str, Any], source: str) -> NewestRun:
    return NewestRun(
        at=row["intent_at"],
        guest=_id((row["kind"], row["vmid"])),
        name=history.plain(row["guest_name"]),
        source=source,
        seconds=row["window_seconds"],
        verdict=row["verdict"] or "",
        why=history.plain(row["reason"] or ""),
        disk=row["disk_word"] or "",
    )


def _id(key: tuple[str, int]) -> str:
    return f"{key[0]}/{key[1]}"
