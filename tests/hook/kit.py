"""What the tests of the hook share: a site whose node runs backup jobs, and a job whose part the test itself plays."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from snapshot.base import detached
from snapshot.base.procfs import process_start
from snapshot.errors import JournalError
from snapshot.journal.record import WindowRecord
from snapshot.model import Upid
from tests.lab.guest.base import Guest
from tests.lab.guest.scripted import ScriptedGuest
from tests.lab.site import Site, site, wait_for
from tests.lab.vzdump.job import JobResult, VzdumpJob
from tests.lab.vzdump.testing import QUICK
from vzdump_hooks import dispatch
from vzdump_hooks.tasklog import worker
from vzdump_hooks.tasklog.lines import log_path

# Short enough for tests that wait for a limit, long enough for a busy machine.
SETTINGS: dict[str, dict[str, Any]] = {
    "freeze": {"freeze_timeout_seconds": 8, "max_window_seconds": 10},
    "thaw": {"owner_limit_seconds": 20},
    "guard": {"arm_timeout_seconds": 30},
}
# The lab's answers, so that a hung call ends soon.
QUICK_LIMITS = {"ping": 0.3, "command": 1.0}
REPOSITORY = str(Path(__file__).parents[2])
OURS = ("snapshot.guard", "vzdump_hooks.hold")


@contextlib.contextmanager
def hook_site(*guests: Callable[[int, Path], Guest], rules: str = "", **settings: Any) -> Iterator[Site]:
    """A site for backup jobs. ``rules`` is TOML that is put behind the configuration: [[guest]] tables."""
    with site(*(guests or (ScriptedGuest,)), **{"limits": dict(QUICK_LIMITS), **settings}) as lab:
        lab.settings |= {name: dict(values) for name, values in SETTINGS.items()}
        root = lab.node.root
        lab.settings["local"] = {
            "node": lab.node.node,
            "task_folder": str(root / "var/log/pve/tasks"),
            "vzdump_pid_file": str(root / "var/run/vzdump.pid"),
            "pvesh": str(lab.node.pvesh),
            "product_uuid_file": str(lab.run / "no-product-uuid"),
        }
        lab.write_config()
        if rules:
            add_rules(lab, rules)
        try:
            yield lab
        except AssertionError as error:
            error.add_note(story(lab))
            raise
        finally:
            for pid in processes(lab):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


def add_rules(lab: Site, rules: str) -> None:
    """Put [[guest]] tables behind the configuration, now and whenever it is written again."""
    lab.rules += rules
    lab.write_config()


def without_pvesh(lab: Site) -> None:
    """A node on which pvesh cannot take the API's place."""
    lab.settings["local"]["pvesh"] = "/nowhere/pvesh"
    lab.write_config()


def story(lab: Site) -> str:
    """What to look at when a test fails."""
    lines = [repr(window) for window in lab.windows()] if lab.journal_path.exists() else ["no journal"]
    for path in sorted((lab.node.root / "var/log/pve/tasks").glob("?/UPID:*vzdump*")):
        lines += [path.name, *path.read_text(errors="backslashreplace").splitlines()]
    return "\n".join(lines)


def processes(lab: Site, module: str = "") -> list[int]:
    """The pids of our background processes of this site: guards and holders, or those of one module."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(OSError):
                words = (folder / "cmdline").read_bytes().decode(errors="replace").split("\0")
                if str(lab.config_path) in words and any(
                    word == module or not module for word in words if word in OURS
                ):
                    found.append(int(folder.name))
    return found


def back_up(lab: Site, *vmids: int, timeout: float = 120.0, **options: Any) -> JobResult:
    """Run a whole backup job with our hook."""
    with lab.vzdump(*vmids, limits=options.pop("limits", QUICK), **options) as job:
        return job.wait(timeout)


def said(job: VzdumpJob | JobResult) -> list[str]:
    """Our lines in the task's log, without their prefix."""
    prefix = "INFO: vzdump-hook: "
    return [line.removeprefix(prefix) for line in job.log_lines if line.startswith(prefix)]


def newest(lab: Site, vmid: int = 100) -> WindowRecord:
    """The guest's newest window."""
    return next(window for window in lab.windows() if window.vmid == vmid)


def settled(lab: Site, vmid: int = 100, seconds: float = 20.0) -> WindowRecord:
    """The guest's newest window, once it has a verdict."""

    def is_settled() -> bool:
        try:
            windows = [w for w in lab.windows() if w.vmid == vmid]
        except JournalError:
            return False  # it is being made
        return bool(windows) and windows[0].verdict is not None

    assert wait_for(is_settled, seconds), "no verdict"
    return newest(lab, vmid)


def check_thawed(lab: Site, seconds: float = 2.0) -> None:
    """Every guest is thawed within ``seconds``, by its own kernel's word."""
    for guest in lab.guests.values():
        assert not guest.running or wait_for(lambda guest=guest: not guest.is_frozen(), seconds), guest.vmid


@dataclass
class HandMadeJob:
    """A backup job in which the test plays vzdump: it writes the lines and calls the phases, in its own time.

    The worker is a process of its own that does nothing; the hook's phases run in the test's process.
    """

    lab: Site
    vmid: int = 100
    said: list[str] = field(default_factory=list)
    process: subprocess.Popen[bytes] = field(init=False)
    upid: Upid = field(init=False)
    log: Path = field(init=False)

    def __post_init__(self) -> None:
        self.process = subprocess.Popen(["sleep", "600"])
        pid, now = self.process.pid, int(time.time())
        start = process_start(pid) or 0
        self.upid = Upid.parse(
            f"UPID:{self.lab.node.node}:{pid:08X}:{start:08X}:{now:08X}:vzdump:{self.vmid}:root@pam:"
        )
        self.log = log_path(self.lab.node.root / "var/log/pve/tasks", self.upid)
        self.log.parent.mkdir(parents=True, exist_ok=True)
        self.write(
            f"INFO: starting new backup job: vzdump {self.vmid}", f"INFO: Starting Backup of VM {self.vmid} (qemu)"
        )

    @property
    def worker(self) -> worker.Worker:
        """As the hook would find it."""
        return worker.Worker(self.upid.pid, self.upid.pstart, self.upid, self.log)

    def write(self, *lines: str) -> float:
        """Write lines into the task's log; returns the instant."""
        with self.log.open("a", encoding="utf-8", errors="surrogateescape") as file:
            file.write("".join(f"{line}\n" for line in lines))
        return time.monotonic()

    def phase(self, name: str, mode: str = "snapshot", **environment: str) -> int:
        """Call the hook; what it says is added to ``said`` and, as vzdump does, to the log. Returns its exit status."""
        arguments = [name] if name.startswith("job-") else [name, mode, str(self.vmid)]
        values = {"LC_ALL": "C", "VMTYPE": "qemu", "HOSTNAME": f"guest{self.vmid}", "STOREID": "local", **environment}
        lines: list[str] = []
        folder = self.lab.run / "hooks.d"
        commands = str(folder) if folder.exists() else ""
        code = dispatch.dispatch(arguments, values, str(self.lab.config_path), lines.append, commands)
        self.said += lines
        self.write(*(f"INFO: vzdump-hook: {line}" for line in lines))
        return code

    def start_backup(self, *, own_freeze: bool = False) -> None:
        """vzdump's lines around its QMP command."""
        self.write("INFO: starting backup via QMP command")
        if own_freeze:
            self.write("INFO: issuing guest-agent 'fs-thaw' command")
        self.write("INFO: started backup task 'e54a9373-b882-44db-b2a8-785f14640adc'", "INFO: resuming VM again")

    def kill(self) -> float:
        """SIGKILL the worker; returns the instant."""
        self.process.kill()
        self.process.wait()
        return time.monotonic()


def start_from_here(arguments: Sequence[str]) -> subprocess.Popen[bytes]:
    """detached.start_process on the sources that this test belongs to, wherever the package is installed from."""
    code = f"import runpy, sys; sys.path.insert(0, {REPOSITORY!r}); del sys.argv[0]; "
    code += "runpy.run_module(sys.argv[0], run_name='__main__')"
    return subprocess.Popen(
        [sys.executable, "-I", "-c", code, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        cwd="/",
        env=detached.ENVIRONMENT,
    )


@contextlib.contextmanager
def by_hand(lab: Site, monkeypatch: Any, vmid: int = 100) -> Iterator[HandMadeJob]:
    """A job played by the test."""
    job = HandMadeJob(lab, vmid)
    for module in (
        "phases.backup_start",
        "phases.post_restart",
        "phases.backup_end",
        "phases.job",
        "phases.archive_notes",
    ):
        monkeypatch.setattr(f"vzdump_hooks.{module}.find_worker", lambda config: job.worker)
    started: list[subprocess.Popen[bytes]] = []

    def start(arguments: Sequence[str]) -> subprocess.Popen[bytes]:
        started.append(start_from_here(arguments))
        return started[-1]

    monkeypatch.setattr(detached, "start_process", start)
    try:
        yield job
    finally:
        job.kill()
        for process in started:
            process.kill()
            process.wait()
