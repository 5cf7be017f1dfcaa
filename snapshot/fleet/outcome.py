"""What came of one guest of many, as its worker told it or its parent found it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from snapshot.errors import Failure, InterruptedBySignalError, SafeSnapshotError
from snapshot.model import Guest


class ToldError(NamedTuple):
    """An error as it was told: of a worker, or of its parent."""

    code: str
    message: str
    remedy: str
    exit_code: int

    @classmethod
    def of(cls, error: Failure) -> ToldError:
        """Of an error of ours."""
        return cls(error.code, error.message, error.remedy, error.exit_code)

    @property
    def failure(self) -> Failure:
        """The error once more."""
        found = SafeSnapshotError(self.message, remedy=self.remedy)
        found.code, found.exit_code = self.code, self.exit_code
        return found

    def __str__(self) -> str:
        return f"{self.message}; {self.remedy}" if self.remedy else self.message


class GuestOutcome(NamedTuple):
    """What came of one guest."""

    guest: Guest
    snapshot: str | None = None
    """The snapshot's name, once it was chosen."""
    snapshot_exists: bool | None = False
    verdict: str | None = None
    reason: str = ""
    plan: str = ""
    """What would be done, in a dry run."""
    removed: tuple[str, ...] = ()
    """Older snapshots that its label's rule did not keep any more."""
    would_remove: tuple[str, ...] = ()
    """The same in a dry run, once the snapshot was there."""
    frozen_seconds: float | None = None
    error: ToldError | None = None
    warnings: tuple[str, ...] = ()
    tries: int = 1
    """How often it was looked at: a locked guest is tried again."""
    waited_seconds: float = 0.0
    """From when it was found locked first."""
    has_fallen_back: bool = False
    """It was to be frozen, and was not or is not proven to have been."""
    result: Mapping[str, Any] | None = None
    """All of it, as a run of this guest alone prints it."""
    logfmt: tuple[str, int] | None = None
    """The line of a run of this guest alone, and its level."""

    @property
    def exit_code(self) -> int:
        """0, or the error's."""
        return self.error.exit_code if self.error is not None else 0

    @classmethod
    def failed(cls, guest: Guest, error: Failure) -> GuestOutcome:
        """Of a guest that its parent has to speak for."""
        return cls(guest, error=ToldError.of(error))

    @classmethod
    def not_begun(cls, guest: Guest, number: int) -> GuestOutcome:
        """Of a guest whose turn had not come when a signal ended the run."""
        message = f"guest {guest.vmid} was not begun: the run was ended by signal {number}"
        return cls.failed(guest, InterruptedBySignalError(number, message, remedy="run again for it"))
