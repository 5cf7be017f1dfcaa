"""The journal's file: opened safely, and set aside when it is broken. What is in it is store.py's matter.

A journal may be damaged by a disk, a power loss or an editor, and is then met by whoever comes first: a run before its
freeze, a guard after its thaw, a minute's recovery. Nobody waits for a person: the broken file is moved aside, under
SQLite's own locks so that no writer is in the middle of something, and a new one takes its place.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import os
import sqlite3
import stat
from pathlib import Path

from snapshot.base.clock import Clock, SystemClock, compact
from snapshot.errors import JournalBusyError, JournalError

BUSY_SECONDS = 5.0

GUARDS_FOLDER = "guards"
"""Beside the journal: what the guards hold (guard/claim.py)."""

Identity = tuple[int, int]
"""Device and inode: what a path names may change, what was opened does not."""

_SIDE_FILES = ("-journal", "-wal", "-shm")
_LOCK_BYTES = (0x40000000, 512)
"""SQLite's lock bytes, from PENDING_BYTE on (its os.h): who holds all of them is alone with the file."""

_LOOK_SECONDS = 0.05


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
    db.row_factory = sqlite3.Row
    # What a damaged page or a stranger left in a text is shown as far as it goes.
    db.text_factory = functools.partial(str, encoding="utf-8", errors="replace")
    return db, after


def _check(path: Path, *, read_only: bool) -> bool:
    """Whether the file is still to be made. JournalError when it cannot be a journal."""
    for suffix in _SIDE_FILES:  # SQLite opens them as they come, and a pipe in place of one would hang it
        side = Path(f"{os.path.realpath(path)}{suffix}")
        if side.exists() and not side.is_file():
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
            db = sqlite3.connect(":memory:", isolation_level=None)
            whole.backup(db)
    db.row_factory = sqlite3.Row
    return db


def as_it_is(path: Path) -> sqlite3.Connection:
    """A connection to a broken file, to read what can be read of it."""
    db = sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True, timeout=0, isolation_level=None)
    db.row_factory = sqlite3.Row
    return db


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


def set_aside(path: Path, broken: Identity | None, clock: Clock | None = None) -> Path | None:
    """Move a broken journal and SQLite's side files out of the way; the new name.

    None when ``broken`` is not there any more: another process met it first. Nobody of this process may have it open:
    the kernel gives a file's locks back with the first descriptor that is closed. OSError when the file or its folder
    is not ours to change, JournalBusyError when others do not let go of it.
    """
    clock = clock or SystemClock()
    real = Path(os.path.realpath(path))
    try:
        descriptor = os.open(real, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        _lock(descriptor, path, clock)
        if identity(real) != broken:
            return None
        target = _free_name(real.with_name(f"{real.name}.broken-{compact(clock.time())}"))
        # The side files first: as soon as the file itself is gone, another process may begin a new one, with its own.
        for suffix in _SIDE_FILES:
            with contextlib.suppress(FileNotFoundError):
                os.rename(f"{real}{suffix}", f"{target}{suffix}")
        os.rename(real, target)
    finally:
        os.close(descriptor)
    return target


def _lock(descriptor: int, path: Path, clock: Clock) -> None:
    deadline = clock.monotonic() + BUSY_SECONDS
    first, length = _LOCK_BYTES
    while True:
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, length, first)
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
