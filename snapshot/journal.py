"""The journal: one SQLite file that records every freeze window, the intent before the freeze and the outcome after.

Every write is one committed, fsynced transaction; the metric series are brought up to date in the same one
(snapshot/metrics/projection.py), so counters survive restarts and never go back. The journal is shared by every process
of ours on a machine. No guest is frozen when the intent cannot be committed; a journal that fails *after* the freeze is
reported and changes nothing about the thaw.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import ForwardRef, NamedTuple

from snapshot import looks
from snapshot.errors import JournalError, WindowTakenError
from snapshot.looks import GuestLook
from snapshot.metrics import projection
from snapshot.model import Guest, GuestKind, Node, Owner, Vmid

DEFAULT_PATH = Path("/var/lib/vzdump-hooks/journal.sqlite")
BUSY_SECONDS = 5.0
SCHEMA_VERSION = 1

_MISFITS = (OverflowError, UnicodeEncodeError)
"""What the sqlite3 module says of a guest's or PVE's values that fit no column."""


def new_id() -> str:
    """A window's id: 32 random hex digits."""
    return os.urandom(16).hex()


class WindowRecord(NamedTuple):
    """One row of the journal: a freeze window, open until ``closed_at`` is set. Instants are Unix times."""

    id: str
    vmid: int
    node: str
    kind: str
    guest_name: str
    source: str
    """``snapshot`` or ``vzdump``: which of the two ways in."""
    owner: str
    """Who issued the freeze: an Owner's value."""
    state: str
    """A states.State's value, as last recorded."""
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
    """``preflight``, ``freeze``, ``hold``, ``snapshot`` or ``thaw``: where the window failed; None when it did not."""
    failure_reason: str | None = None
    """A short fixed word for metrics, e.g. ``agent-not-running``, ``deadline``, ``reply-lost``."""
    verdict: str | None = None
    reason: str | None = None
    closed_at: float | None = None

    @property
    def guest(self) -> Guest:
        """The guest as it was when the window was opened."""
        return Guest(Vmid(self.vmid), Node(self.node), GuestKind(self.kind), name=self.guest_name)

    @property
    def is_foreign(self) -> bool:
        """Whether somebody else issued the freeze."""
        return self.owner == Owner.FOREIGN.value


COLUMNS = WindowRecord._fields
_REQUIRED = frozenset(COLUMNS) - frozenset(WindowRecord._field_defaults)
_TYPES = {"int": "INTEGER", "float": "REAL", "str": "TEXT"}


def _declaration(column: str) -> str:
    hint: ForwardRef = WindowRecord.__annotations__[column]
    kind = _TYPES[hint.__forward_arg__.partition(" ")[0]]
    key = " PRIMARY KEY" if column == "id" else " NOT NULL" if column in _REQUIRED else ""
    return f"{column} {kind}{key}"


_SCHEMA = (
    "CREATE TABLE IF NOT EXISTS windows "
    f"({', '.join(_declaration(column) for column in COLUMNS)}, {projection.COLUMN})",
    "CREATE INDEX IF NOT EXISTS windows_open ON windows (vmid) WHERE closed_at IS NULL",
    "CREATE INDEX IF NOT EXISTS windows_by_time ON windows (intent_at)",
    "CREATE INDEX IF NOT EXISTS windows_by_guest ON windows (vmid, intent_at)",
    """CREATE TABLE IF NOT EXISTS series (
        name TEXT NOT NULL, id TEXT NOT NULL, vmid INTEGER NOT NULL, node TEXT NOT NULL, source TEXT NOT NULL,
        labels TEXT NOT NULL, value REAL NOT NULL, seen_at REAL NOT NULL,
        PRIMARY KEY (name, id, node, source, labels)) WITHOUT ROWID""",
    "CREATE TABLE IF NOT EXISTS notes (key TEXT PRIMARY KEY, value TEXT NOT NULL, at REAL NOT NULL) WITHOUT ROWID",
)


class Journal:
    """An open journal. Raises JournalError, with what to do, for everything SQLite or the file system may say."""

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        self.path = path
        try:
            is_new = not path.exists()
            if is_new and not read_only:
                path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
            uri = f"{path.absolute().as_uri()}?mode={'ro' if read_only else 'rwc'}"
            self._db = sqlite3.connect(uri, uri=True, timeout=BUSY_SECONDS, isolation_level=None)
        except (OSError, sqlite3.Error) as error:
            raise self._failure("opened", error) from error
        try:
            self._db.row_factory = sqlite3.Row
            if read_only:
                self._db.execute("SELECT count(*) FROM sqlite_schema").fetchone()
            else:
                if is_new:
                    os.chmod(path, 0o640)
                # FULL: a commit is on the disk when it returns. The intent must survive a power failure.
                self._db.execute("PRAGMA synchronous = FULL")
                self._migrate()
        except (OSError, sqlite3.Error) as error:
            self._db.close()
            raise self._failure("opened", error) from error
        except JournalError:
            self._db.close()
            raise

    def _migrate(self) -> None:
        version = self._db.execute("PRAGMA user_version").fetchone()[0]
        if version == SCHEMA_VERSION:
            return
        if version > SCHEMA_VERSION:
            raise JournalError(
                f"the journal {self.path} was written by a newer version (schema {version})",
                remedy="upgrade vzdump-hooks on this machine",
            )
        self._db.execute("BEGIN IMMEDIATE")
        for statement in _SCHEMA:
            self._db.execute(statement)
        self._db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        self._db.execute("COMMIT")

    def close(self) -> None:
        """Let go of the file."""
        self._db.close()

    @contextlib.contextmanager
    def transaction(self, what: str) -> Iterator[sqlite3.Connection]:
        """One committed, fsynced transaction; rolled back and raised as JournalError when anything in it fails."""
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

    def begin(self, record: WindowRecord, rival: Callable[[WindowRecord], bool] = lambda other: False) -> None:
        """Commit the intent to open a window. After this returned, `recover` knows the window whatever happens.

        WindowTakenError, and nothing is written, when ``rival`` says yes to another open window of the same guest.
        """
        values = record._asdict()
        with self.transaction("written") as db:
            other = next(filter(rival, self.open_windows(record.vmid)), None)
            if other is not None:
                raise _taken(other)
            db.execute(
                f"INSERT INTO windows ({', '.join(COLUMNS)}) VALUES ({', '.join('?' * len(COLUMNS))})",  # noqa: S608 - names of our own fields
                [values[name] for name in COLUMNS],
            )
            _project(db, None, record)

    def update(self, window_id: str, **values: object) -> None:
        """Commit new ``values`` of columns of one window. One that is closed stays so: see not_reopening."""
        with self.transaction("written") as db:
            before = self.get(window_id)
            update_window(db, window_id, not_reopening(before, values))
            after = self.get(window_id)
            if after is not None:
                _project(db, before, after)

    def get(self, window_id: str) -> WindowRecord | None:
        """The window, or None."""
        return next(iter(self._select("WHERE id = ?", (window_id,))), None)

    def open_windows(self, vmid: int | None = None) -> list[WindowRecord]:
        """Windows that were never closed, oldest first; of one guest or of all.

        The ``+`` keeps SQLite from walking the whole history in the order of time: the index of open windows is short.
        """
        if vmid is None:
            return self._select("WHERE closed_at IS NULL ORDER BY +intent_at")
        return self._select("WHERE closed_at IS NULL AND vmid = ? ORDER BY +intent_at", (vmid,))

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
        row = self._query("SELECT value FROM notes WHERE key = ?", (key,))
        return str(row[0]["value"]) if row else None

    def set_note(self, key: str, value: str, at: float) -> None:
        """Commit a note."""
        with self.transaction("written") as db:
            db.execute("INSERT OR REPLACE INTO notes VALUES (?, ?, ?)", (key, value, at))

    def looks(self) -> dict[str, GuestLook]:
        """What was last seen of each guest, by its id, e.g. ``qemu/100``."""
        try:
            return looks.read(self._db)
        except sqlite3.Error as error:
            raise self._failure("read", error) from error

    def put_looks(self, found: Iterable[GuestLook]) -> None:
        """Commit a look at every guest, in place of the one before."""
        with self.transaction("written") as db:
            looks.write(db, found)

    def series(self) -> list[sqlite3.Row]:
        """The metric series, O(guests): name, id, vmid, node, source, labels (JSON), value, seen_at."""
        return self._query("SELECT * FROM series ORDER BY name, id, node, source, labels")

    def _select(self, clause: str, values: Sequence[object] = ()) -> list[WindowRecord]:
        rows = self._query(f"SELECT {', '.join(COLUMNS)} FROM windows {clause}", values)  # noqa: S608 - constants
        return [WindowRecord(**dict(row)) for row in rows]

    def _query(self, sql: str, values: Sequence[object] = ()) -> list[sqlite3.Row]:
        try:
            return self._db.execute(sql, tuple(values)).fetchall()
        except sqlite3.Error as error:
            raise self._failure("read", error) from error

    def _failure(self, what: str, error: Exception) -> JournalError:
        remedies = {
            "disk is full": "free space on its file system",
            "readonly": "check the owner and mode of its folder, and that the file system is not read-only",
            "unable to open": "check that its folder exists and is writable for this user",
            "malformed": "run `safe-snapshot recover`: it sets the broken file aside and starts a new one",
            "not a database": "run `safe-snapshot recover`: it sets the broken file aside and starts a new one",
            "locked": "another process holds it; try again, and look for a hung one: `fuser -v` on the file",
        }
        text = str(error)
        remedy = next((r for key, r in remedies.items() if key in text), "check the folder and the disk")
        return JournalError(f"the journal {self.path} cannot be {what} ({text})", remedy=remedy)


def _taken(other: WindowRecord) -> WindowTakenError:
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


def not_reopening(record: WindowRecord | None, values: Mapping[str, object]) -> Mapping[str, object]:
    """``values`` without a new state for a window that is closed or thawed for good: THAWED is an end (states.py).

    A guard, a recovery or an owner that was slower than the other still adds what it did.
    """
    if record is None:
        return values
    if record.closed_at is None:
        return {name: v for name, v in values.items() if name != "state"} if record.state == "thawed" else values
    return {name: value for name, value in values.items() if name not in ("state", "quiet_until_at")}


def update_window(db: sqlite3.Connection, window_id: str, values: Mapping[str, object]) -> None:
    """Set columns of one window inside a transaction. KeyError for a column that does not exist."""
    unknown = set(values) - set(COLUMNS)
    if unknown:
        raise KeyError(f"no such columns: {sorted(unknown)}")
    if values:
        names = ", ".join(f"{name} = ?" for name in values)
        db.execute(f"UPDATE windows SET {names} WHERE id = ?", (*values.values(), window_id))  # noqa: S608


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


def is_corrupt(path: Path) -> bool:
    """Whether the file is there and is no SQLite database that can be read. A full disk or a lock is not that."""
    try:
        with contextlib.closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=0)) as db:
            return [row[0] for row in db.execute("PRAGMA quick_check(1)")] != ["ok"]
    except sqlite3.DatabaseError as error:
        return (error.sqlite_errorcode & 0xFF) in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def set_aside(path: Path, stamp: str) -> Path | None:
    """Move a broken journal (and SQLite's side files) out of the way; the new name, or None when it was not there.

    The folder must be writable: raises JournalError otherwise.
    """
    target = path.with_name(f"{path.name}.broken-{stamp}")
    try:
        if not path.exists():
            return None
        path.rename(target)
        for suffix in ("-journal", "-wal", "-shm"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)
    except OSError as error:
        raise JournalError(f"the broken journal {path} cannot be set aside ({error.strerror})") from error
    return target
