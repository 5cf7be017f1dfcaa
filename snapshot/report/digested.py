"""What a digest of the journal's windows holds, as data: digest.py counts it, the page shows it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from snapshot.journal.families import CONSISTENT_VERDICTS
from snapshot.report.grouped import GroupDigest
from snapshot.report.lengths import Spread, Step

NAMED = 12
"""So many guests of a failure are named."""

BACKUP, SNAPSHOT = "vzdump", "snapshot"
"""The two ways in, as the journal calls them."""
SOURCES = (BACKUP, SNAPSHOT)


@dataclass(frozen=True)
class Half:
    """All backups, or all snapshots."""

    source: str
    windows: int
    judged: int
    failed: int
    guests: int
    verdicts: Mapping[str, int]
    spread: Spread | None
    distribution: tuple[int, ...]
    """Windows a bucket: BUCKETS_SECONDS, then longer ones."""
    steps: tuple[Step, ...]

    @property
    def consistent(self) -> int:
        """How many were judged so."""
        return sum(count for verdict, count in self.verdicts.items() if verdict in CONSISTENT_VERDICTS)


@dataclass(frozen=True)
class GuestPart:
    """One guest's backups, or its snapshots: by verdict, its windows, its last one."""

    verdicts: Mapping[str, int]
    failures: int
    spread: Spread | None
    last_at: float
    last_verdict: str

    @property
    def runs(self) -> int:
        """How many were judged."""
        return sum(self.verdicts.values())

    @property
    def consistent(self) -> int:
        """How many of them were judged so."""
        return sum(count for verdict, count in self.verdicts.items() if verdict in CONSISTENT_VERDICTS)


@dataclass(frozen=True)
class GuestRow:
    """One guest, its backups and its snapshots."""

    id: str
    vmid: int
    name: str
    node: str
    parts: Mapping[str, GuestPart]

    @property
    def runs(self) -> int:
        """How many runs were judged."""
        return sum(part.runs for part in self.parts.values())

    @property
    def consistent(self) -> int:
        """How many of them were judged so."""
        return sum(part.consistent for part in self.parts.values())

    @property
    def failures(self) -> int:
        """How many runs failed."""
        return sum(part.failures for part in self.parts.values())


@dataclass(frozen=True)
class Failed:
    """All failures of one stage and reason."""

    stage: str
    reason: str
    windows: Mapping[str, int]
    """By source."""
    guests: tuple[int, ...]
    """The vmids, of whom it happened to last first: at most NAMED of them."""
    guest_count: int
    last_at: float
    last_guest: str
    last_why: str
    """What the newest of them said of itself."""

    @property
    def count(self) -> int:
        """How many windows."""
        return sum(self.windows.values())


@dataclass(frozen=True)
class NewestRun:
    """One of the newest runs."""

    at: float
    guest: str
    name: str
    source: str
    seconds: float | None
    verdict: str
    """Empty: not judged yet."""
    why: str
    disk: str
    """What the disk in the snapshot said; empty: it was not asked."""


@dataclass(frozen=True)
class Digest:
    """Everything the page shows of the past."""

    made_at: float
    since_at: float | None
    """From when on was asked for; None: from the first one."""
    first_at: float | None
    """When the first window that was found began, and the last; None without any."""
    last_at: float | None
    before_at: float | None
    """Where none was found: when the last one before that time began."""
    windows: int
    parts: tuple[Half, ...]
    """Backups, then snapshots; without those of which there is none."""
    guests: tuple[GuestRow, ...]
    step_seconds: float
    failures: tuple[Failed, ...]
    """Those of a thaw first, then the most frequent."""
    groups: tuple[GroupDigest, ...]
    newest: tuple[NewestRun, ...]
    drills: int
    strangers: int
    """Freezes by somebody else: no runs, and not counted as such."""
