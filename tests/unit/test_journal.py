"""The journal: what was committed is there, whatever dies, and whatever is wrong with it is said in words."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from snapshot import journal as module
from snapshot.errors import JournalError
from snapshot.journal import SCHEMA_VERSION, Journal, is_corrupt, set_aside
from snapshot.metrics import projection
from tests.unit.kit import START, record

ROOT = Path(__file__).resolve().parents[2]
PRELUDE = """
import os, sys
from pathlib import Path
from snapshot.journal import Journal
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


def said(call: object) -> JournalError:
    with pytest.raises(JournalError) as caught:
        call()  # type: ignore[operator]
    assert caught.value.exit_code == 9
    assert caught.value.remedy
    return caught.value


def test_an_intent_is_read_back_as_it_was_written(journal: Journal) -> None:
    intent = record("w1", snapshot_name="s1", upid="UPID:x", guest_name="wéb\0\n'")
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

    monkeypatch.setattr(projection, "apply", broken)
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
    monkeypatch.setattr(module, "BUSY_SECONDS", 0.05)
    with contextlib.closing(Journal(path)) as journal, contextlib.closing(sqlite3.connect(path)) as holder:
        holder.execute("BEGIN EXCLUSIVE")
        error = said(lambda: journal.begin(record("w1")))
        assert "locked" in error.message
        holder.rollback()
        journal.begin(record("w1"))


@pytest.mark.parametrize("content", [b"no database at all" * 100, b"\0" * 8192, b"SQLite format 3\0" + b"\xff" * 4096])
def test_a_file_that_is_no_database_is_said_to_be_broken_and_set_aside(path: Path, content: bytes) -> None:
    path.parent.mkdir()
    path.write_bytes(content)
    error = said(lambda: Journal(path))
    assert "safe-snapshot recover" in error.remedy
    assert is_corrupt(path)
    aside = set_aside(path, "20260131")
    assert aside is not None
    assert aside.read_bytes() == content
    assert not path.exists()
    Journal(path).close()


def test_a_database_that_is_damaged_inside_is_found(path: Path) -> None:
    with contextlib.closing(Journal(path)) as journal, journal.transaction("written") as db:
        db.executemany("INSERT INTO notes VALUES (?, ?, 0)", [(f"k{n}", "x" * 500) for n in range(200)])
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 4 : len(raw) // 4 * 3] = b"\xff" * (len(raw) // 4 * 3 - len(raw) // 4)
    path.write_bytes(raw)
    assert is_corrupt(path)


def test_a_truncated_database_is_found(path: Path) -> None:
    with contextlib.closing(Journal(path)) as journal, journal.transaction("written") as db:
        db.executemany("INSERT INTO notes VALUES (?, ?, 0)", [(f"k{n}", "x" * 500) for n in range(50)])
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)
    assert is_corrupt(path)


def test_a_good_journal_and_one_that_is_not_there_are_not_called_corrupt(path: Path) -> None:
    assert not is_corrupt(path)
    assert set_aside(path, "x") is None
    Journal(path).close()
    assert not is_corrupt(path)


def test_a_locked_journal_is_not_called_corrupt(path: Path) -> None:
    Journal(path).close()
    with contextlib.closing(sqlite3.connect(path)) as holder:
        holder.execute("BEGIN EXCLUSIVE")
        assert not is_corrupt(path)


def test_setting_aside_takes_the_side_files_of_the_broken_one_away(path: Path) -> None:
    Journal(path).close()
    side = path.with_name(path.name + "-journal")
    side.write_bytes(b"stale")
    set_aside(path, "x")
    assert not side.exists()


def test_an_empty_file_becomes_a_journal(path: Path) -> None:
    path.parent.mkdir()
    path.touch()
    with contextlib.closing(Journal(path)) as journal:
        journal.begin(record("w1"))


def test_a_journal_of_a_newer_version_is_left_alone(path: Path) -> None:
    Journal(path).close()
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
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


def test_a_folder_in_place_of_the_journal_is_said(tmp_path: Path) -> None:
    said(lambda: Journal(tmp_path))


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
    with pytest.raises(JournalError, match="cannot be set aside"):
        set_aside(path, "x")
    assert not is_corrupt(path)


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
