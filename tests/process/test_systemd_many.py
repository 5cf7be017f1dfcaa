"""The guards of a run of many under a real systemd: forked in a transient unit of their own, that ends behind the last.

A Debian machine in QEMU runs safe-snapshot; the node and scripted guests are on this one. Slow: `make test-slow`.
"""

from __future__ import annotations

import signal
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from snapshot.guard.nursery import MOST_HOSTS
from tests.guest.debian import reached
from tests.lab.guest.scripted import ScriptedGuest
from tests.lab.rundir import run_directory
from tests.lab.site import Site, site
from tests.process.debian import IDLE_SECONDS, SystemdMachine

pytestmark = [pytest.mark.slow, pytest.mark.real, pytest.mark.timeout(3600)]

RUN = "safe-snapshot --config /etc/vzdump-hooks/config.toml --policy require"
NO_LIMITS = r"at_once_per_node = 100\nat_once_per_storage = 100\n"
# As for a guard that is a unit (test_systemd.py): an emulated machine is slow, and it is no deadline that thaws.
BOUND_SECONDS = 90.0
MORE_THAN_HOSTS = pytest.mark.parametrize("guests", [MOST_HOSTS + 2])
UNITS = "'vzdump-hooks-guards-*'"


@pytest.fixture(scope="module", name="machine")
def _machine() -> Iterator[SystemdMachine]:
    with run_directory() as run, SystemdMachine(900, run) as machine:
        yield machine


@pytest.fixture(name="guests")
def _guests() -> int:
    return 2


@pytest.fixture(name="lab")
def _lab(machine: SystemdMachine, guests: int) -> Iterator[Site]:
    with site(*[ScriptedGuest] * guests, idle_timeout=IDLE_SECONDS) as lab:
        machine.install(lab)
        machine.shell(f"printf '[fleet]\\nat_once = {guests}\\n{NO_LIMITS}' >>/etc/vzdump-hooks/config.toml")
        machine.shell("rm -rf /var/lib/vzdump-hooks; systemctl reset-failed")
        yield lab
        machine.shell(f"systemctl stop safe-snapshot-recover.timer {UNITS} caller 2>/dev/null; true")


def frozen(lab: Site) -> list[int]:
    return [vmid for vmid, guest in lab.guests.items() if guest.is_frozen()]


def hold_frozen(lab: Site, machine: SystemdMachine) -> dict[int, int]:
    """Start a run as the unit ``caller`` and let it hold all guests frozen; the pid of each guest's guard."""
    lab.node.fault("/snapshot$", "hold", method="POST", times=None)
    machine.shell(f"systemd-run --quiet --collect --unit=caller {RUN} {' '.join(map(str, lab.guests))}")
    asked = [f"/{vmid}/snapshot" for vmid in lab.guests]
    assert reached(lambda: all(any(r.method == "POST" for r in lab.node.requests(path)) for path in asked)), (
        machine.shell("journalctl -n 50 --no-pager")
    )
    assert frozen(lab) == list(lab.guests)
    return {window.vmid: window.guard_pid for window in open_windows(machine)}


class Row(NamedTuple):
    """An open window."""

    vmid: int
    guard_pid: int
    owner_pid: int


def open_windows(machine: SystemdMachine) -> list[Row]:
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "windows"
        script.write_text(
            "import sqlite3\n"
            'journal = sqlite3.connect("/var/lib/vzdump-hooks/journal.sqlite")\n'
            'for row in journal.execute("SELECT vmid, guard_pid, owner_pid FROM windows WHERE closed_at IS NULL"):\n'
            "    print(*row)\n"
        )
        machine.copy_in(script, "/root/windows")
    return [Row(*map(int, line.split())) for line in machine.shell("python3 /root/windows").splitlines()]


def nursery(machine: SystemdMachine) -> int:
    """The pid of the process that forks guards; 0 when there is none."""
    return int(machine.shell(f"systemctl show -p MainPID --value {UNITS}").strip() or 0)


def children(machine: SystemdMachine, pid: int) -> list[int]:
    return [int(word) for word in machine.shell(f"cat /proc/{pid}/task/{pid}/children").split()]


def is_over(machine: SystemdMachine) -> bool:
    """Whether systemd knows no unit of guards any more."""
    return machine.shell(f"systemctl list-units --all --plain --no-legend {UNITS}").strip() == ""


def test_a_run_of_many_has_its_guards_in_a_unit_that_outlives_its_own(lab: Site, machine: SystemdMachine) -> None:
    guards = hold_frozen(lab, machine)
    first = nursery(machine)
    assert sorted(guards.values()) == sorted(children(machine, first))
    for pid in guards.values():
        assert "/vzdump-hooks-guards-" in machine.shell(f"cat /proc/{pid}/cgroup")
        assert machine.shell(f"cat /proc/{pid}/oom_score_adj") == "-900"
        assert int(machine.shell(f"grep VmLck /proc/{pid}/status").split()[1]) > 10_000
        assert machine.shell(f"readlink /proc/{pid}/fd/0") == "/dev/null"
    owner = next(window.owner_pid for window in open_windows(machine) if window.vmid == 100)
    machine.shell(f"kill -9 {owner}")
    assert reached(lambda: frozen(lab) == [101]), "the guard of the killed worker thaws its guest alone"
    # The parent's whole control group is killed, workers and all: only the guards are left.
    machine.shell("systemctl kill --kill-who=all --signal=KILL caller")
    assert reached(lambda: frozen(lab) == [])
    assert reached(lambda: is_over(machine)), machine.shell(f"systemctl status {UNITS}")


def test_a_guard_that_is_killed_with_its_owner_is_forked_again_and_thaws(lab: Site, machine: SystemdMachine) -> None:
    guards = hold_frozen(lab, machine)
    machine.shell(f"systemctl kill --kill-who=all --signal=KILL caller; kill -9 {guards[100]} {guards[101]}")
    assert reached(lambda: frozen(lab) == []), machine.shell("journalctl -n 50 --no-pager")
    assert reached(lambda: is_over(machine))


def test_guards_thaw_though_the_unit_that_forked_them_has_failed(lab: Site, machine: SystemdMachine) -> None:
    """KillMode: systemd leaves them alone when the main process of their unit is killed."""
    hold_frozen(lab, machine)
    machine.shell(f"kill -9 {nursery(machine)}")
    assert reached(lambda: nursery(machine) == 0)
    assert frozen(lab) == [100, 101]
    machine.shell("systemctl kill --kill-who=all --signal=KILL caller")
    assert reached(lambda: frozen(lab) == []), machine.shell("journalctl -n 50 --no-pager")


def test_a_unit_of_guards_that_is_stopped_thaws_first(lab: Site, machine: SystemdMachine) -> None:
    hold_frozen(lab, machine)
    owners = " ".join(str(window.owner_pid) for window in open_windows(machine))
    machine.shell(f"kill -STOP {owners}; systemctl stop {UNITS}")
    assert reached(lambda: frozen(lab) == [])
    machine.shell("systemctl kill --kill-who=all --signal=KILL caller")


def share_hosts(guards: dict[int, int]) -> list[int]:
    """The pids of the processes that more than one guard has."""
    found = Counter(guards.values())
    assert len(found) == MOST_HOSTS
    return [pid for pid, count in found.items() if count > 1]


@MORE_THAN_HOSTS
def test_a_process_of_several_guards_that_is_killed_with_all_owners_costs_no_guest(
    lab: Site, machine: SystemdMachine
) -> None:
    """It is stopped first, so that its guards cannot thaw before their end: the nursery's next ones have to."""
    guards = hold_frozen(lab, machine)
    killed = share_hosts(guards)[0]
    killed_at = machine.clock()
    machine.shell(f"kill -STOP {killed}; systemctl kill --kill-who=all --signal=KILL caller; kill -9 {killed}")
    name = f"{len(lab.guests)} guests, one process of guards and all owners killed"
    machine.thaws_within(BOUND_SECONDS, lab, killed_at, name)
    assert reached(lambda: is_over(machine)), machine.shell(f"systemctl status {UNITS}")
    assert open_windows(machine) == []


@MORE_THAN_HOSTS
def test_a_unit_of_more_guards_than_processes_that_is_stopped_thaws_all(lab: Site, machine: SystemdMachine) -> None:
    share_hosts(hold_frozen(lab, machine))
    owners = " ".join({str(window.owner_pid) for window in open_windows(machine)})
    machine.shell(f"kill -STOP {owners}")
    assert frozen(lab) == list(lab.guests)
    stopped_at = machine.clock()
    machine.shell(f"systemctl stop {UNITS}")
    machine.thaws_within(BOUND_SECONDS, lab, stopped_at, f"{len(lab.guests)} guests, unit of the guards stopped")
    assert reached(lambda: is_over(machine))
    machine.shell("systemctl kill --kill-who=all --signal=KILL caller")


def test_a_process_of_the_unit_that_the_kernel_ends_for_want_of_memory_ends_no_window(
    lab: Site, machine: SystemdMachine
) -> None:
    """By default systemd stops the whole unit then, and every guard in it thaws."""
    hold_frozen(lab, machine)
    unit = machine.shell(f"systemctl list-units --plain --no-legend {UNITS}").split()[0]
    group = f"/sys/fs/cgroup/system.slice/{unit}"
    machine.shell(f"echo $(($(cat {group}/memory.current) + (64 << 20))) >{group}/memory.max")
    eats = "python3 -c 'b\"x\" * (1 << 28)'"
    ended, said = machine.control(
        f"(echo $BASHPID >{group}/cgroup.procs && echo 1000 >/proc/self/oom_score_adj && exec {eats})"
    )
    assert ended == 128 + signal.SIGKILL, said
    assert reached(lambda: "killed by the OOM killer" in machine.shell(f"journalctl -b --no-pager -u {unit}"))
    assert machine.shell(f"systemctl show -p ActiveState --value {unit}") == "active"
    assert frozen(lab) == list(lab.guests)
    machine.shell("systemctl kill --kill-who=all --signal=KILL caller")
    assert reached(lambda: frozen(lab) == [])
