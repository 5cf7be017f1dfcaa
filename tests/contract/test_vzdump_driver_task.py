"""The lab's vzdump as a task: its worker, its two logs, what holds it up, and how it is stopped.

PVE/VZDump.pm. The order of phases is in test_vzdump_driver.py.
"""

from __future__ import annotations

import contextlib
import os
import pty
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.guest.scripted import ScriptedGuest
from tests.lab.node.tasks import Upid, is_running, process_start
from tests.lab.rundir import run_directory
from tests.lab.vzdump.job import VzdumpJob
from tests.lab.vzdump.options import GuestSpec
from tests.lab.vzdump.testing import Bench

# A child of a hook that outlives it; {} is where it writes its pid. It ends by itself where a test fails.
STAY = "setsid sh -c 'echo $$ >{}; exec sleep 20'"
QUIET = "</dev/null >/dev/null 2>&1"
CLOSED = "3>&- 4>&- 5>&- 6>&- 7>&- 8>&- 9>&-"


@pytest.fixture
def bench() -> Iterator[Bench]:
    with run_directory() as root, run_directory() as run:
        yield Bench(root, run)


@pytest.fixture
def guest(bench: Bench) -> Iterator[ScriptedGuest]:
    with ScriptedGuest(100, bench.run) as guest:
        yield guest


@contextlib.contextmanager
def ended(pid_file: Path) -> Iterator[None]:
    """Kill the process named in a file when the block ends."""
    try:
        yield
    finally:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            os.kill(int(pid_file.read_text()), signal.SIGKILL)


def wait_until(condition: object, timeout: float = 20.0) -> None:
    assert callable(condition)
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.01)


# -- the worker --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("terminal", [False, True], ids=["background", "terminal"])
def test_the_hooks_parent_is_the_worker_that_the_upid_names(bench: Bench, guest: ScriptedGuest, terminal: bool) -> None:
    hook = bench.hook(
        f'echo $PPID >"$call/ppid"; cat /proc/$PPID/stat >"$call/stat"; cat /proc/$PPID/cmdline >"$call/cmdline"\n'
        f'readlink /proc/$PPID/fd/1 /proc/$PPID/fd/2 >"$call/outputs"\n'
        f'cp {bench.root}/var/run/vzdump.pid {bench.root}/var/log/pve/tasks/active "$call" 2>/dev/null; true'
    )
    with bench.job(hook, terminal=terminal, node="pve1", user="backup@pve!nightly") as job:
        result = job.wait()
    upid = Upid.parse(result.upid)
    assert upid is not None
    assert (upid.node, upid.type, upid.id, upid.user) == ("pve1", "vzdump", "100", "backup@pve!nightly")
    call = hook.call("post-restart").folder
    assert int((call / "ppid").read_text()) == upid.pid
    stat = (call / "stat").read_text().rpartition(")")[2].split()
    assert int(stat[19]) == upid.pstart
    session, group = int(stat[3]), int(stat[2])
    assert (session, group) == (upid.pid, upid.pid)
    assert (call / "cmdline").read_bytes().rstrip(b"\0").decode() == f"task {upid}"
    assert (call / "vzdump.pid").read_text() == str(upid)
    assert f"{upid} 0\n" in (call / "active").read_text()
    outputs = (call / "outputs").read_text().splitlines()
    if terminal:
        assert all(output.startswith("pipe:") for output in outputs)
    else:
        assert outputs == [str(job.task_log)] * 2
    last_digit = f"{upid.starttime:08X}"[-1]
    assert job.task_log == bench.root / "var/log/pve/tasks" / last_digit / str(upid)
    # job-init runs before the node-wide lock.
    assert not (hook.call("job-init").folder / "vzdump.pid").exists()


def test_a_job_of_several_guests_has_no_id_in_its_upid(bench: Bench, guest: ScriptedGuest) -> None:
    with bench.job(vmids=(100, 101), guests=(GuestSpec(101, "lxc"),)) as job:
        assert ":vzdump::root@pam:" in job.wait().upid


def test_the_lists_of_tasks_tell_the_end(bench: Bench, guest: ScriptedGuest) -> None:
    with bench.job() as job:
        upid = job.wait().upid
    folder = bench.root / "var/log/pve/tasks"
    assert (folder / "active").read_text().startswith(f"{upid} 1 ")
    assert (folder / "index").read_text().endswith(" OK\n")
    assert not (bench.root / "var/run/vzdump.pid").exists()


def test_the_pid_file_stays_behind_a_job_with_errors(bench: Bench, guest: ScriptedGuest) -> None:
    with bench.job(bench.hook('test "$1" != pre-stop')) as job:
        upid = job.wait().upid
    assert (bench.root / "var/run/vzdump.pid").read_text() == upid


def test_two_jobs_meet_in_job_init_and_nowhere_else(bench: Bench, guest: ScriptedGuest) -> None:
    shared = bench.root / "shared"
    shared.mkdir()
    body = f"""
    case $1 in
    job-init) touch {shared}/$$; until test $(ls {shared} | wc -l) = 2; do sleep 0.05; done;;
    job-start) mkdir {bench.root}/alone || exit 1;;
    job-end) rmdir {bench.root}/alone;;
    esac"""
    with bench.job(bench.hook(body)) as first, bench.job(bench.hook(body)) as second:
        results = [first.wait(), second.wait()]
    assert [result.exitstatus for result in results] == ["OK", "OK"]
    waited = [result for result in results if "INFO: trying to get global lock - waiting..." in result.log_lines]
    assert all("INFO: got global lock" in result.log_lines for result in waited)


def test_a_job_that_waits_too_long_for_the_other_ends_without_a_last_word(bench: Bench, guest: ScriptedGuest) -> None:
    with bench.job(archive_seconds=20) as first:
        first.wait_for_line("started backup task")
        with bench.job(lockwait_seconds=0.2) as second:
            result = second.wait()
    assert result.exitstatus == "unexpected status"
    assert result.log_lines[-1] == "ERROR: can't acquire lock '/var/run/vzdump.lock' - got timeout"


# -- what a hook is handed, and what it says ---------------------------------------------------------------------------


def test_the_hooks_stdin_is_at_its_end(bench: Bench, guest: ScriptedGuest) -> None:
    hook = bench.hook("cat; echo end of input")
    with bench.job(hook) as job:
        result = job.wait()
    assert result.log_lines.count("INFO: end of input") == len(hook.phases)


@pytest.mark.parametrize(("terminal", "inherited"), [(False, 1), (True, 3)], ids=["background", "terminal"])
def test_the_worker_hands_its_own_pipes_down_to_the_hook(
    bench: Bench, guest: ScriptedGuest, terminal: bool, inherited: int
) -> None:
    """POSIX::pipe of Perl sets no close-on-exec: a guard that keeps them can hold a terminal's vzdump up."""
    hook = bench.hook('ls -l /proc/$$/fd >"$call/fds"')
    with bench.job(hook, terminal=terminal) as job:
        job.wait()
    listed = (hook.call("pre-stop").folder / "fds").read_text()
    pipes = [int(number) for number in re.findall(r" (\d+) -> pipe:", listed)]
    # From 10 on they are the shell's own.
    assert len([number for number in pipes if 2 < number < 10]) == inherited, listed


def test_every_line_of_both_streams_is_logged_as_info(bench: Bench, guest: ScriptedGuest) -> None:
    hook = bench.hook(
        """test "$1" != pre-stop || printf 'one\\ntwo\\rthree\\r\\nfour\\b\\b\\bfive\\n\\n0\\n\\377 \\033[1m\\nlast'
        test "$1" != pre-restart || echo error >&2; test "$1" != log-end || echo finished"""
    )
    with bench.job(hook) as job:
        result = job.wait()
    raw = b"\xff \x1b[1m".decode("utf-8", "surrogateescape")
    said = [f"INFO: {text}" for text in ("one", "two", "three", "four", "five", raw, "last", "error")]
    assert [line for line in result.log_lines if line in said] == said
    log = job.guest_log(100).read_bytes().decode("utf-8", "surrogateescape").split("\n")
    assert [line[20:] for line in log if line[20:] in said] == said
    assert "INFO: 0" not in result.log_lines
    # At log-end the guest's log is closed.
    assert "INFO: finished" in result.log_lines
    assert not any("finished" in line for line in log)


def test_a_line_longer_than_a_read_stays_one_line_and_the_last_needs_no_end(bench: Bench, guest: ScriptedGuest) -> None:
    hook = bench.hook('test "$1" != pre-stop || { printf %09000d 7; echo; printf %09000d 8; }')
    with bench.job(hook) as job:
        result = job.wait()
    assert [f"INFO: {n:09000d}" for n in (7, 8)] == [line for line in result.log_lines if line.startswith("INFO: 00")]


# -- the two logs ------------------------------------------------------------------------------------------------------


def test_the_guests_log_stands_still_through_the_archive_while_the_task_log_moves(
    bench: Bench, guest: ScriptedGuest
) -> None:
    with bench.job(bench.hook('echo "said in $1"'), archive_seconds=1.0) as job:
        job.wait_for_line("resuming VM again")
        during = job.guest_log(100).read_text()
        result = job.wait()
    # It was written out when the last hook before the archive was forked: what that one said is not in it yet.
    assert "said in pre-restart" in during
    assert "said in post-restart" not in during
    assert "started backup task" not in during
    after = result.guests[100].log_lines
    assert any("started backup task" in line for line in after)
    assert "INFO: starting backup via QMP command" in result.log_lines


def test_a_compressor_writes_the_guests_log_out_before_the_freeze(bench: Bench, guest: ScriptedGuest) -> None:
    with bench.job(bench.hook('echo "said in $1"'), archive_seconds=1.0, compress=True) as job:
        job.wait_for_line("resuming VM again")
        during = job.guest_log(100).read_text()
    assert "said in post-restart" in during
    assert "fs-freeze" not in during


def test_a_full_block_of_the_guests_log_is_written_out(bench: Bench, guest: ScriptedGuest) -> None:
    hook = bench.hook('test "$1" != post-restart || for i in $(seq 400); do echo "line $i of many"; done')
    with bench.job(hook, archive_seconds=1.0) as job:
        job.wait_for_line("resuming VM again")
        assert job.guest_log(100).stat().st_size % 8192 > 0
        assert "line 100 of many" in job.guest_log(100).read_text()
        assert "line 400 of many" not in job.guest_log(100).read_text()


def test_logfile_is_a_whole_copy_at_log_end_and_absent_before(bench: Bench, guest: ScriptedGuest) -> None:
    hook = bench.hook('cp "$LOGFILE" "$call/log" 2>/dev/null; true')
    with bench.job(hook) as job:
        result = job.wait()
    assert not (hook.call("backup-end").folder / "log").exists()
    copied = (hook.call("log-end").folder / "log").read_text().splitlines()
    assert tuple(copied) == result.guests[100].log_lines
    assert "INFO: Finished Backup of VM 100 " in copied[-1]


def test_the_task_log_has_no_times_and_the_guests_log_has(bench: Bench, guest: ScriptedGuest) -> None:
    with bench.job() as job:
        result = job.wait()
    for line in result.guests[100].log_lines:
        time.strptime(line[:19], "%Y-%m-%d %H:%M:%S")
        assert line[19:26] == " INFO: "
        assert line[20:] in result.log_lines
    # These two have no file handle to go to.
    only_in_task = ("INFO: Backup started at ", "INFO: Backup finished at ")
    assert not any(line[20:].startswith(only_in_task) for line in result.guests[100].log_lines)


# -- who holds a job up ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", ["1", "2"], ids=["stdout", "stderr"])
def test_a_child_that_keeps_a_stream_of_the_hook_holds_the_job_up(
    bench: Bench, guest: ScriptedGuest, stream: str
) -> None:
    pid_file = bench.root / "stays"
    other = "2" if stream == "1" else "1"
    hook = bench.hook(f'test "$1" != backup-start || {STAY.format(pid_file)} </dev/null {other}>/dev/null &')
    with ended(pid_file), bench.job(hook) as job:
        wait_until(pid_file.exists)
        time.sleep(0.5)
        assert hook.phases[-1] == "backup-start"
        assert job.running
        wait_until(lambda: pid_file.read_text().strip())
        os.kill(int(pid_file.read_text()), signal.SIGKILL)
        assert job.wait().exitstatus == "OK"


@pytest.mark.parametrize("terminal", [False, True], ids=["background", "terminal"])
def test_a_child_in_a_session_of_its_own_with_nothing_open_does_not(
    bench: Bench, guest: ScriptedGuest, terminal: bool
) -> None:
    pid_file = bench.root / "stays"
    hook = bench.hook(f'test "$1" != backup-start || {STAY.format(pid_file)} {QUIET} {CLOSED} &')
    with ended(pid_file), bench.job(hook, terminal=terminal) as job:
        assert job.wait(15).exitstatus == "OK"
        assert is_running(int(pid_file.read_text()))


def test_a_child_that_keeps_the_terminals_pipes_delays_a_good_end_by_a_second_only(
    bench: Bench, guest: ScriptedGuest
) -> None:
    pid_file = bench.root / "stays"
    hook = bench.hook(f'test "$1" != backup-start || {STAY.format(pid_file)} {QUIET} &')
    with ended(pid_file), bench.job(hook, terminal=True) as job:
        assert job.wait(15).exitstatus == "OK"
        assert is_running(int(pid_file.read_text()))


def test_a_child_that_keeps_the_terminals_pipes_hangs_vzdump_when_the_worker_is_killed(
    bench: Bench, guest: ScriptedGuest
) -> None:
    """The parent waits for the control pipe's last word, and the child holds its other end."""
    pid_file = bench.root / "stays"
    hook = bench.hook(f'test "$1" != backup-start || {STAY.format(pid_file)} {QUIET} &')
    with ended(pid_file), bench.job(hook, terminal=True, archive_seconds=20) as job:
        job.wait_for_line("started backup task")
        job.kill()
        wait_until(lambda: not job.running)
        with pytest.raises(TimeoutError):
            job.wait(3)
        os.kill(int(pid_file.read_text()), signal.SIGKILL)
        assert job.wait(15).exitstatus.rstrip() == "got unexpected control message:"


# -- stopping ----------------------------------------------------------------------------------------------------------


def test_a_term_during_a_hook_costs_that_guest_only(bench: Bench, guest: ScriptedGuest) -> None:
    hook = bench.hook(f'test "$1-$3" != pre-stop-100 || {{ touch {bench.root}/waits; exec sleep 20; }}')
    with ScriptedGuest(101, bench.run), bench.job(hook, vmids=(100, 101)) as job:
        wait_until((bench.root / "waits").exists)
        job.terminate()
        result = job.wait()
    assert result.guests[100].message == (f"command '{hook.path} pre-stop snapshot 100' failed: interrupted by signal")
    assert (result.guests[101].state, result.exitstatus) == ("ok", "job errors")


def test_a_term_during_the_copy_ends_the_job(bench: Bench, guest: ScriptedGuest) -> None:
    hook = bench.hook()
    with bench.job(hook, vmids=(100, 101), archive_seconds=20) as job:
        job.wait_for_line("started backup task")
        job.stop()
        result = job.wait()
    assert result.exitstatus == "interrupted by signal"
    assert hook.phases[-3:] == ["backup-abort", "log-end", "job-abort"]
    assert result.guests[101].state == "todo"
    assert "INFO: aborting backup job" in result.log_lines
    assert not (bench.root / "locks/100").exists()
    with guest.monitor() as monitor:
        assert monitor.execute("query-jobs") == []


def test_a_killed_job_leaves_everything_as_it_was(bench: Bench, guest: ScriptedGuest) -> None:
    hook = bench.hook()
    guest.qmp_faults.backup_seconds = 60
    with bench.job(hook) as job:
        job.wait_for_line("started backup task")
        job.kill()
        result = job.wait()
    assert result.exitstatus == "unexpected status"
    assert hook.phases[-1] == "post-restart"
    assert (bench.root / "locks/100").read_text() == "backup"
    assert (bench.root / "var/run/vzdump.pid").read_text() == result.upid
    assert "started backup task" not in job.guest_log(100).read_text()
    # The next backup finds the job that still runs inside QEMU.
    (bench.root / "locks/100").unlink()
    guest.qmp_faults.backup_seconds = 0
    with bench.job() as job:
        result = job.wait()
    assert result.exitstatus == "WARNINGS: 1"
    assert "WARN: left-over backup job still running inside QEMU - canceling now" in result.log_lines


def test_a_child_in_a_session_of_its_own_survives_the_stop_of_its_job(bench: Bench, guest: ScriptedGuest) -> None:
    pid_file = bench.root / "stays"
    hook = bench.hook(f'test "$1" != backup-start || {STAY.format(pid_file)} {QUIET} {CLOSED} &')
    with ended(pid_file), bench.job(hook, archive_seconds=20) as job:
        job.wait_for_line("started backup task")
        job.kill()
        job.wait()
        assert is_running(int(pid_file.read_text()))


def test_a_job_that_ignores_the_term_is_killed(bench: Bench, guest: ScriptedGuest) -> None:
    hook = bench.hook(f'test "$1" != job-init || {{ touch {bench.root}/waits; kill -STOP $PPID; sleep 20; }}')
    with bench.job(hook) as job:
        wait_until((bench.root / "waits").exists)
        wait_until(lambda: process_start(job.pid) is not None and process_start(job.pid)[1] == "T")  # type: ignore[index]
        began = time.monotonic()
        job.stop()
        assert time.monotonic() - began >= 4.0
        assert job.wait().exitstatus == "unexpected status"


@pytest.mark.parametrize(("terminal", "survives"), [(False, True), (True, False)], ids=["background", "terminal"])
def test_a_child_in_the_workers_process_group_gets_a_term_at_the_good_end_of_a_terminals_job(
    bench: Bench, guest: ScriptedGuest, terminal: bool, survives: bool
) -> None:
    pid_file = bench.root / "stays"
    stay = STAY.format(pid_file).removeprefix("setsid ")
    hook = bench.hook(f'test "$1" != backup-start || {stay} {QUIET} {CLOSED} &')
    with ended(pid_file), bench.job(hook, terminal=terminal) as job:
        assert job.wait().exitstatus == "OK"
        assert is_running(int(pid_file.read_text())) == survives


# -- a terminal --------------------------------------------------------------------------------------------------------


def test_a_terminal_shows_what_the_log_holds(bench: Bench, guest: ScriptedGuest) -> None:
    with bench.job(bench.hook("echo hello"), terminal=True) as job:
        result = job.wait()
        assert result.exitstatus == "OK"
        assert job.terminal_output.splitlines() == list(result.log_lines[:-1])  # without `TASK OK`


def test_ctrl_c_on_a_terminal_stops_the_job(bench: Bench, guest: ScriptedGuest) -> None:
    with bench.job(terminal=True, archive_seconds=20) as job:
        job.wait_for_line("started backup task")
        job.interrupt()
        assert job.wait().exitstatus == "interrupted by signal"


def test_an_error_on_a_terminal_stands_behind_an_empty_line(bench: Bench, guest: ScriptedGuest) -> None:
    with bench.job(bench.hook("exit 1"), terminal=True) as job:
        result = job.wait()
        assert result.log_lines[-2:] == ("", f"TASK ERROR: {result.exitstatus}")
        assert job.terminal_output.splitlines()[-1] == result.exitstatus


def test_on_a_real_terminal_the_worker_leads_a_group_instead_of_a_session(bench: Bench, guest: ScriptedGuest) -> None:
    hook = bench.hook('cat /proc/$PPID/stat >"$call/stat"')
    ours, theirs = pty.openpty()
    command = ["setsid", "--ctty", sys.executable, "-m", "tests.lab.vzdump.job", "--root", str(bench.root)]
    command += ["--run", str(bench.run), "--script", str(hook.path), "100"]
    with subprocess.Popen(
        command, cwd=Path(__file__).parents[2], stdin=theirs, stdout=theirs, stderr=theirs
    ) as process:
        os.close(theirs)
        shown = bytearray()
        reader = threading.Thread(target=_drain, args=(ours, shown))
        reader.start()
        assert process.wait(60) == 0, bytes(shown)
        reader.join()
    os.close(ours)
    stat = (hook.call("job-init").folder / "stat").read_text()
    pid = int(stat.split(" ")[0])
    group, session, terminal, foreground = (int(field) for field in stat.rpartition(")")[2].split()[2:6])
    assert group == pid == foreground
    assert session == process.pid
    assert terminal != 0
    assert b"INFO: Backup job finished successfully" in shown


def _drain(descriptor: int, shown: bytearray) -> None:
    with contextlib.suppress(OSError):  # EIO is a terminal's end of file
        while data := os.read(descriptor, 4096):
            shown += data


def test_the_command_line_runs_a_job(bench: Bench, guest: ScriptedGuest) -> None:
    command = [sys.executable, "-m", "tests.lab.vzdump.job", "--root", str(bench.root), "--run", str(bench.run)]
    command += ["--background", "--storage-kind", "pbs", "--qemu-server-version", "8.4.0", "--scale", "0.1", "100"]
    done = subprocess.run(
        command, cwd=Path(__file__).parents[2], capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False
    )
    assert done.returncode == 0, done.stderr
    upid, status = done.stdout.splitlines()
    assert Upid.parse(upid) is not None
    assert status == "OK"


def test_a_job_that_was_never_started_says_so(bench: Bench) -> None:
    with pytest.raises(RuntimeError, match="not started"):
        _ = VzdumpJob(bench.job().options).task_log
