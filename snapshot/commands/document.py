"""What an own command reads on its standard input in a phase of ours; docs/hooks-schema.json shows it.

run_commands puts ``version`` and ``phase`` in front. A key may be added at any time.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import NamedTuple

from snapshot.model import GuestKind, Policy, VerdictKind

BEFORE_FREEZE = "before-freeze"
VERDICT = "verdict"
ALARM = "alarm"
ALARM_OVER = "alarm-over"

ENVIRONMENT: Mapping[str, str] = {"LC_ALL": "C.UTF-8"}
"""Of the commands, where vzdump gives none."""

OURS_UNKNOWN = "a command ends with 0 in a phase that it does not know"
"""For whoever wonders why one that is older than our phases fails in them."""


class Source(Enum):
    """What the guest is frozen for."""

    BACKUP = "backup"
    SNAPSHOT = "snapshot"


class ToldGuest(NamedTuple):
    """The guest."""

    vmid: int
    name: str
    node: str
    kind: GuestKind


class Told(NamedTuple):
    """One freeze of one guest: what is about to be done, and in the phase verdict what came of it."""

    source: Source
    guest: ToldGuest
    policy: Policy
    """What holds for this guest."""
    task: str | None = None
    """The UPID of PVE's task, where it is known: the backup job's, or the snapshot's."""
    snapshot: str | None = None
    """The snapshot's name; null for a backup."""
    verdict: VerdictKind | None = None
    """null before the freeze."""
    reason: str | None = None
    """Of the verdict, for a person."""
    window_seconds: float | None = None
    """How long the guest was frozen, or may have been; null when it was not, or nobody knows."""
    may_still_be_frozen: bool = False
    """Nobody could thaw the guest yet: a guard goes on trying, and the alarm is raised."""

    def as_json(self) -> dict[str, object]:
        """What json.dumps takes."""
        plain = self._asdict() | {"guest": self.guest._asdict()}
        return {key: _plain(value) for key, value in plain.items()}


class ToldGuestName(NamedTuple):
    """The guest that an alarm is about."""

    vmid: int
    name: str
    node: str


class ToldEvent(NamedTuple):
    """One alarm that began, or that has ended."""

    event: str
    """``alarm`` or ``alarm-over``, as the phase."""
    key: str
    """What it is, and of whom: an alarm and its end have the same."""
    what: str
    """What happened, or what is so now, for a person."""
    since: str
    """When the alarm began, with its offset."""
    todo: str
    """What to do about it; empty where it is over."""
    guest: ToldGuestName | None


class ToldAlarms(NamedTuple):
    """In the phases alarm and alarm-over: what began, or what ended, since the last recovery."""

    id: str
    """The message's name: the same where it has to be told again."""
    node: str
    """Who tells."""
    at: str
    """When it was written, with its offset."""
    events: tuple[ToldEvent, ...]
    """At most 40, of both phases."""
    more: int
    """How many are left out."""
    title: str
    """All of it in a few words; what follows too is of both phases."""
    message: str
    text: str


def _plain(value: object) -> object:
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    return value.value if isinstance(value, Enum) else value
