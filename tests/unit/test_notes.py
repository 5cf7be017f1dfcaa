"""Which windows belong to a job: those of its own task, and of no other."""

from __future__ import annotations

import contextlib
from pathlib import Path

from snapshot.journal.store import Journal
from snapshot.model import Upid
from tests.unit.kit import START, record
from vzdump_hooks.phases.plan import windows_of_job
from vzdump_hooks.tasklog.worker import Worker


def upid(pid: int) -> Upid:
    return Upid.parse(f"UPID:pve1:{pid:08X}:00000001:{int(START):08X}:vzdump::root@pam:")


def test_the_windows_of_a_job_are_those_of_its_own_task(tmp_path: Path) -> None:
    ours, theirs = upid(7), upid(8)
    with contextlib.closing(Journal(tmp_path / "journal.sqlite")) as journal:
        for number, task in enumerate((ours, theirs)):
            journal.begin(record(id=f"{number}" * 32, source="vzdump", upid=task.text))
        journal.begin(record(id="2" * 32, source="snapshot", upid=ours.text))
        found = windows_of_job(journal, Worker(ours.pid, ours.pstart, ours, None))
    assert [window.id for window in found] == ["0" * 32]
