"""The table of looks: what was last seen of each guest is there for the next look, and nothing older."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

import pytest

from snapshot.errors import JournalError
from snapshot.journal.looks import GuestLook, Why
from snapshot.journal.store import Journal
from tests.unit.kit import START

WELL = GuestLook(
    "qemu/100", 100, "pve1", "db", True, START, diskwrite=7, asked_at=START, state="thawed", first_seen_at=START
)
UNKNOWN = GuestLook(
    "qemu/101",
    101,
    "pve1",
    "wéb",
    running=True,
    seen_at=START,
    still_since_at=START,
    why=Why.AGENT_SILENT.value,
    silent=3,
    first_seen_at=START,
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.sqlite"


def test_a_look_is_read_back_as_it_was_put(path: Path) -> None:
    with contextlib.closing(Journal(path)) as journal:
        journal.put_looks([UNKNOWN, WELL])
    with contextlib.closing(Journal(path, read_only=True)) as journal:
        assert journal.looks() == {"qemu/100": WELL, "qemu/101": UNKNOWN}


def test_a_guest_that_is_not_listed_any_more_has_no_look(path: Path) -> None:
    with contextlib.closing(Journal(path)) as journal:
        journal.put_looks([WELL, UNKNOWN])
        journal.put_looks([WELL._replace(seen_at=START + 60)])
        assert journal.looks() == {"qemu/100": WELL._replace(seen_at=START + 60)}


def as_version_1(path: Path, looks: str = "") -> None:
    """A journal of version 1 with such a table of looks, or none."""
    Journal(path).close()
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.executescript(f"DROP TABLE looks; {looks}; PRAGMA user_version = 1")


def test_a_journal_from_before_the_looks_has_none_and_gains_them(path: Path) -> None:
    as_version_1(path)
    with contextlib.closing(Journal(path, read_only=True)) as journal:
        assert journal.looks() == {}
    with contextlib.closing(Journal(path)) as journal:
        journal.put_looks([WELL])
        assert journal.looks() == {"qemu/100": WELL}


def test_looks_that_cannot_be_written_leave_those_before(path: Path) -> None:
    with contextlib.closing(Journal(path)) as journal:
        journal.put_looks([WELL])
        with pytest.raises(JournalError):
            journal.put_looks([UNKNOWN, WELL._replace(diskwrite=1 << 70)])
        assert journal.looks() == {"qemu/100": WELL}


def test_an_unreadable_table_of_looks_is_the_journals_trouble(path: Path) -> None:
    with contextlib.closing(Journal(path)) as journal:
        journal.put_looks([WELL])
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("ALTER TABLE looks RENAME COLUMN why TO because")
        with pytest.raises(JournalError):
            journal.looks()


def test_the_journal_remembers_since_when_a_guest_is_listed(path: Path) -> None:
    with contextlib.closing(Journal(path)) as journal:
        journal.put_looks([WELL._replace(first_seen_at=None)])
        journal.put_looks([WELL._replace(first_seen_at=None, seen_at=START + 60)])
        assert journal.looks()["qemu/100"].first_seen_at == START
        journal.put_looks([])
        journal.put_looks([WELL._replace(first_seen_at=None, seen_at=START + 120)])
        assert journal.looks()["qemu/100"].first_seen_at == START + 120


def test_a_table_of_another_version_is_made_anew_with_the_next_look(path: Path) -> None:
    as_version_1(path, "CREATE TABLE looks (id TEXT PRIMARY KEY, vmid INTEGER)")
    with contextlib.closing(Journal(path)) as journal:
        assert journal.looks() == {}
        journal.put_looks([WELL])
        assert journal.looks() == {"qemu/100": WELL}
