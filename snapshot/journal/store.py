"""The journal: one SQLite file that records every freeze window, the intent before the freeze and the outcome after.

Every write is one committed, fsynced transaction; the metric series are brought up to date in the same one
(snapshot/journal/series.py), so counters survive restarts and never go back. The journal is shared by every process
of ours on a machine. No guest is frozen when the intent cannot be committed; a journal that fails *after* the freeze is
reported and changes nothing about the thaw.
"""

from __future__ import annotations

import contextlib
import math
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from snapshot.base import streams
from snapshot.base.clock import Clock, SystemClock
from snapshot.errors import JournalBusyError, JournalError, WindowTakenError
from snapshot.journal import file as journalfile
from snapshot.journal import looks
from snapshot.journal import series as projection
from snapshot.journal.looks import GuestLook
from snapshot.journal.record import (
    COLUMNS,
    KINDS,
    OPEN,
    REQUIRED,
    WindowRecord,
    check_value,
    mended,
    new_id,
    not_reopening,
    parsed,
    printable,
    whose,
)
from snapshot.journal.series import Series
from snapshot.states import IllegalTransitionError

DEFAULT_PATH = Path("/var/lib/vzdump-hooks/journal.sqlite")
SCHEMA_VERSION = 1

T = TypeVar("T")

PATIENCE_SECONDS = 60.0
"""How long a run that holds no guest waits for its turn: a hundred at once on one node shall all freeze."""

ODD_LINES = 10
"""How many rows that make no sense are told by name."""

BEGUN_ANEW_NOTE = "begun-anew"
"""When this journal took the place of a broken one."""

CARRIED = 20_000
"""How many windows a new journal takes over of a broken one: the newest from each of its ends."""

_NOTES_OF_JOBS = ("key GLOB 'job:*'", "key GLOB 'plan:*'", "key GLOB 'done:*'")
"""What a backup job that goes on leaves for its own later phases; a new journal takes it over, too."""

_MISFITS = (OverflowError, UnicodeEncodeError)
"""What the sqlite3 module says of a guest's or PVE's values that fit no column."""


_TYPES = {"int": "INTEGER", "float": "REAL", "str": "TEXT"}


def _declaration(column: str) -> str:
    kind = _TYPES[KINDS[column]]
    key = " PRIMARY KEY" if column == "id" else " NOT NULL" if column in REQUIRED else ""
    return f"{column} {kind}{key}"


_SCHEMA = (
    "CREATE TABLE IF NOT EXISTS windows "
    f"({', '.join(_declaration(column) for column in COLUMNS)}, {projection.COLUMN})",
    f"CREATE INDEX IF NOT EXISTS windows_open ON windows (vmid) WHERE {OPEN}",
    "CREATE INDEX IF NOT EXISTS windows_by_time ON windows (intent_at)",
    "CREATE INDEX IF NOT EXISTS windows_by_guest ON windows (vmid, intent_at)",
    """CREATE TABLE IF NOT EXISTS series (
        name TEXT NOT NULL, id TEXT NOT NULL, vmid INTEGER NOT NULL, node TEXT NOT NULL, source TEXT NOT NULL,
        labels TEXT NOT NULL, value REAL NOT NULL, seen_at REAL NOT NULL,
        PRIMARY KEY (name, id, node, source, labels)) WITHOUT ROWID""",
    "CREATE TABLE IF NOT EXISTS notes (key TEXT PRIMARY KEY, value TEXT NOT NULL, at REAL NOT NULL) WITHOUT ROWID",
)


def patiently(work: Callable[[], T], clock: Clock, limit_seconds: float = PATIENCE_SECONDS) -> T:
    """Do it, again and again while others hold the journal. For what waits while no guest is frozen."""
    deadline = clock.monotonic() + limit_seconds
    while True:
        try:
            return work()
        except JournalBusyError:  # after BUSY_SECONDS each
            if clock.monotonic() >= deadline:
                raise


class _RenewedError(JournalError):
    """The journal was broken and has been begun anew: what was asked may be asked once more."""


class Journal:
    """An open journal. Raises JournalError, with what to do, for everything SQLite or the file system may say.

    One that turns out to be broken, at whatever page and by whomever it is met, is set aside and begun anew; ``say``
    gets the line about it, and what was asked goes on with the new one.
    """

    def __init__(self, path: Path, *, read_only: bool = False, say: Callable[[str], object] = streams.err) -> None:
        self.path = path
        self._read_only = read_only
        self._say = say
        self._told: set[str] = set()
        self._is_new = False
        self.has_odd_series = False
        """Whether `series` met a row that makes no sense."""
        self._db = sqlite3.connect(":memory:")
        self._file: journalfile.Identity | None = None
        with contextlib.suppress(_RenewedError):
            self._open()

    def _open(self) -> None:
        """Open what the path names now, in place of what was open before."""
        try:
            db, found = journalfile.connect(self.path, read_only=self._read_only)
        except (OSError, sqlite3.Error) as error:
            raise self._failure("opened", error) from error
        self._db.close()
        self._db, self._file = db, found
        try:
            self._prepare()
        except (OSError, sqlite3.Error) as error:
            self._db.close()
            raise self._failure("opened", error) from error
        except BaseException:
            self._db.close()
            raise

    def _prepare(self) -> None:
        if not self._read_only:
            # EXTRA: a commit is on the disk when it returns, and so is the end of its rollback journal in the folder.
            # The intent must survive a power failure.
            self._db.execute("PRAGMA synchronous = EXTRA")
            _migrate(self._db, self.path)
        else:
            try:
                self._db.execute("SELECT count(*) FROM sqlite_schema").fetchone()
            except sqlite3.OperationalError as error:
                if not journalfile.needs_rollback(error):
                    raise
                self._db.close()
                self._db = journalfile.copied(self.path)
            self._db.execute("PRAGMA query_only = ON")
            _refuse_newer(self._db, self.path)
        if _version(self._db) == SCHEMA_VERSION:
            _check_schema(self._db)

    def _begin_anew(self, error: Exception) -> JournalError:
        """Set the broken file aside and open a new one: the error that says so, or that it could not be done."""
        self._db.close()
        try:
            aside = journalfile.set_aside(self.path, self._file)
        except OSError as failure:
            return JournalError(
                f"the journal {self.path} is broken ({error}) and cannot be set aside ({failure.strerror})",
                remedy="as root, move it away: a new one begins by itself",
            )
        except JournalBusyError as busy:
            return busy
        self._is_new = True
        try:
            if aside is not None:  # else another process was first, and has said so
                carried = _carry_over(aside, self.path)
                self._say(
                    f"WARNING: the journal {self.path} was broken ({error}): it is kept as {aside.name}, and a new one "
                    f"was begun, with the {carried} windows that can be read"
                )
            self._open()
        finally:
            self._is_new = False
        return _RenewedError(f"the journal {self.path} was broken ({error}), and a new one was begun")

    def close(self) -> None:
        """Let go of the file."""
        self._db.close()

    def _follow(self) -> None:
        """Another process may have set the file aside: what is said from now on stands in the new one."""
        if journalfile.identity(self.path) != self._file:
            with contextlib.suppress(_RenewedError):
                self._open()

    @contextlib.contextmanager
    def transaction(self, what: str) -> Iterator[sqlite3.Connection]:
        """One committed, fsynced transaction; rolled back and raised as JournalError when anything in it fails."""
        self._follow()
        try:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
                self._db.execute("COMMIT")
            except BaseException:  # a signal in between, too: the next writer must not wait for us
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise
        except (sqlite3.Error, *_MISFITS) as error:
            raise self._failure(what, error) from error

    def _write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        def once() -> T:
            with self.transaction("written") as db:
                return work(db)

        return _once_more(once)

    def _read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        def once() -> T:
            self._follow()
            try:
                return work(self._db)
            except sqlite3.Error as error:
                raise self._failure("read", error) from error

        # Inside a transaction the error is its own: it rolls back, and begins anew as a whole.
        return work(self._db) if self._db.in_transaction else _once_more(once)

    def begin(self, record: WindowRecord, rival: Callable[[WindowRecord], bool] = lambda other: False) -> None:
        """Commit the intent to open a window. After this returned, `recover` knows the window whatever happens.

        WindowTakenError, and nothing is written, when ``rival`` says yes to another open window of the same guest.
        """
        _refuse_odd(self.path, record._asdict())

        def work(db: sqlite3.Connection) -> None:
            other = next(filter(rival, self.open_windows(record.vmid)), None)
            if other is not None:
                raise taken(other)
            _insert(db, record)
            _project(db, None, record)

        self._write(work)

    def update(self, window_id: str, **values: object) -> bool:
        """Commit new ``values`` of columns of one window. One that is closed stays so: see not_reopening.

        False when there is no such window, for the journal was begun anew since.
        """
        _refuse_odd(self.path, values)

        def work(db: sqlite3.Connection) -> bool:
            before = self.get(window_id)
            try:
                kept = not_reopening(before, values)
            except IllegalTransitionError as error:
                raise JournalError(
                    f"the journal {self.path} cannot be written ({error})",
                    remedy="that is a mistake of ours: please report it",
                ) from error
            is_there = update_window(db, window_id, kept)
            after = self.get(window_id)
            if after is not None:
                _project(db, before, after)
            return is_there

        return self._write(work)

    def get(self, window_id: str) -> WindowRecord | None:
        """The window, or None."""
        return next(iter(self._safe("WHERE id = ?", (window_id,))), None)

    def open_windows(self, vmid: int | None = None) -> list[WindowRecord]:
        """Windows that were never closed, oldest first; of one guest or of all.

        One with a value that makes no sense is told in a line, and kept by what else it says: a guest that we froze
        must not become a stranger's. For those that do not tell of which guest they are there is lost_windows.

        The ``+`` keeps SQLite from walking the whole history in the order of time: the index of open windows is short.
        """
        if vmid is None:
            return self._safe(f"WHERE {OPEN} ORDER BY +intent_at")
        return self._safe(f"WHERE {OPEN} AND vmid = ? ORDER BY +intent_at", (vmid,))

    def lost_windows(self) -> list[str]:
        """The ids, fit to be shown, of open windows that do not say whose they are: any guest may be frozen by one."""
        return self._read(lambda db: [name for _, name in _lost(db)])

    def close_lost_windows(self, at: float) -> None:
        """Close them: every guest was looked at since."""

        def work(db: sqlite3.Connection) -> None:
            rows = [(at, row) for row, _ in _lost(db)]
            db.executemany("UPDATE windows SET closed_at = ? WHERE rowid = ?", rows)

        self._write(work)

    def history(
        self, *, vmid: int | None = None, since_at: float | None = None, failed: bool = False, limit: int = -1
    ) -> list[WindowRecord]:
        """Windows, newest first; ``failed`` keeps those with a failure stage; ``limit`` -1 means all."""
        where, values = ["1"], []  # type: tuple[list[str], list[object]]
        if vmid is not None:
            where.append("vmid = ?")
            values.append(vmid)
        if since_at is not None:
            where.append("intent_at >= ?")
            values.append(since_at)
        if failed:
            where.append("failure_stage IS NOT NULL")
        return self._select(f"WHERE {' AND '.join(where)} ORDER BY intent_at DESC LIMIT ?", (*values, limit))

    def note(self, key: str) -> str | None:
        """A small named value that processes leave for one another, or None."""
        row = self.query("SELECT value FROM notes WHERE key = ?", (key,))
        return str(row[0]["value"]) if row else None

    def set_note(self, key: str, value: str, at: float) -> None:
        """Commit a note."""
        self._write(lambda db: db.execute("INSERT OR REPLACE INTO notes VALUES (?, ?, ?)", (key, value, at)))

    def drop_notes(self, pattern: str, before_at: float = math.inf) -> None:
        """Take away the notes whose names match ``pattern`` (GLOB) and that are older."""
        self._write(lambda db: db.execute("DELETE FROM notes WHERE key GLOB ? AND at < ?", (pattern, before_at)))

    def looks(self) -> dict[str, GuestLook]:
        """What was last seen of each guest, by its id, e.g. ``qemu/100``."""
        return self._read(looks.read)

    def put_looks(self, found: Iterable[GuestLook]) -> None:
        """Commit a look at every guest, in place of the one before."""
        rows = list(found)
        self._write(lambda db: looks.write(db, rows))

    def series(self) -> list[Series]:
        """The metric series, O(guests). An odd row is told in a line, and left out."""
        found = []
        for row in self.query("SELECT * FROM series ORDER BY name, id, node, source, labels"):
            try:
                found.append(projection.series_of(tuple(row)))
            except ValueError as error:
                self.has_odd_series = True
                self._odd("metric", f"{row['name']} of {row['id']}", error)
        return found

    def drop_odd_series(self) -> None:
        """Take rows away that make no sense: a counter begins anew where it could never be read again."""

        def work(db: sqlite3.Connection) -> None:
            for row in db.execute("SELECT * FROM series").fetchall():
                try:
                    projection.series_of(tuple(row))
                except ValueError:
                    db.execute(
                        "DELETE FROM series WHERE name = ? AND id = ? AND node = ? AND source = ? AND labels = ?",
                        [row[column] for column in ("name", "id", "node", "source", "labels")],
                    )

        self._write(work)
        self.has_odd_series = False

    def query(self, sql: str, values: Sequence[object] = ()) -> list[sqlite3.Row]:
        """What the journal's tables say, as it stands there."""
        return self._read(lambda db: db.execute(sql, tuple(values)).fetchall())

    def checked(self, rows: Iterable[sqlite3.Row]) -> Iterator[dict[str, Any]]:
        """Rows of windows, each column of the type that it says. An odd row is told in a line, and left out."""
        for row in rows:
            try:
                yield parsed(row)
            except ValueError as error:
                self._odd("window", row["id"], error)

    def _rows(self, clause: str, values: Sequence[object]) -> list[sqlite3.Row]:
        return self.query(f"SELECT {', '.join(COLUMNS)} FROM windows {clause}", values)  # noqa: S608 - constants

    def _select(self, clause: str, values: Sequence[object] = ()) -> list[WindowRecord]:
        return [WindowRecord(**row) for row in self.checked(self._rows(clause, values))]

    def _safe(self, clause: str, values: Sequence[object] = ()) -> list[WindowRecord]:
        """As _select; of a row with an odd value everything else is kept."""
        found = []
        for row in self._rows(clause, values):
            try:
                record, odd = mended(row)
            except ValueError as error:
                self._odd("window", row["id"], error, "of which nobody knows whose guest it may have left frozen")
                continue
            found.append(record)
            if odd is not None:
                self._odd("window", row["id"], odd, "whose other values count alone")
        return found

    def _odd(self, what: str, name: object, error: ValueError, then: str = "that is left out") -> None:
        """Say once that a row makes no sense; the others go on."""
        text = f"{what} {printable(str(name))[:80]}"
        if text not in self._told and len(self._told) < ODD_LINES:
            self._told.add(text)
            self._say(f"WARNING: the journal {self.path} has a {text} {then}, for it makes no sense: {error}")

    def _failure(self, what: str, error: Exception) -> JournalError:
        if journalfile.was_moved(error):
            self._open()
            return _RenewedError(f"the journal {self.path} was set aside by another process")
        if journalfile.is_broken(error) and not self._is_new:
            return self._begin_anew(error)
        text = str(error)
        if journalfile.is_busy(error):
            return JournalBusyError(
                f"the journal {self.path} cannot be {what} ({text})",
                remedy="another process holds it; try again, and look for a hung one: `fuser -v` on the file",
            )
        remedies = {
            "disk is full": "free space on its file system",
            "readonly": "check the owner and mode of its folder, and that the file system is not read-only",
            "unable to open": "check that its folder exists and is writable for this user",
        }
        remedy = next((r for key, r in remedies.items() if key in text), "check the folder and the disk")
        return JournalError(f"the journal {self.path} cannot be {what} ({text})", remedy=remedy)


def _once_more(work: Callable[[], T]) -> T:
    """Do it, and once more where the journal was begun anew meanwhile."""
    try:
        return work()
    except _RenewedError:
        return work()


def _version(db: sqlite3.Connection) -> int:
    version: int = db.execute("PRAGMA user_version").fetchone()[0]
    return version


def _refuse_newer(db: sqlite3.Connection, path: Path) -> None:
    """JournalError for a journal of a version that we do not know, to a reader too: it may say something else."""
    version = _version(db)
    if version > SCHEMA_VERSION:
        if [row[0] for row in db.execute("PRAGMA quick_check(1)")] != ["ok"]:
            raise journalfile.NotOursError("its version makes no sense")
        raise JournalError(
            f"the journal {path} was written by a newer version (schema {version})",
            remedy="upgrade vzdump-hooks on this machine",
        )


def _migrate(db: sqlite3.Connection, path: Path) -> None:
    _refuse_newer(db, path)
    if _version(db) == SCHEMA_VERSION:
        return
    with _ours():
        db.execute("BEGIN IMMEDIATE")
        for statement in _SCHEMA:
            db.execute(statement)
        db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        db.execute("COMMIT")


def _check_schema(db: sqlite3.Connection) -> None:
    """A file that says it is ours and has other tables is as broken as one that cannot be read."""
    with _ours():
        db.execute(f"SELECT {', '.join(COLUMNS)}, counted FROM windows LIMIT 0")  # noqa: S608 - our own fields
        db.execute("SELECT name, id, vmid, node, source, labels, value, seen_at FROM series LIMIT 0")
        db.execute("SELECT key, value, at FROM notes LIMIT 0")


@contextlib.contextmanager
def _ours() -> Iterator[None]:
    """A statement that does not fit the tables it finds: they are not ours."""
    try:
        yield
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode == sqlite3.SQLITE_ERROR:
            raise journalfile.NotOursError(f"its tables are not ours: {error}") from error
        raise


def _carry_over(aside: Path, path: Path) -> int:
    """Let the new journal begin with what can still be read of the broken one: its windows, and the counters.

    How many windows; what cannot be read is lost, for `recover` to find.
    """
    windows = ", ".join((*COLUMNS, "counted"))
    key = ("name", "id", "node", "source", "labels")
    with (
        contextlib.closing(journalfile.as_it_is(aside)) as old,
        contextlib.closing(journalfile.connect(path, read_only=False)[0]) as new,
    ):
        _migrate(new, path)
        new.execute("BEGIN IMMEDIATE")
        for order in ("DESC", "ASC"):  # from both ends: a broken page in the middle costs what it holds
            by_key = ", ".join(f"{column} {order}" for column in key)
            for table, columns, rest in (
                ("windows", windows, f"NOT INDEXED ORDER BY rowid {order} LIMIT {CARRIED}"),
                ("series", "name, id, vmid, node, source, labels, value, seen_at", f"ORDER BY {by_key}"),
                ("notes", "key, value, at", f"WHERE {' OR '.join(_NOTES_OF_JOBS)} ORDER BY key {order}"),
            ):
                marks = ", ".join("?" * (columns.count(",") + 1))
                insert = f"INSERT OR IGNORE INTO {table} ({columns}) VALUES ({marks})"  # noqa: S608 - names of our own
                with contextlib.suppress(sqlite3.Error):
                    for row in old.execute(f"SELECT {columns} FROM {table} {rest}"):  # noqa: S608 - as above
                        new.execute(insert, row)
        now = SystemClock().time()
        new.execute("INSERT OR REPLACE INTO notes VALUES (?, ?, ?)", (BEGUN_ANEW_NOTE, repr(now), now))
        carried: int = new.execute("SELECT count(*) FROM windows").fetchone()[0]
        new.execute("COMMIT")
    return carried


def _lost(db: sqlite3.Connection) -> list[tuple[int, str]]:
    """Row and id of each open window that does not say whose it is."""
    found = []
    for row in db.execute(f"SELECT rowid, id, vmid FROM windows WHERE {OPEN}"):  # noqa: S608 - a constant
        try:
            whose(row)
        except ValueError:
            found.append((row["rowid"], printable(str(row["id"]))[:80]))
    return found


def _insert(db: sqlite3.Connection, record: WindowRecord) -> None:
    db.execute(
        f"INSERT INTO windows ({', '.join(COLUMNS)}) VALUES ({', '.join('?' * len(COLUMNS))})",  # noqa: S608 - names of our own fields
        record,
    )


def _refuse_odd(path: Path, values: Mapping[str, object]) -> None:
    """What could not be read back is not written. KeyError for a column that does not exist."""
    unknown = set(values) - set(COLUMNS)
    if unknown:
        raise KeyError(f"no such columns: {sorted(unknown)}")
    for name, value in values.items():
        try:
            check_value(name, value)
        except ValueError as error:
            raise JournalError(
                f"the journal {path} cannot be written ({error})", remedy="that is a mistake of ours: please report it"
            ) from error


def taken(other: WindowRecord) -> WindowTakenError:
    """Why no window can be opened for a guest that is in ``other``, which somebody has in hand."""
    if other.thawed_at is None:
        return WindowTakenError(
            f"another run has guest {other.vmid} in its freeze window (pid {other.owner_pid}, {other.state})",
            remedy="wait for it to end: `safe-snapshot status` shows it",
        )
    return WindowTakenError(
        f"guest {other.vmid} is thawed, but an earlier freeze whose answer was lost may still come: its guard (pid "
        f"{other.guard_pid}) would take a new one for it and thaw",
        remedy="wait until it is over: `safe-snapshot status` shows it; [freeze] late_freeze_seconds says how long",
    )


def update_window(db: sqlite3.Connection, window_id: str, values: Mapping[str, object]) -> bool:
    """Set columns of one window inside a transaction; False when there is none."""
    names = ", ".join(("id = id", *(f"{name} = ?" for name in values)))
    done = db.execute(f"UPDATE windows SET {names} WHERE id = ?", (*values.values(), window_id))  # noqa: S608
    return done.rowcount > 0


def _project(db: sqlite3.Connection, before: WindowRecord | None, after: WindowRecord) -> None:
    """Bring the metric series up to date. A bug in there must not cost the record of a window."""
    db.execute("SAVEPOINT metrics")
    try:
        projection.apply(db, before, after)
    except sqlite3.Error:
        raise  # the disk's or the file's trouble: the record is not safe either
    except Exception:  # noqa: BLE001 - whatever it is, the window's own row is worth more
        db.execute("ROLLBACK TO metrics")
    db.execute("RELEASE metrics")


__all__ = ["COLUMNS", "DEFAULT_PATH", "Journal", "WindowRecord", "new_id", "patiently", "printable"]
