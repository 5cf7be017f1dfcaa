"""The systemd units: at boot and every minute ``safe-snapshot recover``."""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path
from typing import NamedTuple

from snapshot.base.detached import ENVIRONMENT, SYSTEMD_RUNNING
from snapshot.base.text import clean
from snapshot.doctor.machine import SERVICE, TIMER
from snapshot.errors import SafeSnapshotError
from snapshot.setup.record import Entry, Record
from snapshot.setup.step import SetupStep, TakenBack

KIND = "unit"
UNITS = (SERVICE, TIMER)
SECONDS = 60.0


def _run(program: str, *words: str) -> tuple[int, str]:
    """Exit status and what it said. SafeSnapshotError when it does not end, or cannot be run."""
    command = [program, *words]
    try:
        done = subprocess.run(  # noqa: S603 - a fixed program, arguments without a shell
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**ENVIRONMENT, "LC_ALL": "C"},
            timeout=SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SafeSnapshotError(f"{shlex.join(command)} failed ({clean(str(error), 120)})") from None
    return done.returncode, clean(done.stdout.decode(errors="replace"))


class UnitStep(NamedTuple):
    """A unit is enabled, and a timer started where systemd runs."""

    program: str
    unit: str

    @property
    def what(self) -> str:
        """See SetupStep."""
        return f"{self.unit}: enable it"

    def shows(self) -> list[str]:
        """See SetupStep."""
        return [shlex.join([self.program, "enable", *_now(self.unit), self.unit])]

    def do(self, record: Record) -> None:
        """See SetupStep."""
        record.add(KIND, self.unit)
        _change(self.program, "enable", self.unit)


class UnitPlan(NamedTuple):
    """What is to be done about the units, and of which that cannot be."""

    steps: list[SetupStep]
    notes: list[str]
    timer_note: str = ""
    """About the timer, and the service where that has the same trouble."""


def plan_units(program: str) -> UnitPlan:
    """The units that are there and switched off. ``program``: systemctl."""
    whys = {unit: _why(program, unit) for unit in UNITS}
    steps: list[SetupStep] = [UnitStep(program, unit) for unit, why in whys.items() if why is None]
    if whys[TIMER] and whys[TIMER] == whys[SERVICE]:
        return UnitPlan(
            steps, [], f"{TIMER} and its service: {whys[TIMER]}: nobody looks at boot and every minute {_SEE}"
        )
    notes = [f"{SERVICE}: {whys[SERVICE]}: nobody looks at boot {_SEE}"] if whys[SERVICE] else []
    return UnitPlan(steps, notes, f"{TIMER}: {whys[TIMER]}: nobody looks every minute {_SEE}" if whys[TIMER] else "")


_SEE = "(docs/install.md)"


def _why(program: str, unit: str) -> str | None:
    """Why the unit cannot be enabled; empty where it is, None where it can be."""
    try:
        _, state = _run(program, "is-enabled", unit)
    except SafeSnapshotError as error:
        state = str(error)
    if state in ("enabled", "disabled"):
        return None if state == "disabled" else ""
    if "masked" in state:
        return "masked"
    is_absent = state == "not-found" or "No such file" in state  # the latter before systemd 253
    return "not installed" if is_absent else f"cannot be enabled ({clean(state, 120)})"


def switch_off(program: str, entry: Entry) -> TakenBack:
    """The unit is disabled again, and its timer stopped."""
    if _run(program, "is-enabled", entry.name)[1] == "enabled":
        _change(program, "disable", entry.name)
    return TakenBack(entry.name)


def _change(program: str, verb: str, unit: str) -> None:
    status, said = _run(program, verb, *_now(unit), unit)
    if status != 0:
        raise SafeSnapshotError(f"systemctl {verb} {unit} ended with {status}: {said}")


def _now(unit: str) -> tuple[str, ...]:
    return ("--now",) if unit.endswith(".timer") and Path(SYSTEMD_RUNNING).is_dir() and os.geteuid() == 0 else ()
