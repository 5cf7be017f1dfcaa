"""Waiting for PVE's tasks: few requests in virtual time, the pidfd of a real process, and pids that are used again."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from snapshot.errors import (
    ApiDeniedError,
    ApiError,
    ApiFailureError,
    ApiUnreachableError,
    NodeOfflineError,
    ReplyLostError,
)
from snapshot.model import Upid
from snapshot.pve.tasks import OFFLINE_SECONDS, POLL, TaskEnd, Tasks, pace_of, process_lives, process_start
from tests.unit.kit import ScriptedTransport, VirtualClock

UPID = Upid.parse("UPID:pve1:0003A5F1:00C4D9E2:68F0A1B7:qmsnapshot:100:root@pam!safe:")
RUNNING = {"status": "running"}
STOPPED = {"status": "stopped", "exitstatus": "OK"}
TROUBLE: list[ApiError] = [
    ApiUnreachableError("refused"),
    ReplyLostError("596"),
    ApiFailureError("500", status=500),
]


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


def tasks(
    clock: VirtualClock, status: object, log: object = (), local_node: str = ""
) -> tuple[Tasks, ScriptedTransport]:
    answers = {"/status": status, "/log": list(log) if isinstance(log, tuple) else log, "nodes": []}
    transport = ScriptedTransport(answers, clock)
    return Tasks(transport, clock, local_node), transport


# ----------------------------------------------------------------------------------------------- by status, elsewhere


def test_a_task_that_has_ended_is_seen_with_one_request(clock: VirtualClock) -> None:
    waiting, transport = tasks(clock, STOPPED)
    assert waiting.wait_for_end(UPID, 60.0)
    assert clock.now == 0
    assert len(transport.requests) == 1


def test_the_upid_is_quoted_in_the_path(clock: VirtualClock) -> None:
    waiting, transport = tasks(clock, STOPPED)
    waiting.wait_for_end(UPID, 60.0)
    quoted = UPID.text.replace(":", "%3A").replace("@", "%40").replace("!", "%21")
    assert transport.requests == [("GET", f"nodes/pve1/tasks/{quoted}/status", {})]


def test_many_that_wait_at_one_node_look_together_no_more_often_than_two(clock: VirtualClock) -> None:
    assert pace_of(1) == pace_of(2) == POLL
    for watchers in (3, 20, 200):
        pace = pace_of(watchers)
        assert watchers / pace.interval(1) == pytest.approx(2 / POLL.interval(1))
        waiting, _ = tasks(clock, RUNNING)
        assert not waiting.wait_for_end(UPID, clock.now + 60.0, pace=pace)
        assert max(clock.slept) == pytest.approx(max(POLL.slowest_seconds, pace.first_seconds))


def test_looks_are_10_ms_apart_at_first_and_never_more_than_half_a_second(clock: VirtualClock) -> None:
    waiting, transport = tasks(clock, RUNNING)
    assert not waiting.wait_for_end(UPID, 60.0)
    assert clock.now == pytest.approx(60.0)
    assert clock.slept[0] == pytest.approx(0.01)
    assert max(clock.slept) == pytest.approx(0.5)
    assert clock.slept[:-1] == sorted(clock.slept[:-1])
    assert len(transport.requests) < 150


def test_the_end_of_a_short_task_is_seen_within_a_seventh_of_its_length(clock: VirtualClock) -> None:
    for length in (0.05, 0.2, 0.5, 1.0):
        clock.now = 0.0
        waiting, _ = tasks(clock, lambda length=length: STOPPED if clock.now >= length else RUNNING)
        assert waiting.wait_for_end(UPID, 60.0)
        assert clock.now <= length * 1.15 + 0.01


@pytest.mark.parametrize("error", TROUBLE, ids=lambda e: type(e).__name__)
def test_a_failing_status_request_does_not_end_the_wait_and_is_polite(clock: VirtualClock, error: Exception) -> None:
    waiting, _ = tasks(clock, (error, error, error, STOPPED))
    assert waiting.wait_for_end(UPID, 60.0)
    assert min(clock.slept) >= 0.05


def test_a_token_that_was_revoked_meanwhile_ends_the_wait(clock: VirtualClock) -> None:
    waiting, _ = tasks(clock, (RUNNING, ApiDeniedError("401", status=401)))
    with pytest.raises(ApiDeniedError):
        waiting.wait_for_end(UPID, 60.0)
    assert clock.now < 1


@pytest.mark.parametrize("answer", [None, [], "stopped", 1, {}, {"status": None}, {"status": ["stopped"]}])
def test_an_answer_that_makes_no_sense_is_not_an_end(clock: VirtualClock, answer: object) -> None:
    waiting, _ = tasks(clock, answer)
    assert not waiting.wait_for_end(UPID, 5.0)


def test_a_deadline_that_has_passed_still_looks_once(clock: VirtualClock) -> None:
    clock.now = 100.0
    waiting, transport = tasks(clock, STOPPED)
    assert waiting.wait_for_end(UPID, 50.0)
    assert len(transport.requests) == 1


def test_alive_is_asked_between_looks_and_ends_the_wait_by_raising(clock: VirtualClock) -> None:
    waiting, transport = tasks(clock, RUNNING)

    def alive() -> None:
        if clock.now > 1.0:
            raise RuntimeError("the guard died")

    with pytest.raises(RuntimeError):
        waiting.wait_for_end(UPID, 60.0, alive)
    assert clock.now < 1.6
    assert transport.requests


# ----------------------------------------------------------------------------------------------------------- its end


@pytest.mark.parametrize(
    ("exitstatus", "succeeded"),
    [
        ("OK", True),
        ("WARNINGS: 1", True),
        ("WARNINGS", True),
        ("unexpected status", False),
        ("snapshot name 's1' already used", False),
        ("OK but not really", False),
        ("", False),
    ],
)
def test_only_ok_and_warnings_are_success(exitstatus: str, succeeded: bool) -> None:
    assert TaskEnd(exitstatus).succeeded is succeeded


def test_the_end_has_its_exit_status_and_its_log(clock: VirtualClock) -> None:
    log = [{"n": 1, "t": "snapshotting 'drive'"}, {"n": 2, "t": "TASK OK\x1b[0m"}, "odd", {"n": 3}]
    found, transport = tasks(clock, (RUNNING, RUNNING, STOPPED), log)
    end = found.end(UPID, 60.0)
    assert end is not None
    assert end.exitstatus == "OK"
    assert end.log == ("snapshotting 'drive'", "TASK OK [0m", "")
    assert transport.requests[-1][2] == {"start": 0, "limit": 500}


@pytest.mark.parametrize("log", [*TROUBLE, None, {}, "text"], ids=repr)
def test_a_log_that_cannot_be_read_costs_only_the_log(clock: VirtualClock, log: object) -> None:
    found, _ = tasks(clock, STOPPED, log)
    assert found.end(UPID, 60.0) == TaskEnd("OK")


def test_a_task_that_does_not_end_has_no_end(clock: VirtualClock) -> None:
    found, _ = tasks(clock, RUNNING)
    assert found.end(UPID, 30.0) is None
    assert clock.now == pytest.approx(30.0)


def test_a_stopped_task_without_an_exit_status_did_not_succeed(clock: VirtualClock) -> None:
    found, _ = tasks(clock, {"status": "stopped"})
    end = found.end(UPID, 30.0)
    assert end == TaskEnd("unexpected status")


@pytest.mark.parametrize("error", TROUBLE, ids=lambda e: type(e).__name__)
def test_trouble_on_the_way_to_the_end_is_waited_out(clock: VirtualClock, error: Exception) -> None:
    found, _ = tasks(clock, (*[error] * 20, STOPPED))
    assert found.end(UPID, 60.0) == TaskEnd("OK")


def test_a_node_that_stays_offline_ends_the_asking_long_before_the_tasks_time_is_over(clock: VirtualClock) -> None:
    """A run of many would wait half an hour for one dead node."""
    lost = ReplyLostError("595")
    script = {"/status": lost, "nodes": [{"node": "pve1", "status": "offline"}, {"node": "pve2", "status": "online"}]}
    with pytest.raises(NodeOfflineError, match="pve1 has been offline for 60 s"):
        Tasks(ScriptedTransport(script, clock), clock).end(UPID, 1800.0)
    assert OFFLINE_SECONDS <= clock.now < OFFLINE_SECONDS + 5
    script["nodes"] = [{"node": "pve1", "status": "online"}, {"node": "pve2", "status": "offline"}]
    assert Tasks(ScriptedTransport(script, clock), clock).end(UPID, clock.now + 600.0) is None, "busy, not dead"


def test_a_token_that_was_revoked_meanwhile_ends_the_asking(clock: VirtualClock) -> None:
    found, _ = tasks(clock, (RUNNING, ApiDeniedError("401", status=401)))
    with pytest.raises(ApiDeniedError):
        found.end(UPID, 60.0)


# ------------------------------------------------------------------------------------------------ by pid, on our node


@pytest.fixture
def worker() -> Iterator[subprocess.Popen[bytes]]:
    """A real process in the place of PVE's worker."""
    with subprocess.Popen(["sleep", "60"]) as process:
        yield process
        process.kill()


def upid_of(pid: int, start: int) -> Upid:
    return Upid.parse(f"UPID:pve1:{pid:08X}:{start:08X}:68F0A1B7:qmsnapshot:100:root@pam:")


def start_of(pid: int) -> int:
    start = process_start(pid)
    assert start is not None
    return start


def test_a_worker_on_our_node_is_waited_for_without_a_request(
    clock: VirtualClock, worker: subprocess.Popen[bytes]
) -> None:
    waiting, transport = tasks(clock, RUNNING, local_node="pve1")
    looks = 0

    def alive() -> None:
        nonlocal looks
        looks += 1
        if looks == 3:
            worker.send_signal(signal.SIGKILL)

    assert waiting.wait_for_end(upid_of(worker.pid, start_of(worker.pid)), 60.0, alive)
    assert transport.requests == []


def test_the_deadline_holds_for_a_worker_on_our_node(clock: VirtualClock, worker: subprocess.Popen[bytes]) -> None:
    waiting, transport = tasks(clock, RUNNING, local_node="pve1")

    def alive() -> None:
        clock.now += 20.0

    assert not waiting.wait_for_end(upid_of(worker.pid, start_of(worker.pid)), 60.0, alive)
    assert transport.requests == []


def test_alive_ends_the_wait_for_a_worker_on_our_node(clock: VirtualClock, worker: subprocess.Popen[bytes]) -> None:
    waiting, _ = tasks(clock, RUNNING, local_node="pve1")
    before = len(os.listdir("/proc/self/fd"))

    def alive() -> None:
        raise RuntimeError("the guard died")

    with pytest.raises(RuntimeError):
        waiting.wait_for_end(upid_of(worker.pid, start_of(worker.pid)), 60.0, alive)
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_pid_that_is_used_again_is_not_taken_for_the_worker(
    clock: VirtualClock, worker: subprocess.Popen[bytes]
) -> None:
    waiting, transport = tasks(clock, (RUNNING, STOPPED), local_node="pve1")
    assert waiting.wait_for_end(upid_of(worker.pid, start_of(worker.pid) + 1), 60.0)
    assert len(transport.requests) == 2  # asked PVE instead
    assert worker.poll() is None


def test_a_worker_that_has_ended_already_has_ended(clock: VirtualClock) -> None:
    with subprocess.Popen(["true"]) as process:
        process.wait()
    waiting, transport = tasks(clock, RUNNING, local_node="pve1")
    assert waiting.wait_for_end(upid_of(process.pid, 1), 60.0)
    assert transport.requests == []


def test_a_worker_that_only_waits_to_be_noticed_has_ended(clock: VirtualClock) -> None:
    with subprocess.Popen(["sleep", "60"]) as process:
        start = start_of(process.pid)
        process.send_signal(signal.SIGKILL)
        waiting, _ = tasks(clock, RUNNING, local_node="pve1")
        assert waiting.wait_for_end(upid_of(process.pid, start), 60.0)
        assert not process_lives(process.pid, start)
        assert process_start(process.pid) == start


def test_a_worker_of_another_node_is_never_looked_for_here(
    clock: VirtualClock, worker: subprocess.Popen[bytes]
) -> None:
    waiting, transport = tasks(clock, STOPPED, local_node="pve2")
    assert waiting.wait_for_end(upid_of(worker.pid, start_of(worker.pid)), 60.0)
    assert len(transport.requests) == 1


# ---------------------------------------------------------------------------------------------------- /proc/<pid>/stat


@pytest.mark.parametrize("name", ["perl", "a b", "x) R 1 1", ")", "((", "", "\xff"])
def test_a_process_name_cannot_disturb_the_start_time(tmp_path: Path, name: str) -> None:
    (tmp_path / "7").mkdir()
    rest = " ".join(["S", *map(str, range(4, 22)), "4711", "23"])
    (tmp_path / "7" / "stat").write_bytes(f"7 ({name}) {rest}\n".encode("latin-1"))
    assert process_start(7, tmp_path) == 4711
    assert process_lives(7, 4711, tmp_path)
    assert not process_lives(7, 4712, tmp_path)
    assert not process_lives(7, None, tmp_path)


@pytest.mark.parametrize("state", ["Z", "X"])
def test_a_dead_process_does_not_live(tmp_path: Path, state: str) -> None:
    (tmp_path / "7").mkdir()
    (tmp_path / "7" / "stat").write_text("7 (x) " + " ".join([state, *map(str, range(4, 22)), "4711"]))
    assert not process_lives(7, 4711, tmp_path)


@pytest.mark.parametrize("text", [None, "", "7", "7 (x) S", "7 (x) " + "S " * 30])
def test_what_is_no_stat_is_no_process(tmp_path: Path, text: str | None) -> None:
    (tmp_path / "7").mkdir()
    if text is not None:
        (tmp_path / "7" / "stat").write_text(text)
    assert process_start(7, tmp_path) is None
    assert not process_lives(7, 4711, tmp_path)
    assert not process_lives(None, 4711, tmp_path)


def test_this_process_lives_and_began_before_now() -> None:
    start = start_of(os.getpid())
    assert process_lives(os.getpid(), start)
    assert start / os.sysconf("SC_CLK_TCK") <= time.clock_gettime(time.CLOCK_BOOTTIME)


# ---------------------------------------------------------------------------------------- by its own file, on its node


DENIED = ApiDeniedError("the credentials were refused", status=401)


def filed(folder: Path, clock: VirtualClock, text: bytes, node: str = "pve1") -> Tasks:
    path = folder / UPID.log_folder / UPID.text
    path.parent.mkdir()
    path.write_bytes(text)
    return Tasks(ScriptedTransport({"/status": DENIED, "/log": DENIED}, clock), clock, node, folder)


@pytest.mark.parametrize(
    ("text", "status", "succeeded"),
    [
        (b"snapshotting\nTASK OK\n", "OK", True),
        (b"TASK OK", "OK", True),
        (b"x\nTASK WARNINGS: 2\n", "WARNINGS: 2", True),
        (b"x\nTASK ERROR: VM is locked (snapshot)\n", "VM is locked (snapshot)", False),
        (b"TASK OK\nkilled in the middle of this line", "unexpected status", False),
        (b"", "unexpected status", False),
        (b"\xff" * 300_000 + b"\nTASK ERROR: a\x1b[31mb\n", "a [31mb", False),
    ],
)
def test_a_token_that_is_revoked_does_not_hide_the_end_of_a_task_of_this_node(
    tmp_path: Path, clock: VirtualClock, text: bytes, status: str, succeeded: bool
) -> None:
    end = filed(tmp_path, clock, text).end(UPID, 60.0)
    assert end is not None
    assert (end.exitstatus, end.succeeded) == (status, succeeded)
    assert all(line.isprintable() and len(line) <= 300 for line in end.log)


def test_a_task_whose_worker_lives_has_not_ended_whatever_its_file_says(tmp_path: Path, clock: VirtualClock) -> None:
    start = process_start(os.getpid())
    upid = Upid.parse(f"UPID:pve1:{os.getpid():08X}:{start:08X}:68F0A1B7:qmsnapshot:100:root@pam:")
    path = tmp_path / upid.log_folder / upid.text
    path.parent.mkdir()
    path.write_text("guest says: no\nTASK OK\n")
    waiting = Tasks(
        ScriptedTransport({"/status": DENIED, "/log": DENIED, "nodes": DENIED}, clock), clock, "pve1", tmp_path
    )
    assert waiting.end(upid, 60.0) is None
    assert clock.now >= 59


def test_the_end_of_another_nodes_task_is_not_looked_for_here(tmp_path: Path, clock: VirtualClock) -> None:
    with pytest.raises(ApiDeniedError):
        filed(tmp_path, clock, b"TASK OK\n", node="pve2").end(UPID, 60.0)
    with pytest.raises(ApiDeniedError):
        Tasks(ScriptedTransport({"/status": DENIED}, clock), clock, "pve1", tmp_path / "none").end(UPID, 60.0)
