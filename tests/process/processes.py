"""Our processes as the tests of this folder handle them: found, killed, started again, and never left behind."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.lab.site import MUTATED_TREE, Site, site, wait_for
from tests.process.timeline import Timeline, watched

PVESH = Path(__file__).resolve().parents[1] / "lab" / "node" / "pvesh_fake.py"

# The lab's PVE is as slow as the real one, unless a test says otherwise. The deadline is far: what a test does in a
# window takes as long as the machine needs. A test of a deadline sets its own.
SETTINGS: dict[str, dict[str, Any]] = {
    "freeze": {"freeze_timeout_seconds": 60, "max_window_seconds": 90},
    "thaw": {"owner_limit_seconds": 30},
}
REACHED_SECONDS = 60.0
"""For a run to come where a test wants it: a bound for hangs only."""


@contextlib.contextmanager
def guarded_site(*guests: Any, on_the_node: bool = False, **settings: Any) -> Iterator[tuple[Site, Timeline]]:
    """A site with SETTINGS and the first guest's timeline; every guard of its configuration is killed at the end."""
    with site(*guests, **settings) as lab, watched(lab.guest) as timeline:
        lab.settings |= {name: dict(values) for name, values in SETTINGS.items()}
        lab.write_config()
        if on_the_node:
            lab.on_the_node()
        try:
            yield lab, timeline
        except AssertionError as error:
            error.add_note(_story(lab))
            raise
        finally:
            for pid in guards(lab):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


def _story(lab: Site) -> str:
    """What to look at when a test fails: the journal, and who asked the agent what, in seconds before now."""
    now = time.monotonic()
    lines = [f"{r.at - now:8.2f} {r.path} {r.outcome}" for r in lab.node.requests("/agent/")]
    with contextlib.suppress(Exception):
        lines += [repr(window) for window in lab.windows()]
    return "\n".join(lines)


def guards(lab: Site) -> list[int]:
    """The pids of the living guards that use this site's configuration."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            words = command_line(int(folder.name))
            if "snapshot.guard" in words and str(lab.config_path) in words:
                found.append(int(folder.name))
    return found


def command_line(pid: int) -> list[str]:
    """The argv of a process; empty when it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")[:-1]
    except OSError:
        return []


def the_guard(lab: Site) -> int:
    """The pid of the one guard, once there is one."""
    assert wait_for(lambda: len(guards(lab)) == 1, REACHED_SECONDS), f"guards: {guards(lab)}"
    return guards(lab)[0]


def kill(*pids: int, with_signal: signal.Signals = signal.SIGKILL) -> float:
    """SIGKILL processes, and wait until they are dead: a moment later. Returns the instant behind the signals."""
    for pid in pids:
        os.kill(pid, with_signal)
    at = time.monotonic()
    if with_signal is signal.SIGKILL:
        assert wait_for(lambda: not any(is_alive(pid) for pid in pids), REACHED_SECONDS)
    return at


def kill_with(pid: int, goes_too: Callable[[], object]) -> float:
    """``kill`` a process together with something else: nobody has thawed between the one and the other."""
    os.kill(pid, signal.SIGSTOP)
    goes_too()
    return kill(pid)


def is_alive(pid: int) -> bool:
    """Whether the process exists and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def requested(lab: Site, path: str, count: int = 1) -> None:
    """Wait until the node has received ``count`` requests for ``path``."""
    assert wait_for(lambda: len(lab.node.requests(path)) >= count, REACHED_SECONDS), f"no request for {path}"


def held(lab: Site) -> None:
    """Wait until the node holds a call."""
    assert wait_for(lambda: lab.node.held() > 0, REACHED_SECONDS), "no call is held"


def hold_frozen(lab: Site) -> None:
    """Let the next run hold its guest frozen: its request for the snapshot is held until a release."""
    lab.node.fault("/snapshot$", "hold", method="POST")


def task_has_skipped_its_freeze(lab: Site) -> None:
    """Wait for it. Before that, PVE's own task would find the guest thawed by the guard, and freeze it itself."""

    def skipped() -> bool:
        logs = [lab.node.task_log(str(upid)) for upid in lab.node.running_tasks()]
        return any("skipping guest filesystem freeze - already frozen" in log for log in logs)

    assert wait_for(skipped, REACHED_SECONDS), "no task has found its guest frozen"


def pvesh_of(lab: Site) -> str:
    """An executable that is this site's pvesh."""
    path = lab.run / "pvesh"
    path.write_text(f'#!/bin/sh\nexec {sys.executable} {PVESH} {lab.node.root} {lab.node.node} "$@"\n')
    path.chmod(0o755)
    return str(path)


def start_as_systemd_would(argv: list[str]) -> subprocess.Popen[bytes]:
    """A guard's command line once more."""
    env = {"PYTHONPATH": MUTATED_TREE} if MUTATED_TREE else {}
    return subprocess.Popen(argv, stdin=subprocess.DEVNULL, start_new_session=True, cwd="/", env=env)
