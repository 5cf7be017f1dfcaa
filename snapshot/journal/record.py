"""A row of the journal: one freeze window, what it means, and a check of every column on its way in and out.

A file may hold anything: what a bug, an older or newer version or an editor left there. A row is looked at once, here;
behind this module its values are of the types that they say. Whether somebody alive has a window in hand: living.py.
"""

from __future__ import annotations

import math
import os
import sqlite3
from collections.abc import Mapping
from enum import Enum
from typing import Any, NamedTuple

from snapshot.base.procfs import ProcessIdentity
from snapshot.model import (
    NODE,
    VMID_MAX,
    VMID_MIN,
    AtRest,
    FreezeOutcome,
    Guest,
    GuestKind,
    Node,
    Owner,
    VerdictKind,
    Vmid,
)
from snapshot.states import State, check_step


def new_id() -> str:
    """A window's id: 32 random hex digits."""
    return os.urandom(16).hex()


DRILL = "drill"
"""The source of a window that was opened to see its guest thawed: no run, so nothing is counted from it."""


class Cause(Enum):
    """Why a guard thawed: the ``cause`` label of the metric."""

    OWNER_DIED = "owner-died"
    WORKER_DIED = "worker-died"
    DEADLINE = "deadline"
    ABANDONED = "owner-gave-up"
    OWNER_STOPPED = "owner-stopped"
    SIGNAL = "signal"
    GUARD_FAULT = "guard-fault"
    LATE_FREEZE = "late-freeze"
    RECOVERY = "recovery"


class WindowRecord(NamedTuple):
    """One row of the journal: a freeze window, open until ``closed_at`` is set. Instants are Unix times."""

    id: str
    vmid: int
    node: str
    kind: str
    guest_name: str
    source: str
    """``snapshot`` or ``vzdump``: which of the two ways in; ``drill`` for a drill's, ``foreign`` for another's."""
    owner: str
    """Who issued the freeze."""
    state: str
    """Where the window is, as last recorded (docs/states.md)."""
    intent_at: float
    deadline_at: float
    owner_pid: int
    owner_pid_start: int
    boot_id: str
    guard_pid: int | None = None
    guard_pid_start: int | None = None
    snapshot_name: str | None = None
    upid: str | None = None
    freeze_outcome: str | None = None
    freeze_detail: str | None = None
    filesystems_frozen: int | None = None
    filesystems_thawed: int | None = None
    frozen_at: float | None = None
    thawed_at: float | None = None
    freezing_seconds: float | None = None
    held_seconds: float | None = None
    thawing_seconds: float | None = None
    window_seconds: float | None = None
    thaw_attempts: int | None = None
    thaw_route: str | None = None
    thaw_detail: str | None = None
    guard_cause: str | None = None
    """Why the guard had to thaw (``owner-died``, ``deadline``, ...); None when it had not to."""
    late_freezes: int = 0
    quiet_until_at: float | None = None
    """While set and ahead, an unanswered freeze may still be executed: the window stays open until then."""
    failure_stage: str | None = None
    """``preflight``, ``freeze``, ``hold``, ``snapshot``, ``disk`` or ``thaw``: where it failed; None: it did not."""
    failure_reason: str | None = None
    """A short fixed word for metrics, e.g. ``agent-not-running``, ``deadline``, ``reply-lost``."""
    verdict: str | None = None
    reason: str | None = None
    closed_at: float | None = None
    group_id: str | None = None
    """The group that its guest was a member of: the group's name, ``-`` and eight hex digits of this very run."""

    disk_word: str | None = None
    """What the disk in the snapshot said: ``clean``, ``not-clean``, ``cannot-tell``; None where it was not asked."""
    disk_reason: str | None = None

    @classmethod
    def begun(
        cls, guest: Guest, owner: Owner, source: str, at: float, me: ProcessIdentity, *, limit_seconds: float = 0.0
    ) -> WindowRecord:
        """The intent: a window that begins now, with ``me`` as its owner's process, and of which nothing else is known.

        Without a limit it is a snapshot or backup for which nobody of us freezes.
        """
        return cls(
            id=new_id(),
            vmid=guest.vmid,
            node=guest.node,
            kind=guest.kind.value,
            guest_name=guest.name,
            source=source,
            owner=owner.value,
            state=State.IDLE.value,
            intent_at=at,
            deadline_at=at + limit_seconds,
            owner_pid=me.pid,
            owner_pid_start=me.start,
            boot_id=me.boot_id,
        )

    @property
    def guest(self) -> Guest:
        """The guest as it was when the window was opened."""
        return Guest(Vmid(self.vmid), Node(self.node), GuestKind(self.kind), name=self.guest_name)

    @property
    def is_foreign(self) -> bool:
        """Whether somebody else issued the freeze."""
        return self.owner == Owner.FOREIGN.value


def is_drill(record: WindowRecord) -> bool:
    """Whether it stands for no snapshot and no backup: its guest was frozen to see it thawed."""
    return record.source == DRILL


def was_sent(record: WindowRecord) -> bool:
    """Whether a freeze was, or must be assumed to have been, sent in this window."""
    return (
        record.freeze_outcome is not None
        or record.frozen_at is not None
        or record.guard_cause is not None
        or record.thaw_attempts is not None
    )


def has_ended(record: WindowRecord) -> bool:
    """Whether the run is over: it was judged, or closed. The window itself may stay open for a late freeze."""
    return record.verdict is not None or record.closed_at is not None


def may_be_frozen(record: WindowRecord) -> bool:
    """Whether the guest may be frozen as far as the journal knows. Before it is armed no freeze is sent."""
    if record.closed_at is not None or record.state in ("idle", "thawed"):
        return False
    return record.state == "stuck" or record.thawed_at is None


def was_never_armed(record: WindowRecord) -> bool:
    """Whether no freeze of ours can have been sent: the journal knows of the armed guard before one is."""
    return record.state == State.IDLE.value and record.owner in (Owner.SNAPSHOT.value, Owner.HOOK.value)


def is_plain(record: WindowRecord) -> bool:
    """A snapshot without a window: nobody freezes for it but PVE."""
    return record.deadline_at <= record.intent_at


def measured_seconds(record: WindowRecord) -> float | None:
    """The window's length; for one that its owner could not measure, from its intent to its thaw once it is closed."""
    if record.window_seconds is not None:
        return record.window_seconds
    if record.closed_at is None or record.thawed_at is None or not was_sent(record):
        return None
    return max(0.0, record.thawed_at - record.intent_at)


def not_reopening(record: WindowRecord | None, values: Mapping[str, object]) -> Mapping[str, object]:
    """``values`` without a new state for a window that is closed or thawed for good: THAWED is an end (states.py).

    A guard, a recovery or an owner that was slower than the other still adds what it did. Any other state that cannot
    follow the one before is refused: IllegalTransitionError, and nothing is written.
    """
    if record is None:
        return values
    if record.closed_at is not None:
        return {name: value for name, value in values.items() if name not in ("state", "quiet_until_at")}
    if record.state == State.THAWED.value:
        return {name: value for name, value in values.items() if name != "state"}
    if "state" in values:
        check_step(State(record.state), State(values["state"]))
    return values


COLUMNS = WindowRecord._fields
REQUIRED = frozenset(COLUMNS) - frozenset(WindowRecord._field_defaults)
WORDS: Mapping[str, type[Enum]] = {
    "kind": GuestKind,
    "owner": Owner,
    "state": State,
    "freeze_outcome": FreezeOutcome,
    "verdict": VerdictKind,
    "disk_word": AtRest,
}
"""The columns of which every word is known."""
_WHOLE = frozenset(
    {
        *("vmid", "owner_pid", "owner_pid_start", "guard_pid", "guard_pid_start"),
        *("filesystems_frozen", "filesystems_thawed", "thaw_attempts", "late_freezes"),
    }
)
"""The columns that hold whole numbers. Those that end in ``_at`` or ``_seconds`` hold any number, the rest texts."""

INSTANT_MAX = 1e11
"""A Unix time beyond is a mistake: no calendar has its year."""

_INTEGERS = range(-(2**63), 2**63)
_VMIDS = range(VMID_MIN, VMID_MAX + 1)

OPEN = f"(closed_at IS NULL OR (closed_at < 0 OR closed_at > {INSTANT_MAX!r}) AND state <> '{State.THAWED.value}')"
"""Which rows are windows that nobody has closed, in SQL: an end that is no instant (to SQLite texts and blobs are more
than any number) closes none whose guest may be frozen."""

NOWHERE = Node("unknown")
"""In place of a node that is none: the name stands in paths, and PVE or the node itself says where the guest is."""


def printable(text: str) -> str:
    """``text`` with a space for each control character, whatever a guest, PVE or a stranger put into it."""
    return text if text.isprintable() else "".join(c if c.isprintable() else " " for c in text)


def _number(column: str, value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return False
    return 0 <= value <= INSTANT_MAX if column.endswith("_at") else abs(value) <= INSTANT_MAX


def check_value(column: str, value: object) -> object:
    """``value`` when it is one that ``column`` of a window may have; ValueError that says so otherwise."""
    if value is None:
        fits = column not in REQUIRED
    elif column in _WHOLE:
        fits = type(value) is int and value in (_VMIDS if column == "vmid" else _INTEGERS)
    elif column.endswith(("_at", "_seconds")):
        fits = _number(column, value)
    else:
        fits = isinstance(value, str) and (column not in WORDS or value in _VALUES[column])
    if not fits:
        raise ValueError(f"{column} cannot be {printable(repr(value))[:60]}")
    return value


_VALUES = {column: frozenset(word.value for word in words) for column, words in WORDS.items()}


def parsed(row: sqlite3.Row) -> dict[str, Any]:
    """The columns of a window's row, checked, its texts fit to be shown. ValueError names the one that is odd."""
    return parsed_of(dict(zip(row.keys(), row, strict=True)))


def parsed_of(columns: Mapping[str, object]) -> dict[str, Any]:
    """As parsed, of some columns."""
    values: dict[str, Any] = {}
    for column, value in columns.items():
        check_value(column, value)
        values[column] = printable(value) if type(value) is str else value
    if "id" in values and values["id"] != columns["id"]:
        raise ValueError("id has control characters")
    return values


_IN_DOUBT: Mapping[str, object] = {
    **WindowRecord._field_defaults,
    "node": NOWHERE,
    "kind": GuestKind.QEMU.value,
    "guest_name": "",
    "source": "snapshot",
    "owner": Owner.SNAPSHOT.value,
    "state": State.UNKNOWN.value,
    "intent_at": 0.0,
    "deadline_at": 0.0,
    "owner_pid": 0,
    "owner_pid_start": 0,
    "boot_id": "",
}
"""For a column that makes no sense: nobody sees to the window any more, and its guest may be frozen."""


def whose(row: sqlite3.Row) -> dict[str, Any]:
    """The id and the guest of a window's row. ValueError when either makes no sense: nobody can be thawed by it."""
    return parsed_of({column: row[column] for column in ("id", "vmid")})


def mended(row: sqlite3.Row) -> tuple[WindowRecord, ValueError | None]:
    """An open window, with a safe value for each odd one, and the error of the first odd one. ValueError as whose."""
    values, odd = whose(row), None
    for column in row.keys():  # noqa: SIM118 - a Row iterates over its values
        try:
            values |= parsed_of({column: row[column]})
            if column == "node" and not NODE.match(values[column]):
                raise ValueError(f"node cannot be {values[column]!r:.60}")
        except ValueError as error:
            is_foreign = column == "owner" and row["source"] == Owner.FOREIGN.value
            values[column] = Owner.FOREIGN.value if is_foreign else _IN_DOUBT[column]
            odd = odd or error
    return WindowRecord(**values), odd
