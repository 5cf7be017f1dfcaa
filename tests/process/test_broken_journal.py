"""The disk fills up, the journal turns read-only, corrupt, locked or disappears: the guest is thawed all the same."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from snapshot.base.clock import SystemClock
from snapshot.base.procfs import ProcessIdentity
from snapshot.config import reading
from snapshot.errors import JournalError
from snapshot.journal import file
from snapshot.journal.store import Journal
from snapshot.pve.access import open_access
from snapshot.recovery.recover import recover
from tests.hook.kit import back_up, hook_site, newest, said
from tests.lab.guest.scripted import ScriptedGuest
from tests.lab.site import Site, wait_for
from tests.process.figures import thawed_within
from tests.process.processes import guarded_site, guards, held, hold_frozen, kill, the_guard
from tests.process.timeline import Timeline


def mount(*arguments: str) -> bool:
    """Whether the mount worked; inside some containers nothing may be mounted."""
    return subprocess.run(["mount", *arguments], stderr=subprocess.DEVNULL, check=False).returncode == 0


@contextlib.contextmanager
def small_disk(lab: Site) -> Iterator[Path]:
    """The journal's folder on a file system of its own."""
    state = lab.journal_path.parent
    if not mount("-t", "tmpfs", "-o", "size=256k", "tmpfs", str(state)):
        pytest.skip("nothing may be mounted here")
    try:
        yield state
    finally:
        subprocess.run(["umount", "--lazy", str(state)], check=True)


def fill(folder: Path) -> None:
    """Leave no byte free."""
    with (folder / "filler").open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(b"x" * 512)


def test_a_disk_that_fills_up_in_the_window_changes_nothing_about_the_thaw() -> None:
    with guarded_site(ScriptedGuest) as (lab, timeline), small_disk(lab) as disk:
        hold_frozen(lab)
        with lab.start("100", "--policy", "require") as owner:
            held(lab)
            fill(disk)
            lab.node.release()
            out, err = owner.communicate(timeout=30)
        assert not timeline.is_frozen()
        assert owner.returncode == 10, (out, err)
        assert "disk is full" in out + err
        (window,) = lab.windows()
        assert window.closed_at is None
        # The next recovery copes: it thaws, says what it cannot write, and closes the window once there is room.
        recovered = lab.safe_snapshot("recover")
        assert recovered.exit_code == 9, recovered.text
        assert "disk is full" in recovered.text
        (disk / "filler").unlink()
        # Without any other run: the guard that it left behind catches up.
        assert wait_for(lambda: lab.windows()[0].thawed_at is not None)
        assert lab.safe_snapshot("recover").exit_code == 0


def test_a_full_disk_is_found_before_a_freeze() -> None:
    with guarded_site(ScriptedGuest) as (lab, timeline), small_disk(lab) as disk:
        assert lab.safe_snapshot("100").exit_code == 0
        fill(disk)
        freezes = len(timeline.freezes())
        run = lab.safe_snapshot("100", "--policy", "require", "--name", "second")
        assert run.exit_code == 9, run.text
        assert len(timeline.freezes()) == freezes


def test_the_guard_thaws_on_a_full_disk() -> None:
    with guarded_site(ScriptedGuest) as (lab, timeline), small_disk(lab) as disk:
        hold_frozen(lab)
        with lab.start("100") as owner:
            held(lab)
            fill(disk)
            killed_at = kill(owner.pid)
        thawed_within(2.0, timeline, killed_at, "owner killed, disk full")
        assert wait_for(lambda: not guards(lab))
        (disk / "filler").unlink()
        assert lab.safe_snapshot("recover").exit_code == 0


def test_the_guard_thaws_with_a_journal_that_turned_read_only() -> None:
    with guarded_site(ScriptedGuest) as (lab, timeline):
        state = str(lab.journal_path.parent)
        hold_frozen(lab)
        with lab.start("100") as owner:
            held(lab)
            if not (mount("--bind", state, state) and mount("-o", "remount,bind,ro", state)):
                pytest.skip("nothing may be mounted here")
            try:
                killed_at = kill(owner.pid)
                thawed_within(2.0, timeline, killed_at, "owner killed, journal read-only")
                recovered = lab.safe_snapshot("recover")
                assert recovered.exit_code == 9, recovered.text
                assert "readonly" in recovered.text
                assert "watched" in recovered.text
            finally:
                subprocess.run(["umount", "--lazy", state], check=True)
        for pid in guards(lab):
            kill(pid)
        assert lab.safe_snapshot("recover").exit_code == 0
        assert lab.windows()[0].thawed_at is not None


def test_recover_does_not_start_one_guard_after_the_other_for_a_journal_it_cannot_write() -> None:
    with guarded_site(ScriptedGuest) as (lab, timeline), small_disk(lab) as disk:
        orphaned(lab, timeline)
        fill(disk)
        for _ in range(3):
            assert lab.safe_snapshot("recover").exit_code == 9
        assert wait_for(lambda: len(guards(lab)) == 1)
        assert not timeline.is_frozen()


def orphaned(lab: Site, timeline: Timeline) -> None:
    """Guest 100 frozen, its owner and its guard dead."""
    hold_frozen(lab)
    with lab.start("100") as owner:
        held(lab)
        kill(the_guard(lab), owner.pid)
    assert wait_for(timeline.is_frozen)


@pytest.mark.parametrize("how", ["corrupt", "not a database", "missing", "begun anew"])
def test_recover_finds_the_frozen_guest_without_a_journal(how: str) -> None:
    with guarded_site(ScriptedGuest) as (lab, timeline):
        orphaned(lab, timeline)
        path = lab.journal_path
        if how in ("missing", "begun anew"):
            path.unlink()
            if how == "begun anew":
                Journal(path).close()  # as any command does that comes first
        else:
            good = path.read_bytes()
            path.write_bytes(b"x" * 9000 if how == "not a database" else good[:200] + os.urandom(len(good) - 200))
        recovered = lab.safe_snapshot("recover")
        # Nobody knows any more whose freeze it is: it is reported, and left to the operator.
        assert recovered.exit_code == 8, recovered.text
        assert "guest 100" in recovered.text
        aside = list(path.parent.glob("journal.sqlite.broken-*"))
        assert len(aside) == (0 if how in ("missing", "begun anew") else 1)
        assert lab.safe_snapshot("recover").exit_code == 8, "it is still frozen, and was forgotten"
        assert lab.safe_snapshot("thaw", "100").exit_code == 0
        assert not timeline.is_frozen()
        assert lab.safe_snapshot("recover").exit_code == 0
        asked = len(lab.node.requests("/cluster/resources"))
        assert lab.safe_snapshot("recover").exit_code == 0
        assert len(lab.node.requests("/cluster/resources")) == asked + 1, "one request lists all the guests"
        assert lab.safe_snapshot("100", "--policy", "require").exit_code == 0


def test_recover_thaws_what_it_finds_without_a_journal_when_the_operator_says_so() -> None:
    with guarded_site(ScriptedGuest) as (lab, timeline):
        orphaned(lab, timeline)
        lab.journal_path.unlink()
        lab.settings["freeze"]["foreign"] = "thaw"
        lab.write_config()
        assert lab.safe_snapshot("recover").exit_code == 0
        assert not timeline.is_frozen()


def test_a_locked_journal_does_not_stand_between_two_thaws() -> None:
    with guarded_site(ScriptedGuest) as (lab, timeline):
        hold_frozen(lab)
        lab.node.fault("fsfreeze-thaw", "status", status=500, reason="got timeout", times=2)
        with lab.start("100") as owner:
            held(lab)
            with contextlib.closing(sqlite3.connect(lab.journal_path, isolation_level=None)) as other:
                other.execute("BEGIN EXCLUSIVE")
                killed_at = kill(owner.pid)
                thawed_within(2.0, timeline, killed_at, "owner killed, two thaws fail, journal locked")
        assert wait_for(lambda: lab.windows()[0].thawed_at is not None)  # written when the lock was gone


def test_a_locked_journal_is_not_taken_for_a_broken_one(monkeypatch: pytest.MonkeyPatch) -> None:
    with guarded_site(ScriptedGuest) as (lab, timeline):
        orphaned(lab, timeline)
        monkeypatch.setattr(file, "BUSY_SECONDS", 0.2)
        access = open_access(reading.load(lab.config_path), SystemClock())
        said: list[str] = []
        with contextlib.closing(sqlite3.connect(lab.journal_path, isolation_level=None)) as other:
            other.execute("BEGIN EXCLUSIVE")
            with pytest.raises(JournalError, match="locked"):
                recover(
                    access,
                    ProcessIdentity.own(),
                    lambda: Journal(lab.journal_path),
                    lambda line, at=None: said.append(line),
                )
        assert any("safe-snapshot thaw 100" in line for line in said)
        assert not list(lab.journal_path.parent.glob("*.broken-*"))
        assert lab.safe_snapshot("recover").exit_code == 0
        assert not timeline.is_frozen()


def test_a_write_that_is_killed_halfway_leaves_a_journal_that_is_whole() -> None:
    with guarded_site(ScriptedGuest) as (lab, timeline):
        orphaned(lab, timeline)
        code = (
            "import os, sqlite3, sys; db = sqlite3.connect(sys.argv[1], isolation_level=None);"
            "db.execute('PRAGMA cache_size = 1'); db.execute('BEGIN IMMEDIATE');"
            "db.execute('CREATE TABLE half (x)');"
            "db.executemany('INSERT INTO half VALUES (?)', [('y' * 3000,)] * 50); os.kill(os.getpid(), 9)"
        )
        killed = subprocess.run(["/usr/bin/python3", "-c", code, str(lab.journal_path)], check=False)
        assert killed.returncode == -9
        assert lab.journal_path.with_name("journal.sqlite-journal").stat().st_size > 0
        assert lab.safe_snapshot("recover").exit_code == 0
        assert not timeline.is_frozen()
        assert lab.windows()[0].thawed_at is not None


@pytest.mark.parametrize("who", ["safe-snapshot", "hook", "status", "history", "metrics"])
def test_whoever_meets_a_broken_journal_sets_it_aside_and_the_next_guest_is_frozen(who: str) -> None:
    with hook_site(ScriptedGuest) as lab:
        assert lab.safe_snapshot("100", "--policy", "require").exit_code == 0
        lab.journal_path.write_bytes(os.urandom(lab.journal_path.stat().st_size))
        match who:
            case "safe-snapshot":
                run = lab.safe_snapshot("100", "--policy", "require", "--name", "s2")
                assert run.exit_code == 0, run.text
                assert "was broken" in run.text
            case "hook":
                result = back_up(lab, 100)
                assert result.log_lines[-1] == "TASK OK"
                assert any("was broken" in line for line in result.log_lines)
            case "metrics":
                assert "was broken" in lab.safe_snapshot("metrics", "print").text
            case _:
                assert "was broken" in lab.safe_snapshot(who).text
        assert len(list(lab.journal_path.parent.glob("*.broken-*"))) == 1
        assert "was broken" not in lab.safe_snapshot("history").text
        assert lab.safe_snapshot("100", "--policy", "require", "--name", "s3").exit_code == 0
        assert newest(lab).verdict == "filesystem-consistent"


@pytest.mark.parametrize("what", ["pipe", "folder", "device"])
def test_a_backup_goes_on_beside_a_journal_that_is_no_file(what: str) -> None:
    with hook_site(ScriptedGuest) as lab:
        lab.journal_path.unlink(missing_ok=True)
        match what:
            case "pipe":
                os.mkfifo(lab.journal_path)
            case "folder":
                lab.journal_path.mkdir()
            case "device":
                lab.journal_path.symlink_to("/dev/zero")
        result = back_up(lab, 100)
        assert result.log_lines[-1] == "TASK OK"
        assert said(result)
        for command in ("status", "history", "recover"):
            assert lab.safe_snapshot(command).exit_code == 9, command
        assert lab.safe_snapshot("100", "--policy", "require").exit_code == 9
