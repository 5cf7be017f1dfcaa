"""Tasks: real worker processes, UPIDs, log files and the list of active tasks, as PVE keeps them.

A task is a forked process in a session of its own whose standard output is its log file; its last line is its exit
status. Whether it runs is asked of ``/proc``, by pid and start time, so a killed worker is noticed like on a real node
(PVE::RESTEnvironment, PVE::UPID).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.lab.node.errors import ApiError, Die

_UPID = re.compile(
    r"^UPID:([a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?):([0-9A-Fa-f]{8}):([0-9A-Fa-f]{8,9}):([0-9A-Fa-f]{8}):"
    r"([^:\s/]+):([^:\s/]*):([^:\s/]+):$"
)
# The closing lines of a log; the group is the exit status it stands for.
_LAST_LINE = re.compile(r"^TASK (?:ERROR: (?P<error>.+)|(?P<status>OK|WARNINGS: \d+))$")
_KEPT_IN_ACTIVE = 25
_ACTIVE_LINE = re.compile(r"^(\S+)\s([01])(?:\s([0-9A-Fa-f]{8})(?:\s(.*))?)?$")
_MAX_DESCRIPTORS = 4096


class Interrupted(Exception):  # noqa: N818 - what PVE's signal handler throws into the worker
    """The worker got TERM, INT or QUIT."""


@dataclass(frozen=True)
class Upid:
    """The parts of a UPID."""

    node: str
    pid: int
    pstart: int
    starttime: int
    type: str
    id: str
    user: str

    def __str__(self) -> str:
        head = f"UPID:{self.node}:{self.pid:08X}:{self.pstart:08X}:{self.starttime:08X}"
        return f"{head}:{self.type}:{self.id}:{self.user}:"

    @classmethod
    def parse(cls, text: str) -> Upid | None:
        """The UPID, or None for any other text."""
        match = _UPID.match(text)
        if not match:
            return None
        node, pid, pstart, starttime, kind, name, user = match.groups()
        return cls(node, int(pid, 16), int(pstart, 16), int(starttime, 16), kind, name, user)


def process_start(pid: int) -> tuple[int, str] | None:
    """Start time in clock ticks since boot, and state letter, of a process; None when there is none."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b") ")[2].split()
    except OSError:
        return None
    return int(fields[19]), fields[0].decode()


def is_running(pid: int, pstart: int | None = None) -> bool:
    """Whether this very process lives: a zombie does not."""
    found = process_start(pid)
    return found is not None and found[1] != "Z" and pstart in (None, found[0])


def call_process(name: str) -> None:
    """What an assignment to Perl's $0 does to the name that /proc shows."""
    Path("/proc/self/comm").write_text(name)


@contextlib.contextmanager
def process_called(name: str) -> Iterator[None]:
    """During the block this process is called so."""
    before = Path("/proc/self/comm").read_text().rstrip("\n")
    call_process(name)
    try:
        yield
    finally:
        call_process(before)


def say(text: str) -> None:
    """A line of the task's log, at once (PVE's workers are autoflushed)."""
    os.write(1, text.rstrip("\n").encode() + b"\n")


class TaskLog:
    """The task folder of one lab root."""

    def __init__(self, root: Path) -> None:
        self.folder = root / "var" / "log" / "pve" / "tasks"

    def path(self, upid: Upid) -> Path:
        """Sorted into folders by the last hex digit of the start time."""
        return self.folder / f"{upid.starttime:08X}"[-1] / str(upid)

    def exit_status(self, upid: Upid) -> str:
        """What the last line of the log says; anything but PVE's own closing lines is ``unexpected status``."""
        try:
            lines = self.path(upid).read_text(errors="replace").removesuffix("\n").split("\n")
        except FileNotFoundError:
            return "unexpected status"
        match = _LAST_LINE.match(lines[-1])
        return (match["error"] or match["status"]) if match else "unexpected status"

    def lines(self, upid: Upid, start: int, limit: int) -> tuple[int, list[dict[str, Any]]]:
        """Number of lines in all, and the asked ones as PVE lists them; limit 0 reads to the end."""
        try:
            lines = self.path(upid).read_text(errors="replace").split("\n")
        except FileNotFoundError:
            return 1, [{"n": 1, "t": "unable to open file - No such file or directory"}]
        if not lines[-1]:
            lines.pop()
        if not lines:
            return 1, [{"n": 1, "t": "no content"}]
        end = len(lines) if limit == 0 else start + limit
        return len(lines), [{"n": n + 1, "t": text} for n, text in enumerate(lines)][start:end]

    # ------------------------------------------------------------------ lists

    def refresh(self, new: Upid | None = None) -> list[dict[str, Any]]:
        """Bring ``active`` and ``index`` up to date and return the active list, newest first.

        Finished tasks are noted in ``index`` once; ``active`` keeps the running ones and the last few finished ones.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with _without_reaping(), (self.folder / ".active.lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            tasks = {str(entry["upid"]): entry for entry in self._active()}
            if new is not None:
                tasks.setdefault(str(new), {"upid": new, "saved": False, "endtime": None, "status": None})
            running, finished, archived = [], [], []
            for entry in tasks.values():
                upid = entry["upid"]
                if is_running(upid.pid, upid.pstart):
                    running.append(entry)
                    continue
                if entry["endtime"] is None:
                    entry["endtime"], entry["status"] = int(time.time()), self.exit_status(upid)
                if not entry["saved"]:
                    archived.append(f"{upid} {entry['endtime']:08X} {entry['status']}\n")
                    entry["saved"] = True
                finished.append(entry)
            if archived:
                with (self.folder / "index").open("a") as index:
                    index.writelines(archived)
            finished.sort(key=lambda entry: -entry["upid"].starttime)
            kept = running + finished[: max(0, _KEPT_IN_ACTIVE - len(running))]
            temporary = self.folder / "active.new"
            temporary.write_text("".join(_active_line(entry) for entry in kept))
            temporary.replace(self.folder / "active")
            return kept

    def index(self) -> Iterator[tuple[Upid, int, str]]:
        """Finished tasks, newest first: UPID, end time, exit status."""
        with contextlib.suppress(FileNotFoundError):
            for line in reversed((self.folder / "index").read_text().splitlines()):
                text, endtime, status = line.split(" ", 2)
                if upid := Upid.parse(text):
                    yield upid, int(endtime, 16), status

    def _active(self) -> Iterator[dict[str, Any]]:
        with contextlib.suppress(FileNotFoundError):
            for line in (self.folder / "active").read_text().splitlines():
                match = _ACTIVE_LINE.match(line)
                upid = Upid.parse(match[1]) if match else None
                if match and upid:
                    endtime = int(match[3], 16) if match[3] else None
                    yield {"upid": upid, "saved": match[2] == "1", "endtime": endtime, "status": match[4]}


@contextlib.contextmanager
def _without_reaping() -> Iterator[None]:
    """Hold SIGCHLD back: its handler refreshes the lists too, and would wait for a lock of its own process."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _active_line(entry: dict[str, Any]) -> str:
    line = f"{entry['upid']} {int(entry['saved'])}"
    if entry["endtime"] is not None:
        line += f" {entry['endtime']:08X}"
        if entry["status"]:
            line += f" {entry['status']}"
    return line + "\n"


# ---------------------------------------------------------------------- workers


def fork_worker(log: TaskLog, node: str, kind: str, name: str, user: str, body: Callable[[], int]) -> Upid:
    """Run ``body`` in a process of its own and return its UPID once the process is ready.

    ``body`` returns the number of warnings; Die is the task's error text. The worker survives its parent.
    """
    starttime = int(time.time())
    ready_read, ready_write = os.pipe()
    go_read, go_write = os.pipe()
    pid = os.fork()
    if pid == 0:
        with contextlib.suppress(BaseException):
            _worker(log, Upid(node, os.getpid(), 0, starttime, kind, name, user), body, ready_write, go_read)
        os._exit(1)
    os.close(ready_write)
    os.close(go_read)
    try:
        text = os.read(ready_read, 4096).decode()
    finally:
        os.close(ready_read)
    upid = Upid.parse(text)
    if upid is None:
        os.close(go_write)
        raise Die("got no worker upid - start worker failed")
    os.write(go_write, b"OK")
    os.close(go_write)
    log.refresh(upid)
    return upid


def _worker(log: TaskLog, upid: Upid, body: Callable[[], int], ready: int, go: int) -> None:
    os.setsid()

    def interrupted(number: int, frame: object) -> None:
        raise Interrupted("received interrupt")

    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGTERM):
        signal.signal(number, interrupted)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, set())
    started = process_start(os.getpid())
    call_process("task UPID:")
    assert started is not None
    upid = Upid(upid.node, upid.pid, started[0], upid.starttime, upid.type, upid.id, upid.user)
    path = log.path(upid)
    path.parent.mkdir(parents=True, exist_ok=True)
    output = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o640)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(output, 1)
    os.dup2(output, 2)
    # Nothing of the daemon may live on in a worker: an inherited client connection would outlive a killed server.
    low, high = sorted((ready, go))
    os.closerange(3, low)
    os.closerange(low + 1, high)
    os.closerange(high + 1, _MAX_DESCRIPTORS)
    os.write(ready, str(upid).encode())
    os.close(ready)
    try:
        if os.read(go, 16) != b"OK":
            raise Die("parent setup error")
        os.close(go)
        warnings = body()
        closing = f"TASK WARNINGS: {warnings}" if warnings else "TASK OK"
        code = 0
    except (Die, Interrupted, ApiError) as error:
        text = " ".join(str(error).splitlines())
        closing, code = f"TASK ERROR: {text}", 255
    except Exception as error:  # noqa: BLE001 - a bug of the lab must be visible in the task's exit status
        closing, code = f"TASK ERROR: lab bug: {error!r}", 255
    say(closing)
    os._exit(code)


def stop_worker(upid: Upid, grace: float) -> bool:
    """TERM to the worker's process group, KILL when it still runs after ``grace`` seconds, looked at five times.

    Returns whether it ended by itself.
    """
    if not is_running(upid.pid, upid.pstart):
        return True
    with contextlib.suppress(ProcessLookupError):
        os.killpg(upid.pid, signal.SIGTERM)
    for _ in range(5):
        if not is_running(upid.pid):
            return True
        time.sleep(grace / 5)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(upid.pid, signal.SIGKILL)
    return False
