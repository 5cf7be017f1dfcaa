"""Everything that can go wrong, with the exit code of each and its word in JSON. Standard library only.

The docstring of a class says what happened in the operator's words; the table in docs/exit-codes.md is generated from
them. An exit code that is not in the table means failure too.

::

    SafeSnapshotError                    1
    ├── NoTurnError                      1
    ├── UsageError                       2
    ├── ConfigError                      3
    ├── GuestUnfitError                  4
    │   ├── GuestRemovedError            4
    │   └── StorageFullError             4
    ├── ApiError                         5
    │   ├── ApiUnreachableError          5
    │   ├── ApiDeniedError               5
    │   ├── ApiFailureError              5
    │   ├── NodeOfflineError             5
    │   └── ReplyLostError               5
    ├── NotConsistentError               6
    │   ├── GroupEndedError              6
    │   └── NotCleanError                6
    ├── SnapshotFailedError              7
    │   └── NoQuorumError                7
    ├── StillFrozenError                 8
    ├── JournalError                     9
    │   └── JournalBusyError             9
    ├── NotRecordedError                10
    ├── FreezeUnclearError              11
    ├── GuardError                      12
    │   └── WindowTakenError            12
    ├── ForeignFreezeError              13
    ├── FindingsError                   14
    ├── NotPrunedError                  15
    └── DiskSilentError                 16

    InterruptedBySignalError       128 + n   (a BaseException: a signal is no error, and whoever handles errors, ours or
                                              all of them, must not end up handling it)
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple


class SafeSnapshotError(Exception):
    """Something failed that has no code of its own; the message says what."""

    code = "failed"
    exit_code = 1

    def __init__(self, message: str, *, remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.message}; {self.remedy}" if self.remedy else self.message


class NoTurnError(SafeSnapshotError):
    """As many windows or calls as may be at once at the guest's node were there for too long. Nothing was done."""

    code = "no-turn"


class UsageError(SafeSnapshotError):
    """The command line was wrong. Nothing was done."""

    code = "usage"
    exit_code = 2


class ConfigError(SafeSnapshotError):
    """The configuration (or the token file it names) is missing, unreadable or wrong. Nothing was done."""

    code = "configuration"
    exit_code = 3


class GuestUnfitError(SafeSnapshotError):
    """The guest cannot be snapshotted at all: not found, a template, locked, name taken, storage without snapshots, not
    allowed to this token. Nothing was done.
    """

    code = "guest-unfit"
    exit_code = 4


class GuestRemovedError(GuestUnfitError):
    """The guest does not exist in this cluster (any more)."""

    code = "guest-removed"


class StorageFullError(GuestUnfitError):
    """A storage of the guest is too full for another snapshot ([fleet] storage_full_percent). Nothing was done."""

    code = "storage-full"


class ApiError(SafeSnapshotError):
    """The PVE API could not be used: unreachable, certificate, credentials, privilege, or an error of its own."""

    code = "api"
    exit_code = 5


class ApiUnreachableError(ApiError):
    """No connection to the PVE API (refused, no route, name, certificate): the request was never sent."""

    code = "api-unreachable"


class ApiDeniedError(ApiError):
    """The PVE API refused the token or a privilege is missing: the request was not carried out."""

    code = "api-denied"

    def __init__(self, message: str, *, status: int, remedy: str = "") -> None:
        super().__init__(message, remedy=remedy)
        self.status = status


class ApiFailureError(ApiError):
    """The PVE API answered with an error."""

    code = "api-failure"

    def __init__(self, message: str, *, status: int, remedy: str = "") -> None:
        super().__init__(message, remedy=remedy)
        self.status = status


class NodeOfflineError(ApiError):
    """The guest's node is offline: nothing is asked of it, and nothing is done."""

    code = "node-offline"


class ReplyLostError(ApiError):
    """A request was sent to the PVE API and no usable answer came: it may or may not have been carried out."""

    code = "reply-lost"

    def __init__(self, message: str, *, remedy: str = "", is_answered: bool = False) -> None:
        super().__init__(message, remedy=remedy)
        self.is_answered = is_answered
        """PVE's proxy did answer, and said that it has no answer: the way to it is good."""


class NotConsistentError(SafeSnapshotError):
    """Policy `require`: a consistent snapshot could not be made or proven. None is left behind unless the message says
    so.
    """

    code = "not-consistent"
    exit_code = 6


class GroupEndedError(NotConsistentError):
    """Another guest of the group could not follow, which ended it for all (policy `all-or-none`): there is no snapshot
    of this one, or it was removed again.
    """

    code = "group-ended"


class NotCleanError(NotConsistentError):
    """`safe-snapshot verify`: a filesystem in the snapshot was in use when it was taken. Nothing was changed."""

    code = "not-clean"


class SnapshotFailedError(SafeSnapshotError):
    """PVE could not take the snapshot. The guest was thawed."""

    code = "snapshot-failed"
    exit_code = 7


class NoQuorumError(SnapshotFailedError):
    """The cluster has no quorum, so PVE changes no guest's configuration. The guest was not frozen."""

    code = "no-quorum"


class StillFrozenError(SafeSnapshotError):
    """The guest may still be frozen: no thaw could be confirmed in time. The guard goes on trying. Act now:
    docs/runbooks/guest-still-frozen.md.
    """

    code = "still-frozen"
    exit_code = 8


class JournalError(SafeSnapshotError):
    """The journal cannot be written or read. No guest is frozen without it."""

    code = "journal"
    exit_code = 9


class JournalBusyError(JournalError):
    """Another process holds the journal. Before a freeze waiting costs the guest nothing."""

    code = "journal-busy"


class NotRecordedError(SafeSnapshotError):
    """The snapshot was taken and the guest is thawed, but the journal, the description or the metrics could not be
    written.
    """

    code = "not-recorded"
    exit_code = 10


class FreezeUnclearError(SafeSnapshotError):
    """The answer to the freeze was lost. The guest was thawed; the guard watches for a late freeze."""

    code = "freeze-unclear"
    exit_code = 11


class GuardError(SafeSnapshotError):
    """The guard could not be started, so the guest was not frozen (policy `require`: and no snapshot was taken)."""

    code = "guard"
    exit_code = 12


class WindowTakenError(GuardError):
    """Another run has the guest in its freeze window, or watches it for a late freeze: two windows of one guest could
    thaw each other unnoticed. It was not frozen.
    """

    code = "window-taken"


class ForeignFreezeError(SafeSnapshotError):
    """The guest is frozen and the journal does not know by whom. It was left alone; `safe-snapshot thaw <vmid>` thaws
    it.
    """

    code = "foreign-freeze"
    exit_code = 13


class FindingsError(SafeSnapshotError):
    """`safe-snapshot doctor` found errors or warnings. Nothing was changed."""

    code = "findings"
    exit_code = 14


class NotPrunedError(SafeSnapshotError):
    """Not every snapshot that no rule keeps could be removed. What is left is named, with the reason; nothing else was
    removed.
    """

    code = "not-pruned"
    exit_code = 15


class DiskSilentError(SafeSnapshotError):
    """`safe-snapshot verify`: nothing on the disks in the snapshot tells whether all of them were at rest. That says
    nothing against the snapshot.
    """

    code = "cannot-tell"
    exit_code = 16


class InterruptedBySignalError(BaseException):
    """A signal ended the run; a guest that was frozen was thawed first."""

    code = "interrupted"
    exit_code = 128

    def __init__(self, signal_number: int, message: str = "", *, remedy: str = "") -> None:
        self.message = message or f"ended by signal {signal_number}"
        super().__init__(self.message)
        self.remedy = remedy
        self.signal_number = signal_number
        self.exit_code = 128 + signal_number

    def __str__(self) -> str:
        return f"{self.message}; {self.remedy}" if self.remedy else self.message


Failure = SafeSnapshotError | InterruptedBySignalError
"""What a run may end in."""


WORST_FIRST = (8, 128, 13, 11, 12, 9, 7, 6, 4, 5, 3, 2, 1, 15, 10, 14, 16)
"""Exit codes of many guests in one run, by who needs whom most: a guest that may be frozen before one without a
snapshot, that before one that keeps too many or is only not recorded. 128 stands for every signal.
"""


def worst_of(failures: Iterable[Failure | None]) -> Failure | None:
    """The one whose exit code a run of many ends with: the first of the worst; None where nothing failed."""
    found = [failure for failure in failures if failure is not None]
    return min(found, key=lambda failure: WORST_FIRST.index(min(failure.exit_code, 128)), default=None)


class ExitCode(NamedTuple):
    """One exit code: the words in JSON's ``error.code`` that go with it, and what happened."""

    number: int
    codes: tuple[str, ...]
    what_happened: str


def exit_codes() -> Iterator[ExitCode]:
    """Every exit code, in order: the source of the documentation's table."""
    ends = (SafeSnapshotError, InterruptedBySignalError)
    classes = [c for c in globals().values() if isinstance(c, type) and issubclass(c, ends)]
    for number in sorted({c.exit_code for c in classes}):
        its = [c for c in classes if c.exit_code == number]
        yield ExitCode(number, tuple(c.code for c in its), " ".join((its[0].__doc__ or "").split()))
