"""A broken journal: set aside, and carried over into a new one as far as it can be read.

A journal may be damaged by a disk, a power loss or an editor, and is then met by whoever comes first: a run before its
freeze, a guard after its thaw, a minute's recovery. Nobody waits for a person: the broken file is moved aside, under
SQLite's own locks so that no writer is in the middle of something, and a new one takes its place.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
import struct
from pathlib import Path

from snapshot.base.clock import Clock, SystemClock, compact
from snapshot.errors import JournalBusyError, JournalError
from snapshot.journal import file, schema
from snapshot.journal.file import SIDE_FILES, Identity, identity
from snapshot.journal.record import COLUMNS

BEGUN_ANEW_NOTE = "begun-anew"
"""When this journal took the place of a broken one."""

CARRIED = 20_000
"""How many windows a new journal takes over of a broken one: the newest from each of its ends."""

_NOTES_OF_JOBS = ("key GLOB 'job:*'", "key GLOB 'plan:*'", "key GLOB 'done:*'", "key GLOB 'failed:*'")
"""What a backup job that goes on leaves for its own later phases; a new journal takes it over, too."""

_LOCK_BYTES = (0x40000000, 512)
"""SQLite's lock bytes, from PENDING_BYTE on (its os.h): who holds all of them is alone with the file."""

_FLOCK = struct.Struct("@hhqqi4x")
"""struct flock where off_t has 64 bits (fcntl(2)): type, whence, start, length, and 0 for a process."""

_LOOK_SECONDS = 0.05


def set_aside(path: Path, broken: Identity | None, clock: Clock | None = None) -> Path | None:
    """Move a broken journal and SQLite's side files out of the way; the new name.

    None when ``broken`` is not there any more: another process met it first, or another thread. OSError when the file
    or its folder is not ours to change, JournalBusyError when others do not let go of it.

    The kernel gives all of a process's own locks on a file back with the first descriptor that it closes (fcntl(2)),
    and other threads' SQLite may hold some: so the lock here is of the other kind, which has to do with those as with
    strangers', and a descriptor that did not get it stays open.
    """
    clock = clock or SystemClock()
    real = Path(os.path.realpath(path))
    try:
        descriptor = os.open(real, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    _lock(descriptor, path, clock)
    try:
        if identity(real) != broken:
            return None
        target = _free_name(real.with_name(f"{real.name}.broken-{compact(clock.time())}"))
        # The side files first: as soon as the file itself is gone, another process may begin a new one, with its own.
        for suffix in SIDE_FILES:
            with contextlib.suppress(FileNotFoundError):
                os.rename(f"{real}{suffix}", f"{target}{suffix}")
        os.rename(real, target)
    finally:
        os.close(descriptor)
    return target


def stays(path: Path, error: Exception, failure: OSError) -> JournalError:
    """It could not be set aside."""
    return JournalError(
        f"the journal {path} is broken ({error}) and cannot be set aside ({failure.strerror})",
        remedy="as root, move it away: a new one begins by itself",
    )


def _lock(descriptor: int, path: Path, clock: Clock) -> None:
    deadline = clock.monotonic() + file.BUSY_SECONDS
    first, length = _LOCK_BYTES
    while True:
        try:
            fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, first, length, 0))
        except (BlockingIOError, PermissionError):
            if clock.monotonic() >= deadline:
                raise JournalBusyError(
                    f"the journal {path} is broken, and another process holds it",
                    remedy="look for a hung one: `fuser -v` on the file",
                ) from None
            clock.sleep(_LOOK_SECONDS)
        else:
            return


def _free_name(target: Path) -> Path:
    """``target``, or the next name that is free: two may break within a second."""
    number = 1
    found = target
    while found.exists():
        number += 1
        found = target.with_name(f"{target.name}-{number}")
    return found


def _as_it_is(path: Path) -> sqlite3.Connection:
    """A connection to a broken file, to read what can be read of it."""
    db = sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True, timeout=0, isolation_level=None)
    db.row_factory = sqlite3.Row
    return db


def carry_over(aside: Path, path: Path, error: Exception) -> str:
    """Let the new journal begin with what can still be read of the broken one: its windows, and the counters.

    The line that says so; what cannot be read is lost, for `recover` to find.
    """
    windows = ", ".join((*COLUMNS, "counted"))
    with (
        contextlib.closing(_as_it_is(aside)) as old,
        contextlib.closing(file.connect(path, read_only=False)[0]) as new,
    ):
        schema.migrate(new, path)
        new.execute("BEGIN IMMEDIATE")
        for order in ("DESC", "ASC"):  # from both ends: a broken page in the middle costs what it holds
            key = ", ".join(f"{column} {order}" for column in ("name", "id", "node", "source", "labels"))
            _copy(old, new, "windows", windows, f"NOT INDEXED ORDER BY rowid {order} LIMIT {CARRIED}")
            _copy(old, new, "series", "name, id, vmid, node, source, labels, value, seen_at", f"ORDER BY {key}")
            _copy(old, new, "notes", "key, value, at", f"WHERE {' OR '.join(_NOTES_OF_JOBS)} ORDER BY key {order}")
            _copy(old, new, "told", "key, body, at", f"ORDER BY key {order}")
            _copy(old, new, "outbox", "number, id, way, at, body, attempts, next_at", f"ORDER BY number {order}")
            _copy(old, new, "removals", schema.REMOVALS, f"ORDER BY number {order}")
            _copy(old, new, "label_runs", schema.LABEL_RUNS, f"ORDER BY label {order}, id {order}")
        now = SystemClock().time()
        new.execute("INSERT OR REPLACE INTO notes VALUES (?, ?, ?)", (BEGUN_ANEW_NOTE, repr(now), now))
        carried: int = new.execute("SELECT count(*) FROM windows").fetchone()[0]
        new.execute("COMMIT")
    return (
        f"WARNING: the journal {path} was broken ({error}): it is kept as {aside.name}, and a new one was begun, with "
        f"the {carried} windows that can be read"
    )


def _copy(old: sqlite3.Connection, new: sqlite3.Connection, table: str, columns: str, rest: str) -> None:
    """As many rows as can be read, and fit."""
    marks = ", ".join("?" * (columns.count(",") + 1))
    with contextlib.suppress(sqlite3.Error):
        for row in old.execute(f"SELECT {columns} FROM {table} {rest}"):  # noqa: S608 - names of our own
            new.execute(f"INSERT OR IGNORE INTO {table} ({columns}) VALUES ({marks})", row)  # noqa: S608 - as above
