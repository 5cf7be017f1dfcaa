"""Following the task log: files that grow, turn over, vanish and lie; the API behind them; the worker's death."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from snapshot.base.clock import SystemClock
from snapshot.base.procfs import process_start
from snapshot.errors import ApiDeniedError, ApiError, ReplyLostError
from snapshot.model import Upid
from snapshot.pve.transport import Transport
from tests.lab.site import wait_for
from vzdump_hooks.tasklog.follow import BackupFollower, WorkerDiedError, WorkerLife
from vzdump_hooks.tasklog.lines import LONGEST_LINE, ApiLog, FileLog, LogSource
from vzdump_hooks.tasklog.wordings import LogEvent

START = "INFO: Starting Backup of VM 100 (qemu)\n"
QMP = "INFO: starting backup via QMP command\n"
POINT = "INFO: started backup task 'e54a9373'\n"
DONE = "INFO: Finished Backup of VM 100 (00:00:03)\n"
UPID = Upid.parse("UPID:pve1:00000BA2:00098436:6B035CE6:vzdump:100:root@pam:")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "log"


@pytest.fixture
def worker() -> Iterator[subprocess.Popen[bytes]]:
    """A process in the part of the vzdump worker."""
    with subprocess.Popen(["sleep", "300"]) as process:
        yield process
        process.kill()


def life(process: subprocess.Popen[bytes]) -> WorkerLife:
    return WorkerLife(process.pid, process_start(process.pid) or 0)


def follower_of(process: subprocess.Popen[bytes], *sources: LogSource) -> BackupFollower:
    found = BackupFollower(100, sources, life(process), SystemClock())
    assert found.catch_up()
    return found


def append(path: Path, text: str | bytes) -> None:
    with path.open("ab") as file:
        file.write(text if isinstance(text, bytes) else text.encode())


def all_lines(log: LogSource) -> list[str]:
    found: list[str] = []
    while lines := log.lines():
        found += lines
    return found


# ------------------------------------------------------------------------------------------------------------ the file


def test_only_whole_lines_are_read(path: Path) -> None:
    log = FileLog(path)
    append(path, "one\ntw")
    assert log.lines() == ["one"]
    append(path, "o\n")
    assert log.lines() == ["two"]
    assert log.lines() == []


def test_a_file_that_is_missing_cannot_be_read_and_one_that_comes_can(path: Path) -> None:
    log = FileLog(path)
    assert log.lines() is None
    append(path, "one\n")
    assert log.lines() == ["one"]


@pytest.mark.parametrize("kind", ["pipe", "folder", "device"])
def test_what_is_no_regular_file_cannot_be_read_and_keeps_nobody(path: Path, kind: str) -> None:
    """A pipe without a writer once held the one who holds the window past its deadline."""
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to("/dev/zero")
    assert FileLog(path).lines() is None


def test_a_file_that_is_replaced_or_cut_short_is_read_from_its_new_beginning(path: Path) -> None:
    log = FileLog(path)
    append(path, "one\ntwo\nhal")
    assert log.lines() == ["one", "two"]
    other = path.with_name("other")
    other.write_text("new\n")
    other.rename(path)
    assert log.lines() == ["new"]
    path.write_text("")
    assert log.lines() == []
    append(path, "n\n")
    assert log.lines() == ["n"]


def test_bytes_that_are_no_text_are_replaced(path: Path) -> None:
    append(path, b"\xff\xfe\x00 INFO: \xc3\n" + START.encode())
    assert len(FileLog(path).lines() or []) == 2


@pytest.mark.parametrize("size", [LONGEST_LINE - 1, LONGEST_LINE, 3 * LONGEST_LINE, 500_000])
def test_the_end_of_a_long_line_never_looks_like_a_line(path: Path, size: int) -> None:
    """It once did: the end was kept, cut to a length that anybody can work out who chooses a guest's name."""
    log = FileLog(path)
    filler = "x" * (LONGEST_LINE - len(POINT.strip()))
    append(path, ("INFO: VM Name: " + filler * (1 + size // len(filler)))[:size] + POINT.strip())
    found = all_lines(log)
    append(path, "y" * len(filler))
    found += all_lines(log)
    append(path, "\n" + POINT)
    found += all_lines(log)
    assert [line.startswith("INFO: started") for line in found] == [False, True]
    assert all(len(line) <= LONGEST_LINE for line in found)


@given(st.lists(st.binary(max_size=300), max_size=20), st.integers(1, 40))
@settings(max_examples=50, deadline=None)
def test_a_log_is_read_the_same_however_it_is_written(parts: list[bytes], step: int) -> None:
    fd = os.memfd_create("log")
    path = Path(f"/proc/self/fd/{fd}")
    try:
        log, whole = FileLog(path), b"\n".join(parts) + b"\n"
        found: list[str] = []
        for at in range(0, len(whole), step):
            os.write(fd, whole[at : at + step])
            found += log.lines() or []
        assert found == [line.decode("utf-8", "replace") for line in whole.split(b"\n")[:-1]]
    finally:
        os.close(fd)


# ------------------------------------------------------------------------------------------------------------- the API


class Api(Transport):
    """The task's log as PVE's API hands it out."""

    name = "api"

    def __init__(self, text: str = "", error: ApiError | None = None) -> None:
        self.text = text
        self.error = error
        self.lost = False
        self.requests = 0

    def request(self, method: str, path: str, params: object = None, *, timeout_seconds: float = 10.0) -> object:
        assert (method, path.endswith("/log")) == ("GET", True)
        assert isinstance(params, dict)
        self.requests += 1
        if self.error is not None:
            raise self.error
        if self.lost:
            return [{"n": 1, "t": "unable to open file - No such file or directory"}]
        rows = [{"n": n, "t": line} for n, line in enumerate(self.text.splitlines(), 1)]
        start = params["start"]
        if not rows:
            return [{"n": 1, "t": "no content"}]
        return rows[start : start + params["limit"]]

    def close(self) -> None:
        pass


def test_the_api_gives_the_same_lines_once() -> None:
    api = Api()
    log = ApiLog(api, UPID)
    assert log.lines() == []
    api.text = "one\ntwo\n"
    assert log.lines() == ["one", "two"]
    api.text += "three\n"
    assert log.lines() == ["three"]
    assert log.lines() == []


@pytest.mark.parametrize("error", [ReplyLostError("cut"), ApiDeniedError("no", status=403)])
def test_an_api_that_fails_cannot_be_read_and_loses_nothing(error: ApiError) -> None:
    api = Api("one\n")
    log = ApiLog(api, UPID)
    assert log.lines() == ["one"]
    api.error = error
    assert log.lines() is None
    api.error, api.text = None, "one\ntwo\n"
    assert log.lines() == ["two"]


def test_a_log_that_the_api_cannot_open_loses_no_line() -> None:
    """PVE answers with a line that says so, which is none of the log's."""
    api = Api("one\n")
    api.lost = True
    log = ApiLog(api, UPID)
    assert [log.lines(), log.lines()] == [None, None]
    api.lost = False
    assert log.lines() == ["one"]


# ---------------------------------------------------------------------------------------------------- a guest's events


@pytest.mark.parametrize("kind", ["file", "api"])
def test_an_earlier_guests_lines_do_not_end_our_window(worker: subprocess.Popen[bytes], path: Path, kind: str) -> None:
    """Over the API the log was once read from the job's beginning: the first guest's line let go of the second one."""
    api = Api(START.replace("100", "99") + QMP + POINT + "INFO: Finished Backup of VM 99 (00:00:03)\n" + START)
    path.write_text(api.text)
    follower = follower_of(worker, FileLog(path) if kind == "file" else ApiLog(api, UPID))
    assert follower.next(0.02) is None
    append(path, QMP)
    api.text += QMP
    assert wait_for(lambda: follower.next(0.02) is LogEvent.BACKUP_STARTING, 5)


@pytest.mark.parametrize("kind", ["file", "api"])
def test_an_earlier_backup_of_the_same_guest_does_not_end_our_window(
    worker: subprocess.Popen[bytes], path: Path, kind: str
) -> None:
    """`vzdump 100 100` makes two in one job. On a terminal the second one's start may come late."""
    api = Api(START + QMP + POINT + DONE)
    path.write_text(api.text)

    def begin() -> None:
        append(path, START)
        api.text += START

    threading.Timer(0.3, begin).start()
    follower = follower_of(worker, FileLog(path) if kind == "file" else ApiLog(api, UPID))
    assert follower.next(0.02) is None
    append(path, QMP)
    api.text += QMP
    assert wait_for(lambda: follower.next(0.02) is LogEvent.BACKUP_STARTING, 5)


def test_a_job_in_which_only_an_earlier_backup_of_the_guest_is_seen_cannot_be_followed(
    worker: subprocess.Popen[bytes], path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vzdump_hooks.tasklog.follow.CATCH_UP_SECONDS", 0.1)
    path.write_text(START + QMP + POINT + DONE)
    assert not BackupFollower(100, [FileLog(path)], life(worker), SystemClock()).catch_up()


def test_a_log_without_our_guest_cannot_be_followed(
    worker: subprocess.Popen[bytes], path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vzdump_hooks.tasklog.follow.CATCH_UP_SECONDS", 0.1)
    path.write_text(START.replace("100", "1001"))
    assert not BackupFollower(100, [FileLog(path)], life(worker), SystemClock()).catch_up()
    assert not BackupFollower(100, [FileLog(path.with_name("none"))], life(worker), SystemClock()).catch_up()
    assert not BackupFollower(100, [], life(worker), SystemClock()).catch_up()


def test_our_guests_start_may_come_late(worker: subprocess.Popen[bytes], path: Path) -> None:
    """A job on a terminal writes into a pipe, which its parent copies to the log."""
    threading.Timer(0.2, append, (path, START)).start()
    follower_of(worker, FileLog(path))


def test_a_file_that_vanishes_is_followed_over_the_api(worker: subprocess.Popen[bytes], path: Path) -> None:
    path.write_text(START + QMP)
    api = Api(START + QMP)
    follower = follower_of(worker, FileLog(path), ApiLog(api, UPID))
    assert follower.next(0.02) is LogEvent.BACKUP_STARTING
    path.unlink()
    api.text += POINT
    assert wait_for(lambda: follower.next(0.01) is LogEvent.POINT_IN_TIME, 5)
    assert follower.evidence.events[1:] == (LogEvent.BACKUP_STARTING, LogEvent.POINT_IN_TIME)


def test_the_api_is_not_asked_more_often_than_it_likes(worker: subprocess.Popen[bytes]) -> None:
    """Each request occupies one of pvedaemon's three workers, and a holder looks for its thaw every 5 ms."""
    api = Api(START)
    follower = follower_of(worker, ApiLog(api, UPID))
    began, before = time.monotonic(), api.requests
    for _ in range(100):
        assert follower.next(0.005) is None
    assert api.requests - before <= (time.monotonic() - began) / ApiLog.pause_seconds + 1


def test_a_file_that_cannot_be_read_at_all_is_followed_over_the_api(
    worker: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    follower = follower_of(worker, FileLog(tmp_path), ApiLog(Api(START + QMP), UPID))
    assert follower.next(0.02) is LogEvent.BACKUP_STARTING


def test_a_line_is_noticed_within_50_ms(worker: subprocess.Popen[bytes], path: Path) -> None:
    path.write_text(START + QMP)
    follower = follower_of(worker, FileLog(path))
    while follower.next(0.005) is not None:
        pass
    delays: list[float] = []
    for _ in range(20):
        written: list[float] = []

        def write(written: list[float] = written) -> None:
            time.sleep(0.02)
            written.append(time.monotonic())
            append(path, START + QMP + POINT)

        thread = threading.Thread(target=write)
        thread.start()
        while follower.next(0.005) is not LogEvent.POINT_IN_TIME:
            pass
        delays.append(time.monotonic() - written[0])
        thread.join()
    assert sorted(delays)[10] < 0.05, delays


def test_what_a_dead_worker_wrote_is_read_before_its_death_is_told(worker: subprocess.Popen[bytes], path: Path) -> None:
    path.write_text(START)
    follower = follower_of(worker, FileLog(path))
    append(path, QMP + "x" * 200_000 + "\n" + POINT)
    worker.kill()
    worker.wait()
    assert follower.next(1.0) is LogEvent.BACKUP_STARTING
    assert follower.next(1.0) is LogEvent.POINT_IN_TIME
    with pytest.raises(WorkerDiedError):
        follower.next(1.0)


def test_a_workers_death_is_noticed_at_once(worker: subprocess.Popen[bytes], path: Path) -> None:
    path.write_text(START)
    follower = follower_of(worker, FileLog(path))
    threading.Timer(0.1, worker.kill).start()
    began = time.monotonic()

    def until_it_dies() -> None:
        while time.monotonic() - began < 10:
            follower.next(5.0)

    with pytest.raises(WorkerDiedError):
        until_it_dies()
    assert time.monotonic() - began < 5


def test_a_worker_that_is_gone_or_somebody_else_is_dead(worker: subprocess.Popen[bytes]) -> None:
    assert not life(worker).is_dead()
    assert WorkerLife(worker.pid, (process_start(worker.pid) or 0) + 1).is_dead()  # its pid is in use again
    worker.kill()
    worker.wait()
    assert WorkerLife(worker.pid, 1).is_dead(30.0)  # without waiting


def test_what_was_logged_and_not_handed_out_yet_is_known(worker: subprocess.Popen[bytes], path: Path) -> None:
    path.write_text(START + QMP)
    follower = follower_of(worker, FileLog(path))
    append(path, POINT)
    assert follower.has_logged(LogEvent.POINT_IN_TIME)
    assert not follower.has_logged(LogEvent.THAW_ISSUED)
    assert not follower.evidence.events
    assert follower.next(0.01) is LogEvent.BACKUP_STARTING
