"""Each test runs on a scripted guest and on a real one. The real one is started once and calmed after each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.fixtures import real_guest, require_real
from tests.lab.guest.base import KNOBS, Guest
from tests.lab.guest.qga import AgentError
from tests.lab.guest.real import RealGuest
from tests.lab.guest.scripted import ScriptedGuest
from tests.lab.rundir import run_directory

KINDS = ["scripted", pytest.param("real", marks=pytest.mark.real)]


@pytest.fixture
def run() -> Iterator[Path]:
    """A folder with a path short enough for sockets."""
    with run_directory() as path:
        yield path


@pytest.fixture(scope="session")
def session_guest() -> Iterator[RealGuest]:
    """A real guest for the whole series; take ``guest`` instead."""
    with run_directory() as path, real_guest(100, path) as guest:
        yield guest


@pytest.fixture(params=KINDS)
def guest(request: pytest.FixtureRequest, run: Path) -> Iterator[Guest]:
    """A running guest, thawed, whose agent answers; a test may leave it in any state."""
    if request.param == "scripted":
        with ScriptedGuest(100, run) as scripted:
            yield scripted
        return
    real: RealGuest = request.getfixturevalue("session_guest")
    if not real.running:
        real.start()
    real.shell(": >/run/lab/hook.log")
    yield real
    if not _calm(real):
        real.stop()  # the next test starts a fresh one


def _calm(guest: RealGuest) -> bool:
    """Undo what a test may have done; False when that did not work."""
    if not guest.running:
        return True
    try:
        guest.continue_qemu()
        guest.resume()
        guest.control("kill -CONT $(cat /run/qga.pid)")
        for knob in KNOBS:
            guest.set_knob(knob, 0)
        guest.wait_agent(5.0)
        guest.ask("guest-fsfreeze-thaw")
        with guest.monitor() as monitor:
            for name in ("s1", "s2"):
                monitor.human(f"delvm {name}")
        return not guest.is_frozen()
    except (OSError, RuntimeError, AgentError):
        return False


class Extras:
    """Guests with settings of their own, for the tests that need a start of their own."""

    def __init__(self, kind: str, run: Path) -> None:
        self.real = kind == "real"
        self._run = run

    def with_blocked(self, command: str) -> Guest:
        """A guest whose agent was started with ``-b command``."""
        if self.real:
            return RealGuest(100, self._run, options={"block": command})
        guest = ScriptedGuest(100, self._run)
        guest.faults.blocked = frozenset({command})
        return guest

    def without_hook(self) -> Guest:
        """A guest whose agent has no freeze hook."""
        if self.real:
            return RealGuest(100, self._run, options={"hook": "0"})
        return ScriptedGuest(100, self._run, hook=False)

    def without_agent(self) -> Guest:
        """A guest in which no agent runs."""
        if self.real:
            return RealGuest(100, self._run, options={"agent": "0"})
        return ScriptedGuest(100, self._run, agent=False)

    def with_sysrq(self) -> Guest:
        """A guest whose kernel lets the keyboard thaw."""
        if self.real:
            return RealGuest(100, self._run, options={"sysrq": "1"})
        guest = ScriptedGuest(100, self._run)
        guest.qmp_faults.sysrq = True
        return guest


@pytest.fixture(params=KINDS)
def extras(request: pytest.FixtureRequest, run: Path) -> Extras:
    """Makes guests that are not started yet."""
    if request.param == "real":
        require_real()
    return Extras(request.param, run)
