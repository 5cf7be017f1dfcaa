"""The lab's vzdump: a backup job that behaves towards hook and guest as Proxmox VE's does.

By hand: ``python -m tests.lab.vzdump.job --root DIR --run DIR --script HOOK 100`` backs guest 100 up and prints the
task's log; ``--help`` lists the rest. In tests: ``VzdumpJob``. The job runs in processes of its own: a parent, in the
part of pvedaemon or of the terminal's ``vzdump``, and the worker it forks.

The parts: options (what a job is told), task (the fork), worker (the order of things), plugins (QEMU guests and
containers), freeze, backup, command (hooks), log.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Self

from tests.lab.node.tasks import TaskLog, Upid, is_running, stop_worker
from tests.lab.vzdump.log import Logger
from tests.lab.vzdump.options import MODES, STORAGE_KINDS, GuestSpec, JobOptions, Limits
from tests.lab.vzdump.task import STOP_SECONDS, TaskPlan, run_task
from tests.lab.vzdump.worker import Vzdump, results_path

_REPOSITORY = Path(__file__).parents[3]
_START_SECONDS = 60.0
_POLL_SECONDS = 0.01


@dataclass(frozen=True)
class GuestResult:
    """What became of one guest. ``state``: ``ok``, ``err``, or ``todo`` where the job never came to it."""

    vmid: int
    state: str
    message: str
    mode: str  # as the hook was told in the end
    target: str  # as the hook was told
    archive: Path | None  # the copy, where there is one
    log_lines: tuple[str, ...]  # of the guest's log, times included


@dataclass(frozen=True)
class JobResult:
    """The end of a job. ``exitstatus`` in PVE's words; ``guests`` is empty when the worker was killed."""

    upid: str
    exitstatus: str
    log_lines: tuple[str, ...]
    guests: dict[int, GuestResult]

    @property
    def ok(self) -> bool:
        return self.exitstatus == "OK" or self.exitstatus.startswith("WARNINGS: ")


class VzdumpJob:
    """One job, in processes of its own. As a context manager it leaves none of them behind.

    Everything in the task's log is decoded with surrogate escapes: hooks print what they like.
    """

    def __init__(self, options: JobOptions) -> None:
        self.options = options
        self.upid = ""
        self._tasks = TaskLog(options.root)
        self._parent: subprocess.Popen[bytes] | None = None
        self._output: IO[bytes] | None = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.close()

    def start(self) -> Self:
        """Start the job; returns when its worker runs. Raises RuntimeError with the parent's output."""
        folder = self.options.root / "lab"
        folder.mkdir(parents=True, exist_ok=True)
        (self.options.root / "var/log/vzdump").mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=folder, prefix="vzdump-job-", suffix=".json", delete=False) as file:
            file.write(self.options.to_json())
        self._output = Path(file.name).with_suffix(".out").open("w+b")
        announced = Path(file.name).with_suffix(".upid")
        command = [sys.executable, "-m", "tests.lab.vzdump.job", "--job", file.name, "--announce", str(announced)]
        self._parent = subprocess.Popen(
            command, cwd=_REPOSITORY, stdin=subprocess.DEVNULL, stdout=self._output, stderr=self._output
        )
        deadline = time.monotonic() + _START_SECONDS
        while not announced.exists():
            if self._parent.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"vzdump did not start: {self.terminal_output}")
            time.sleep(_POLL_SECONDS)
        self.upid = announced.read_text()
        return self

    @property
    def pid(self) -> int:
        """The worker's."""
        return self._parsed.pid

    @property
    def running(self) -> bool:
        return is_running(self.pid, self._parsed.pstart)

    @property
    def task_log(self) -> Path:
        return self._tasks.path(self._parsed)

    @property
    def log_lines(self) -> list[str]:
        """The task log as far as it is written; a line without its end is in it too."""
        with contextlib.suppress(FileNotFoundError):
            return self.task_log.read_bytes().decode("utf-8", "surrogateescape").removesuffix("\n").split("\n")
        return []

    @property
    def terminal_output(self) -> str:
        """What the parent printed: on a terminal, the copy of the worker's output."""
        assert self._output is not None
        return Path(self._output.name).read_text(errors="surrogateescape")

    def guest_log(self, vmid: int) -> Path:
        """The guest's log of this or an earlier job."""
        folder = self.options.root / "var/log/vzdump"
        container = folder / f"lxc-{vmid}.log"
        return container if container.exists() else folder / f"qemu-{vmid}.log"

    def wait_for_line(self, text: str, timeout: float = 60.0) -> str:
        """The first line of the task log that contains ``text``. Raises TimeoutError with the log."""
        deadline = time.monotonic() + timeout
        while True:
            ended = not self.running
            for line in self.log_lines:
                if text in line:
                    return line
            if ended or time.monotonic() > deadline:
                raise TimeoutError(f"no {text!r} in the task log:\n" + "\n".join(self.log_lines))
            time.sleep(_POLL_SECONDS / 2)

    def wait(self, timeout: float = 120.0) -> JobResult:
        """Wait for the end of worker and parent. Raises TimeoutError with the log; the job goes on."""
        assert self._parent is not None
        try:
            self._parent.wait(timeout)
        except subprocess.TimeoutExpired:
            log = "\n".join(self.log_lines)
            raise TimeoutError(f"the job did not end within {timeout} s:\n{log}") from None
        return self.result()

    def result(self) -> JobResult:
        """The result of a job that has ended."""
        path = results_path(self.options.root, self.upid)
        raw = json.loads(path.read_text()) if path.exists() else []
        guests = {}
        for entry in raw:
            log = Path(entry["log"]) if entry["log"] else None
            lines = log.read_text(errors="surrogateescape").splitlines() if log is not None else []
            archive = Path(entry["image"]) if entry["image"] else None
            plain = {name: entry[name] for name in ("vmid", "state", "message", "mode", "target")}
            guests[entry["vmid"]] = GuestResult(**plain, archive=archive, log_lines=tuple(lines))
        return JobResult(self.upid, self._tasks.exit_status(self._parsed), tuple(self.log_lines), guests)

    def stop(self) -> bool:
        """Stop the task as PVE does: TERM to the worker's process group, KILL when it runs 5 s later. Returns whether
        it ended by itself.
        """
        return stop_worker(self._parsed, STOP_SECONDS)

    def terminate(self) -> None:
        """Only the TERM of a stop."""
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """Only the KILL of a stop: the whole process group, at once."""
        self._signal(signal.SIGKILL)

    def interrupt(self) -> None:
        """Ctrl-C on the terminal: the parent turns it into a TERM for the worker's process group."""
        assert self._parent is not None
        self._parent.send_signal(signal.SIGINT)

    def close(self) -> None:
        """Kill what still runs and wait for the parent."""
        if self._parent is not None:
            if self.upid:
                self.kill()
            try:
                self._parent.wait(5.0)
            except subprocess.TimeoutExpired:
                # A child of the hook still holds the terminal job's control pipe.
                self._parent.kill()
                self._parent.wait()
        if self._output is not None:
            self._output.close()

    @property
    def _parsed(self) -> Upid:
        upid = Upid.parse(self.upid)
        if upid is None:
            raise RuntimeError("the job was not started")
        return upid

    def _signal(self, number: signal.Signals) -> None:
        if self.running:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, number)


def run_job(options: JobOptions, announce: Path | None = None) -> str:
    """Run a job as its parent; returns the exit status. The calling process must have one thread."""

    def work(upid: str, logger: Logger) -> None:
        Vzdump(options, logger).run(upid)

    def said(upid: Upid) -> None:
        if announce is not None:
            scratch = announce.with_suffix(".new")
            scratch.write_text(str(upid))
            scratch.rename(announce)
        elif not options.terminal:
            print(upid, flush=True)

    (options.root / "lab").mkdir(parents=True, exist_ok=True)
    return run_task(
        TaskPlan(
            TaskLog(options.root),
            options.node,
            options.user,
            str(options.vmids[0]) if len(options.vmids) == 1 else "",
            work,
            options.terminal,
            said,
        )
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one job; 0 when it ends OK or with warnings."""
    parser = _parser()
    asked = parser.parse_args(arguments)
    if asked.job is not None:
        options = JobOptions.from_json(asked.job.read_text())
    elif asked.root is None or not asked.vmids:
        parser.error("--root and at least one VMID are needed")
    else:
        options = _options(asked)
    status = run_job(options, asked.announce)
    if asked.job is None and not options.terminal:
        print(status)
    return 0 if status == "OK" or status.startswith("WARNINGS: ") else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.lab.vzdump.job", description=__doc__.partition("\n")[0])
    parser.add_argument("vmids", nargs="*", type=int, metavar="VMID")
    parser.add_argument("--root", type=Path, help="the lab node's root folder")
    parser.add_argument("--run", type=Path, help="folder of the guests' sockets (default: ROOT/run)")
    parser.add_argument("--node", default="pve1")
    parser.add_argument("--user", default="root@pam")
    parser.add_argument("--script", help="the hook script")
    parser.add_argument("--mode", choices=MODES, default="snapshot")
    parser.add_argument("--storage-kind", choices=STORAGE_KINDS, default="file")
    parser.add_argument("--storage", help="the storage's id")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--terminal", action="store_true", default=sys.stdin.isatty())
    where.add_argument("--background", dest="terminal", action="store_false")
    parser.add_argument("--qemu-server-version", default=JobOptions.qemu_server_version)
    parser.add_argument("--agent", default="1", help="the guests' `agent:` line, where there is no configuration file")
    parser.add_argument("--name", default="lab", help="the guests' name, likewise")
    parser.add_argument(
        "--lxc", type=int, action="append", default=[], metavar="VMID", help="this guest is a container"
    )
    parser.add_argument("--compress", action="store_true", help="fork a compressor before the freeze")
    parser.add_argument("--scale", type=float, default=1.0, help="factor for PVE's time limits")
    parser.add_argument("--backup-delay", type=float, default=0.0, metavar="SECONDS", help="inside the QMP command")
    parser.add_argument("--archive-seconds", type=float, default=0.0, metavar="SECONDS", help="least time of the copy")
    parser.add_argument("--fail-backup", choices=("start", "copy"), default="")
    parser.add_argument("--term-in-freeze", choices=("swallowed", "raised"), default="swallowed")
    parser.add_argument("--job", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--announce", type=Path, help=argparse.SUPPRESS)
    return parser


def _options(asked: argparse.Namespace) -> JobOptions:
    kinds = {vmid: "lxc" if vmid in asked.lxc else "qemu" for vmid in (*asked.vmids, *asked.lxc)}
    return JobOptions(
        root=asked.root.resolve(),
        run=(asked.run or asked.root / "run").resolve(),
        vmids=tuple(kinds),
        script=asked.script,
        mode=asked.mode,
        node=asked.node,
        user=asked.user,
        storage_kind=asked.storage_kind,
        storeid=asked.storage,
        guests=tuple(
            GuestSpec(vmid, "lxc" if kind == "lxc" else "qemu", asked.name, asked.agent) for vmid, kind in kinds.items()
        ),
        terminal=asked.terminal,
        qemu_server_version=asked.qemu_server_version,
        compress=asked.compress,
        limits=Limits().scaled(asked.scale),
        backup_delay=asked.backup_delay,
        archive_seconds=asked.archive_seconds,
        fail_backup=asked.fail_backup,
        term_in_freeze=asked.term_in_freeze,
    )


if __name__ == "__main__":
    sys.exit(main())
