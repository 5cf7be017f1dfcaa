"""The guard under a real systemd: a transient unit of its own, restarted when it is killed; and recover at boot.

A Debian machine in QEMU runs safe-snapshot; the node and a scripted guest are on this one. Slow: `make test-slow`.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from snapshot.config.settings import Config
from snapshot.guard.launcher import UNIT_PROPERTIES
from snapshot.guard.link import watchdog_seconds
from tests.guest.debian import reached
from tests.lab.rundir import run_directory
from tests.lab.site import Site, site
from tests.process.debian import IDLE_SECONDS, SystemdMachine
from tests.process.processes import requested

pytestmark = [pytest.mark.slow, pytest.mark.real, pytest.mark.timeout(3600)]

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
    with site(idle_timeout=IDLE_SECONDS) as lab:
        machine.install(lab)
        machine.shell("rm -rf /var/lib/vzdump-hooks; systemctl reset-failed")
        yield lab
        machine.shell("systemctl stop safe-snapshot-recover.timer 'vzdump-hooks-guard-*' caller 2>/dev/null; true")


def hold_frozen(lab: Site, machine: SystemdMachine, properties: str = "") -> int:
    """Start a run as the unit ``caller`` and let it hold guest 100 frozen; returns the guard's pid."""
    lab.node.fault("/snapshot$", "hold", method="POST")
    machine.shell(f"systemd-run --quiet --collect --unit=caller {properties} {RUN} --policy require 100")
    assert reached(lambda: len(lab.node.requests("/snapshot")) >= 2), machine.shell("journalctl -n 50 --no-pager")
    assert lab.guest.is_frozen()
    return guard_of(machine)


def guard_of(machine: SystemdMachine) -> int:
    """The pid of the one guard; 0 when there is none."""
    return int(machine.shell("systemctl show -p MainPID --value 'vzdump-hooks-guard-100-*'").strip() or 0)


def guards_journal(machine: SystemdMachine) -> str:
    """What systemd says of the guards' units since the machine's boot."""
    return machine.shell("journalctl -b --no-pager -u 'vzdump-hooks-guard-100-*'")


def test_the_guard_is_a_unit_of_its_own_and_outlives_its_callers_unit(lab: Site, machine: SystemdMachine) -> None:
    guard = hold_frozen(lab, machine)
    groups = [machine.shell(f"cat /proc/{pid}/cgroup") for pid in (guard, CALLER)]
    assert "/vzdump-hooks-guard-100-" in groups[0]
    assert "/caller.service" in groups[1]
    assert machine.shell(f"cat /proc/{guard}/oom_score_adj") == "-900"
    assert int(machine.shell(f"grep VmLck /proc/{guard}/status").split()[1]) > 10_000
    assert machine.shell(f"readlink /proc/{guard}/fd/0") == "/dev/null"
    # The caller's whole control group is killed, as a restart of pvedaemon does to a backup from the web interface.
    killed_at = machine.clock()
    machine.shell("systemctl kill --kill-who=all --signal=KILL caller")
    machine.thaws_within(10.0, lab, killed_at, "caller's unit killed")
    assert reached(lambda: guard_of(machine) == 0)


def test_systemd_starts_a_killed_guard_again_and_it_thaws(lab: Site, machine: SystemdMachine) -> None:
    guard = hold_frozen(lab, machine)
    killed_at = machine.clock()
    machine.shell(f"kill -9 {guard} {CALLER}")
    machine.thaws_within(RESTARTED_SECONDS, lab, killed_at, "guard restarted")
    assert "restart counter is at 1" in guards_journal(machine)
    # Its thaw has counted the one freeze there was: it watches for some seconds more, and closes the window.
    assert reached(lambda: guard_of(machine) == 0)
    status, text = machine.control(f"{RUN} recover")
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
        assert reached(lambda: machine.control(f"test -e {HANGS}")[0] == 0)
    hung_at = machine.clock()
    machine.shell(f"kill -9 {CALLER}")
    assert reached(lambda: guard_of(machine) != guard), guards_journal(machine)
    machine.shell(f"rm -f {LOOP_HANGS}")
    bound = WATCHDOG_SECONDS + RESTARTED_SECONDS
    machine.thaws_within(bound, lab, hung_at, f"guard hung ({hangs})")
    said = machine.shell(f"journalctl -b --no-pager -u {unit}")
    assert f"Watchdog timeout (limit {WATCHDOG_SECONDS:g}s)" in said
    assert "status=9/KILL" in said, "no core dump of a process that has the token"
    assert reached(lambda: guard_of(machine) == 0)


def test_a_guard_that_moves_is_not_taken_for_hung(lab: Site, machine: SystemdMachine) -> None:
    """It watches for a late freeze for much longer than the watchdog waits."""
    machine.shell("printf '[thaw]\\nattempt_timeout_seconds = 2\\n' >>/etc/vzdump-hooks/config.toml")
    lab.node.fault("fsfreeze-freeze", "drop")
    machine.control(f"{RUN} --policy require 100")
    guard = guard_of(machine)
    assert guard
    waits = 2.5 * watchdog_seconds(Config(thaw=Config().thaw._replace(attempt_timeout_seconds=2)))
    machine.shell(f"sleep {waits:g}")
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
        assert reached(lambda: "D" in machine.shell("cat /proc/[0-9]*/stat | grep ' (sh) D ' || true"))
        machine.shell(f"kill -9 {first}")
        assert reached(
            lambda: machine.shell("systemctl show -p MainPID --value with-child").strip() not in (first, "0")
        )
    finally:
        machine.shell(
            "fsfreeze --unfreeze /mnt/hung; systemctl stop with-child; umount /mnt/hung; rm -f /root/hung.img", 120
        )


def test_a_guard_that_is_stopped_thaws_first_and_stays_stopped(lab: Site, machine: SystemdMachine) -> None:
    hold_frozen(lab, machine)
    machine.shell(f"kill -STOP {CALLER}")
    stopped_at = machine.clock()
    machine.shell("systemctl stop 'vzdump-hooks-guard-100-*'")
    machine.thaws_within(10.0, lab, stopped_at, "guard's unit stopped")
    machine.shell("sleep 2")
    assert guard_of(machine) == 0


def test_a_guard_has_its_token_though_its_callers_was_a_credential(lab: Site, machine: SystemdMachine) -> None:
    """The caller sees no token file, and its credential ends with its unit. Off a node a token is the only way."""
    file = "/etc/vzdump-hooks/token"
    guard = hold_frozen(lab, machine, f"-p LoadCredential=token:{file} -p InaccessiblePaths={file}")
    killed_at = machine.clock()
    machine.shell(f"kill -9 {guard} {CALLER}")
    assert reached(lambda: machine.control("test -e /run/credentials/caller.service")[0] == 1)
    machine.thaws_within(RESTARTED_SECONDS, lab, killed_at, "guard restarted, credential gone")
    assert "restart counter is at 1" in guards_journal(machine)
    assert reached(lambda: guard_of(machine) == 0)


def test_a_guard_that_recover_started_in_its_own_group_outlives_the_unit(lab: Site, machine: SystemdMachine) -> None:
    """[guard] launcher = "detached": systemd would end it with the unit, its guest still frozen."""
    machine.shell("sed -i 's/^.guard.$/&\\nlauncher = \"detached\"/' /etc/vzdump-hooks/config.toml")
    lab.node.fault("/snapshot$", "hold", method="POST")
    machine.shell(f"systemd-run --quiet --collect --unit=caller {RUN} --policy require 100")
    assert reached(lambda: len(lab.node.requests("/snapshot")) >= 2), machine.shell("journalctl -n 50 --no-pager")
    lab.node.fault("fsfreeze-thaw", "status", reason="QEMU guest agent is not running", times=None)
    machine.shell("systemctl kill --kill-who=all --signal=KILL caller; date +%s >/root/since")
    status, _ = machine.control("systemctl start safe-snapshot-recover.service")
    assert status == 1, machine.shell("journalctl -b -n 60 --no-pager")
    assert machine.shell("systemctl show -p ActiveState --value safe-snapshot-recover") == "failed"
    left = machine.shell("cat /sys/fs/cgroup/system.slice/safe-snapshot-recover.service/cgroup.procs").split()
    assert len(left) == 1, "the guard"
    assert lab.guest.is_frozen()
    said = machine.shell("journalctl -q -u safe-snapshot-recover -p err -o cat --no-pager --since @$(cat /root/since)")
    assert "needs_you=yes" in said
    answers_at = machine.clock()
    lab.node.clear_faults()
    machine.thaws_within(30.0, lab, answers_at, "recover's guard in its unit's group")
    assert reached(lambda: machine.control(f"test -e /proc/{left[0]}")[0] == 1)


def test_a_recovery_with_nothing_to_do_leaves_no_line(lab: Site, machine: SystemdMachine) -> None:
    """Four a minute otherwise, 5760 a day: systemd's own."""
    machine.shell("date +%s >/root/since; systemctl start safe-snapshot-recover.service")
    machine.shell("journalctl --sync")
    lines = machine.shell("journalctl -q -u safe-snapshot-recover -o cat --no-pager --since @$(cat /root/since)")
    assert lines == ""
    assert machine.shell("systemctl show -p Result --value safe-snapshot-recover.service") == "success"
    # Without a token the unit starts as well: its credential is a blank line then, and the error is ours.
    machine.shell("mv /etc/vzdump-hooks/token /root/token")
    machine.control("systemctl start safe-snapshot-recover.service")
    said = machine.shell("journalctl -q -u safe-snapshot-recover -o cat --no-pager --since @$(cat /root/since)")
    assert "ERROR: there is no API token: the token file /etc/vzdump-hooks/token does not exist" in said


def test_the_sample_exporter_serves_the_metrics(lab: Site, machine: SystemdMachine) -> None:
    machine.shell(f"{RUN} 100")
    machine.shell("systemctl start safe-snapshot-exporter.service")
    fetch = "import urllib.request as u; print(u.urlopen('http://127.0.0.1:14638/metrics', timeout=60).read().decode())"
    assert reached(lambda: machine.control(f'python3 -c "{fetch}" >/root/metrics')[0] == 0)
    assert 'vmid="100"' in machine.shell("grep '^pve_fsfreeze_attempts_total' /root/metrics || true")
    machine.shell("systemctl stop safe-snapshot-exporter.service")


def test_the_units_are_sound_and_recover_thaws_at_boot(lab: Site, machine: SystemdMachine) -> None:
    units = (
        "safe-snapshot-recover.service safe-snapshot-recover.timer safe-snapshot@100.service safe-snapshot@100.timer "
        "safe-snapshot-exporter.service"
    )
    assert machine.shell(f"cd /etc/systemd/system && systemd-analyze verify --man=no {units} 2>&1") == ""
    machine.shell("systemctl enable safe-snapshot-recover.service safe-snapshot-recover.timer")
    # The units look for the configuration where it is by default: /etc/vzdump-hooks/config.toml.
    guard = hold_frozen(lab, machine)
    machine.shell("sync")
    machine.reset()
    assert guard
    assert lab.guest.is_frozen()
    machine.thaws_within(300.0, lab, 0.0, "machine reset, recover at its boot")
    assert reached(lambda: machine.control("systemctl is-active safe-snapshot-recover.timer")[1] == "active")
    assert machine.shell("systemctl show -p Result --value safe-snapshot-recover.service") == "success"
    # Its thaw has counted the one freeze there was, so no guard has to stay.
    status, text = machine.control(f"{RUN} recover")
    assert (status, text) == (0, "no window was left open")


def test_the_sample_unit_takes_a_snapshot_that_is_proven(lab: Site, machine: SystemdMachine) -> None:
    status, text = machine.control("systemctl start safe-snapshot@100.service")
    assert status == 0, text + machine.shell("journalctl -u safe-snapshot@100 -n 20 --no-pager")
    assert "filesystem-consistent" in machine.shell("journalctl -u safe-snapshot@100 -n 20 --no-pager")
    requested(lab, "fsfreeze-thaw")
