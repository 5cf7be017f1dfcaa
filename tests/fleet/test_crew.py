"""The crew with workers that do nothing but say something: limits, a system without room, and what a run costs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PRELUDE = """
import os, resource, signal, sys, time
from snapshot.base.clock import SystemClock
from snapshot.fleet.crew import Crew
from snapshot.fleet.job import Job, Unit
from snapshot.fleet.limits import AtOnce
from snapshot.fleet.outcome import GuestOutcome
from snapshot.fleet.worker import Workers, prepare
from snapshot.model import Guest, GuestKind, Node, Vmid
from snapshot.report.boards import SilentBoard
def fork(work):
    return Workers(lambda order, link, gate: work(link, gate)).begin({})
def say(*words):
    print(*words, flush=True)
def units(count, nodes=1):
    return [
        Unit([Job(Guest(Vmid(100 + n), Node(f"pve{n % nodes}"), GuestKind.QEMU, running=True))]) for n in range(count)
    ]
def result(link, **values):
    link.tell_whole("result", snapshot="s1", snapshot_exists=True, verdict="filesystem-consistent", **values)
def no_fate(guest, worker, is_last):
    return GuestOutcome(guest, reason=f"lost: {worker.status}")
def crew(count, work, limits=AtOnce(8, 4, 2), hire=None, nodes=1, wait=0.0):
    made = Crew(units(count, nodes), limits, wait, hire or (lambda job, is_last: fork(work)), no_fate, SilentBoard(),
                SystemClock())
    prepare()
    return made.run()
"""


def run(script: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", PRELUDE + script], capture_output=True, text=True, cwd=ROOT, check=False, timeout=200
    )
    assert done.stderr == ""
    assert done.returncode == 0
    return done.stdout.splitlines()


def test_every_guest_has_an_outcome_in_the_order_of_the_line() -> None:
    script = """
def work(link, gate):
    link.tell_whole("storages", places=[["local", ""]])
    assert link.wait(60)["op"] == "go"
    result(link)
found = crew(20, work, nodes=3)
say([one.guest.vmid for one in found] == list(range(100, 120)), {one.verdict for one in found})
"""
    assert run(script) == ["True {'filesystem-consistent'}"]


def test_no_more_workers_than_the_limits_allow_are_ever_there() -> None:
    script = """
import fcntl, tempfile
folder = tempfile.mkdtemp()
def work(link, gate):
    def count(change):
        with open(f"{folder}/count", "a+") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.seek(0)
            now = int(file.read() or "0") + change
            file.truncate(0)
            file.write(str(now))
            return now
    seen = count(1)
    link.tell_whole("storages", places=[])
    link.wait(60)
    seen = max(seen, count(0))
    count(-1)
    result(link, reason=str(seen))
found = crew(30, work, AtOnce(5, 3, 9), nodes=2)
say(max(int(one.reason) for one in found) <= 5)
"""
    assert run(script) == ["True"]


def test_where_no_process_can_be_started_the_others_end_first_and_then_it_is_tried_again() -> None:
    script = """
room = [2]
def hire(job, is_last):
    if room[0] == 0:
        room[0] = 1
        raise OSError(11, "Resource temporarily unavailable")
    room[0] -= 1
    return fork(lambda link, gate: result(link))
found = crew(6, None, hire=hire)
say({one.verdict for one in found})
def never(job, is_last):
    raise OSError(11, "Resource temporarily unavailable")
found = crew(2, None, hire=never)
say([one.error.message for one in found])
"""
    first, second = run(script)
    assert first == "{'filesystem-consistent'}"
    assert second.count("no process can be started for guest") == 2


def test_what_one_worker_was_told_of_the_cluster_those_that_begin_later_know() -> None:
    script = """
known = []
def hire(job, is_last):
    known.append(job.room and job.room["at"])
    at = len(known)
    def work(link, gate):
        if at == 1:
            link.tell("room", at=7.0)
        result(link)
    return fork(work)
crew(3, None, AtOnce(1, 1, 1), hire=hire)
say(known)
"""
    assert run(script) == ["[None, 7.0, 7.0]"]


def test_a_worker_that_dies_is_asked_for_at_the_journal_and_the_others_go_on() -> None:
    script = """
def work(link, gate):
    link.tell("say", line="here", at=0.0)
    os.kill(os.getpid(), signal.SIGKILL)
def hire(job, is_last):
    return fork(work if job.guest.vmid == 101 else (lambda link, gate: result(link)))
found = crew(4, None, hire=hire)
say([one.reason or one.verdict for one in found])
"""
    well = "'filesystem-consistent'"
    assert run(script) == [f"[{well}, 'lost: -9', {well}, {well}]"]


def test_one_that_is_locked_for_a_while_is_tried_again_in_the_meantime_and_told_how_long_it_waited() -> None:
    script = """
def hire(job, is_last):
    def work(link, gate):
        if job.guest.vmid == 100 and job.tries == 1:
            link.tell_whole("later", lock="backup", why="locked")
        else:
            result(link)
    return fork(work)
found = crew(3, None, hire=hire, wait=600.0)
say([(one.tries, one.waited_seconds > 0) for one in found])
"""
    assert run(script) == ["[(2, True), (1, False), (1, False)]"]


def test_the_memory_of_a_run_does_not_grow_with_its_guests() -> None:
    """Of a thousand guests with a result of 4 KB each the results stay, and no more; all are the parent's own."""
    script = """
def work(link, gate):
    for n in range(3):
        link.tell("say", line="x" * 200, at=0.0)
    result(link, reason="y" * 4000)
def rss():
    with open("/proc/self/status") as file:
        return int(next(line for line in file if line.startswith("VmHWM")).split()[1])
crew(50, work)
before = rss()
found = crew(1000, work)
say(len(found), rss() - before < 16_000, len(os.listdir("/proc/self/fd")) < 12)
"""
    assert run(script) == ["1000 True True"]


def test_a_worker_shares_nearly_all_of_its_parents_memory() -> None:
    script = """
import snapshot.cli.main
def work(link, gate):
    with open("/proc/self/smaps_rollup") as file:
        own = sum(int(line.split()[1]) for line in file if line.startswith("Private_"))
    result(link, reason=str(own))
(one,) = crew(1, work)
say(int(one.reason))
"""
    (own,) = run(script)
    assert int(own) < 6000, f"{own} KB of its own"
