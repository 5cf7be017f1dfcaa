"""The owner is stopped (SIGSTOP) while it sits on the agent's socket: at the deadline it loses its turn."""

from __future__ import annotations

import contextlib
import signal
import subprocess
from collections.abc import Iterator

import pytest

from tests.lab.guest.agentmodel import STATUS, THAW, Refusal
from tests.lab.guest.scripted import ScriptedGuest
from tests.lab.site import Site, wait_for
from tests.process.figures import thawed_within
from tests.process.processes import guarded_site, kill, task_has_skipped_its_freeze

DEADLINE_SECONDS = 6.0
BOUND_SECONDS = DEADLINE_SECONDS + 2.0 + 1.0 + 1.0
"""The guard's margin, a second to find an owner that was stopped, and a thaw."""


@contextlib.contextmanager
def ended(process: subprocess.Popen[str]) -> Iterator[None]:
    """Whatever happens, the process does not stand still for ever."""
    try:
        yield
    finally:
        process.kill()


def begun(lab: Site, command: str) -> int:
    """How often the agent has begun ``command``."""
    with lab.guest.held() as (model, _):
        return sum(name == command for _, name in model.executed)


@pytest.mark.parametrize("command", [STATUS, THAW])
def test_an_owner_that_is_stopped_in_the_agents_seat_is_ended_and_the_guest_thawed(command: str) -> None:
    with guarded_site(ScriptedGuest, on_the_node=True) as (lab, timeline):
        lab.node.set(task_delays={"inside": 60})
        with lab.start("100", "--policy", "require", "--max-window", f"{DEADLINE_SECONDS:g}") as owner, ended(owner):
            task_has_skipped_its_freeze(lab)  # PVE's own look at the status is behind
            with lab.guest.held() as (model, _):
                model.faults.delay[command] = 2.0
                model.faults.refuse[THAW] = Refusal("GenericError", "not now", 1)
            before = begun(lab, command)
            lab.node.set(task_delays={})
            assert wait_for(lambda: begun(lab, command) > before)
            stopped_at = kill(owner.pid, with_signal=signal.SIGSTOP)
            with lab.guest.held() as (model, _):
                model.faults.delay.clear()
                if command == STATUS:
                    model.faults.refuse.clear()
            thawed_within(BOUND_SECONDS, timeline, stopped_at, "owner stopped in the agent's seat")
            assert owner.wait(20) == -signal.SIGKILL
        assert wait_for(lambda: lab.windows()[0].closed_at is not None)
        (window,) = lab.windows()
        found = (window.guard_cause, window.verdict, window.failure_reason)
        assert found == ("owner-stopped", "unknown", "owner-stopped")
