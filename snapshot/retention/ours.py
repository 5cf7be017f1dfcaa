"""Which of a guest's snapshots are ours, so that retention may count and remove them; of the others, why not. Pure.

Three must agree: the mark in the description, the name that we give, which tells the label, and the journal, which
knows the run with its guest and its name. Where one is missing the snapshot is named and left, whatever the rule says:
a copy of a description, a name that looks like ours, a journal that was lost or is another node's, a guest that got the
vmid of one that is gone.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import NamedTuple

from snapshot.config.naming import SnapshotName
from snapshot.journal.record import WindowRecord, has_ended
from snapshot.model import Guest, VerdictKind
from snapshot.pve import locks
from snapshot.pve.snapshots import Snapshot, Tree, marked_run

CLOCKS_SECONDS = 120.0
"""How far the node's clock and that of this machine may be apart, for a snapshot that has no run's id in its mark."""


class Left(Enum):
    """Why a snapshot is left alone: a fixed word, and its sentence."""

    sentence: str

    def __new__(cls, value: str, sentence: str) -> Left:
        """Members are known by their word; the sentence comes along."""
        member = object.__new__(cls)
        member._value_ = value
        member.sentence = sentence
        return member

    NO_MARK = "no-mark", "its description has no mark of ours: somebody else took it, or wants it kept"
    OTHER_NAME = "other-name", "its name is not one that we give: it was chosen by hand"
    NOT_IN_JOURNAL = "not-in-journal", "the journal of this machine does not know it"
    OTHER_IN_JOURNAL = "other-in-journal", "the journal knows its run by another guest or name"
    AT_WORK = "at-work", "its run is not over"
    NOT_WHOLE = "not-whole", "PVE has not finished it, or has not finished removing it"
    ROLLED_BACK = "rolled-back-to", "the guest was rolled back to it, and no snapshot was taken since"
    LOCKED = "guest-locked", "the guest is locked"
    IN_WINDOW = "in-a-window", "a run of ours is at work on the guest"
    CHANGED = "changed", "it is not the one any more that was listed: somebody took another under its name"
    KEPT = "kept-by-now", "the rule keeps it by now: others went meanwhile"
    NOT_DONE = "not-done", "PVE could not remove it"
    NOT_SAID = "not-said", "PVE does not say what became of its removal"
    NOT_TRIED = "not-tried", "something else went wrong with this guest first"


class Candidate(NamedTuple):
    """One snapshot of a guest, and what is known of it."""

    snapshot: Snapshot
    label: str = ""
    run: str = ""
    """The id of the window that took it."""
    verdict: VerdictKind = VerdictKind.UNKNOWN
    """As the journal has it."""
    is_known: bool = False
    """The journal knows the run that took it, by this guest and this name, and that run is over."""
    left: Left | None = None
    """Why it is none of ours to count; None: it is."""
    remedy: str = ""

    @property
    def identity(self) -> tuple[str, str, int]:
        """What must not have changed between the listing and the removal."""
        return self.snapshot.name, self.run, self.snapshot.taken_at


class RunLookup(NamedTuple):
    """What the journal says; each raises JournalError."""

    by_run: Callable[[str], WindowRecord | None]
    by_name: Callable[[Guest, str], list[WindowRecord]]
    """The runs that took a snapshot of this name of this guest, newest first."""


def find(guest: Guest, tree: Tree, known: RunLookup, prefix: str) -> list[Candidate]:
    """Every snapshot of ``guest``, oldest first; of those of one second the one that was taken upon the other is newer.
    JournalError.
    """
    ordered = sorted(tree.snapshots.values(), key=lambda one: (one.taken_at, tree.depth(one), one.name))
    return [_found(guest, one, known, prefix) for one in ordered]


def _found(guest: Guest, one: Snapshot, known: RunLookup, prefix: str) -> Candidate:
    run, name = marked_run(one.description), SnapshotName.parse(one.name, prefix)
    if run is None:
        return Candidate(one, left=Left.NO_MARK)
    record = _record(guest, one, run, known)
    verdict = VerdictKind(record.verdict) if record is not None and record.verdict else VerdictKind.UNKNOWN
    is_its_own = record is not None and _names(record) == (guest.vmid, guest.kind.value, one.name)
    is_known = record is not None and is_its_own and has_ended(record)
    if name is None:
        found = Candidate(one, "", run, verdict if is_known else VerdictKind.UNKNOWN, is_known)
        return found._replace(left=Left.OTHER_NAME, remedy=_by_hand(guest, one))
    if record is None:
        hint = f"prune where it was taken, or remove it by hand: {_by_hand(guest, one)}"
        return Candidate(one, name.label, run, left=Left.NOT_IN_JOURNAL, remedy=hint)
    found = Candidate(one, name.label, record.id, verdict, is_known)
    if not is_its_own:
        return found._replace(left=Left.OTHER_IN_JOURNAL, remedy=f"look at it; {_by_hand(guest, one)}")
    if not one.is_whole:
        return found._replace(left=Left.NOT_WHOLE, remedy=_not_whole(guest, one))
    if not has_ended(record):
        return found._replace(left=Left.AT_WORK, remedy="`safe-snapshot status` shows it")
    return found


def _names(record: WindowRecord) -> tuple[int, str, str | None]:
    return record.vmid, record.kind, record.snapshot_name


def _record(guest: Guest, one: Snapshot, run: str, known: RunLookup) -> WindowRecord | None:
    """The journal's row of the run that took it."""
    if run:
        return known.by_run(run)
    return next((record for record in known.by_name(guest, one.name) if _is_of_its_time(record, one)), None)


def _is_of_its_time(record: WindowRecord, one: Snapshot) -> bool:
    ended_at = record.closed_at or record.thawed_at or record.deadline_at
    return record.intent_at - CLOCKS_SECONDS <= one.taken_at <= max(ended_at, record.intent_at) + CLOCKS_SECONDS


def _by_hand(guest: Guest, one: Snapshot) -> str:
    return f"`{locks.tool(guest)} delsnapshot {guest.vmid} {one.name}`"


def _not_whole(guest: Guest, one: Snapshot) -> str:
    lock = guest.lock or ("snapshot-delete" if one.state == "delete" else "snapshot")
    return locks.remedy_of(guest._replace(lock=lock)).replace("<name>", one.name)
