"""A ping after each job: once, in order, in its form, and what a receiver that also hears the recovery makes of it."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
from collections import Counter

import pytest

from snapshot.base.procfs import process_start
from snapshot.journal import jobs, outbox, silences
from snapshot.journal.jobs import WorkersJob
from snapshot.notify import sending
from tests.metrics.conftest import World
from tests.notify.receivers import WebServer, answer, write_secret
from tests.notify.test_alarms import round_of
from tests.notify.test_sending import DIES, ROOT, kinds, lines, written


@pytest.fixture
def jobs_told(told: World, web: WebServer) -> World:
    """Pings of jobs go to a place of their own."""
    path = write_secret(told.folder / "jobs", f"{web.url}/job/{web.secret}\n")
    told.config = told.config._replace(notify=told.config.notify._replace(job_heartbeat_file=path))
    return told


def job_of(number: int) -> WorkersJob:
    return WorkersJob(4_000_000 + number, 1 + number, f"UPID:pve1:{number}")


def end(world: World, number: int, *, is_well: bool = True) -> None:
    with world.journal.transaction("written") as db:
        jobs.job_ended(db, job_of(number), world.clock.now, is_well=is_well, is_wanted=True)


def job_pings(web: WebServer) -> list[str]:
    return [beat for beat in web.beats if beat.startswith("/job")]


def test_each_job_is_a_ping_of_its_own_in_its_form_and_in_order(jobs_told: World, web: WebServer) -> None:
    for number, is_well in enumerate((True, False, True)):
        end(jobs_told, number, is_well=is_well)
        end(jobs_told, number, is_well=is_well)
    jobs.run_ended(jobs_told.journal, "run", jobs_told.clock.now, is_well=False)
    for _ in range(3):
        assert round_of(jobs_told) == []
        end(jobs_told, 0)
    assert job_pings(web) == ["/job", "/job/fail", "/job", "/job/fail"]
    assert [beat for beat in web.beats if beat.startswith("/beat")] == ["/beat"] * 3, "the recovery's is its own"


def test_what_the_recovery_finds_changes_no_word_of_a_jobs_own(jobs_told: World, web: WebServer) -> None:
    jobs_told.failed_run(100)
    end(jobs_told, 1)
    round_of(jobs_told)
    assert web.beats == ["/job", "/beat/fail"]


def test_a_receiver_that_is_down_gets_every_ping_once_and_in_order(jobs_told: World, web: WebServer) -> None:
    web.handler = answer(503)
    for number in range(4):
        end(jobs_told, number, is_well=number != 1)
        round_of(jobs_told)
    assert "nobody is told by job-heartbeat since" in lines(jobs_told)
    for _ in range(6):
        round_of(jobs_told)
    assert len(job_pings(web)) == 4, "with pauses that grow"
    web.handler = answer(200)
    web.got.clear()
    for _ in range(10):
        assert round_of(jobs_told) == []
    assert job_pings(web) == ["/job", "/job/fail", "/job", "/job"]
    assert "[notify]" not in lines(jobs_told)


def test_a_sender_that_is_killed_at_any_step_leaves_each_ping_to_be_sent(jobs_told: World, web: WebServer) -> None:
    """Twice only where it dies between the answer and the mark."""
    notify = jobs_told.config.notify
    jobs_told.config = jobs_told.config._replace(notify=notify._replace(mail_to="", webhook_file=None))
    path, killed_after = written(jobs_told), list[str]()
    with path.open("a") as file:
        file.write(f'job_heartbeat_file = "{notify.job_heartbeat_file}"\n')
    for at in itertools.count(1):
        web.got.clear()
        end(jobs_told, at, is_well=bool(at % 2))
        arguments = (str(ROOT), str(path), str(at), repr(jobs_told.clock.now + 60))
        done = subprocess.run(
            [sys.executable, "-c", DIES, *arguments], check=False, timeout=60, capture_output=True, text=True
        )
        if done.returncode == 0:
            break
        assert done.returncode == -signal.SIGKILL, done
        killed_after.append(done.stdout.strip())
        jobs_told.clock.now += 120
        for _ in range(2):
            assert round_of(jobs_told) == []
        (form, count), *others = Counter(job_pings(web)).items()
        assert not others
        assert form == ("/job" if at % 2 else "/job/fail")
        assert count == 1 or killed_after[-1].startswith(("after", "DELETE", "COMMIT")), killed_after[-1]
    assert {"before job-heartbeat", "after job-heartbeat"} <= set(killed_after)


def test_a_job_that_was_killed_is_a_failure_and_one_that_another_has_followed_is_not(
    jobs_told: World, web: WebServer
) -> None:
    def begin(pid: int, start: int) -> None:
        silences.note_job(jobs_told.journal, pid, start, jobs_told.clock.now)
        jobs_told.clock.now += 60

    begin(4_100_001, 7)
    begin(4_000_001, 2)
    end(jobs_told, 1)
    begin(os.getpid(), process_start(os.getpid()) or 0)
    begin(4_100_002, 0)  # nobody knows whose it is
    jobs_told.journal.set_note("job:4100003:7", "1", jobs_told.clock.now)  # as 0.1.0 wrote it
    jobs_told.journal.set_note("job:x", silences.BEGUN, jobs_told.clock.now)
    for _ in range(2):
        assert round_of(jobs_told) == []
    assert job_pings(web) == ["/job"]
    begin(4_100_004, 7)
    for _ in range(2):
        assert round_of(jobs_told) == []
    assert job_pings(web) == ["/job", "/job/fail"]


def test_where_one_receiver_hears_both_it_is_never_told_two_things_in_a_row(told: World, web: WebServer) -> None:
    end(told, 1)
    round_of(told)
    assert web.beats == ["/beat", "/beat"], "of the job, and of the recovery"
    web.got.clear()
    end(told, 2, is_well=False)
    round_of(told)
    round_of(told)
    assert web.beats == ["/beat/fail", "/beat"], "for a minute, so that it is seen"
    web.got.clear()
    told.failed_run(100)
    end(told, 3)
    round_of(told)
    assert web.beats == ["/beat/fail"], "not all is well, whatever the job was"
    assert not told.journal.query("SELECT 1 FROM outbox")


def test_the_command_leaves_to_the_recovery_what_it_alone_knows(told: World, web: WebServer) -> None:
    end(told, 1)
    assert sending.send_due(told.journal, told.config, told.clock, at_once=True) == []
    assert web.beats == []
    path = write_secret(told.folder / "jobs", f"{web.url}/job\n")
    told.config = told.config._replace(notify=told.config.notify._replace(job_heartbeat_file=path))
    (done,) = sending.send_due(told.journal, told.config, told.clock, at_once=True)
    assert (done.way, done.ok) == (outbox.JOBS, True)
    assert web.beats == ["/job"]


def test_a_ping_that_makes_no_sense_costs_itself_alone(jobs_told: World, web: WebServer) -> None:
    with jobs_told.journal.transaction("written") as db:
        for body in ("nonsense", "[]", '{"is_well": "yes"}'):
            outbox.put(db, "x", (outbox.JOBS,), body, jobs_told.clock.now)
    end(jobs_told, 1)
    assert round_of(jobs_told) == []
    assert job_pings(web) == ["/job"]
    assert kinds(web) == []


def test_where_nobody_is_pinged_any_more_nothing_waits(jobs_told: World) -> None:
    end(jobs_told, 1)
    notify = jobs_told.config.notify._replace(job_heartbeat_file=None, heartbeat_file=None)
    jobs_told.config = jobs_told.config._replace(notify=notify)
    round_of(jobs_told)
    assert not jobs_told.journal.query("SELECT 1 FROM outbox")
