"""Two clients of one agent: what we ask over its socket must never cost PVE's own next call."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from snapshot.base.clock import SystemClock
from snapshot.pve.agent import AgentReplyLostError, CommandNotSentError
from snapshot.pve.qga import SocketChannel
from tests.lab.fixtures import real_guest
from tests.lab.guest.base import Guest
from tests.lab.guest.scripted import ScriptedGuest
from tests.lab.node.qmp import agent_command
from tests.lab.rundir import run_directory


@pytest.fixture(params=["scripted", pytest.param("real", marks=pytest.mark.real)])
def guest(request: pytest.FixtureRequest) -> Iterator[Guest]:
    with run_directory() as run:
        make = ScriptedGuest if request.param == "scripted" else real_guest
        with make(100, run) as found:
            yield found


def pve(guest: Guest, command: str, timeout: float = 10.0) -> object:
    """One agent command as PVE sends it."""
    return agent_command(guest.vmid, Path(guest.agent_socket), command, timeout=timeout)


def ours(guest: Guest, seconds: float) -> SocketChannel:
    return SocketChannel(Path(guest.agent_socket), SystemClock(), seconds)


@pytest.mark.parametrize("attempt", range(3))
def test_a_question_of_ours_that_gave_up_behind_pves_freeze_does_not_cost_pve_its_thaw(
    guest: Guest, attempt: int
) -> None:
    """The stale answer of a sync with a high number made PVE's thaw fail; that of a lone sync let it time out."""
    guest.set_knob("freeze_sleep", 0.8)
    freezing = threading.Thread(target=pve, args=(guest, "guest-fsfreeze-freeze"))
    freezing.start()
    time.sleep(0.2)
    with pytest.raises(CommandNotSentError):
        ours(guest, 0.2).call("fsfreeze-status", timeout_seconds=0.2)
    freezing.join()
    assert pve(guest, "guest-fsfreeze-thaw") == 1
    assert pve(guest, "guest-fsfreeze-status") == "thawed"


def test_a_question_of_ours_to_a_stopped_agent_does_not_cost_pve_its_next_call(guest: Guest) -> None:
    guest.stop_agent()
    with pytest.raises(CommandNotSentError):
        ours(guest, 0.2).call("fsfreeze-status", timeout_seconds=0.2)
    guest.continue_agent()
    assert pve(guest, "guest-fsfreeze-freeze") == 1
    assert pve(guest, "guest-fsfreeze-thaw") == 1


def test_a_thaw_of_ours_that_gave_up_does_not_cost_pve_its_next_call(guest: Guest) -> None:
    assert pve(guest, "guest-fsfreeze-freeze") == 1
    guest.set_knob("thaw_sleep", 0.6)
    with pytest.raises(AgentReplyLostError):
        ours(guest, 3.0).call("fsfreeze-thaw", timeout_seconds=0.3)
    assert pve(guest, "guest-fsfreeze-status") == "thawed"
