"""At a job's end it is written down how it went, for the minute's recovery to tell: once, and it costs no backup."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
from collections.abc import Iterator

import pytest

from snapshot.journal import jobs, outbox
from snapshot.journal.store import Journal
from tests.hook.kit import HandMadeJob, by_hand, hook_site
from tests.lab.guest.scripted import ScriptedGuest
from tests.lab.site import Site
from tests.notify.receivers import write_secret


@pytest.fixture
def lab() -> Iterator[Site]:
    with hook_site() as lab:
        path = write_secret(lab.run / "heartbeat", "https://example.com/\n")
        lab.settings["notify"] = {"job_heartbeat_file": str(path)}
        lab.write_config()
        yield lab


@pytest.fixture
def job(lab: Site, monkeypatch: pytest.MonkeyPatch) -> Iterator[HandMadeJob]:
    with by_hand(lab, monkeypatch) as job:
        yield job


def pings(lab: Site) -> list[tuple[str, bool]]:
    """What waits to be sent: of which job, and whether it says that all is well."""
    with contextlib.closing(Journal(lab.journal_path)) as journal:
        rows = journal.query("SELECT id, way, body FROM outbox ORDER BY number")
        assert {row["way"] for row in rows} <= {outbox.JOBS}
        return [(row["id"], json.loads(row["body"])["is_well"]) for row in rows]


def good_backup(job: HandMadeJob) -> None:
    for phase in ("job-start", "backup-start", "post-restart"):
        assert job.phase(phase) == 0
    job.start_backup()
    assert job.phase("backup-end") == 0


def test_a_job_that_ends_well_leaves_one_ping_however_often_it_says_so(lab: Site, job: HandMadeJob) -> None:
    good_backup(job)
    assert pings(lab) == []
    for _ in range(2):
        assert job.phase("job-end") == 0
    assert pings(lab) == [(job.upid.text, True)]


def test_a_job_whose_guest_fell_back_has_failed(lab: Site, job: HandMadeJob) -> None:
    assert isinstance(lab.guest, ScriptedGuest)
    lab.guest.kill_agent()
    job.phase("job-start")
    job.phase("backup-start")
    job.phase("post-restart")
    job.start_backup(own_freeze=True)
    job.phase("backup-end")
    job.phase("job-end")
    assert pings(lab) == [(job.upid.text, False)]


@pytest.mark.parametrize("kind", ["qemu", "lxc"])
def test_a_backup_that_was_aborted_is_a_job_that_failed(lab: Site, job: HandMadeJob, kind: str) -> None:
    """A container's too, which leaves no window."""
    job.phase("job-start")
    assert job.phase("backup-abort", VMTYPE=kind) == 0
    assert job.phase("job-end") == 0
    assert pings(lab) == [(job.upid.text, False)]
    with contextlib.closing(Journal(lab.journal_path)) as journal:
        assert not journal.query("SELECT 1 FROM notes WHERE key GLOB 'failed:*'"), "it is forgotten with the job"


def test_a_job_that_is_aborted_after_it_had_ended_well_has_failed(lab: Site, job: HandMadeJob) -> None:
    good_backup(job)
    job.phase("job-end")
    job.phase("job-abort")
    job.phase("job-end")
    assert pings(lab) == [(job.upid.text, False)]


def test_one_whose_good_ping_was_sent_before_it_failed_leaves_another(lab: Site, job: HandMadeJob) -> None:
    good_backup(job)
    job.phase("job-end")
    with contextlib.closing(Journal(lab.journal_path)) as journal:
        ping = outbox.first(journal, outbox.JOBS)
        assert ping is not None
        outbox.sent(journal, ping)
    job.phase("job-abort")
    assert pings(lab) == [(job.upid.text, False)]


def test_nothing_is_left_where_nobody_is_told(lab: Site, job: HandMadeJob) -> None:
    del lab.settings["notify"]
    lab.write_config()
    good_backup(job)
    job.phase("job-end")
    assert pings(lab) == []


def test_a_job_that_is_gone_without_a_word_has_failed_once(lab: Site, job: HandMadeJob) -> None:
    job.phase("job-start")
    with contextlib.closing(Journal(lab.journal_path)) as journal:
        jobs.find_killed(journal, 1e9, is_wanted=True)
        assert pings(lab) == [], "it runs"
        job.kill()
        for _ in range(2):
            jobs.find_killed(journal, 1e9, is_wanted=True)
    ((_, is_well),) = pings(lab)
    assert not is_well


@pytest.mark.parametrize("why", ["held", "unwritable"])
def test_a_journal_that_takes_nothing_fails_no_job(
    lab: Site, job: HandMadeJob, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    good_backup(job)
    monkeypatch.setattr("snapshot.journal.file.BUSY_SECONDS", 0.2)
    if why == "held":
        with contextlib.closing(sqlite3.connect(lab.journal_path, isolation_level=None)) as other:
            other.execute("BEGIN EXCLUSIVE")
            assert job.phase("job-end") == 0
    else:
        monkeypatch.setattr(jobs, "json", None)  # an error that nobody thought of
        assert job.phase("job-end") == 0
    assert "WARNING: job-end" in "\n".join(job.said)
    assert os.path.exists(lab.journal_path)
    assert pings(lab) == []
