"""From one version of the journal to the next: nothing is lost, and a migration that is killed has not begun."""

from __future__ import annotations

import contextlib
import itertools
import signal
import sqlite3
import subprocess
import sys
import typing
from pathlib import Path

import pytest

from snapshot.errors import JournalBusyError, JournalError
from snapshot.journal import file, schema
from snapshot.journal.record import COLUMNS, OPEN, REQUIRED, WindowRecord, check_value
from snapshot.journal.store import Journal
from tests.unit.kit import record

ROOT = Path(__file__).resolve().parents[2]
LATER: dict[str, object] = {"removals": [], "label_runs": []}
"""Tables that came since, empty at first."""
OF_0_1_0 = Path(__file__).with_name("journal-0.1.0.sql")
"""A dump of what 0.1.0 wrote: a window that held, one of a lost answer, somebody else's, and what goes with them."""
OURS, FOREIGN = f"{2:032x}", f"{3:032x}"

DIES = """
import itertools, os, signal, sys
from pathlib import Path
from snapshot.journal import file
from snapshot.journal.store import Journal
path, at = Path(sys.argv[1]), int(sys.argv[2])
connect, number = file.connect, itertools.count()
def connected(*args, **options):
    db, found = connect(*args, **options)
    db.execute("PRAGMA cache_size = 1")  # so that half of what is written is in the file before the end
    def dies(statement):
        if db.in_transaction and next(number) == at:
            os.kill(os.getpid(), signal.SIGKILL)
    db.set_trace_callback(dies)
    return db, found
file.connect = connected
Journal(path).close()
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A journal as 0.1.0 left it."""
    found = tmp_path / "journal.sqlite"
    with contextlib.closing(sqlite3.connect(found)) as db:
        db.executescript(OF_0_1_0.read_text(encoding="utf-8"))
    return found


def content(path: Path) -> dict[str, list[tuple[object, ...]]]:
    with contextlib.closing(sqlite3.connect(path)) as db:
        tables = [row[0] for row in db.execute("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name")]
        return {table: sorted(db.execute(f"SELECT * FROM {table}"), key=repr) for table in tables}


def version(path: Path) -> int:
    with contextlib.closing(sqlite3.connect(path)) as db:
        return schema.version(db)


def shape(path: Path) -> dict[str, object]:
    """What the tables and indexes are, however they were written."""
    with contextlib.closing(sqlite3.connect(path)) as db:
        names = [row[0] for row in db.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
        indexes = db.execute("SELECT name, sql FROM sqlite_schema WHERE type = 'index' AND sql IS NOT NULL").fetchall()
        return {name: db.execute(f"PRAGMA table_info({name})").fetchall() for name in names} | dict(indexes)


def of_no_group(before: dict[str, list[tuple[object, ...]]]) -> dict[str, list[tuple[object, ...]]]:
    """The windows as version 6 has them: of no group, and with disks that nobody has asked."""
    return {"windows": [(*row, None, None, None) for row in before["windows"]]}


def test_a_journal_of_0_1_0_goes_on_with_all_that_is_in_it(path: Path, tmp_path: Path) -> None:
    before = content(path)
    assert version(path) == 1
    with contextlib.closing(Journal(path)) as journal:
        assert [window.id for window in journal.open_windows()] == [OURS, FOREIGN]
        assert journal.looks()["qemu/102"].frozen_since_at == 1700003700.0
        assert len(journal.series()) == len(before["series"])
    assert version(path) == schema.VERSION
    assert content(path) == before | of_no_group(before) | {"told": [], "outbox": [], **LATER}
    Journal(tmp_path / "new.sqlite").close()
    assert shape(path) == shape(tmp_path / "new.sqlite")
    with contextlib.closing(Journal(path)) as journal:
        journal.begin(record("w1"))
        journal.update(OURS, state="thawed", closed_at=1700009999.0)
        assert {window.id for window in journal.open_windows()} == {FOREIGN, "w1"}


def test_a_migration_that_is_killed_leaves_the_version_before_whole(path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("DROP TABLE looks")  # so that there is something to do
        db.commit()
    before = content(path)
    for at in itertools.count():
        done = subprocess.run([sys.executable, "-c", DIES, str(path), str(at)], cwd=ROOT, check=False, timeout=60)
        if done.returncode == 0:
            break
        assert done.returncode == -signal.SIGKILL
        assert (version(path), content(path)) == (1, before)
    assert at >= 5
    assert version(path) == schema.VERSION
    assert content(path) == before | of_no_group(before) | {"looks": [], "told": [], "outbox": [], **LATER}


def test_a_migration_that_fails_halfway_leaves_the_version_before(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(db: sqlite3.Connection) -> None:
        db.execute("DELETE FROM windows")
        error = sqlite3.OperationalError("database or disk is full")
        error.sqlite_errorcode = sqlite3.SQLITE_FULL
        raise error

    before = content(path)
    with monkeypatch.context() as patched:
        patched.setattr(schema, "_STEPS", (*schema._STEPS, fails))
        patched.setattr(schema, "VERSION", schema.VERSION + 1)
        with pytest.raises(JournalError, match="disk is full"):
            Journal(path)
    assert (version(path), content(path)) == (1, before)


def test_of_two_that_migrate_at_once_the_second_does_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schema, "_STEPS", (*schema._STEPS, lambda db: db.execute("CREATE TABLE only_once (x)")))
    monkeypatch.setattr(schema, "VERSION", schema.VERSION + 1)
    connect, others = file.connect, [1]

    def connected(where: Path, *, read_only: bool) -> tuple[sqlite3.Connection, file.Identity | None]:
        db, found = connect(where, read_only=read_only)

        def is_overtaken(statement: str) -> None:
            if statement.startswith("BEGIN") and others:
                others.pop()
                Journal(where).close()

        db.set_trace_callback(is_overtaken)
        return db, found

    monkeypatch.setattr(file, "connect", connected)
    with contextlib.closing(Journal(path)) as journal:
        assert len(journal.open_windows()) == 2
    assert not others
    assert version(path) == schema.VERSION


def test_a_reader_of_an_earlier_version_changes_nothing_and_sees_what_is_written_next(path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("DROP TABLE looks")
        db.commit()
    before = path.read_bytes()
    with contextlib.closing(Journal(path, read_only=True)) as reader:
        assert [window.id for window in reader.open_windows()] == [OURS, FOREIGN]
        assert reader.looks() == {}
        assert path.read_bytes() == before
        with contextlib.closing(Journal(path)) as journal:
            journal.begin(record("w1"))
        assert len(reader.open_windows()) == 3


@pytest.mark.parametrize(("trouble", "why"), [("max_page_count = 1", "disk is full"), ("query_only = ON", "readonly")])
def test_where_nothing_can_be_written_an_earlier_version_still_tells_whom_we_froze(
    path: Path, monkeypatch: pytest.MonkeyPatch, trouble: str, why: str
) -> None:
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("DROP TABLE looks")
        db.execute("VACUUM")  # no page is free
    before, connect = path.read_bytes(), file.connect

    def connected(where: Path, *, read_only: bool) -> tuple[sqlite3.Connection, file.Identity | None]:
        db, found = connect(where, read_only=read_only)
        db.execute(f"PRAGMA {trouble}")
        return db, found

    with monkeypatch.context() as patched:
        patched.setattr(file, "connect", connected)
        journal = Journal(path)
        assert [window.id for window in journal.open_windows()] == [OURS, FOREIGN]
        with pytest.raises(JournalError, match=why):
            journal.update(OURS, state="thawed")
        assert path.read_bytes() == before
    with contextlib.closing(journal):  # there is room again
        assert journal.update(OURS, state="thawed")
    assert version(path) == schema.VERSION


def test_an_earlier_version_is_read_while_another_process_stands_still_in_the_middle_of_a_write(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file, "BUSY_SECONDS", 0.01)
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with contextlib.closing(Journal(path)) as journal:
            assert [window.id for window in journal.open_windows()] == [OURS, FOREIGN]
            with pytest.raises(JournalBusyError):
                journal.begin(record("w1"))
            other.execute("ROLLBACK")
            journal.begin(record("w1"))


def test_the_table_is_what_a_window_says_it_is(tmp_path: Path) -> None:
    Journal(tmp_path / "new.sqlite").close()
    with contextlib.closing(sqlite3.connect(tmp_path / "new.sqlite")) as db:
        columns = {row[1]: (row[2], bool(row[3] or row[5])) for row in db.execute("PRAGMA table_info(windows)")}
    assert columns.pop("counted") == ("TEXT", False)
    assert tuple(columns) == COLUMNS
    names, others = {int: "INTEGER", float: "REAL", str: "TEXT"}, {int: 1.5, float: "x", str: 1}
    for column, hint in typing.get_type_hints(WindowRecord).items():
        kind = next(kind for kind in (typing.get_args(hint) or (hint,)) if kind is not type(None))
        assert columns[column] == (names[kind], column in REQUIRED)
        with pytest.raises(ValueError, match=column):
            check_value(column, others[kind])


def test_open_windows_are_found_by_their_own_index(tmp_path: Path) -> None:
    with contextlib.closing(Journal(tmp_path / "new.sqlite")) as journal:
        plan = journal.query(f"EXPLAIN QUERY PLAN SELECT id FROM windows WHERE {OPEN} AND vmid = 100")
    assert any("windows_open" in row["detail"] for row in plan)
