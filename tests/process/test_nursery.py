"""Guards that are forked from one process for many windows: all that holds for a guard that is started by itself."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest

from snapshot.base import detached
from snapshot.base.clock import SystemClock
from snapshot.config import reading
from snapshot.guard.launcher import ProcessLauncher
from tests.lab.guest.scripted import ScriptedGuest
from tests.lab.site import wait_for
from tests.process.nursing import (
    AS_ROOT,
    IMPATIENT,
    REACHED_SECONDS,
    Owner,
    change_nursery,
    nursed,
    processes,
    the_nursery,
)
from tests.process.processes import command_line, guarded_site, held, hold_frozen, is_alive, kill


def memory(pid: int) -> dict[str, int]:
    """kB by the names of smaps_rollup."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    return {name: int(value.split()[0]) for name, value in (line.split(":") for line in lines)}


def test_a_forked_guard_is_a_process_of_its_own_with_nothing_inherited(tmp_path: Path) -> None:
    with (tmp_path / "parents").open("w") as marker, nursed() as (lab, launcher, _):
        os.set_inheritable(marker.fileno(), True)
        owners = [Owner(lab, launcher, number) for number in range(3)]
        for owner in owners:
            pid = owner.guard.pid
            assert os.getsid(pid) == os.getpgid(pid) == pid
            assert Path(f"/proc/{pid}/comm").read_text() == "fsfreeze-guard\n"
            targets = {path.name: os.readlink(path) for path in Path(f"/proc/{pid}/fd").iterdir()}
            assert {targets[fd] for fd in "012"} == {"/dev/null"}
            assert len(targets) <= 16, targets
            # Its owner's, its watcher's, one to the API; and the nursery's to this process.
            assert sum(target.startswith("socket:") for target in targets.values()) <= 4, targets
            assert not signal.SIGTERM.value & int(_status(pid)["SigBlk"], 16)
        for owner in owners:
            owner.die()


def _status(pid: int) -> dict[str, str]:
    return dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())


@AS_ROOT
def test_forked_guards_stay_in_memory_and_share_most_of_it() -> None:
    with nursed() as (lab, launcher, _):
        owners = [Owner(lab, launcher, number) for number in range(4)]
        for owner in owners:
            found, status = memory(owner.guard.pid), _status(owner.guard.pid)
            assert found["Locked"] >= found["Pss"] - 4, "what it shares is locked, too"
            assert int(status["VmLck"].split()[0]) >= int(status["VmRSS"].split()[0])
            assert found["Pss"] < found["Rss"] / 2
            assert found["Private_Dirty"] < found["Rss"] / 5
        for owner in owners:
            owner.die()


def test_a_forked_guard_thaws_when_its_owner_dies() -> None:
    with nursed() as (lab, launcher, timeline):
        owner, other = Owner(lab, launcher), Owner(lab, launcher, 1)
        owner.freeze()
        owner.die()
        assert wait_for(lambda: not timeline.is_frozen())
        assert other.guard.is_alive()
        other.die()


def test_one_that_is_killed_is_forked_again_and_takes_its_window_over() -> None:
    with nursed() as (lab, launcher, timeline):
        owner = Owner(lab, launcher)
        owner.freeze()
        first = owner.guard.pid
        owner.kill()
        kill(first)
        assert wait_for(lambda: not owner.guard.is_alive())
        assert wait_for(lambda: not timeline.is_frozen(), REACHED_SECONDS)
        assert processes(lab, "fsfreeze-guard") != [first]
        owner.die()


def test_one_that_hangs_is_killed_for_it_and_forked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    change_nursery(monkeypatch, IMPATIENT)
    with nursed() as (lab, launcher, timeline):
        owner = Owner(lab, launcher)
        owner.freeze()
        first = owner.guard.pid
        os.kill(first, signal.SIGSTOP)
        owner.die()
        assert wait_for(lambda: not timeline.is_frozen(), REACHED_SECONDS)
        assert not is_alive(first)


def test_guards_outlive_a_nursery_that_is_killed_and_the_next_one_is_started_by_itself() -> None:
    with nursed() as (lab, launcher, timeline):
        owner = Owner(lab, launcher)
        owner.freeze()
        kill(the_nursery(lab))
        assert wait_for(lambda: not processes(lab, "fsfreeze-nurse"))
        alone = Owner(lab, launcher, 1)
        assert "snapshot.guard" in command_line(alone.guard.pid)
        alone.bury()
        assert owner.guard.is_alive()
        owner.die()
        assert wait_for(lambda: not timeline.is_frozen())


def test_a_nursery_ends_behind_its_starter_and_its_last_guard() -> None:
    with nursed() as (lab, launcher, timeline):
        owner = Owner(lab, launcher)
        owner.freeze()
        nursery = the_nursery(lab)
        launcher.hang_up()
        time.sleep(1.0)  # four of its looks
        assert is_alive(nursery), "it left a guard that nobody would fork again"
        owner.die()
        assert wait_for(lambda: not timeline.is_frozen())
        assert wait_for(lambda: not is_alive(nursery), REACHED_SECONDS)


def test_a_nursery_that_is_stopped_lets_its_guards_thaw_first() -> None:
    with nursed() as (lab, launcher, timeline):
        owner = Owner(lab, launcher)
        owner.freeze()
        nursery = the_nursery(lab)
        os.kill(nursery, signal.SIGTERM)
        assert wait_for(lambda: not timeline.is_frozen(), REACHED_SECONDS)
        owner.die()
        assert wait_for(lambda: not is_alive(nursery), REACHED_SECONDS)


@AS_ROOT
def test_nobody_else_orders_a_guard() -> None:
    with nursed() as (lab, launcher, _):
        ask = (
            "import socket, sys; s = socket.socket(socket.AF_UNIX); s.connect('\\0' + sys.argv[1]);"
            "s.sendall(sys.argv[2].encode()); print(s.recv(100))"
        )
        order = json.dumps({"spec": "{}", "address": "nowhere"}) + "\n"
        asked = subprocess.run(
            ["/usr/bin/env", "python3", "-c", ask, launcher._nursery, order],
            user=65534,
            capture_output=True,
            text=True,
            check=False,
        )
        assert asked.stdout in ("b''\n", ""), asked
        with socket.socket(socket.AF_UNIX) as ours:
            ours.connect("\0" + launcher._nursery)
            ours.sendall(b"nonsense\n")
            assert "error" in json.loads(detached.read_line(ours))
        assert not processes(lab, "fsfreeze-guard")


def test_where_there_can_be_none_it_says_why_and_guards_are_started_by_themselves() -> None:
    with guarded_site(ScriptedGuest) as (lab, timeline):
        launcher = ProcessLauncher(reading.load(lab.config_path), lab.config_path, SystemClock())
        whole = lab.config_path.read_text()
        lab.config_path.write_text("[api]\nnonsense = 1\n")
        assert "each guard is started by itself" in launcher.preload()
        lab.config_path.write_text(whole)
        owner = Owner(lab, launcher)
        owner.freeze()
        owner.bury()
        assert not timeline.is_frozen()
        launcher.hang_up()


def test_none_is_forked_from_a_process_in_which_a_name_is_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fork takes no thread along, but what the thread holds: nobody could look that name up any more."""
    hangs = """
import socket, threading
from snapshot.pve import https_limits
def resolve(host, port, flags=0):
    if flags:
        raise socket.gaierror
    threading.Event().wait()
https_limits._resolve = resolve
"""
    change_nursery(monkeypatch, hangs)
    with guarded_site(ScriptedGuest) as (lab, _):
        launcher = ProcessLauncher(reading.load(lab.config_path), lab.config_path, SystemClock())
        assert "is not resolved in time" in launcher.preload()
        assert launcher._nurse is not None
        assert launcher._nurse.wait(REACHED_SECONDS) == 1


def test_a_run_of_many_has_its_guards_forked_and_leaves_no_nursery() -> None:
    with guarded_site(ScriptedGuest, ScriptedGuest) as (lab, timeline):
        hold_frozen(lab)
        with lab.start("100", "101", "--at-once", "1") as run:
            held(lab)
            (guard,) = processes(lab, "fsfreeze-guard")
            assert "snapshot.guard.nursery" in command_line(guard)
            lab.node.release()
            run.communicate(timeout=60)
        assert run.returncode == 0
        assert not timeline.is_frozen()
        assert wait_for(lambda: not processes(lab, "fsfreeze-nurse"), REACHED_SECONDS)
