"""A whole site: guests, a node, a configuration, and our commands run against them as real processes.

with site(ScriptedGuest) as lab:
    run = lab.safe_snapshot("100", "--policy", "require")
    assert run.exit_code == 0
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from snapshot.base.procfs import process_lives
from snapshot.journal.record import WindowRecord
from snapshot.journal.store import Journal
from tests.lab.forked import Zygote
from tests.lab.guest.base import Guest
from tests.lab.guest.scripted import ScriptedGuest
from tests.lab.node.node import LabNode
from tests.lab.rundir import run_directory
from tests.lab.vzdump.job import VzdumpJob
from tests.lab.vzdump.options import JobOptions

# Our commands, as they are installed beside this interpreter.
BIN = Path(sys.executable).parent

# Set by tests/mutations: what is installed is the sound tree, and safe-snapshot must run the broken one.
MUTATED_TREE = os.environ.get("LAB_MUTATED_TREE", "")


@dataclass(frozen=True)
class Run:
    """A command that has ended."""

    exit_code: int
    stdout: str
    stderr: str
    seconds: float

    @property
    def json(self) -> dict[str, Any]:
        """Its JSON object; the assertion shows everything when there is none."""
        try:
            found: dict[str, Any] = json.loads(self.stdout)
        except ValueError:
            raise AssertionError(f"no JSON on stdout: {self!r}") from None
        return found

    @property
    def text(self) -> str:
        """Both streams, for assertions on messages."""
        return self.stdout + self.stderr


@dataclass
class Site:
    """Guests, node and configuration. ``settings`` are tables of the configuration file, laid over the lab's own."""

    run: Path
    node: LabNode
    guests: dict[int, Guest]
    settings: dict[str, dict[str, Any]] = field(default_factory=dict)
    rules: str = ""
    """TOML that stands behind them: [[guest]] tables."""
    forks: ClassVar[bool] = False
    """Whether safe_snapshot forks a process that has imported the program, or starts one: see tests.lab.forked."""

    @property
    def guest(self) -> Guest:
        """The first guest."""
        return next(iter(self.guests.values()))

    @property
    def config_path(self) -> Path:
        """The configuration file; write_config writes it."""
        return self.run / "config.toml"

    @property
    def metrics_path(self) -> Path:
        """The textfile."""
        return self.run / "metrics" / "vzdump_hooks.prom"

    @property
    def journal_path(self) -> Path:
        """The journal."""
        return self.run / "state" / "journal.sqlite"

    def write_config(self, **tables: dict[str, Any]) -> None:
        """Write the configuration: the lab's, then ``settings``, then ``tables``; and ``rules``."""
        (self.run / "metrics").mkdir(exist_ok=True)
        (self.run / "state").mkdir(exist_ok=True)
        merged: dict[str, dict[str, Any]] = {
            "api": {
                "host": self.node.host,
                "port": self.node.port,
                "token_file": str(self.node.token_file),
                "ca_file": str(self.node.ca_file),
            },
            # Not a node, unless a test says so: then sockets, pvesh and pidfds of the lab's node are ours too.
            "local": {"node": "", "socket_folder": str(self.run)},
            "journal": {"path": str(self.journal_path)},
            "metrics": {"textfile": str(self.metrics_path), "scrape_interval_seconds": 0},  # nobody scrapes
        }
        for overlay in (self.settings, tables):
            for name, values in overlay.items():
                merged.setdefault(name, {}).update(values)
        lines: list[str] = []
        for name, values in merged.items():
            lines.append(f"[{name}]")
            lines += [f"{key} = {_toml(value)}" for key, value in values.items() if value is not None]
        self.config_path.write_text("\n".join(lines) + "\n" + self.rules)

    def only_we_freeze(self, agent: str = "1,freeze-fs=0") -> None:
        """Switch PVE's own freezing of guest 100 off, and let ours go on in spite of it."""
        self.node.set_config(100, agent=agent)
        self.rules = "[[guest]]\nvmid = 100\nignore_freeze_option = true\n"
        self.write_config()

    def on_the_node(self) -> None:
        """Run our commands as on the guest's own node."""
        self.settings.setdefault("local", {})["node"] = self.node.node
        self.write_config()

    def hook_script(self) -> str:
        """The executable for ``script:``: the installed hook with this site's configuration."""
        path = self.run / "vzdump-hook"
        program = str(BIN / "vzdump-hook")
        if MUTATED_TREE:  # vzdump empties the environment: the script itself must name the tree
            mutated = self.run / "mutated-hook"  # a file: a self-test calls itself by its name
            tree = f"import sys\nsys.path.insert(0, {MUTATED_TREE!r})"
            mutated.write_text(f"#!{sys.executable}\n{tree}\nfrom vzdump_hooks.entry import main\nmain()\n")
            mutated.chmod(0o755)
            program = f"env PYTHONPATH={MUTATED_TREE} {mutated}"
        path.write_text(f'#!/bin/sh\nexec {program} --config {self.config_path} "$@"\n')
        path.chmod(0o755)
        return str(path)

    def vzdump(self, *vmids: int, **options: Any) -> VzdumpJob:
        """A backup job on the first node with our hook, not yet started. Options as for JobOptions; its qemu-server is
        the node's.
        """
        root = self.node.root
        self.settings.setdefault("local", {}).update(
            node=self.node.node,
            task_folder=str(root / "var/log/pve/tasks"),
            vzdump_pid_file=str(root / "var/run/vzdump.pid"),
        )
        self.write_config()
        script = options.pop("script", None) or self.hook_script()
        options.setdefault("qemu_server_version", self.node.settings.pve_version)
        return VzdumpJob(JobOptions(root=root, run=self.run, vmids=vmids or (100,), script=script, **options))

    def command(self, *arguments: str) -> list[str]:
        """The argv of safe-snapshot with this site's configuration."""
        program = [sys.executable, "-m", "snapshot.cli.main"] if MUTATED_TREE else [str(BIN / "safe-snapshot")]
        return [*program, "--config", str(self.config_path), *arguments]

    def start(self, *arguments: str, **options: Any) -> Started:
        """Start safe-snapshot, for tests that do something meanwhile."""
        return Started(
            self.command(*arguments),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment(),
            **options,
        )

    def safe_snapshot(self, *arguments: str, timeout: float = 120.0) -> Run:
        """Run safe-snapshot to its end."""
        argv = self.command(*arguments)
        if MUTATED_TREE or not self.forks:
            return run_command(argv, timeout=timeout)
        began = time.monotonic()
        return Run(*Zygote.get(environment()).run(argv, timeout), time.monotonic() - began)

    def finds_nothing(self) -> bool:
        """Whether ``status`` finds no open window, no frozen guest, and none of which it does not know."""
        run = self.safe_snapshot("--json", "status")
        told = ("windows", "frozen", "unknown", "lost_windows")
        return run.exit_code == 0 and not any(run.json[key] for key in told)

    def windows(self) -> list[WindowRecord]:
        """The journal's windows, newest first."""
        with contextlib.closing(Journal(self.journal_path, read_only=True)) as journal:
            return journal.history()

    def kill_guards(self) -> None:
        """SIGKILL the guards that still watch, so that no test leaves one behind; first who would fork them again."""
        if not self.journal_path.exists():
            return
        with contextlib.suppress(Exception):
            for window in self.windows():
                # By its start time: a pid is used again, by another test run or anybody else.
                if process_lives(window.guard_pid, window.guard_pid_start) and window.closed_at is None:
                    assert window.guard_pid
                    nursery = _parent(window.guard_pid)
                    for pid in (nursery, window.guard_pid):
                        if pid != nursery or b"snapshot.guard.nursery" in _argv(pid):
                            with contextlib.suppress(ProcessLookupError):
                                os.kill(pid, signal.SIGKILL)


def _parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[1])


def _argv(pid: int) -> list[bytes]:
    return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")


class Started(subprocess.Popen[str]):
    """A command that runs. A ``with`` that fails does not wait for it: what it waits for may be held for ever."""

    def __exit__(self, kind: type[BaseException] | None, *rest: Any) -> None:
        if kind is not None:
            self.kill()
        super().__exit__(kind, *rest)


def environment() -> dict[str, str]:
    """What an operator's shell would have, less anything that could point at another configuration."""
    found = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8", "HOME": "/root"}
    found["COLUMNS"] = (
        "1000"  # what is said is looked for in whole lines; how it is folded: tests/engine/test_console.py
    )
    return found | ({"PYTHONPATH": MUTATED_TREE} if MUTATED_TREE else {})


def run_command(argv: Sequence[str], timeout: float = 120.0, env: dict[str, str] | None = None) -> Run:
    """Run a command to its end. subprocess.TimeoutExpired when it takes longer."""
    started = time.monotonic()
    done = subprocess.run(
        argv,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
        env=environment() if env is None else env,
        check=False,
    )
    return Run(done.returncode, done.stdout, done.stderr, time.monotonic() - started)


@contextlib.contextmanager
def site(*guests: Callable[[int, Path], Guest], nodes: tuple[str, ...] = ("pve1",), **settings: Any) -> Iterator[Site]:
    """A site with a started guest for each factory (vmids 100, 101, ...; a scripted one without any) and its node."""
    with contextlib.ExitStack() as stack:
        run = stack.enter_context(run_directory())
        built = [make(number, run) for number, make in enumerate(guests or (ScriptedGuest,), 100)]
        for guest in built:
            guest.start()
            stack.callback(guest.stop)
        node = stack.enter_context(LabNode(run / "node", built, nodes=nodes, **settings))
        found = Site(run, node, {guest.vmid: guest for guest in built})
        found.write_config()
        stack.callback(found.kill_guards)
        yield found


def wait_for(condition: Callable[[], bool], seconds: float = 10.0) -> bool:
    """Whether ``condition`` came true within ``seconds``."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.01)
    return condition()


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str | int | float):
        return json.dumps(value)
    return json.dumps(list(value))
