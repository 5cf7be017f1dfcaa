"""Which vzdump worker called us: its pid, its UPID and its task log, however the job was started.

The hook's parent is the worker (or a wrapper script's parent is). PVE writes ``task UPID:...`` over a worker's command
line (PVE::RESTEnvironment, fork_worker). Should it stop to do so: a background job's standard output *is* the task log;
a job from a terminal writes to a pipe, and its UPID stands in vzdump.pid and in the list of active tasks.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from snapshot.base.procfs import process_start
from snapshot.config.settings import Config
from snapshot.journal.record import DRILL
from snapshot.model import Owner, Upid
from vzdump_hooks.tasklog.lines import log_path

ANCESTORS = 4
"""How far up the worker is looked for: a wrapper script or two may stand between."""


SELF_TEST = "vzdumpselftest"
"""The type in the UPID of a `vzdump-hook --self-test`, which is no task of PVE's: nothing of it counts as a backup."""


class Worker(NamedTuple):
    """The process that runs the job, and its task where it could be found."""

    pid: int
    start: int
    upid: Upid | None
    log: Path | None
    is_self_test: bool = False
    """Whether no backup is made."""

    @property
    def source(self) -> str:
        """What the journal calls the source of this worker's windows."""
        return DRILL if self.is_self_test else Owner.VZDUMP.value

    @property
    def job(self) -> str:
        """What the journal knows this job by: its task, and where that was not found a name that is as unique."""
        return self.upid.text if self.upid is not None else f"worker:{self.pid}:{self.start}"


def find_worker(config: Config, parent: int | None = None) -> Worker:
    """The worker above this process. Without a task it is still the process whose death ends the backup."""
    local = config.local
    found: Worker | None = None
    listed = [*_upids_in(local.vzdump_pid_file), *_upids_in(local.task_folder / "active")]
    for pid in _ancestors(parent if parent is not None else os.getppid()):
        start = process_start(pid)
        if start is None:
            break
        plays = b"--self-test" in _words_of(pid)
        if found is None or plays or (pid == os.getpgrp() and not found.is_self_test):
            # A worker leads its process group (PVE::RESTEnvironment, fork_worker); a wrapper script ends with our call.
            found = Worker(pid, start, None, None, plays)
        upid = (
            _upid_of_command_line(pid)
            or _upid_of_output(pid, local.task_folder)
            or next((u for u in listed if u.pid == pid and u.pstart == start), None)
        )
        if upid is not None:
            return Worker(pid, start, upid, log_path(local.task_folder, upid), upid.kind == SELF_TEST)
    return found or Worker(os.getppid(), 0, None, None)


def _ancestors(pid: int) -> Iterator[int]:
    for _ in range(ANCESTORS):
        if pid <= 1:
            return
        yield pid
        try:
            stat = Path(f"/proc/{pid}/stat").read_text(errors="replace")
            pid = int(stat.rpartition(")")[2].split()[1])
        except (OSError, ValueError, IndexError):
            return


def _upid_of_command_line(pid: int) -> Upid | None:
    try:
        upid = Upid.parse(_words_of(pid)[0].decode("ascii", "replace").removeprefix("task ").strip())
    except ValueError:
        return None
    return upid if upid.pid == pid else None


def _words_of(pid: int) -> list[bytes]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return [b""]


def _upid_of_output(pid: int, task_folder: Path) -> Upid | None:
    for descriptor in (1, 2):
        try:
            target = Path(os.readlink(f"/proc/{pid}/fd/{descriptor}"))
            upid = Upid.parse(target.name)
        except (OSError, ValueError):
            continue
        if log_path(task_folder, upid).resolve() == target.resolve():  # any folder on the way may be a link
            return upid
    return None


def _upids_in(path: Path) -> list[Upid]:
    found = []
    try:
        text = path.read_text(errors="replace")
    except OSError:
        return []
    for line in text.splitlines():
        word = line.split(" ", 1)[0]
        try:
            found.append(Upid.parse(word))
        except ValueError:
            continue
    return found
