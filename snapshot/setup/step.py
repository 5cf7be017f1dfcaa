"""What a plan is made of: a step knows what it will do, and does it; the record knows how to take it back."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from snapshot.errors import SafeSnapshotError
from snapshot.setup.record import Record


class SetupStep(Protocol):
    """Something that is not as it should be yet, and how it becomes so."""

    @property
    def what(self) -> str:
        """In a few words, for the plan."""
        ...

    def shows(self) -> list[str]:
        """The command or the change of a file, as ``--dry-run`` prints it."""
        ...

    def do(self, record: Record) -> None:
        """Commit what is about to be done, then do it. SafeSnapshotError or OSError when that is not possible."""
        ...


class TakenBack(NamedTuple):
    """What became of one change when it was taken back."""

    what: str
    left: str = ""
    """Why it was left as it is; empty when it was taken back."""


class ChangedMeanwhileError(SafeSnapshotError):
    """What the plan was made from is not so any more."""

    def __init__(self, what: str) -> None:
        super().__init__(f"{what} was changed by somebody else meanwhile", remedy="run setup again")


class Planned(NamedTuple):
    """A step as it is told."""

    what: str
    shows: list[str]
    """The commands, or the change of a file."""
