"""What a guard writes of its thaw."""

from __future__ import annotations

import contextlib
import logging
from pathlib import Path

import pytest

from snapshot.base.clock import SystemClock
from snapshot.base.procfs import ProcessIdentity
from snapshot.config.settings import Config
from snapshot.guard.link import spec_of
from snapshot.guard.recorder import JournalRecorder
from snapshot.journal.record import Cause
from snapshot.journal.store import Journal
from snapshot.model import ThawReport
from tests.unit.kit import record


@pytest.mark.parametrize("guest_gone", [False, True], ids=["thawed", "off or removed"])
def test_no_guard_is_said_to_have_thawed_a_guest_that_was_gone(tmp_path: Path, guest_gone: bool) -> None:
    path, clock = tmp_path / "journal.sqlite", SystemClock()
    window = record(state="frozen")
    with contextlib.closing(Journal(path)) as journal:
        journal.begin(window)
    recorder = JournalRecorder(
        spec_of(window, Config()),
        lambda: Journal(path),
        lambda journal: [],
        clock,
        logging.getLogger("test"),
        me=ProcessIdentity.own(),
    )
    report = ThawReport(confirmed=True, attempts=1, guest_gone=guest_gone)
    recorder.thawed(Cause.OWNER_DIED, report, watching_seconds=0.0)
    with contextlib.closing(Journal(path)) as journal:
        found = journal.get(window.id)
    assert found is not None
    assert found.verdict == "unknown"
    assert ("the guard thawed the guest" in (found.reason or "")) is not guest_gone
    assert "(owner-died)" in (found.reason or "")
