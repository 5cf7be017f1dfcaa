"""The dead-man as its installer leaves it in a Debian guest under systemd, whose root filesystem is what is frozen.

Here the agent's service is a control group that systemd kills, /run is mounted noexec, the journal lies on the frozen
disk, and so does every program. Slow: a Debian is built once and booted under emulation.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from tests.guest.deadman.sandbox import SCRIPT
from tests.guest.debian import PATIENCE_SECONDS, DebianGuest, reached
from tests.lab.fixtures import require_real
from tests.lab.packages import LabUnavailableError
from tests.lab.rundir import run_directory

pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.timeout(3600)]

LIMIT_SECONDS = 40
LATE_SECONDS = 30
STATUS = "/usr/local/sbin/fsfreeze-deadman status"
INSTALL = f"sh /root/deadman/install.sh --limit {LIMIT_SECONDS}"


@pytest.fixture(scope="module")
def guest() -> Iterator[DebianGuest]:
    require_real()
    with run_directory() as run:
        found = DebianGuest(100, run)
        try:
            found.start()
        except LabUnavailableError as error:
            pytest.skip(str(error))
        try:
            for source in (SCRIPT, SCRIPT.with_name("install.sh")):
                found.copy_in(source, f"/root/deadman/{source.name}")
            output = found.shell(INSTALL)
            assert "works; the timer's programs run from memory" in output, output
            assert "restarted  qemu-guest-agent" in output, output
            # A frozen agent ignores SIGTERM (qga/main.c, quit_handler); systemd kills it after 90 s. Here after one.
            unit = "/run/systemd/system/qemu-guest-agent.service.d"
            found.shell(f"mkdir -p {unit}; printf '[Service]\\nTimeoutStopSec=1\\n' >{unit}/quick.conf")
            found.shell("systemctl daemon-reload")
            found.wait_agent(PATIENCE_SECONDS)
            yield found
        finally:
            found.stop()


def freeze(guest: DebianGuest) -> float:
    """Freeze the root filesystem; returns when that was asked for, by the guest's clock."""
    began = guest.clock()
    assert guest.ask("guest-fsfreeze-freeze", timeout=PATIENCE_SECONDS) >= 1
    assert guest.is_frozen()
    return began


def wait_until_it_thaws_itself(guest: DebianGuest, since: float) -> None:
    count = guest.counter()
    assert reached(lambda: guest.counter() > count), guest.shell(STATUS)
    assert LIMIT_SECONDS <= guest.clock() - since <= LIMIT_SECONDS + LATE_SECONDS
    assert reached(lambda: "thawed: /" in guest.shell(STATUS))


def end(guest: DebianGuest) -> None:
    """The host comes back and thaws: nothing is left to thaw, and the timer goes."""
    guest.wait_agent(PATIENCE_SECONDS)
    assert guest.ask("guest-fsfreeze-thaw", timeout=PATIENCE_SECONDS) == 0
    assert reached(lambda: guest.shell(STATUS).startswith("not armed"))


def test_a_thaw_in_time_cancels_and_leaves_no_scope_behind(guest: DebianGuest) -> None:
    freeze(guest)
    assert re.match(r"armed: thaws in \d+ s \(process \d+, runs from memory\)", guest.shell(STATUS))
    assert guest.ask("guest-fsfreeze-thaw", timeout=PATIENCE_SECONDS) == 1
    assert reached(lambda: guest.shell(STATUS).startswith("not armed"))
    assert reached(lambda: "run-" not in guest.shell("systemctl list-units --type=scope --plain --no-legend"))


def test_a_frozen_root_filesystem_thaws_itself(guest: DebianGuest) -> None:
    since = freeze(guest)
    wait_until_it_thaws_itself(guest, since)
    end(guest)
    journal = "journalctl --no-pager -t fsfreeze-deadman"
    assert reached(lambda: "thawed / by itself" in guest.shell(journal))


@pytest.mark.parametrize(
    "command",
    [
        "systemctl restart qemu-guest-agent",
        "systemctl stop qemu-guest-agent; systemctl start qemu-guest-agent",
        "systemctl kill --signal=KILL qemu-guest-agent",
    ],
)
def test_the_timer_outlives_the_agents_service(guest: DebianGuest, command: str) -> None:
    agent = guest.shell("systemctl show -P MainPID qemu-guest-agent")
    since = freeze(guest)
    guest.shell(f"({command}) >/dev/null 2>&1 &")
    assert reached(lambda: guest.control(f"test -d /proc/{agent}")[0] != 0), "the agent was not killed"
    groups = guest.shell("read -r _ pid _ </run/fsfreeze-deadman/timer; cat /proc/$pid/cgroup")
    assert groups.startswith("0::/system.slice/run-"), groups
    assert guest.is_frozen()
    wait_until_it_thaws_itself(guest, since)
    end(guest)


def test_an_uninstalled_dead_man_leaves_the_guest_as_it_was(guest: DebianGuest) -> None:
    again = guest.shell(INSTALL)
    assert "wrote" not in again, again
    output = guest.shell("sh /root/deadman/install.sh --uninstall")
    assert "removed    /usr/local/sbin/fsfreeze-deadman" in output
    left = "ls /usr/local/sbin /etc/qemu /run | grep -c deadman; grep -c deadman /proc/mounts; qemu-ga --dump-conf"
    text = guest.shell(left)
    assert text.startswith("0\n0\n")
    assert "fsfreeze-hook" not in text
