"""What a guard writes of its thaw."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from snapshot.base.clock import SystemClock
from snapshot.base.procfs import ProcessIdentity
from snapshot.config.settings import Config
from snapshot.errors import JournalError
from snapshot.guard.background import BackgroundRecorder
from snapshot.guard.link import spec_of
from snapshot.guard.recorder import JournalRecorder
from snapshot.journal.record import Cause, WindowRecord
from snapshot.journal.store import Journal
from snapshot.model import ThawReport
from tests.campaign.kit import Notes
from tests.lab.site import wait_for
from tests.unit.kit import record


def recorder_of(window: WindowRecord, open_journal: Callable[[], Journal]) -> JournalRecorder:
    log = logging.getLogger("test")
    me = ProcessIdentity.own()
    return JournalRecorder(spec_of(window, Config()), open_journal, lambda journal: [], SystemClock(), log, me=me)


@pytest.mark.parametrize("guest_gone", [False, True], ids=["thawed", "off or removed"])
def test_no_guard_is_said_to_have_thawed_a_guest_that_was_gone(tmp_path: Path, guest_gone: bool) -> None:
    path = tmp_path / "journal.sqlite"
    window = record(state="frozen")
    with contextlib.closing(Journal(path)) as journal:
        journal.begin(window)
    recorder = recorder_of(window, lambda: Journal(path))
    report = ThawReport(confirmed=True, attempts=1, guest_gone=guest_gone)
    recorder.thawed(Cause.OWNER_DIED, report, watching_seconds=0.0)
    with contextlib.closing(Journal(path)) as journal:
        found = journal.get(window.id)
    assert found is not None
    assert found.verdict == "unknown"
    assert ("the guard thawed the guest" in (found.reason or "")) is not guest_gone
    assert "(owner-died)" in (found.reason or "")


def test_what_a_guard_cannot_write_on_a_full_disk_is_written_once_there_is_room(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It may watch for a late freeze for an hour: until then `status` goes by what the journal says."""
    window, is_full = record(state="freezing"), [True]
    with contextlib.closing(Journal(tmp_path / "journal.sqlite")) as journal:
        journal.begin(window)

    def journal_on_that_disk() -> Journal:
        if is_full[0]:
            raise JournalError("disk is full")
        return Journal(tmp_path / "journal.sqlite")

    behind = recorder_of(window, journal_on_that_disk)
    recorder = BackgroundRecorder(behind, catch_up_seconds=0.01)
    recorder.thawed(Cause.OWNER_DIED, ThawReport(confirmed=True, attempts=1), watching_seconds=3600.0)
    recorder.late_freeze()
    with contextlib.closing(Journal(tmp_path / "journal.sqlite")) as journal:
        assert wait_for(lambda: "not-recorded" in caplog.text)
        is_full[0] = False
        assert wait_for(lambda: found_in(journal, window).thawed_at is not None)
        assert wait_for(lambda: found_in(journal, window).late_freezes == 1)
    recorder.finish()
    said = [line for line in caplog.messages if "not-recorded" in line]
    assert 1 <= len(said) <= 2, "a line for each record, not for each attempt"


def found_in(journal: Journal, window: WindowRecord) -> WindowRecord:
    found = journal.get(window.id)
    assert found is not None
    return found


def test_a_record_that_hangs_is_the_last_one_where_nobody_waited_for_it() -> None:
    """The guard has ended and its process has not: recovery has the window by now, or another guard."""
    hangs, begun = threading.Event(), threading.Event()
    written: list[str] = []

    class Hung(Notes):
        def left_open(self) -> None:
            begun.set()
            hangs.wait()

        def late_freeze(self) -> None:
            written.append("late")

        def catch_up(self) -> None:
            written.append("owed")

    recorder = BackgroundRecorder(Hung())
    recorder.left_open()
    assert begun.wait(60)
    recorder.late_freeze()
    recorder.finish(0.0)
    hangs.set()
    recorder._thread.join(60)
    assert written == []
