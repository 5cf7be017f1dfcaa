"""The runs of groups among the windows: whose guests were frozen together, and whether they are of one point in time.

What is said of a run is what its members' own rows say (snapshot/fleet/moment.py gave them the words), all of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from snapshot.fleet import moment
from snapshot.journal.families import CONSISTENT_VERDICTS
from snapshot.report.history import plain


@dataclass(frozen=True)
class Membership:
    """One guest in one run of its group."""

    vmid: int
    name: str
    seconds: float | None
    """How long it was frozen."""
    verdict: str
    why: str


@dataclass(frozen=True)
class GroupDigest:
    """One group: its last run, and how many there were."""

    name: str
    at: float
    members: tuple[Membership, ...]
    is_one: bool
    """Whether the last run is of one point in time."""
    said: str
    """What was said of the last run as a whole; empty where its members do not say the same."""
    runs: int
    ones: int
    """How many runs were of one point in time."""


@dataclass
class _GroupRun:
    at: float
    members: dict[int, Membership] = field(default_factory=dict)

    @property
    def said(self) -> str:
        """What all members say of the group; empty where they do not say the same."""
        found = {_of_group(member.why) for member in self.members.values()}
        return found.pop() if len(found) == 1 else ""

    @property
    def is_one(self) -> bool:
        """Every member's row says so, and is consistent itself: a text that a guest has a part in is no evidence."""
        return self.said.startswith(moment.ONE) and all(
            member.verdict in CONSISTENT_VERDICTS for member in self.members.values()
        )


class Groups:
    """What was seen of groups while the rows went by."""

    def __init__(self) -> None:
        self._runs: dict[str, _GroupRun] = {}

    def take(self, row: Mapping[str, Any]) -> None:
        """One member's window."""
        at = row["intent_at"]
        run = self._runs.setdefault(row["group_id"], _GroupRun(at))
        run.at = min(run.at, at)
        run.members.setdefault(
            row["vmid"],
            Membership(
                row["vmid"],
                plain(row["guest_name"]),
                row["window_seconds"],
                row["verdict"] or "",
                plain(row["reason"] or ""),
            ),
        )

    def done(self) -> tuple[GroupDigest, ...]:
        """Each group, the one that ran last first."""
        by_name: dict[str, list[_GroupRun]] = {}
        for group_id, run in self._runs.items():
            by_name.setdefault(group_id.rpartition("-")[0] or group_id, []).append(run)
        found = (_digest(name, sorted(runs, key=lambda run: -run.at)) for name, runs in by_name.items())
        return tuple(sorted(found, key=lambda group: (-group.at, group.name)))


def _digest(name: str, runs: list[_GroupRun]) -> GroupDigest:
    last = runs[0]
    members = tuple(last.members[vmid] for vmid in sorted(last.members))
    ones = sum(run.is_one for run in runs)
    return GroupDigest(plain(name), last.at, members, last.is_one, last.said, len(runs), ones)


def _of_group(why: str) -> str:
    """The part of a member's reason that is about its group (snapshot/take/together.py puts it behind a semicolon, or
    behind the colon of a snapshot that was removed again).
    """
    for word in (f"not {moment.ONE}", moment.ONE):
        at = why.rfind(word)
        if at >= 0:
            return why[at:]
    return ""
