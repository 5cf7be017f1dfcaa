"""Two clients of one agent: what we ask over its socket must never cost PVE's own next call."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from snapshot.base.clock import SystemClock
from snapshot.pve import backlog
from snapshot.pve.agent import AgentReplyLostError, CommandNotSentError
from snapshot.pve.qga import SocketChannel
from tests.hook.kit import HandMadeJob, by_hand, hook_site, settled
from tests.lab.fixtures import real_guest
from tests.lab.guest.base import Guest
from tests.lab.guest.scripted import ScriptedGuest
from tests.lab.node.qmp import agent_command
from tests.lab.rundir import run_directory
from tests.lab.site import Site, wait_for


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


# ------------------------------------------------------------------------------------------------ the seat in a backup


@pytest.fixture
def backup(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Site, HandMadeJob]]:
    """vzdump freezes by itself, and is watched."""
    with hook_site() as lab, by_hand(lab, monkeypatch) as job:
        lab.settings["hook"] = {"owner": "vzdump"}
        lab.write_config()
        yield lab, job


def waiting(path: Path) -> int:
    """How many wait at ``path``."""
    listener = backlog.listener_at(path)
    assert listener is not None
    return len(backlog.waiting(listener) or ())


def places(lab: Site) -> int:
    """How many wait for the agent while somebody else has it: our place alone."""
    with lab.guest.agent() as other:
        other.sync()
        return waiting(Path(lab.guest.agent_socket))


def test_vzdump_finds_the_agents_seat_taken_from_its_first_question_to_behind_its_thaw(
    backup: tuple[Site, HandMadeJob],
) -> None:
    lab, job = backup
    job.phase("post-restart")
    assert wait_for(lambda: places(lab) == 1, 20)
    job.write("INFO: issuing guest-agent 'fs-freeze' command")
    lab.guest.ask("guest-fsfreeze-freeze")
    assert wait_for(lambda: places(lab) == 1, 20)
    job.start_backup(own_freeze=True)
    lab.guest.ask("guest-fsfreeze-thaw")
    assert settled(lab).verdict is not None
    assert wait_for(lambda: places(lab) == 0, 20)


def test_however_short_a_freeze_of_vzdumps_is_the_agent_says_frozen_in_it(backup: tuple[Site, HandMadeJob]) -> None:
    lab, job = backup
    job.phase("post-restart")
    job.write("INFO: issuing guest-agent 'fs-freeze' command")
    lab.guest.ask("guest-fsfreeze-freeze")
    job.write("INFO: starting backup via QMP command", "INFO: issuing guest-agent 'fs-thaw' command")
    lab.guest.ask("guest-fsfreeze-thaw")
    job.write("INFO: started backup task 'x'")
    assert settled(lab).verdict == "filesystem-consistent"


def test_a_freeze_of_vzdumps_that_came_before_us_is_not_called_a_strangers(backup: tuple[Site, HandMadeJob]) -> None:
    """As where it did not ask for the agent in time, and the freeze at its knock was given up."""
    lab, job = backup
    job.phase("backup-start")
    job.write("INFO: issuing guest-agent 'fs-freeze' command")
    lab.guest.ask("guest-fsfreeze-freeze")
    job.phase("post-restart")
    job.write("INFO: starting backup via QMP command", "INFO: issuing guest-agent 'fs-thaw' command")
    lab.guest.ask("guest-fsfreeze-thaw")
    job.write("INFO: started backup task 'x'")
    assert settled(lab).verdict == "filesystem-consistent"


def test_somebody_who_never_leaves_the_agent_costs_the_verdict_and_nothing_else(
    backup: tuple[Site, HandMadeJob],
) -> None:
    lab, job = backup
    job.phase("backup-start")
    with lab.guest.agent() as stays:
        stays.sync()
        job.phase("post-restart")
        assert waiting(Path(lab.guest.agent_socket)) == 1, "vzdump's calls have room behind us"
        job.write("INFO: issuing guest-agent 'fs-freeze' command", "ERROR: unable to freeze guest fs - got timeout")
        job.start_backup(own_freeze=True)
    window = settled(lab)
    assert (window.verdict, window.closed_at is None) == ("crash-consistent", False)
    assert wait_for(lambda: places(lab) == 0, 20)
