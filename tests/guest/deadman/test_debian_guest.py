"""The dead-man as its installer leaves it in a Debian guest under systemd, whose root filesystem is what is frozen.

Here the agent's service is a control group that systemd kills, /run is mounted noexec, the journal lies on the frozen
disk, and so does every program. Slow: a Debian is built once and booted under emulation.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator

import pytest

from tests.guest.deadman.sandbox import SCRIPT
from tests.guest.debian import DebianGuest
from tests.lab.fixtures import require_real
from tests.lab.packages import LabUnavailableError
from tests.lab.rundir import run_directory
from tests.lab.site import wait_for

pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.timeout(1200)]

LIMIT_SECONDS = 15
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
            output = found.shell(INSTALL, timeout=60)
            assert "works; the timer's programs run from memory" in output, output
            assert "restarted  qemu-guest-agent" in output, output
            # A frozen agent ignores SIGTERM (qga/main.c, quit_handler); systemd kills it after 90 s. Here after one.
            unit = "/run/systemd/system/qemu-guest-agent.service.d"
            found.shell(f"mkdir -p {unit}; printf '[Service]\\nTimeoutStopSec=1\\n' >{unit}/quick.conf")
            found.shell("systemctl daemon-reload", timeout=60)
            found.wait_agent()
            yield found
        finally:
            found.stop()


def freeze(guest: DebianGuest) -> float:
    """Freeze the root filesystem; returns when that was asked for."""
    began = time.monotonic()
    assert guest.ask("guest-fsfreeze-freeze", timeout=30) >= 1
    assert guest.is_frozen()
    return began


def wait_until_it_thaws_itself(guest: DebianGuest, since: float) -> None:
    count = guest.counter()
    assert wait_for(lambda: guest.counter() > count, LIMIT_SECONDS + LATE_SECONDS), guest.shell(STATUS)
    assert LIMIT_SECONDS <= time.monotonic() - since <= LIMIT_SECONDS + LATE_SECONDS
    assert wait_for(lambda: "thawed: /" in guest.shell(STATUS))


def end(guest: DebianGuest) -> None:
    """The host comes back and thaws: nothing is left to thaw, and the timer goes."""
    guest.wait_agent()
    assert guest.ask("guest-fsfreeze-thaw", timeout=30) == 0
    assert wait_for(lambda: guest.shell(STATUS).startswith("not armed"))


def test_a_thaw_in_time_cancels_and_leaves_no_scope_behind(guest: DebianGuest) -> None:
    freeze(guest)
    assert re.match(r"armed: thaws in \d+ s \(process \d+, runs from memory\)", guest.shell(STATUS))
    assert guest.ask("guest-fsfreeze-thaw", timeout=30) == 1
    assert wait_for(lambda: guest.shell(STATUS).startswith("not armed"))
    assert wait_for(lambda: "run-" not in guest.shell("systemctl list-units --type=scope --plain --no-legend", 30), 20)


def test_a_frozen_root_filesystem_thaws_itself(guest: DebianGuest) -> None:
    since = freeze(guest)
    wait_until_it_thaws_itself(guest, since)
    end(guest)
    journal = "journalctl --no-pager -t fsfreeze-deadman"
    assert wait_for(lambda: "thawed / by itself" in guest.shell(journal, timeout=30), 30)


@pytest.mark.parametrize(
    "command",
    [
        "systemctl restart qemu-guest-agent",
        "systemctl stop qemu-guest-agent; systemctl start qemu-guest-agent",
        "systemctl kill --signal=KILL qemu-guest-agent",
    ],
)
def test_the_timer_outlives_the_agents_service(guest: DebianGuest, command: str) -> None:
    agent = guest.shell("systemctl show -P MainPID qemu-guest-agent", timeout=30)
    since = freeze(guest)
    guest.shell(f"({command}) >/dev/null 2>&1 &")
    assert wait_for(lambda: guest.control(f"test -d /proc/{agent}")[0] != 0), "the agent was not killed"
    groups = guest.shell("read -r _ pid _ </run/fsfreeze-deadman/timer; cat /proc/$pid/cgroup")
    assert groups.startswith("0::/system.slice/run-"), groups
    assert guest.is_frozen()
    wait_until_it_thaws_itself(guest, since)
    end(guest)


def test_an_uninstalled_dead_man_leaves_the_guest_as_it_was(guest: DebianGuest) -> None:
    again = guest.shell(INSTALL, timeout=60)
    assert "wrote" not in again, again
    output = guest.shell("sh /root/deadman/install.sh --uninstall", timeout=60)
    assert "removed    /usr/local/sbin/fsfreeze-deadman" in output
    left = "ls /usr/local/sbin /etc/qemu /run | grep -c deadman; grep -c deadman /proc/mounts; qemu-ga --dump-conf"
    text = guest.shell(left)
    assert text.startswith("0\n0\n")
    assert "fsfreeze-hook" not in text
