"""Guards that share a process, as those of many windows at once do: what happens to one is no other's trouble."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path

import pytest

from snapshot.guard.launcher import ProcessLauncher
from snapshot.guard.nursery import MOST_HOSTS
from tests.lab.site import Site, wait_for
from tests.process.nursing import (
    IMPATIENT,
    ONE_HOST,
    REACHED_SECONDS,
    Owner,
    change_nursery,
    nursed,
    processes,
    the_nursery,
)
from tests.process.processes import is_alive, kill

# One guest's guard does something, once it is armed.
_OF_101 = """
from snapshot.guard.core import GuardCore
import os, threading, time
run = GuardCore.run
def changed(core):
    if core._spec.vmid == 101:
        {does}
    run(core)
GuardCore.run = changed
"""


def two_in_one(lab: Site, launcher: ProcessLauncher) -> tuple[Owner, Owner]:
    """The owners of guests 100 and 101, both frozen, whose guards share a process."""
    one, other = (Owner(lab, launcher, vmid, vmid) for vmid in (100, 101))
    assert one.guard.pid == other.guard.pid
    one.freeze()
    other.freeze()
    return one, other


def thawed(*owners: Owner) -> bool:
    return wait_for(lambda: not any(owner.is_frozen() for owner in owners), REACHED_SECONDS)


def descriptors(pid: int) -> list[str]:
    """What a process has open."""
    found = []
    for path in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            found.append(os.readlink(path))
    return found


def sockets(pid: int) -> set[str]:
    """The inodes of a process's sockets."""
    return {target.partition("[")[2][:-1] for target in descriptors(pid) if target.startswith("socket:")}


def connections(pid: int) -> int:
    """How many TCP connections of a process stand (state 01)."""
    lines = [line.split() for line in Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]]
    return len({line[9] for line in lines if line[3] == "01"} & sockets(pid))


def test_up_to_so_many_guards_have_a_process_each_and_more_share_them() -> None:
    """One owner dies: its guest is thawed, and nobody else's, the one in the same process neither."""
    with nursed(MOST_HOSTS + 4) as (lab, launcher, _):
        owners = [Owner(lab, launcher, vmid, vmid) for vmid in lab.guests]
        pids = [owner.guard.pid for owner in owners]
        assert len(set(pids)) == len(set(pids[:MOST_HOSTS])) == MOST_HOSTS
        assert max(map(pids.count, pids)) == 2
        for pid in set(pids):
            assert connections(pid) == pids.count(pid), "each has its own way to the API open"
        for owner in owners:
            owner.freeze()
        dead = owners[-1]
        dead.die()
        assert thawed(dead)
        assert [owner for owner in owners if owner.is_frozen() and owner.guard.is_alive()] == owners[:-1]
        assert sorted(processes(lab, "fsfreeze-guard")) == sorted(set(pids))
        os.kill(the_nursery(lab), signal.SIGTERM)
        assert thawed(*owners), "the end of the nursery makes them all thaw"
        for owner in owners[:-1]:
            owner.die()


def test_a_process_that_has_nothing_to_do_is_taken_before_a_new_one() -> None:
    with nursed(2) as (lab, launcher, _):
        nursery = the_nursery(lab)
        first = Owner(lab, launcher)
        pid, knows_of_one = first.guard.pid, len(sockets(nursery))
        first.die()
        assert wait_for(lambda: len(sockets(nursery)) < knows_of_one), "the nursery has heard of its end"
        assert connections(pid) == 0, "its way to the API is closed behind it"
        open_files = len(descriptors(pid))
        second = Owner(lab, launcher, 1, 101)
        assert second.guard.pid == pid
        second.die()
        assert wait_for(lambda: len(sockets(nursery)) < knows_of_one)
        assert len(descriptors(pid)) == open_files


def test_all_windows_of_a_process_that_is_killed_are_taken_over(monkeypatch: pytest.MonkeyPatch) -> None:
    change_nursery(monkeypatch, "nursery.MOST_HOSTS = 2")
    with nursed(4) as (lab, launcher, _):
        owners = [Owner(lab, launcher, vmid, vmid) for vmid in lab.guests]
        killed = owners[0].guard.pid
        theirs = [owner for owner in owners if owner.guard.pid == killed]
        others = [owner for owner in owners if owner.guard.pid != killed]
        assert len(theirs) == len(others) == 2
        for owner in owners:
            owner.freeze()
        for owner in theirs:
            owner.kill()
        kill(killed)
        assert thawed(*theirs)
        assert all(owner.is_frozen() and owner.guard.is_alive() for owner in others)
        for owner in owners:
            owner.die()


def test_all_windows_of_a_process_that_stands_still_are_taken_over(monkeypatch: pytest.MonkeyPatch) -> None:
    change_nursery(monkeypatch, ONE_HOST, IMPATIENT)
    with nursed(2) as (lab, launcher, _):
        owners = two_in_one(lab, launcher)
        first = owners[0].guard.pid
        os.kill(first, signal.SIGSTOP)
        for owner in owners:
            owner.die()
        assert thawed(*owners)
        assert not is_alive(first)


def test_one_that_hangs_is_not_hidden_by_others_that_move(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its process is killed for it, and it gets one to itself, so that it takes nobody along again."""
    change_nursery(monkeypatch, ONE_HOST, IMPATIENT, _OF_101.format(does="threading.Event().wait()"))
    with nursed(2) as (lab, launcher, _):
        owners = two_in_one(lab, launcher)
        first = owners[0].guard.pid
        assert wait_for(lambda: not is_alive(first), REACHED_SECONDS)
        assert wait_for(lambda: len(processes(lab, "fsfreeze-guard")) == 2, REACHED_SECONDS)
        for owner in owners:
            owner.kill()
        assert thawed(*owners)
        for owner in owners:
            owner.die()


@pytest.mark.parametrize("error", ["RuntimeError", "SystemExit"])
def test_what_one_raises_ends_that_one_and_it_takes_its_window_over(
    monkeypatch: pytest.MonkeyPatch, error: str
) -> None:
    change_nursery(monkeypatch, ONE_HOST, _OF_101.format(does=f"raise {error}"))
    with nursed(2) as (lab, launcher, _):
        one, broken = two_in_one(lab, launcher)
        assert wait_for(lambda: not broken.guard.is_alive())
        assert wait_for(lambda: len(processes(lab, "fsfreeze-guard")) == 2, REACHED_SECONDS)
        broken.kill()
        assert thawed(broken)
        assert one.is_frozen()
        assert one.guard.is_alive()
        one.die()
        broken.die()
        assert thawed(one)


def test_one_that_fails_where_the_nursery_is_gone_begins_again_by_itself(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Others live in its process: for everybody else its window is in hand."""
    fails = tmp_path / "fails"
    waits = f"while not os.path.exists({str(fails)!r}): time.sleep(0.02)"
    change_nursery(monkeypatch, ONE_HOST, _OF_101.format(does=f"{waits}\n        raise RuntimeError"))
    with nursed(2) as (lab, launcher, _):
        one, broken = two_in_one(lab, launcher)
        kill(the_nursery(lab))
        fails.touch()
        assert wait_for(lambda: not broken.guard.is_alive())
        broken.kill()
        assert thawed(broken)
        assert one.is_frozen()
        assert processes(lab, "fsfreeze-guard") == [one.guard.pid]
        one.die()
        broken.die()
        assert thawed(one)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1], ids=["TERM", "USR1"])
def test_a_signal_makes_all_guards_of_a_process_thaw_first(
    monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    """No other guard begins in a process that was told to end."""
    change_nursery(monkeypatch, ONE_HOST)
    with nursed(2) as (lab, launcher, _):
        owners = two_in_one(lab, launcher)
        told = owners[0].guard.pid
        for owner in owners:
            os.kill(owner.process.pid, signal.SIGSTOP)
        os.kill(told, number)
        assert thawed(*owners)
        assert wait_for(lambda: not any(owner.guard.is_alive() for owner in owners))
        for owner in owners:
            owner.die()
        assert wait_for(lambda: not is_alive(told)), "it was left behind"
        idle = Owner(lab, launcher, 1)
        knows_of_one = len(sockets(the_nursery(lab)))
        idle.die()
        assert wait_for(lambda: len(sockets(the_nursery(lab))) < knows_of_one)
        os.kill(idle.guard.pid, number)
        last = Owner(lab, launcher, 2)
        assert last.guard.pid != idle.guard.pid
        last.freeze()
        last.die()
        assert thawed(last)


def test_a_request_that_hangs_keeps_no_other_guard_from_its_thaw(monkeypatch: pytest.MonkeyPatch) -> None:
    change_nursery(monkeypatch, ONE_HOST)
    with nursed(2) as (lab, launcher, _):
        one, other = two_in_one(lab, launcher)
        lab.node.fault("/101/agent/", "hold", times=None)
        other.die()
        assert wait_for(lambda: lab.node.held() > 0, REACHED_SECONDS)
        one.die()
        assert thawed(one)
        assert other.is_frozen()
        lab.node.clear_faults()
        assert thawed(other)
