"""A window's row as it is written, inside a transaction of store.py's: what is refused, what is brought up to date."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from pathlib import Path

from snapshot.base.clock import iso
from snapshot.base.procfs import process_lives
from snapshot.errors import JournalError, WindowTakenError
from snapshot.journal import series
from snapshot.journal.record import COLUMNS, OPEN, WindowRecord, check_value, is_drill, printable, whose
from snapshot.model import FreezeOutcome


def lost(db: sqlite3.Connection) -> list[tuple[int, str]]:
    """Row and id of each open window that does not say whose it is."""
    found = []
    for row in db.execute(f"SELECT rowid, id, vmid FROM windows WHERE {OPEN}"):  # noqa: S608 - a constant
        try:
            whose(row)
        except ValueError:
            found.append((row["rowid"], printable(str(row["id"]))[:80]))
    return found


def close_lost(db: sqlite3.Connection, at: float) -> None:
    """Close the windows that do not say whose they are."""
    found = [(at, row) for row, _ in lost(db)]
    db.executemany("UPDATE windows SET closed_at = ? WHERE rowid = ?", found)


def insert(db: sqlite3.Connection, record: WindowRecord) -> None:
    """A new row."""
    db.execute(
        f"INSERT INTO windows ({', '.join(COLUMNS)}) VALUES ({', '.join('?' * len(COLUMNS))})",  # noqa: S608 - names of our own fields
        record,
    )


def refuse_odd(path: Path, values: Mapping[str, object]) -> None:
    """What could not be read back is not written. KeyError for a column that does not exist."""
    unknown = set(values) - set(COLUMNS)
    if unknown:
        raise KeyError(f"no such columns: {sorted(unknown)}")
    for name, value in values.items():
        try:
            check_value(name, value)
        except ValueError as error:
            raise mistake(path, error) from error


def mistake(path: Path, error: Exception) -> JournalError:
    """The error for values of ours that make no sense."""
    return JournalError(
        f"the journal {path} cannot be written ({error})", remedy="that is a mistake of ours: please report it"
    )


def taken(other: WindowRecord) -> WindowTakenError:
    """The error for a guest that has another window already, to which a living process sees: its owner, or its guard
    once the owner is done or dead.
    """
    guest, wait = f"guest {other.vmid}", "wait until it is over: `safe-snapshot status` shows it"
    ours = f"{guest} is in our own freeze window since {iso(other.intent_at)}"
    if other.verdict is None and process_lives(other.owner_pid, other.owner_pid_start):
        what = (
            f"snapshot {other.snapshot_name}" if other.snapshot_name else "a drill" if is_drill(other) else "a backup"
        )
        who = f"process {other.owner_pid} ({what}, {other.state})"
        if other.thawed_at is None:
            return WindowTakenError(f"{ours}, held by {who}", remedy=wait)
        return WindowTakenError(f"another run is still at work on {guest}, which it has thawed: {who}", remedy=wait)
    if other.thawed_at is None:
        why = f"{ours}, held by process {other.guard_pid}: the guard of a run that is gone, which sees to the thaw"
        return WindowTakenError(why, remedy=wait)
    is_lost = other.freeze_outcome == FreezeOutcome.UNKNOWN.value
    what = "an earlier freeze whose answer was lost" if is_lost else "a freeze of an earlier run"
    return WindowTakenError(
        f"{guest} is thawed, but {what} may still come: its guard (pid {other.guard_pid}) would take a new one for it "
        "and thaw",
        remedy=f"{wait}; [freeze] late_freeze_seconds says how long",
    )


def update(db: sqlite3.Connection, window_id: str, values: Mapping[str, object]) -> bool:
    """Set columns of one window inside a transaction; False when there is none."""
    names = ", ".join(("id = id", *(f"{name} = ?" for name in values)))
    done = db.execute(f"UPDATE windows SET {names} WHERE id = ?", (*values.values(), window_id))  # noqa: S608
    return done.rowcount > 0


def project(db: sqlite3.Connection, before: WindowRecord | None, after: WindowRecord) -> None:
    """Bring the metric series up to date. A bug in there must not cost the record of a window."""
    db.execute("SAVEPOINT metrics")
    try:
        series.apply(db, before, after)
    except sqlite3.Error:
        raise  # the disk's or the file's trouble: the record is not safe either
    except Exception:  # noqa: BLE001 - whatever it is, the window's own row is worth more
        db.execute("ROLLBACK TO metrics")
    db.execute("RELEASE metrics")
