"""Guards that a nursery has forked, as tests hold them: their owners, their processes, what a nursery is made of."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from snapshot.base import detached
from snapshot.base.clock import SystemClock
from snapshot.base.procfs import process_start
from snapshot.config import reading
from snapshot.guard.launcher import ConnectedGuard, ProcessLauncher
from snapshot.guard.link import GuardSpec, Op
from tests.lab.guest.scripted import ScriptedGuest
from tests.lab.site import Site, wait_for
from tests.process.processes import command_line, guarded_site, is_alive, kill
from tests.process.timeline import Timeline

REACHED_SECONDS = 60.0
AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root may lock memory without a limit, and be another user")

_PROGRAM = """
import sys
from snapshot.guard import __main__ as guard, nursery, hosted, inbox
{changes}
sys.exit(nursery.main(sys.argv[1:]))
"""

IMPATIENT = """
guard.watchdog_seconds = lambda config: 2.0
inbox.LOOK_SECONDS = 0.2
"""
"""A guard is taken for hung soon."""

ONE_HOST = "nursery.MOST_HOSTS = 1"
"""All guards share one process."""


def change_nursery(monkeypatch: pytest.MonkeyPatch, *changes: str) -> None:
    """Run them in the next nursery, before its own main."""
    start, program = detached.start_process, _PROGRAM.format(changes="\n".join(changes))

    def changed(arguments: list[str]) -> subprocess.Popen[bytes]:
        if arguments[0] != "snapshot.guard.nursery":
            return start(arguments)
        return subprocess.Popen([sys.executable, "-c", program, *arguments[1:]], env=detached.ENVIRONMENT)

    monkeypatch.setattr(detached, "start_process", changed)


def processes(lab: Site, name: str) -> list[int]:
    """Those of this site whose name (comm) is this."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and str(lab.config_path) in command_line(int(folder.name)):
            with contextlib.suppress(OSError):
                if (folder / "comm").read_text().strip() == name and is_alive(int(folder.name)):
                    found.append(int(folder.name))
    return found


def the_nursery(lab: Site) -> int:
    (pid,) = processes(lab, "fsfreeze-nurse")
    return pid


class Owner:
    """Who holds a window: a process that can be killed while this one speaks for it."""

    def __init__(self, lab: Site, launcher: ProcessLauncher, number: int = 0, vmid: int = 100) -> None:
        self.process = subprocess.Popen(["sleep", "600"])
        self.spec = GuardSpec(
            f"{number:032x}", vmid, "pve1", f"guest{vmid}", "snapshot", 60, 60, 3, self.process.pid,
            process_start(self.process.pid) or 0,
        )  # fmt: skip
        self._lab = lab
        self.guard: ConnectedGuard = launcher.arm(self.spec)

    def freeze(self) -> None:
        self.guard.tell(Op.FREEZING)
        assert self._lab.guests[self.spec.vmid].ask("guest-fsfreeze-freeze") == 1

    def is_frozen(self) -> bool:
        """Its guest."""
        return self._lab.guests[self.spec.vmid].is_frozen()

    def kill(self) -> None:
        """Its process ends, and this end of the connection does not: the guard's other reasons count."""
        self.process.kill()
        self.process.wait()

    def die(self) -> None:
        self.kill()
        self.guard.release()

    def bury(self) -> None:
        """Wait for the end of a guard that was started by itself."""
        self.die()
        assert wait_for(lambda: not is_alive(self.guard.pid), REACHED_SECONDS)
        self.guard.release()


@contextlib.contextmanager
def nursed(guests: int = 1) -> Iterator[tuple[Site, ProcessLauncher, Timeline]]:
    """A launcher with a nursery, for a lab of so many guests."""
    with guarded_site(*[ScriptedGuest] * guests) as (lab, timeline):
        launcher = ProcessLauncher(reading.load(lab.config_path), lab.config_path, SystemClock())
        assert launcher.preload() == ""
        try:
            yield lab, launcher, timeline
        finally:
            for name in ("fsfreeze-nurse", "fsfreeze-guard"):
                for pid in processes(lab, name):
                    with contextlib.suppress(ProcessLookupError):
                        kill(pid)
            assert wait_for(lambda: not processes(lab, "fsfreeze-nurse") and not processes(lab, "fsfreeze-guard"))
            launcher.hang_up()
            assert launcher._nurse is not None
            launcher._nurse.wait(REACHED_SECONDS)  # one that has no memory any more may still be on its way out
