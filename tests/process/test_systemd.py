"""The guard under a real systemd: a transient unit of its own, restarted when it is killed; and recover at boot.

A Debian machine in QEMU runs safe-snapshot; the node and a scripted guest are on this one. Slow: `make test-slow`.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from snapshot.config.settings import Config
from snapshot.guard.launcher import UNIT_PROPERTIES
from snapshot.guard.link import watchdog_seconds
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
# By default; the guard's own word on it, and what systemd took of it, are looked at.
WATCHDOG_SECONDS = watchdog_seconds(Config())
LOOP_HANGS = "/run/a-guards-loop-is-to-hang"
HANGS = "/run/a-guards-loop-hangs"


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


def hold_frozen(lab: Site, machine: SystemdMachine, properties: str = "") -> int:
    """Start a run as the unit ``caller`` and let it hold guest 100 frozen; returns the guard's pid."""
    lab.node.fault("/snapshot$", "hold", method="POST")
    machine.shell(f"systemd-run --quiet --collect --unit=caller {properties} {RUN} --policy require 100", timeout=60)
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


@pytest.mark.parametrize("hangs", ["stopped", "in its loop"])
def test_systemd_starts_a_guard_that_hangs_again_and_it_thaws(lab: Site, machine: SystemdMachine, hangs: str) -> None:
    """With its owner dead: nobody else thaws before the minute's recover. A hung process keeps its connections."""
    hang = f'while os.path.exists("{LOOP_HANGS}"): open("{HANGS}", "w").close()'
    inbox = "/usr/lib/python3/dist-packages/snapshot/guard/inbox.py"
    machine.shell(f"rm -f {HANGS}; sed -i 's@^            self._moves()$@            {hang}\\n&@' {inbox}")
    guard = hold_frozen(lab, machine)
    unit = machine.shell("systemctl list-units --plain --no-legend 'vzdump-hooks-guard-100-*'").split()[0]
    assert machine.shell(f"systemctl show -p WatchdogUSec --value {unit}") == f"{WATCHDOG_SECONDS:g}s"
    if hangs == "stopped":
        machine.shell(f"kill -STOP {guard}")
    else:
        machine.shell(f"touch {LOOP_HANGS}")
        assert wait_for(lambda: machine.control(f"test -e {HANGS}")[0] == 0, 60)
    hung_at = time.monotonic()
    machine.shell(f"kill -9 {CALLER}")
    assert wait_for(lambda: guard_of(machine) != guard, WATCHDOG_SECONDS + 60), guards_journal(machine)
    machine.shell(f"rm -f {LOOP_HANGS}")
    bound = WATCHDOG_SECONDS + RESTARTED_SECONDS
    thawed_within(bound, Timeline(lab.guest), hung_at, f"systemd: guard hung ({hangs}), emulated machine")
    said = machine.shell(f"journalctl -b --no-pager -u {unit}", timeout=120)
    assert f"Watchdog timeout (limit {WATCHDOG_SECONDS:g}s)" in said
    assert "status=9/KILL" in said, "no core dump of a process that has the token"
    assert wait_for(lambda: guard_of(machine) == 0, 60)


def test_a_guard_that_moves_is_not_taken_for_hung(lab: Site, machine: SystemdMachine) -> None:
    """It watches for a late freeze for much longer than the watchdog waits."""
    machine.shell("printf '[thaw]\\nattempt_timeout_seconds = 2\\n' >>/etc/vzdump-hooks/config.toml")
    lab.node.fault("fsfreeze-freeze", "drop")
    machine.control(f"{RUN} --policy require 100", timeout=180)
    guard = guard_of(machine)
    assert guard
    time.sleep(2.5 * watchdog_seconds(Config(thaw=Config().thaw._replace(attempt_timeout_seconds=2))))
    assert guard_of(machine) == guard, guards_journal(machine)


def test_a_child_that_cannot_be_killed_keeps_no_guard_from_being_started_again(machine: SystemdMachine) -> None:
    """A pvesh on a disk that hangs. Were the whole control group to end first, systemd would wait for it."""
    machine.shell(
        "dd if=/dev/zero of=/root/hung.img bs=1M count=8 2>/dev/null; mkfs.ext4 -q -F /root/hung.img; "
        "mkdir -p /mnt/hung; mount -o loop /root/hung.img /mnt/hung; fsfreeze --freeze /mnt/hung",
        timeout=120,
    )
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "guard"
        script.write_text("#!/bin/sh\nsetsid sh -c 'echo x >/mnt/hung/file' &\nexec sleep 1000\n")
        machine.copy_in(script, "/root/guard")
    properties = " ".join(
        f"-p {key}={value}" for key, value in UNIT_PROPERTIES.items() if key not in ("Type", "NotifyAccess")
    )
    try:
        machine.shell(f"systemd-run --quiet --collect --unit=with-child {properties} /root/guard")
        first = machine.shell("systemctl show -p MainPID --value with-child").strip()
        assert wait_for(lambda: "D" in machine.shell("cat /proc/[0-9]*/stat | grep ' (sh) D ' || true"), 30)
        machine.shell(f"kill -9 {first}")
        assert wait_for(
            lambda: machine.shell("systemctl show -p MainPID --value with-child").strip() not in (first, "0"), 30
        )
    finally:
        machine.shell(
            "fsfreeze --unfreeze /mnt/hung; systemctl stop with-child; umount /mnt/hung; rm -f /root/hung.img", 120
        )


def test_a_guard_that_is_stopped_thaws_first_and_stays_stopped(lab: Site, machine: SystemdMachine) -> None:
    hold_frozen(lab, machine)
    machine.shell(f"kill -STOP {CALLER}")
    stopped_at = time.monotonic()
    machine.shell("systemctl stop 'vzdump-hooks-guard-100-*'", timeout=120)
    thawed_within(10.0, Timeline(lab.guest), stopped_at, "systemd: guard's unit stopped, emulated machine")
    time.sleep(2)
    assert guard_of(machine) == 0


def test_a_guard_has_its_token_though_its_callers_was_a_credential(lab: Site, machine: SystemdMachine) -> None:
    """The caller sees no token file, and its credential ends with its unit. Off a node a token is the only way."""
    file = "/etc/vzdump-hooks/token"
    guard = hold_frozen(lab, machine, f"-p LoadCredential=token:{file} -p InaccessiblePaths={file}")
    killed_at = time.monotonic()
    machine.shell(f"kill -9 {guard} {CALLER}")
    assert wait_for(lambda: machine.control("test -e /run/credentials/caller.service")[0] == 1, 60)
    thawed_within(
        RESTARTED_SECONDS, Timeline(lab.guest), killed_at, "systemd: guard restarted, credential gone, emulated"
    )
    assert "restart counter is at 1" in guards_journal(machine)
    assert wait_for(lambda: guard_of(machine) == 0, 60)


def test_a_guard_that_recover_started_in_its_own_group_outlives_the_unit(lab: Site, machine: SystemdMachine) -> None:
    """[guard] launcher = "detached": systemd would end it with the unit, its guest still frozen."""
    machine.shell("sed -i 's/^arm_timeout_seconds = 90$/&\\nlauncher = \"detached\"/' /etc/vzdump-hooks/config.toml")
    lab.node.fault("/snapshot$", "hold", method="POST")
    machine.shell(f"systemd-run --quiet --collect --unit=caller {RUN} --policy require 100", timeout=60)
    assert wait_for(lambda: len(lab.node.requests("/snapshot")) >= 2, 120), machine.shell("journalctl -n 50 --no-pager")
    lab.node.fault("fsfreeze-thaw", "status", reason="QEMU guest agent is not running", times=None)
    machine.shell("systemctl kill --kill-who=all --signal=KILL caller; date +%s >/root/since")
    status, _ = machine.control("systemctl start safe-snapshot-recover.service", timeout=300)
    assert status == 1, machine.shell("journalctl -b -n 60 --no-pager", timeout=120)
    assert machine.shell("systemctl show -p ActiveState --value safe-snapshot-recover") == "failed"
    left = machine.shell("cat /sys/fs/cgroup/system.slice/safe-snapshot-recover.service/cgroup.procs").split()
    assert len(left) == 1, "the guard"
    assert lab.guest.is_frozen()
    said = machine.shell("journalctl -q -u safe-snapshot-recover -p err -o cat --no-pager --since @$(cat /root/since)")
    assert "needs_you=yes" in said
    answers_at = time.monotonic()
    lab.node.clear_faults()
    thawed_within(30.0, Timeline(lab.guest), answers_at, "systemd: recover's guard in its unit's group, emulated")
    assert wait_for(lambda: machine.control(f"test -e /proc/{left[0]}")[0] == 1, 60)


def test_a_recovery_with_nothing_to_do_leaves_no_line(lab: Site, machine: SystemdMachine) -> None:
    """Four a minute otherwise, 5760 a day: systemd's own."""
    machine.shell("date +%s >/root/since; systemctl start safe-snapshot-recover.service", timeout=300)
    machine.shell("journalctl --sync", timeout=60)
    lines = machine.shell("journalctl -q -u safe-snapshot-recover -o cat --no-pager --since @$(cat /root/since)")
    assert lines == ""
    assert machine.shell("systemctl show -p Result --value safe-snapshot-recover.service") == "success"
    # Without a token the unit starts as well: its credential is a blank line then, and the error is ours.
    machine.shell("mv /etc/vzdump-hooks/token /root/token")
    machine.control("systemctl start safe-snapshot-recover.service", timeout=300)
    said = machine.shell("journalctl -q -u safe-snapshot-recover -o cat --no-pager --since @$(cat /root/since)")
    assert "ERROR: there is no API token: the token file /etc/vzdump-hooks/token does not exist" in said


def test_the_sample_exporter_serves_the_metrics(lab: Site, machine: SystemdMachine) -> None:
    machine.shell(f"{RUN} 100", timeout=180)
    machine.shell("systemctl start safe-snapshot-exporter.service", timeout=60)
    fetch = "import urllib.request as u; print(u.urlopen('http://127.0.0.1:14638/metrics', timeout=60).read().decode())"
    assert wait_for(lambda: machine.control(f'python3 -c "{fetch}" >/root/metrics', timeout=120)[0] == 0, 180)
    assert 'vmid="100"' in machine.shell("grep '^pve_fsfreeze_attempts_total' /root/metrics || true")
    machine.shell("systemctl stop safe-snapshot-exporter.service")


def test_the_units_are_sound_and_recover_thaws_at_boot(lab: Site, machine: SystemdMachine) -> None:
    units = (
        "safe-snapshot-recover.service safe-snapshot-recover.timer safe-snapshot@100.service safe-snapshot@100.timer "
        "safe-snapshot-exporter.service"
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
