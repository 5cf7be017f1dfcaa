"""The journal's file: opened safely, and what SQLite's errors say of it.

What is in it is schema.py's and store.py's; what becomes of a broken one is broken.py's.
"""

from __future__ import annotations

import contextlib
import functools
import os
import sqlite3
import stat
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from snapshot.base.clock import Clock
from snapshot.errors import JournalBusyError, JournalError

T = TypeVar("T")

BUSY_SECONDS = 5.0
"""How long one request waits while others hold the file."""

PATIENCE_SECONDS = 60.0
"""How long a run that holds no guest waits for its turn: a hundred at once on one node shall all freeze."""

GUARDS_FOLDER = "guards"
"""Beside the journal: what the guards hold (guard/claim.py)."""

Identity = tuple[int, int]
"""Device and inode: what a path names may change, what was opened does not."""

SIDE_FILES = ("-journal", "-wal", "-shm")


def identity(path: Path) -> Identity | None:
    """What the path names now; None when there is nothing."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def connect(path: Path, *, read_only: bool) -> tuple[sqlite3.Connection, Identity | None]:
    """A connection to the file, and what it is connected to. A reader makes no file, a writer makes it with its folder.

    JournalError for what cannot be a journal (a pipe would hang, a device has no end); OSError and sqlite3.Error come
    as they are.
    """
    while True:
        before = identity(path)
        is_new = _check(path, read_only=read_only)
        mode = ("rw" if _is_writable(path) else "ro") if read_only else "rwc"
        uri = f"{path.absolute().as_uri()}?mode={mode}"
        db = sqlite3.connect(uri, uri=True, timeout=BUSY_SECONDS, isolation_level=None)
        if is_new and not read_only:
            os.chmod(path, 0o640)
        after = identity(path)
        if is_new or before == after:  # else another process has set it aside in between
            break
        db.close()
    _speak_as_we_do(db)
    return db, after


def _check(path: Path, *, read_only: bool) -> bool:
    """Whether the file is still to be made. JournalError when it cannot be a journal."""
    for suffix in SIDE_FILES:  # SQLite opens them as they come, and a pipe in place of one would hang it
        side = Path(f"{os.path.realpath(path)}{suffix}")
        with contextlib.suppress(FileNotFoundError):  # one look: another process may remove it meanwhile
            if not stat.S_ISREG(side.stat().st_mode):
                raise JournalError(f"the journal's side file {side} is no regular file", remedy="move it away")
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        if read_only:
            raise JournalError(
                f"there is no journal at {path}",
                remedy="it begins with the first snapshot or backup; see [journal] path",
            ) from None
        path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
        return True
    if not stat.S_ISREG(mode):
        raise JournalError(
            f"the journal {path} is no regular file", remedy="move it away, or choose another [journal] path"
        )
    return False


def is_absent(path: Path) -> bool:
    """Whether there is no journal yet, for a look that must not make one. JournalError where none can ever be."""
    try:
        path.stat()
    except FileNotFoundError:
        folder = path.parent
        is_kernels = Path(os.path.realpath(folder)).parts[1:2] in (("proc",), ("sys",))
        if is_kernels or (os.path.lexists(folder) and not folder.is_dir()):
            raise JournalError(
                f"the journal {path} cannot be: {folder} is no folder for files",
                remedy="mend the folder, or choose another [journal] path",
            ) from None
        return True
    except OSError as error:
        raise JournalError(
            f"the journal {path} cannot be opened ({error.strerror})", remedy="check the folder and its owner"
        ) from error
    return False


def _is_writable(path: Path) -> bool:
    """Whether a reader may do what a writer that was killed left to do: roll its half transaction back."""
    return os.access(path, os.W_OK) and os.access(path.parent, os.W_OK)


def copied(path: Path) -> sqlite3.Connection:
    """A copy to read from, in memory: for a reader who may not roll back what a killed writer left in the file."""
    import shutil  # noqa: PLC0415 - 5 ms with the next, and hardly ever needed
    import tempfile  # noqa: PLC0415 - as above

    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / path.name
        for suffix in ("", "-journal"):
            shutil.copyfile(f"{os.path.realpath(path)}{suffix}", f"{copy}{suffix}")
        with contextlib.closing(sqlite3.connect(copy, isolation_level=None)) as whole:
            return in_memory(whole)


def in_memory(db: sqlite3.Connection) -> sqlite3.Connection:
    """A copy of an open journal, to be changed without changing the file."""
    copy = sqlite3.connect(":memory:", isolation_level=None)
    db.execute("BEGIN")
    db.execute("SELECT count(*) FROM sqlite_schema").fetchone()  # with this lock held no writer keeps the copy waiting
    db.backup(copy)
    db.execute("COMMIT")
    _speak_as_we_do(copy)
    return copy


def _speak_as_we_do(db: sqlite3.Connection) -> None:
    db.row_factory = sqlite3.Row
    # What a damaged page or a stranger left in a text is shown as far as it goes.
    db.text_factory = functools.partial(str, encoding="utf-8", errors="replace")


def patiently(work: Callable[[], T], clock: Clock, limit_seconds: float = PATIENCE_SECONDS) -> T:
    """Do it, again and again while others hold the journal. For what waits while no guest is frozen."""
    deadline = clock.monotonic() + limit_seconds
    while True:
        try:
            return work()
        except JournalBusyError:  # after BUSY_SECONDS each
            if clock.monotonic() >= deadline:
                raise


class NotOursError(sqlite3.DatabaseError):
    """A database, but none of ours: as broken as one that cannot be read."""

    sqlite_errorcode = sqlite3.SQLITE_NOTADB


def is_broken(error: BaseException) -> bool:
    """Whether SQLite says that the file is damaged, or no database. A full disk or a lock is not that."""
    return _code(error) & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def is_busy(error: BaseException) -> bool:
    """Whether another process holds the file."""
    return _code(error) & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def was_moved(error: BaseException) -> bool:
    """Whether the file was set aside by another process while we had it open."""
    return _code(error) == sqlite3.SQLITE_READONLY_DBMOVED


def needs_rollback(error: BaseException) -> bool:
    """Whether a killed writer's half transaction is in the file, and this process may not roll it back."""
    return _code(error) == sqlite3.SQLITE_READONLY_ROLLBACK


def _code(error: BaseException) -> int:
    return getattr(error, "sqlite_errorcode", None) or 0


def trouble(path: Path, what: str, error: Exception) -> JournalError:
    """What SQLite says, for the operator: the journal cannot be ``what``, and what to do."""
    text = str(error)
    if is_busy(error):
        return JournalBusyError(
            f"the journal {path} cannot be {what} ({text})",
            remedy="another process holds it; try again, and look for a hung one: `fuser -v` on the file",
        )
    remedies = {
        "disk is full": "free space on its file system",
        "not a database": "look at the disk; the next run sets it aside and begins a new one",
        "malformed": "look at the disk; the next run sets it aside and begins a new one",
        "readonly": "check the owner and mode of its folder, and that the file system is not read-only",
        "unable to open": "check that its folder exists and is writable for this user",
    }
    remedy = next((r for key, r in remedies.items() if key in text), "check the folder and the disk")
    return JournalError(f"the journal {path} cannot be {what} ({text})", remedy=remedy)
