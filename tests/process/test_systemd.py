"""The guard under a real systemd: a transient unit of its own, restarted when it is killed; and recover at boot.

A Debian machine in QEMU runs safe-snapshot; the node and a scripted guest are on this one. Slow: `make test-slow`.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from tests.lab.rundir import run_directory
from tests.lab.site import Site, site, wait_for
from tests.process.debian import SystemdMachine
from tests.process.figures import thawed_within
from tests.process.processes import requested
from tests.process.timeline import Timeline

pytestmark = [pytest.mark.slow, pytest.mark.real, pytest.mark.timeout(1800)]

RUN = "safe-snapshot --config /etc/vzdump-hooks/config.toml"
CALLER = "$(systemctl show -p MainPID --value caller)"
# systemd waits half a second, and an emulated machine takes seconds to start Python.
RESTARTED_SECONDS = 90.0


@pytest.fixture(scope="module", name="machine")
def _machine() -> Iterator[SystemdMachine]:
    with run_directory() as run, SystemdMachine(900, run) as machine:
        yield machine


@pytest.fixture(name="lab")
def _lab(machine: SystemdMachine) -> Iterator[Site]:
    with site() as lab:
        machine.install(lab)
        machine.shell("rm -rf /var/lib/vzdump-hooks; systemctl reset-failed")
        yield lab
        machine.shell("systemctl stop safe-snapshot-recover.timer 'vzdump-hooks-guard-*' caller 2>/dev/null; true", 120)


def hold_frozen(lab: Site, machine: SystemdMachine) -> int:
    """Start a run as the unit ``caller`` and let it hold guest 100 frozen; returns the guard's pid."""
    lab.node.fault("/snapshot$", "hold", method="POST")
    machine.shell(f"systemd-run --quiet --collect --unit=caller {RUN} --policy require 100", timeout=60)
    assert wait_for(lambda: len(lab.node.requests("/snapshot")) >= 2, 120), machine.shell("journalctl -n 50 --no-pager")
    assert lab.guest.is_frozen()
    return guard_of(machine)


def guard_of(machine: SystemdMachine) -> int:
    """The pid of the one guard; 0 when there is none."""
    return int(machine.shell("systemctl show -p MainPID --value 'vzdump-hooks-guard-100-*'").strip() or 0)


def guards_journal(machine: SystemdMachine) -> str:
    """What systemd says of the guards' units since the machine's boot."""
    return machine.shell("journalctl -b --no-pager -u 'vzdump-hooks-guard-100-*'", timeout=120)


def test_the_guard_is_a_unit_of_its_own_and_outlives_its_callers_unit(lab: Site, machine: SystemdMachine) -> None:
    guard = hold_frozen(lab, machine)
    groups = [machine.shell(f"cat /proc/{pid}/cgroup") for pid in (guard, CALLER)]
    assert "/vzdump-hooks-guard-100-" in groups[0]
    assert "/caller.service" in groups[1]
    assert machine.shell(f"cat /proc/{guard}/oom_score_adj") == "-900"
    assert int(machine.shell(f"grep VmLck /proc/{guard}/status").split()[1]) > 10_000
    assert machine.shell(f"readlink /proc/{guard}/fd/0") == "/dev/null"
    # The caller's whole control group is killed, as a restart of pvedaemon does to a backup from the web interface.
    killed_at = time.monotonic()
    machine.shell("systemctl kill --kill-who=all --signal=KILL caller")
    thawed_within(10.0, Timeline(lab.guest), killed_at, "systemd: caller's unit killed, emulated machine")
    assert wait_for(lambda: guard_of(machine) == 0, 60)


def test_systemd_starts_a_killed_guard_again_and_it_thaws(lab: Site, machine: SystemdMachine) -> None:
    guard = hold_frozen(lab, machine)
    killed_at = time.monotonic()
    machine.shell(f"kill -9 {guard} {CALLER}")
    thawed_within(RESTARTED_SECONDS, Timeline(lab.guest), killed_at, "systemd: guard restarted, emulated machine")
    assert "restart counter is at 1" in guards_journal(machine)
    # Its thaw has counted the one freeze there was: it watches for some seconds more, and closes the window.
    assert wait_for(lambda: guard_of(machine) == 0, 60)
    status, text = machine.control(f"{RUN} recover", timeout=120)
    assert (status, text) == (0, "no window was left open")


def test_a_guard_that_is_stopped_thaws_first_and_stays_stopped(lab: Site, machine: SystemdMachine) -> None:
    hold_frozen(lab, machine)
    machine.shell(f"kill -STOP {CALLER}")
    stopped_at = time.monotonic()
    machine.shell("systemctl stop 'vzdump-hooks-guard-100-*'", timeout=120)
    thawed_within(10.0, Timeline(lab.guest), stopped_at, "systemd: guard's unit stopped, emulated machine")
    time.sleep(2)
    assert guard_of(machine) == 0


def test_the_units_are_sound_and_recover_thaws_at_boot(lab: Site, machine: SystemdMachine) -> None:
    units = (
        "safe-snapshot-recover.service safe-snapshot-recover.timer safe-snapshot@100.service safe-snapshot@100.timer"
    )
    assert machine.shell(f"cd /etc/systemd/system && systemd-analyze verify --man=no {units} 2>&1", timeout=120) == ""
    machine.shell("systemctl enable safe-snapshot-recover.service safe-snapshot-recover.timer")
    # The units look for the configuration where it is by default: /etc/vzdump-hooks/config.toml.
    guard = hold_frozen(lab, machine)
    machine.shell("sync")
    machine.reset()
    reset_at = time.monotonic()
    assert guard
    assert lab.guest.is_frozen()
    assert wait_for(lambda: not lab.guest.is_frozen(), 300)
    thawed_within(300.0, Timeline(lab.guest), reset_at, "systemd: machine reset, recover at its boot, emulated")
    assert wait_for(lambda: machine.control("systemctl is-active safe-snapshot-recover.timer")[1] == "active", 60)
    assert machine.shell("systemctl show -p Result --value safe-snapshot-recover.service") == "success"
    # Its thaw has counted the one freeze there was, so no guard has to stay.
    status, text = machine.control(f"{RUN} recover", timeout=120)
    assert (status, text) == (0, "no window was left open")


def test_the_sample_unit_takes_a_snapshot_that_is_proven(lab: Site, machine: SystemdMachine) -> None:
    status, text = machine.control("systemctl start safe-snapshot@100.service", timeout=180)
    assert status == 0, text + machine.shell("journalctl -u safe-snapshot@100 -n 20 --no-pager")
    assert "filesystem-consistent" in machine.shell("journalctl -u safe-snapshot@100 -n 20 --no-pager")
    requested(lab, "fsfreeze-thaw")
