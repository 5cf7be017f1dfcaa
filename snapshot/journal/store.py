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
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from snapshot.base import streams
from snapshot.errors import JournalBusyError, JournalError
from snapshot.journal import broken, file, looks, rows, schema, series
from snapshot.journal.looks import GuestLook
from snapshot.journal.record import COLUMNS, OPEN, WindowRecord, mended, not_reopening, parsed, printable
from snapshot.journal.series import Series
from snapshot.states import IllegalTransitionError

DEFAULT_PATH = Path("/var/lib/vzdump-hooks/journal.sqlite")

T = TypeVar("T")

ODD_LINES = 10
"""How many rows that make no sense are told by name."""

_MISFITS = (OverflowError, UnicodeEncodeError)
"""What the sqlite3 module says of a guest's or PVE's values that fit no column."""


class _RenewedError(JournalError):
    """The journal was broken and has been begun anew: what was asked may be asked once more."""


class Journal:
    """An open journal. Raises JournalError, with what to do, for everything SQLite or the file system may say.

    One that turns out to be broken, at whatever page and by whomever it is met, is set aside and begun anew; ``say``
    gets the line about it, and what was asked goes on with the new one. With ``mends`` off it stays, and is an error.
    """

    def __init__(
        self, path: Path, *, read_only: bool = False, mends: bool = True, say: Callable[[str], object] = streams.err
    ) -> None:
        self.path, self._read_only, self._mends = path, read_only, mends
        self._say = say
        self._told: set[str] = set()
        self._is_new = False
        self.has_odd_series = False
        """Whether `series` met a row that makes no sense."""
        self._db = sqlite3.connect(":memory:")
        self._db.close()  # until there is one: who gets no journal has nothing to close
        self._file: file.Identity | None = None
        self._unwritable: sqlite3.Error | None = None
        """Why the file could not be made today's, where it is read in a copy for that."""
        with contextlib.suppress(_RenewedError):
            self._open()

    def _open(self) -> None:
        """Open what the path names now, in place of what was open before."""
        try:
            db, found = file.connect(self.path, read_only=self._read_only)
        except (OSError, sqlite3.Error) as error:
            raise self._failure("opened", error) from error
        self._replace(db)
        self._file, self._unwritable = found, None
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
            try:
                schema.migrate(self._db, self.path)
            except sqlite3.OperationalError as error:
                # A full disk, say. The windows of an earlier version are read all the same: they tell whom we froze.
                if not self._is_read_in_a_copy():
                    raise
                self._unwritable = error
        else:
            self._prepare_to_read()
        if schema.version(self._db) == schema.VERSION:
            schema.check(self._db)

    def _prepare_to_read(self) -> None:
        """A reader changes no file: what a killed writer left, or an earlier version, it mends in a copy of its own."""
        try:
            self._db.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        except sqlite3.OperationalError as error:
            if not file.needs_rollback(error):
                raise
            self._replace(file.copied(self.path))
        schema.refuse_newer(self._db, self.path)
        self._is_read_in_a_copy()
        self._db.execute("PRAGMA query_only = ON")

    def _is_read_in_a_copy(self) -> bool:
        """Whether the file is of an earlier version: then a copy in memory, which is today's, has taken its place."""
        if not 0 < schema.version(self._db) < schema.VERSION:
            return False
        self._replace(file.in_memory(self._db))
        schema.migrate(self._db, self.path)
        self._file = None  # read anew each time, for whoever writes next makes the file today's
        return True

    def _replace(self, db: sqlite3.Connection) -> None:
        self._db.close()
        self._db = db

    def _begin_anew(self, error: Exception) -> JournalError:
        """Set the broken file aside and open a new one: the error that says so, or that it could not be done."""
        self._db.close()
        try:
            aside = broken.set_aside(self.path, self._file)
        except OSError as failure:
            return broken.stays(self.path, error, failure)
        except JournalBusyError as busy:
            return busy
        self._is_new = True
        try:
            if aside is not None:  # else another process was first, and has said so
                self._say(broken.carry_over(aside, self.path, error))
            self._open()
        finally:
            self._is_new = False
        return _RenewedError(f"the journal {self.path} was broken ({error}), and a new one was begun")

    def close(self) -> None:
        """Let go of the file."""
        self._db.close()

    def _follow(self) -> None:
        """Another process may have set the file aside: what is said from now on stands in the new one."""
        if file.identity(self.path) != self._file:
            with contextlib.suppress(_RenewedError):
                self._open()

    @contextlib.contextmanager
    def transaction(self, what: str) -> Iterator[sqlite3.Connection]:
        """One committed, fsynced transaction; rolled back and raised as JournalError when anything in it fails."""
        self._follow()
        if self._unwritable is not None:
            raise self._failure(what, self._unwritable)
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
        rows.refuse_odd(self.path, record._asdict())

        def work(db: sqlite3.Connection) -> None:
            other = next(filter(rival, self.open_windows(record.vmid)), None)
            if other is not None:
                raise rows.taken(other)
            rows.insert(db, record)
            rows.project(db, None, record)

        self._write(work)

    def update(self, window_id: str, **values: object) -> bool:
        """Commit new ``values`` of columns of one window. One that is closed stays so: see not_reopening.

        False when there is no such window, for the journal was begun anew since.
        """
        rows.refuse_odd(self.path, values)

        def work(db: sqlite3.Connection) -> bool:
            before = self.get(window_id)
            try:
                kept = not_reopening(before, values)
            except IllegalTransitionError as error:
                raise rows.mistake(self.path, error) from error
            is_there = rows.update(db, window_id, kept)
            after = self.get(window_id)
            if after is not None:
                rows.project(db, before, after)
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
        return self._read(lambda db: [name for _, name in rows.lost(db)])

    def close_lost_windows(self, at: float) -> None:
        """Close them: every guest was looked at since."""
        self._write(lambda db: rows.close_lost(db, at))

    def history(
        self, *, vmid: int | None = None, since_at: float | None = None, failed: bool = False, limit: int = -1
    ) -> list[WindowRecord]:
        """Windows, newest first; ``failed`` keeps those with a failure stage; ``limit`` -1 means all."""
        wanted = {"vmid = ?": vmid, "intent_at >= ?": since_at}
        given = {condition: value for condition, value in wanted.items() if value is not None}
        where = " AND ".join(["1", *given, *(["failure_stage IS NOT NULL"] if failed else [])])
        return self._select(f"WHERE {where} ORDER BY intent_at DESC LIMIT ?", (*given.values(), limit))

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
        seen = list(found)
        self._write(lambda db: looks.write(db, seen))

    def series(self) -> list[Series]:
        """The metric series, O(guests). An odd row is told in a line, and left out."""
        found = []
        for row in self.query("SELECT * FROM series ORDER BY name, id, node, source, labels"):
            try:
                found.append(series.series_of(tuple(row)))
            except ValueError as error:
                self.has_odd_series = True
                self._odd("metric", f"{row['name']} of {row['id']}", error)
        return found

    def drop_odd_series(self) -> None:
        """Take rows away that make no sense: a counter begins anew where it could never be read again."""
        self._write(series.drop_odd)
        self.has_odd_series = False

    def query(self, sql: str, values: Sequence[object] = ()) -> list[sqlite3.Row]:
        """What the journal's tables say, as it stands there."""
        return self._read(lambda db: db.execute(sql, tuple(values)).fetchall())

    def checked(self, found: Iterable[sqlite3.Row]) -> Iterator[dict[str, Any]]:
        """Rows of windows, each column of the type that it says. An odd row is told in a line, and left out."""
        for row in found:
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
        if file.was_moved(error):
            self._open()
            return _RenewedError(f"the journal {self.path} was set aside by another process")
        if file.is_broken(error) and self._mends and not self._is_new:
            return self._begin_anew(error)
        return file.trouble(self.path, what, error)


def _once_more(work: Callable[[], T]) -> T:
    """Do it, and once more where the journal was begun anew meanwhile."""
    try:
        return work()
    except _RenewedError:
        return work()
