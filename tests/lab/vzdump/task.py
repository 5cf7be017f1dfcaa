"""The fork that makes vzdump's worker, in the background and on a terminal.

Source: pve-common ``PVE/RESTEnvironment.pm`` (fork_worker, tee_worker). UPIDs, task logs and the lists of tasks are
tests.lab.node.tasks'; the node's own workers are simpler, for no hook looks at them. What a hook can see of this one:

* the worker is the hook's parent, leads a session of its own, and shows ``task UPID:...`` as its command line;
* in the background its descriptors 1 and 2 are the task log; on a terminal they are a pipe that the parent copies;
* ``POSIX::pipe`` makes descriptors without close-on-exec, so every hook inherits the worker's end of the start pipe,
  and on a terminal the output pipe and the control pipe as well. A child that outlives the hook holds them.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import select
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.lab.node.tasks import TaskLog, Upid, call_process, is_running, process_start, stop_worker
from tests.lab.vzdump.errors import DEATHS, die_on_signals
from tests.lab.vzdump.log import Logger, write_all

STOP_SECONDS = 5.0
_READ_BYTES = 4096
_TERMS_BEFORE_KILL = 3

Pipe = tuple[int, int]


@dataclass(frozen=True)
class TaskPlan:
    """What a worker is started with. ``work(upid, logger)`` is its work; Die ends it with an error."""

    tasks: TaskLog
    node: str
    user: str
    id: str  # the vmid of a job of one guest, otherwise empty
    work: Callable[[str, Logger], None]
    terminal: bool
    announce: Callable[[Upid], None]  # called by the parent when the worker runs


def run_task(plan: TaskPlan) -> str:
    """Fork a worker, wait for its end and return its exit status in PVE's words. The caller must have one thread."""
    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGPIPE, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    starttime = int(time.time())
    output, start = _pipe(), _pipe()
    control = _pipe() if plan.terminal else None
    pid = os.fork()
    if pid == 0:
        call_process("task UPID:")
        try:
            _worker(plan, starttime, output, start, control)
        finally:
            os._exit(1)  # reached only by a defect of the lab's own
    os.close(output[1])
    os.close(start[0])
    upid = Upid.parse(os.read(output[0], _READ_BYTES).decode())
    if upid is None:
        os.waitpid(pid, 0)
        raise RuntimeError("got no worker upid - start worker failed")
    log = None
    if control is None:
        os.close(output[0])
    else:
        os.close(control[1])
        log = _open_log(plan.tasks, upid)
    write_all(start[1], b"OK")
    os.close(start[1])
    plan.tasks.refresh(upid)
    plan.announce(upid)
    if log is not None and control is not None:
        _tee(output[0], control[0], log, pid)
        # Also after a good end: whatever else is in the worker's process group gets the TERM.
        _signal_group(pid, signal.SIGTERM)
        stop_worker(upid, STOP_SECONDS)
    os.waitpid(pid, 0)
    plan.tasks.refresh()
    return plan.tasks.exit_status(upid)


def _pipe() -> Pipe:
    """POSIX::pipe: both ends are handed down to every program that is started."""
    ends = os.pipe()
    for end in ends:
        os.set_inheritable(end, True)
    return ends


def _open_log(tasks: TaskLog, upid: Upid) -> int:
    path = tasks.path(upid)
    path.parent.mkdir(parents=True, exist_ok=True)
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o640)


def _worker(plan: TaskPlan, starttime: int, output: Pipe, start: Pipe, control: Pipe | None) -> None:
    started = process_start(os.getpid())
    assert started is not None
    upid = Upid(plan.node, os.getpid(), started[0], starttime, "vzdump", plan.id, plan.user)
    show_as(f"task {upid}")
    die_on_signals("received interrupt")
    signal.signal(signal.SIGTTOU, signal.SIG_IGN)
    terminal_group = None
    if control is not None and os.isatty(0):
        # A new session would lose the terminal: PVE makes a process group and hands the terminal to it.
        terminal_group = os.getpgrp()
        os.setpgid(0, 0)
        os.tcsetpgrp(0, os.getpid())
    else:
        os.setsid()
    os.close(output[0])
    os.close(start[1])
    if control is None:
        os.chdir("/")  # where a service stands
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        result = log = _open_log(plan.tasks, upid)
    else:
        os.close(control[0])
        result, log = control[1], output[1]
    os.dup2(log, 1)
    os.dup2(1, 2)
    write_all(output[1], str(upid).encode())
    if control is None:
        os.close(output[1])
    if os.read(start[0], _READ_BYTES) != b"OK":
        os._exit(1)
    message, code = _outcome(plan.work, str(upid))
    write_all(result, message.encode("utf-8", "surrogateescape"))
    if terminal_group is not None:
        os.tcsetpgrp(0, terminal_group)
    os._exit(code)


def _outcome(work: Callable[[str, Logger], None], upid: str) -> tuple[str, int]:
    logger = Logger()
    try:
        work(upid, logger)
    except DEATHS as error:
        return f"TASK ERROR: {' '.join(str(error).splitlines())}\n", 255
    if logger.warnings:
        return f"TASK WARNINGS: {logger.warnings}\n", 0
    return "TASK OK\n", 0


def show_as(title: str) -> None:
    """Perl's assignment to ``$0``: overwrite the command line that /proc shows, and the process's short name.

    Linux keeps the command line where the kernel put it; /proc/self/stat tells where (`man 5 proc`).
    """
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    begin, end = int(fields[45]), int(fields[46])
    text = title.encode()
    if len(text) >= end - begin:
        raise RuntimeError(f"the command line of {end - begin} bytes is too short to show {title!r}")
    ctypes.memmove(begin, text.ljust(end - begin, b"\0"), end - begin)
    Path("/proc/self/comm").write_bytes(text[:15])


def _signal_group(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, number)


def _tee(source: int, control: int, log: int, worker: int) -> None:
    """Copy the worker's output to the terminal and to the log until its end, then its last word."""
    signals = 0

    def pass_on(_number: int, _frame: object) -> None:
        nonlocal signals
        _signal_group(worker, signal.SIGTERM if signals < _TERMS_BEFORE_KILL else signal.SIGKILL)
        signals += 1

    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGTERM):
        signal.signal(number, pass_on)
    while True:
        if select.select([source], [], [], 1.0)[0]:
            data = os.read(source, _READ_BYTES)
            if not data:
                break
            write_all(sys.stdout.fileno(), data)
            write_all(log, data)
        elif not is_running(worker):
            break  # somebody who outlives the worker holds the pipe
    # After a killed worker this waits for whoever else holds the control pipe: PVE's read does.
    last = os.read(control, _READ_BYTES).decode("utf-8", "surrogateescape")
    if last == "TASK OK\n":
        write_all(log, last.encode())
        return
    if match := re.fullmatch(r"TASK (?:ERROR: (.*)|WARNINGS: (\d+))\n", last):
        shown = match[1] if match[2] is None else f"Task finished with {match[2]} warning(s)!"
        closing = f"\n{last}"
    else:
        shown = f"got unexpected control message: {' '.join(last.splitlines())} "
        closing = f"TASK ERROR: {shown}\n"
    write_all(sys.stderr.fileno(), f"{shown}\n".encode("utf-8", "surrogateescape"))
    write_all(log, closing.encode("utf-8", "surrogateescape"))
