"""What the crew works with: jobs, units that begin together, and who is shown how it goes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from snapshot.fleet.limits import Needs, needs_of
from snapshot.fleet.link import Said, Stage
from snapshot.fleet.outcome import GuestOutcome
from snapshot.fleet.worker import GuestWorker
from snapshot.model import Guest


class Board(Protocol):
    """Shows how it goes. No method raises."""

    pace_seconds: float | None
    """How often it wants to be drawn anew; None: it does not."""

    def begins(self, guest: Guest) -> None:
        """A worker has begun."""
        ...

    def says(self, guest: Guest, line: str, at: float) -> None:
        """A line of a worker."""
        ...

    def stands(self, guest: Guest, stage: Stage) -> None:
        """Where a worker's guest is now."""
        ...

    def waits(self, guest: Guest, why: str, seconds: float) -> None:
        """It is locked, and tried again in so many seconds."""
        ...

    def ends(self, outcome: GuestOutcome) -> None:
        """It is done, one way or the other."""
        ...

    def note(self, line: str) -> None:
        """A line about the run."""
        ...

    def draw(self) -> None:
        """The time has come (pace_seconds)."""
        ...


@dataclass(eq=False)
class Job:
    """One guest that is to be done."""

    guest: Guest
    tries: int = 0
    since: float | None = None
    """When it was found locked first; monotonic, as all instants here."""
    not_before: float = 0.0
    worker: GuestWorker | None = None
    stage: Stage = Stage.LOOKING
    asks_for: Needs | None = None
    """The storages that its worker waits for."""
    room: Said | None = None
    """The last that a worker was told of the cluster."""
    told: Said | None = None
    """Its result, or why it is to be tried again later."""


@dataclass(eq=False)
class Unit:
    """Guests that begin together: one, or the members of a group."""

    jobs: Sequence[Job]

    def heard(self, job: Job, said: Said) -> None:
        """A word of a worker that is none of the crew's: a fence's."""

    def ended(self, job: Job) -> None:
        """A worker of the unit has ended, whatever its outcome."""

    @property
    def needs(self) -> Needs:
        """What it takes to begin."""
        return needs_of(job.guest.node for job in self.jobs)


Hire = Callable[[Job, bool], GuestWorker]
"""Starts a worker for a job; the flag says that a lock is no reason to come again. OSError."""
Fate = Callable[[Guest, GuestWorker, bool], GuestOutcome | None]
"""What became of the guest of a worker that died; None while its guard is at work on it, which the flag forbids."""
