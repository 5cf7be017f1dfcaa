"""The journal: what was committed is there, whatever dies, and whatever is wrong with it is said in words."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from snapshot.errors import JournalBusyError, JournalError
from snapshot.journal import file, schema, series
from snapshot.journal.broken import set_aside
from snapshot.journal.file import identity
from snapshot.journal.reader import JournalReader
from snapshot.journal.store import Journal
from tests.unit.kit import START, record

ROOT = Path(__file__).resolve().parents[2]
PRELUDE = """
import os, sys
from pathlib import Path
from snapshot.journal.store import Journal
from tests.unit.kit import record
path, name = Path(sys.argv[1]), sys.argv[2]
"""
WRITES_FOR_EVER = """
journal = Journal(path)
print("ready", flush=True)
n = 0
while True:
    window = f"{name}-{n}"
    journal.begin(record(window))
    os.write(1, b"begun " + window.encode() + b"\\n")
    journal.update(window, closed_at=1.0, state="thawed", verdict="unknown", reason="x" * 2000)
    os.write(1, b"closed " + window.encode() + b"\\n")
    n += 1
"""
WRITES_HALF = """
journal = Journal(path)
journal.begin(record("whole"))
with journal.transaction("written") as db:
    db.execute("PRAGMA cache_size = 1")
    for n in range(300):  # more than the cache: half of it is in the file when the process dies
        db.execute("UPDATE windows SET reason = ? WHERE id = 'whole'", ("x" * 5000 + str(n),))
        db.execute("INSERT INTO notes VALUES (?, ?, 0)", (f"note-{n}", "y" * 5000))
    print("half", flush=True)
    sys.stdin.read()
"""
WRITES_SOME = WRITES_HALF.replace("range(300)", "range(20)")
WRITES_TWELVE = """
journal = Journal(path)
for n in range(12):
    journal.begin(record(f"{name}-{n}", at=float(n)))
    journal.update(f"{name}-{n}", closed_at=1.0, state="thawed", verdict="unknown", reason="")
"""


def process(script: str, path: Path, name: str = "p") -> subprocess.Popen[str]:
    """A real process that works with the journal at ``path``."""
    return subprocess.Popen(
        [sys.executable, "-c", PRELUDE + script, str(path), name],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "journal.sqlite"


@pytest.fixture
def journal(path: Path) -> Iterator[Journal]:
    with contextlib.closing(Journal(path)) as opened:
        yield opened


@pytest.fixture
def tiny(tmp_path: Path) -> Iterator[Path]:
    """A file system of 512 KiB."""
    where = tmp_path / "tiny"
    where.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512k", "none", str(where)], check=False).returncode != 0:
        if os.environ.get("LAB_REQUIRED") == "1" and os.geteuid() == 0:
            pytest.fail("cannot mount a tmpfs as root")
        pytest.skip("mounting a tmpfs needs root")
    try:
        yield where
    finally:
        subprocess.run(["umount", "--lazy", str(where)], check=True)


def fill(folder: Path) -> Path:
    """Fill the file system to its last byte."""
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as file:
        for size in (65536, 4096, 1):
            with contextlib.suppress(OSError):
                while True:
                    file.write(b"\0" * size)
    return ballast


def is_corrupt(path: Path) -> bool:
    """Whether SQLite finds anything wrong in the file."""
    with contextlib.closing(sqlite3.connect(path)) as db:
        try:
            return [row[0] for row in db.execute("PRAGMA integrity_check")] != ["ok"]
        except sqlite3.DatabaseError as error:
            return error.sqlite_errorname in ("SQLITE_CORRUPT", "SQLITE_NOTADB")


def aside(path: Path) -> list[Path]:
    """What was set aside."""
    return sorted(path.parent.glob(f"{path.name}.broken-*"))


def said(call: object) -> JournalError:
    with pytest.raises(JournalError) as caught:
        call()  # type: ignore[operator]
    assert caught.value.exit_code == 9
    assert caught.value.remedy
    return caught.value


def test_an_intent_is_read_back_as_it_was_written(journal: Journal) -> None:
    intent = record("w1", snapshot_name="s1", upid="UPID:x", guest_name="wéb'")
    journal.begin(intent)
    assert journal.get("w1") == intent
    assert journal.get("other") is None


def test_the_journal_is_made_with_its_folder_for_its_owner_and_group_alone(path: Path) -> None:
    Journal(path).close()
    assert path.stat().st_mode & 0o777 == 0o640
    assert path.parent.stat().st_mode & 0o027 == 0


def test_a_window_is_open_until_it_is_closed(journal: Journal) -> None:
    journal.begin(record("late", at=START + 1))
    journal.begin(record("early"))
    journal.begin(record("other", vmid=101))
    assert [w.id for w in journal.open_windows(100)] == ["early", "late"]
    journal.update("early", closed_at=START)
    assert [w.id for w in journal.open_windows(100)] == ["late"]
    assert {w.id for w in journal.open_windows()} == {"late", "other"}


def test_a_window_that_its_guard_has_thawed_is_not_called_stuck_by_an_owner_that_stood_still(journal: Journal) -> None:
    """Found by the campaign (771:411): an owner that was stopped in its thaw comes back past its own limit."""
    journal.begin(record("w1"))
    journal.update("w1", state="thawed", thawed_at=START + 5)
    journal.update("w1", state="stuck", thaw_attempts=1)
    found = journal.get("w1")
    assert found is not None
    assert (found.state, found.thaw_attempts, found.closed_at) == ("thawed", 1, None)


def test_a_state_that_cannot_follow_the_one_before_is_refused_and_nothing_is_written(journal: Journal) -> None:
    journal.begin(record("w1"))
    journal.update("w1", state="unknown")
    error = said(lambda: journal.update("w1", state="frozen", thaw_attempts=3))
    assert "unknown cannot be frozen next" in error.message
    found = journal.get("w1")
    assert found is not None
    assert (found.state, found.thaw_attempts) == ("unknown", None)
    journal.update("w1", state="unknown")  # the same again is no step
    journal.update("w1", state="thawed")
    journal.update("w1", state="stuck", thaw_attempts=1)  # who was slower still adds what it did
    found = journal.get("w1")
    assert found is not None
    assert (found.state, found.thaw_attempts) == ("thawed", 1)


def test_history_is_newest_first_and_can_be_narrowed(journal: Journal) -> None:
    for n in range(4):
        journal.begin(record(f"w{n}", vmid=100 + n % 2, at=START + n, failure_stage="thaw" if n == 3 else None))
    assert [w.id for w in journal.history()] == ["w3", "w2", "w1", "w0"]
    assert [w.id for w in journal.history(vmid=100)] == ["w2", "w0"]
    assert [w.id for w in journal.history(since_at=START + 2)] == ["w3", "w2"]
    assert [w.id for w in journal.history(failed=True)] == ["w3"]
    assert [w.id for w in journal.history(limit=1)] == ["w3"]


def test_a_note_is_kept_and_replaced(journal: Journal) -> None:
    assert journal.note("k") is None
    journal.set_note("k", "one", START)
    journal.set_note("k", "two", START)
    assert journal.note("k") == "two"


def test_a_window_is_begun_only_once(journal: Journal) -> None:
    journal.begin(record("w1"))
    said(lambda: journal.begin(record("w1", vmid=200)))
    found = journal.get("w1")
    assert found is not None
    assert found.vmid == 100


def test_a_column_that_does_not_exist_is_a_mistake_of_the_programs_and_changes_nothing(journal: Journal) -> None:
    journal.begin(record("w1"))
    with pytest.raises(KeyError):
        journal.update("w1", reason="x", **{"id = id --": 1})
    found = journal.get("w1")
    assert found is not None
    assert found.reason is None


def test_an_update_of_a_window_that_is_not_there_changes_nothing(journal: Journal) -> None:
    journal.update("nobody", reason="x")
    assert journal.history() == []


def test_a_failing_transaction_leaves_nothing_behind_and_the_journal_usable(journal: Journal) -> None:
    def fails() -> None:
        with journal.transaction("written") as db:
            db.execute("INSERT INTO notes VALUES ('k', 'v', 0)")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fails()
    assert journal.note("k") is None
    journal.set_note("k", "v", START)


def test_a_mistake_in_the_metrics_does_not_cost_the_windows_record(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(series, "apply", broken)
    journal.begin(record("w1"))
    assert journal.get("w1") is not None


def test_what_a_killed_process_has_committed_is_there_and_the_file_is_whole(path: Path) -> None:
    Journal(path).close()
    begun: set[str] = set()
    closed: set[str] = set()
    for turn in range(4):
        with process(WRITES_FOR_EVER, path, f"p{turn}") as writer:
            assert writer.stdout is not None
            assert writer.stdout.readline() == "ready\n", writer.stderr
            lines = [writer.stdout.readline() for _ in range(5 + turn)]
            time.sleep(0.003 * turn)  # some instant or other of the next write
            writer.send_signal(signal.SIGKILL)
            for line in (*lines, *writer.stdout):
                what, _, window = line.strip().partition(" ")
                (begun if what == "begun" else closed).add(window)
        assert not is_corrupt(path)
    assert len(closed) >= 8
    with contextlib.closing(Journal(path)) as journal:
        found = {w.id: w for w in journal.history()}
        assert begun <= set(found)
        assert all(found[window].closed_at is not None for window in closed)


def test_a_write_that_is_killed_in_its_middle_leaves_no_trace(path: Path) -> None:
    with process(WRITES_HALF, path) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "half\n"
        assert path.with_name(path.name + "-journal").exists()
        writer.send_signal(signal.SIGKILL)
    assert not is_corrupt(path)
    with contextlib.closing(Journal(path)) as journal:
        found = journal.get("whole")
        assert found is not None
        assert found.reason is None
        assert journal.note("note-0") is None
        journal.update("whole", reason="goes on")


def test_processes_at_once_lose_nothing(path: Path) -> None:
    writers = [process(WRITES_TWELVE, path, f"p{n}") for n in range(4)]
    for writer in writers:
        out, err = writer.communicate(timeout=60)
        assert writer.returncode == 0, out + err
    with contextlib.closing(Journal(path)) as journal:
        assert {w.id for w in journal.history()} == {f"p{p}-{n}" for p in range(4) for n in range(12)}
        assert journal.open_windows() == []


def test_a_journal_that_another_process_holds_is_said_to_be_locked(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file, "BUSY_SECONDS", 0.05)
    with contextlib.closing(Journal(path)) as journal, contextlib.closing(sqlite3.connect(path)) as holder:
        holder.execute("BEGIN EXCLUSIVE")
        error = said(lambda: journal.begin(record("w1")))
        assert "locked" in error.message
        holder.rollback()
        journal.begin(record("w1"))


BROKEN = {
    "no database": b"no database at all" * 100,
    "zeros": b"\0" * 8192,
    "only its head": b"SQLite format 3\0" + b"\xff" * 4096,
}


@pytest.mark.parametrize("read_only", [False, True], ids=["writer", "reader"])
@pytest.mark.parametrize("content", BROKEN.values(), ids=BROKEN)
def test_a_file_that_is_no_database_is_set_aside_and_said_once(path: Path, content: bytes, read_only: bool) -> None:
    path.parent.mkdir()
    path.write_bytes(content)
    lines: list[str] = []
    with contextlib.closing(Journal(path, read_only=read_only, say=lines.append)) as journal:
        assert journal.open_windows() == []
    (broken,) = aside(path)
    assert broken.read_bytes() == content
    (line,) = lines
    assert str(path) in line
    assert broken.name in line
    with contextlib.closing(Journal(path, say=lines.append)) as journal:
        journal.begin(record("w1"))
    assert len(lines) == 1


def filled(path: Path) -> int:
    """A journal with some pages of everything, and one open window; how many pages."""
    with contextlib.closing(Journal(path)) as journal:
        for n in range(60):
            journal.begin(record(f"w{n}", vmid=100 + n, at=START + n))
            closed_at = None if n == 30 else START + 99
            journal.update(f"w{n}", closed_at=closed_at, state="thawed", verdict="unknown", reason="x" * 500)
        for n in range(20):
            journal.set_note(f"k{n}", "y" * 700, START)
        pages = journal.query("PRAGMA page_count")
    return int(pages[0][0])


def test_any_broken_page_costs_no_window(path: Path) -> None:
    pages = filled(path)
    good, page = path.read_bytes(), 4096
    assert len(good) == pages * page
    assert pages > 15
    for number in range(pages):
        path.write_bytes(good[: number * page] + os.urandom(page) + good[(number + 1) * page :])
        lines: list[str] = []
        with contextlib.closing(Journal(path, say=lines.append)) as journal:
            journal.begin(record("new", vmid=7777, at=START + 100))
            journal.update("new", closed_at=START + 101, state="thawed", verdict="unknown", reason="x" * 9000)
            journal.set_note("k", "v", START)
            journal.series()
            journal.history()
            found = journal.get("new")
            assert found is not None, f"page {number}"
            assert found.closed_at == START + 101, f"page {number}"
            assert len(journal.open_windows()) <= 1, f"page {number}"
        assert len(aside(path)) == len([line for line in lines if "broken" in line]) <= 1, f"page {number}: {lines}"
        for broken in aside(path):
            broken.unlink()


def test_an_open_window_and_the_counters_outlive_a_broken_index(path: Path) -> None:
    filled(path)
    with contextlib.closing(Journal(path)) as journal:
        root = journal.query("SELECT rootpage FROM sqlite_schema WHERE name = 'windows_open'")[0][0]
        counters = {tuple(row) for row in journal.series()}
    raw = bytearray(path.read_bytes())
    raw[(root - 1) * 4096 : root * 4096] = b"\xff" * 4096
    path.write_bytes(raw)
    lines: list[str] = []
    with contextlib.closing(Journal(path, say=lines.append)) as journal:
        assert [window.id for window in journal.open_windows()] == ["w30"]
        assert {tuple(row) for row in journal.series()} == counters
    assert "60 windows" in lines[0]


def test_a_truncated_journal_is_set_aside(path: Path) -> None:
    filled(path)
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)
    with contextlib.closing(Journal(path)) as journal:
        journal.history()
        journal.begin(record("new"))
    assert len(aside(path)) == 1
    assert not is_corrupt(path)


@pytest.mark.parametrize(
    "schema", ["CREATE TABLE windows (x)", "CREATE TABLE other (x)", "CREATE TABLE notes (key TEXT, x TEXT)"]
)
@pytest.mark.parametrize("version", range(schema.VERSION + 1))
def test_a_database_with_other_tables_costs_no_window(path: Path, schema: str, version: int) -> None:
    path.parent.mkdir()
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute(schema)
        db.execute(f"PRAGMA user_version = {version}")
    with contextlib.closing(Journal(path)) as journal:
        journal.begin(record("w1"))
        assert [window.id for window in journal.open_windows()] == ["w1"]


TRIES_TO_WRITE = """
import sqlite3, sys
try:
    sqlite3.connect(sys.argv[1], timeout=0).execute("BEGIN IMMEDIATE")
    print("free")
except sqlite3.OperationalError:
    print("locked")
"""


def test_two_that_meet_a_broken_journal_begin_one_new_one(path: Path) -> None:
    filled(path)
    path.write_bytes(b"\xff" * 20000)
    writers = [process(WRITES_TWELVE, path, f"p{n}") for n in range(4)]
    outputs = [writer.communicate(timeout=60) for writer in writers]
    assert [writer.returncode for writer in writers] == [0] * 4, outputs
    assert len(aside(path)) == 1
    assert sum("was broken" in err for _, err in outputs) == 1
    with contextlib.closing(Journal(path)) as journal:
        assert len(journal.history()) == 4 * 12


def test_whoever_has_the_broken_file_open_goes_on_in_the_new_one(path: Path) -> None:
    with contextlib.closing(Journal(path)) as early, contextlib.closing(Journal(path, read_only=True)) as reader:
        early.begin(record("old"))
        assert set_aside(path, identity(path)) is not None
        assert reader_says(reader) == "there is no journal"
        early.begin(record("new"))
        assert early.update("old", reason="x") is False
        assert [window.id for window in reader.open_windows()] == ["new"]


def reader_says(reader: Journal) -> str:
    return said(reader.open_windows).message.partition(" at ")[0]


def test_a_file_is_not_set_aside_while_somebody_writes_to_it(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file, "BUSY_SECONDS", 0.05)
    Journal(path).close()
    with process(WRITES_HALF, path) as writer:
        assert writer.stdout is not None
        writer.stdout.readline()
        with pytest.raises(JournalBusyError):
            set_aside(path, identity(path))
        assert path.exists()
        writer.kill()


def test_nor_while_another_thread_of_this_process_does(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whose lock is there still afterwards: the kernel gives it back when this process closes the file."""
    monkeypatch.setattr(file, "BUSY_SECONDS", 0.05)
    with contextlib.closing(Journal(path)) as journal, journal.transaction("written"):
        with pytest.raises(JournalBusyError):
            set_aside(path, identity(path))
        assert path.exists()
        with process(TRIES_TO_WRITE, path) as stranger:
            assert stranger.communicate(timeout=60)[0] == "locked\n"


def test_what_another_process_has_set_aside_already_stays(path: Path) -> None:
    Journal(path).close()
    assert set_aside(path, (0, 0)) is None
    assert path.exists()
    path.unlink()
    assert set_aside(path, (0, 0)) is None


def test_the_side_files_of_the_broken_one_go_with_it(path: Path) -> None:
    Journal(path).close()
    side = path.with_name(path.name + "-journal")
    side.write_bytes(b"stale")
    target = set_aside(path, identity(path))
    assert target is not None
    assert not side.exists()
    assert target.with_name(target.name + "-journal").read_bytes() == b"stale"


@pytest.mark.parametrize("what", ["pipe", "folder", "device", "socket"])
@pytest.mark.parametrize("read_only", [False, True], ids=["writer", "reader"])
def test_what_is_no_file_is_refused_at_once(tmp_path: Path, what: str, read_only: bool) -> None:
    path = tmp_path / "journal.sqlite"
    match what:
        case "pipe":
            os.mkfifo(path)
        case "folder":
            path.mkdir()
        case "device":
            path.symlink_to("/dev/zero")
        case "socket":
            with socket.socket(socket.AF_UNIX) as listener:
                listener.bind(str(path))
    signal.signal(signal.SIGALRM, lambda *_: pytest.fail("it hangs"))
    signal.alarm(20)
    try:
        assert "no regular file" in said(lambda: Journal(path, read_only=read_only)).message
    finally:
        signal.alarm(0)
    assert not aside(path)


@pytest.mark.parametrize("read_only", [False, True])
@pytest.mark.parametrize("suffix", ["-journal", "-wal", "-shm"])
def test_a_pipe_in_place_of_a_side_file_is_refused_at_once(path: Path, suffix: str, read_only: bool) -> None:
    Journal(path).close()
    os.mkfifo(f"{path}{suffix}")
    with pytest.raises(JournalError, match="no regular file"):
        Journal(path, read_only=read_only)


def test_a_journal_that_cannot_be_opened_leaves_no_database_open(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[sqlite3.Connection] = []
    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *args, **kwargs: made.append(connect(*args, **kwargs)) or made[-1])
    said(lambda: Journal(path, read_only=True))
    said(lambda: JournalReader(Path("/proc/journal.sqlite")))
    assert made
    for db in made:
        with pytest.raises(sqlite3.ProgrammingError, match="closed"):
            db.execute("SELECT 1")


def test_a_side_file_that_another_process_removes_meanwhile_is_none(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite makes and removes its rollback journal while others open the database."""
    Journal(path).close()
    Path(f"{path}-journal").touch()
    stat = Path.stat

    def looks_once(file: Path, **values: bool) -> os.stat_result:
        found = stat(file, **values)
        if file.name.endswith("-journal"):
            file.unlink()
        return found

    monkeypatch.setattr(Path, "stat", looks_once)
    Journal(path).close()


def test_a_commit_survives_a_power_loss_also_in_the_folder(journal: Journal) -> None:
    extra = 3
    assert journal.query("PRAGMA synchronous")[0][0] == extra


def test_a_reader_reads_what_a_killed_writer_left(path: Path) -> None:
    with process(WRITES_HALF, path) as writer:
        assert writer.stdout is not None
        writer.stdout.readline()
        writer.kill()
    with contextlib.closing(Journal(path, read_only=True)) as reader:
        assert [window.id for window in reader.open_windows()] == ["whole"]
        assert reader.note("note-0") is None


def test_a_reader_that_may_not_write_reads_what_a_killed_writer_left(tiny: Path) -> None:
    path = tiny / "journal.sqlite"
    with process(WRITES_SOME, path) as writer:
        assert writer.stdout is not None
        writer.stdout.readline()
        writer.kill()
    subprocess.run(["mount", "-o", "remount,ro", str(tiny)], check=True)
    with contextlib.closing(Journal(path, read_only=True)) as reader:
        assert [window.id for window in reader.open_windows()] == ["whole"]
        assert reader.note("note-0") is None


def test_an_empty_file_becomes_a_journal(path: Path) -> None:
    path.parent.mkdir()
    path.touch()
    with contextlib.closing(Journal(path)) as journal:
        journal.begin(record("w1"))


def test_a_journal_of_a_newer_version_is_left_alone(path: Path) -> None:
    Journal(path).close()
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute(f"PRAGMA user_version = {schema.VERSION + 1}")
    before = path.read_bytes()
    error = said(lambda: Journal(path))
    assert "newer version" in error.message
    assert "upgrade" in error.remedy
    assert path.read_bytes() == before
    assert not is_corrupt(path)


def test_a_reader_never_makes_a_journal(path: Path) -> None:
    said(lambda: Journal(path, read_only=True))
    assert not path.exists()


def test_a_reader_cannot_write(path: Path) -> None:
    Journal(path).close()
    with contextlib.closing(Journal(path, read_only=True)) as reader:
        assert reader.history() == []
        assert "readonly" in said(lambda: reader.begin(record("w1"))).message


def test_a_file_in_place_of_its_folder_is_said(tmp_path: Path) -> None:
    (tmp_path / "state").touch()
    said(lambda: Journal(tmp_path / "state" / "journal.sqlite"))


def test_a_full_disk_is_said_and_the_journal_goes_on_once_there_is_space(tiny: Path) -> None:
    with contextlib.closing(Journal(tiny / "journal.sqlite")) as journal:
        journal.begin(record("before"))
        ballast = fill(tiny)
        error = said(lambda: journal.begin(record("w1", guest_name="x" * 20000)))
        assert "full" in error.message
        assert "free space" in error.remedy
        assert journal.get("before") is not None
        ballast.unlink()
        journal.begin(record("w1", guest_name="x" * 20000))
    assert not is_corrupt(tiny / "journal.sqlite")


def test_a_journal_cannot_be_made_on_a_full_disk(tiny: Path) -> None:
    fill(tiny)
    said(lambda: Journal(tiny / "state" / "journal.sqlite"))
    assert not is_corrupt(tiny / "state" / "journal.sqlite")


def test_a_read_only_file_system_is_said(tiny: Path) -> None:
    path = tiny / "journal.sqlite"
    with contextlib.closing(Journal(path)) as journal:
        journal.begin(record("before"))
    subprocess.run(["mount", "-o", "remount,ro", str(tiny)], check=True)
    with contextlib.closing(Journal(path, read_only=True)) as reader:
        assert reader.get("before") is not None

    def write() -> None:
        with contextlib.closing(Journal(path)) as journal:
            journal.begin(record("w1"))

    assert "read-only" in said(write).remedy
    with pytest.raises(OSError, match="Read-only"):
        set_aside(path, identity(path))


def test_a_broken_journal_that_cannot_be_set_aside_is_said(tiny: Path) -> None:
    path = tiny / "journal.sqlite"
    path.write_bytes(b"no database" * 100)
    subprocess.run(["mount", "-o", "remount,ro", str(tiny)], check=True)
    for read_only in (False, True):
        error = said(lambda read_only=read_only: Journal(path, read_only=read_only))
        assert "is broken" in error.message
        assert "move it away" in error.remedy


@pytest.mark.parametrize("value", [2**63, -(2**64), 10**30])
def test_a_number_that_fits_no_column_is_an_error_of_the_journals(journal: Journal, value: int) -> None:
    journal.begin(record("w1"))
    said(lambda: journal.update("w1", filesystems_thawed=value))
    journal.update("w1", filesystems_thawed=1)


def test_text_that_is_no_unicode_is_an_error_of_the_journals(journal: Journal) -> None:
    said(lambda: journal.begin(record("w1", guest_name="\udcff")))
    journal.begin(record("w2"))


def test_a_row_is_plain_data(journal: Journal) -> None:
    journal.begin(record("w1"))
    found = journal.get("w1")
    assert found is not None
    assert json.loads(json.dumps(found._asdict()))["id"] == "w1"
    assert (found.guest.vmid, found.guest.id, found.is_foreign) == (100, "qemu/100", False)
