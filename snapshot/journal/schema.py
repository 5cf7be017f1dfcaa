"""The journal's tables, version by version, and the way from each version to the next.

A step is never changed once it was released: a journal of any earlier version goes through the steps that it lacks, in
one transaction with its new number, so that a migration that is killed leaves the version before, whole. A new journal
goes through all of them. What a row may hold is record.py's.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

from snapshot.errors import JournalError
from snapshot.journal import looks, record
from snapshot.journal.file import NotOursError

_WINDOWS = """CREATE TABLE IF NOT EXISTS windows (
    id TEXT PRIMARY KEY, vmid INTEGER NOT NULL, node TEXT NOT NULL, kind TEXT NOT NULL, guest_name TEXT NOT NULL,
    source TEXT NOT NULL, owner TEXT NOT NULL, state TEXT NOT NULL,
    intent_at REAL NOT NULL, deadline_at REAL NOT NULL,
    owner_pid INTEGER NOT NULL, owner_pid_start INTEGER NOT NULL, boot_id TEXT NOT NULL,
    guard_pid INTEGER, guard_pid_start INTEGER, snapshot_name TEXT, upid TEXT,
    freeze_outcome TEXT, freeze_detail TEXT, filesystems_frozen INTEGER, filesystems_thawed INTEGER,
    frozen_at REAL, thawed_at REAL,
    freezing_seconds REAL, held_seconds REAL, thawing_seconds REAL, window_seconds REAL,
    thaw_attempts INTEGER, thaw_route TEXT, thaw_detail TEXT, guard_cause TEXT, late_freezes INTEGER,
    quiet_until_at REAL, failure_stage TEXT, failure_reason TEXT, verdict TEXT, reason TEXT, closed_at REAL,
    counted TEXT)"""
"""``counted`` is series.py's alone: what was counted of this window, as JSON."""

_OPEN = "(closed_at IS NULL OR (closed_at < 0 OR closed_at > 100000000000.0) AND state <> 'thawed')"
"""record.OPEN in the words of version 1: SQLite uses the index for a question with the same ones alone."""

SERIES = """CREATE TABLE IF NOT EXISTS series (
    name TEXT NOT NULL, id TEXT NOT NULL, vmid INTEGER NOT NULL, node TEXT NOT NULL, source TEXT NOT NULL,
    labels TEXT NOT NULL, value REAL NOT NULL, seen_at REAL NOT NULL,
    PRIMARY KEY (name, id, node, source, labels)) WITHOUT ROWID"""

_NOTES = "CREATE TABLE IF NOT EXISTS notes (key TEXT PRIMARY KEY, value TEXT NOT NULL, at REAL NOT NULL) WITHOUT ROWID"

_LOOKS = """CREATE TABLE looks (
    id TEXT PRIMARY KEY, vmid INTEGER NOT NULL, node TEXT NOT NULL, name TEXT NOT NULL, running INTEGER NOT NULL,
    seen_at REAL NOT NULL, diskwrite INTEGER, still_since_at REAL, asked_at REAL, state TEXT NOT NULL,
    why TEXT NOT NULL, frozen_since_at REAL, silent INTEGER NOT NULL,
    run_limit_seconds REAL, first_seen_at REAL) WITHOUT ROWID"""


REMOVALS = "number, id, name, run, taken_at, intent_at, upid, outcome, detail, ended_at"
LABEL_RUNS = "label, id, vmid, node, expected_since_at, last_at, left_out_at, left_out_why"


def _to_1(db: sqlite3.Connection) -> None:
    """Windows, series and notes, as 0.1.0 made them."""
    db.execute(_WINDOWS)
    db.execute(f"CREATE INDEX IF NOT EXISTS windows_open ON windows (vmid) WHERE {_OPEN}")
    db.execute("CREATE INDEX IF NOT EXISTS windows_by_time ON windows (intent_at)")
    db.execute("CREATE INDEX IF NOT EXISTS windows_by_guest ON windows (vmid, intent_at)")
    db.execute(SERIES)
    db.execute(_NOTES)


def _to_2(db: sqlite3.Connection) -> None:
    """The looks, a table like any other: 0.1.0 made it anew with each look. One that lacks a column was no 0.1.0's."""
    found = {row[1] for row in db.execute("PRAGMA table_info(looks)")}
    if found != set(looks.COLUMNS):
        db.execute("DROP TABLE IF EXISTS looks")
        db.execute(_LOOKS)


def _to_3(db: sqlite3.Connection) -> None:
    """What the administrator was told, and what waits to be sent: outbox.py's."""
    db.execute(
        "CREATE TABLE IF NOT EXISTS told (key TEXT PRIMARY KEY, body TEXT NOT NULL, at REAL NOT NULL) WITHOUT ROWID"
    )
    db.execute(
        """CREATE TABLE IF NOT EXISTS outbox (number INTEGER PRIMARY KEY, id TEXT NOT NULL,
        way TEXT NOT NULL, at REAL NOT NULL, body TEXT NOT NULL, attempts INTEGER NOT NULL, next_at REAL NOT NULL)"""
    )


def _to_4(db: sqlite3.Connection) -> None:
    """What retention takes away (removals.py's), and the labels' runs (labelruns.py's)."""
    db.execute(
        """CREATE TABLE IF NOT EXISTS removals (number INTEGER PRIMARY KEY, id TEXT NOT NULL, name TEXT NOT NULL,
        run TEXT NOT NULL, taken_at INTEGER NOT NULL, intent_at REAL NOT NULL, upid TEXT, outcome TEXT,
        detail TEXT NOT NULL, ended_at REAL)"""
    )
    db.execute("CREATE INDEX IF NOT EXISTS removals_by_guest ON removals (id, name)")
    db.execute(
        """CREATE TABLE IF NOT EXISTS label_runs (label TEXT NOT NULL, id TEXT NOT NULL, vmid INTEGER NOT NULL,
        node TEXT NOT NULL, expected_since_at REAL, last_at REAL, left_out_at REAL, left_out_why TEXT NOT NULL,
        PRIMARY KEY (label, id)) WITHOUT ROWID"""
    )


def _to_5(db: sqlite3.Connection) -> None:
    """Which windows belong together."""
    db.execute("ALTER TABLE windows ADD COLUMN group_id TEXT")


def _to_6(db: sqlite3.Connection) -> None:
    """What the disk in the snapshot says itself."""
    db.execute("ALTER TABLE windows ADD COLUMN disk_word TEXT")
    db.execute("ALTER TABLE windows ADD COLUMN disk_reason TEXT")


_STEPS: tuple[Callable[[sqlite3.Connection], None], ...] = (_to_1, _to_2, _to_3, _to_4, _to_5, _to_6)
VERSION = len(_STEPS)


def version(db: sqlite3.Connection) -> int:
    """The version of an open journal; 0 when the file is new."""
    found: int = db.execute("PRAGMA user_version").fetchone()[0]
    return found


def refuse_newer(db: sqlite3.Connection, path: Path) -> None:
    """JournalError for a journal of a version that we do not know, to a reader too: it may say something else."""
    found = version(db)
    if found > VERSION:
        if [row[0] for row in db.execute("PRAGMA quick_check(1)")] != ["ok"]:
            raise NotOursError("its version makes no sense")
        raise JournalError(
            f"the journal {path} was written by a newer version (schema {found})",
            remedy="upgrade vzdump-hooks on this machine",
        )


def migrate(db: sqlite3.Connection, path: Path) -> None:
    """Make the journal one of today's version."""
    refuse_newer(db, path)
    if version(db) == VERSION:
        return
    with _ours():
        db.execute("BEGIN IMMEDIATE")
        try:
            refuse_newer(db, path)  # another process may have been first, and what it found is not to be done twice
            for step in _STEPS[version(db) :]:
                step(db)
            db.execute(f"PRAGMA user_version = {VERSION}")
            db.execute("COMMIT")
        except BaseException:
            if db.in_transaction:
                db.execute("ROLLBACK")
            raise


def check(db: sqlite3.Connection) -> None:
    """A file that says it is ours and has other tables is as broken as one that cannot be read."""
    with _ours():
        db.execute(f"SELECT {', '.join(record.COLUMNS)}, counted FROM windows LIMIT 0")  # noqa: S608 - our own fields
        db.execute("SELECT name, id, vmid, node, source, labels, value, seen_at FROM series LIMIT 0")
        db.execute("SELECT key, value, at FROM notes LIMIT 0")
        db.execute(f"SELECT {', '.join(looks.COLUMNS)} FROM looks LIMIT 0")  # noqa: S608 - as above
        db.execute("SELECT key, body, at FROM told LIMIT 0")
        db.execute("SELECT number, id, way, at, body, attempts, next_at FROM outbox LIMIT 0")
        db.execute(f"SELECT {REMOVALS} FROM removals LIMIT 0")  # noqa: S608 - a constant
        db.execute(f"SELECT {LABEL_RUNS} FROM label_runs LIMIT 0")  # noqa: S608 - a constant


@contextlib.contextmanager
def _ours() -> Iterator[None]:
    """Inside, a statement that does not fit the tables raises NotOursError: the tables are not ours."""
    try:
        yield
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode == sqlite3.SQLITE_ERROR:
            raise NotOursError(f"its tables are not ours: {error}") from error
        raise
