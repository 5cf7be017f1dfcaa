"""The drill on a real guest under a real systemd: the bounds kept, and seven sabotages, each named. Slow.

A Debian machine in QEMU is the guest's node as far as our programs see: systemd, their units, the agent's socket. The
guest is a real one on this machine, and so is PVE's API; the guest's disk is watched by another monitor connection.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest

from tests.guest.debian import reached
from tests.json_schema import follows_the_schema
from tests.lab.fixtures import real_guest
from tests.lab.rundir import run_directory
from tests.lab.site import Site, site
from tests.process import onthenode
from tests.process.debian import SystemdMachine
from tests.process.timeline import Timeline, watched

pytestmark = [pytest.mark.slow, pytest.mark.real, pytest.mark.timeout(3600)]

TIMER = "safe-snapshot-recover.timer"
# An emulated machine takes seconds to start Python, and a drill starts a dozen.
DRILL_SECONDS = 900.0


class Node(NamedTuple):
    machine: SystemdMachine
    lab: Site
    timeline: Timeline

    def drill(self, *options: str) -> dict[str, Any]:
        """An emulated machine takes its time: a window that is too short for it would show nothing else."""
        words = " ".join(("--max-window 30", *options))
        _, text = self.machine.control(f"safe-snapshot --json drill 100 --yes {words}", DRILL_SECONDS)
        found: dict[str, Any] = json.loads(text)
        return follows_the_schema(found)

    def broken(self, *options: str) -> str:
        """The parts that the drill names; afterwards nothing is frozen or open."""
        found = self.drill(*options)
        assert found["exit_code"] == 1, json.dumps([found["error"], found["rounds"]], indent=1)
        self.timeline.wait_until_thawed_for(0.7)
        status, text = self.machine.control("safe-snapshot status")
        assert (status, "no open window, no frozen guest" in text) == (0, True), text
        message: str = found["error"]["message"]
        return message.removeprefix("the drill failed: ")


@pytest.fixture(scope="module", name="node")
def _node() -> Iterator[Node]:
    with (
        run_directory() as run,
        SystemdMachine(900, run, has_own_clock=False) as machine,
        site(real_guest) as lab,
        onthenode.agent_port(lab.guest.agent_socket) as port,
        watched(lab.guest) as timeline,
    ):
        onthenode.install(lab, machine, port)
        yield Node(machine, lab, timeline)


@pytest.fixture(autouse=True)
def _sound(node: Node) -> Iterator[None]:
    """Each test begins with all in order, and a journal of its own."""
    onthenode.configure(node.machine)
    node.machine.shell("rm -rf /var/lib/vzdump-hooks /root/mail; systemctl reset-failed")
    node.machine.shell(f"systemctl enable --now {TIMER}")
    yield
    node.machine.shell("systemctl stop 'vzdump-hooks-guard-*' 2>/dev/null; true")


def test_every_bound_is_kept_and_printed_and_the_disk_agrees(node: Node) -> None:
    before = len(node.timeline.freezes())
    found = node.drill()
    rounds = found["rounds"]
    assert found["exit_code"] == 0, json.dumps([found["error"], rounds, found["alarms"]], indent=1)
    assert [(one["name"], one["is_kept"]) for one in rounds] == [
        ("owner-killed", True),
        ("api-cut", True),
        ("guard-killed", True),
    ]
    stood = [end - start for start, end in node.timeline.freezes()[before:]]
    for one in rounds:
        assert one["after"]["most"] <= one["bound_seconds"]
        # A starved guest stands still now and then by itself: each round is one of these times.
        least, most = one["stood"]["least"] - 0.1, one["stood"]["most"] + 0.1
        assert any(least <= seconds <= most for seconds in stood), (one, stood)
    assert "restart counter is at 1" in node.machine.shell("journalctl -b --no-pager -u 'vzdump-hooks-guard-*'")
    assert [(tried["way"], tried["ok"]) for tried in found["alarms"]] == [("metrics", True), ("mail", True)]
    assert "Subject: DRILL: " in node.machine.shell("cat /root/mail")


def test_a_unit_that_is_off_is_named(node: Node) -> None:
    node.machine.shell(f"systemctl disable --now {TIMER}")
    assert node.broken() == "unit"


def test_a_token_that_was_revoked_is_named(node: Node) -> None:
    node.machine.shell("cp -a /etc/vzdump-hooks/token /root/token; sed -i 's/[0-9a-f]/0/g' /etc/vzdump-hooks/token")
    try:
        assert node.broken() == "token"
    finally:
        node.machine.shell("cp -a /root/token /etc/vzdump-hooks/token")


def test_a_wrong_socket_folder_is_named(node: Node) -> None:
    onthenode.configure(node.machine, socket_folder="/run/elsewhere")
    assert node.broken() == "socket"


def test_a_guard_that_hangs_is_named_and_the_guest_thawed(node: Node) -> None:
    """The installed guard does nothing any more where it should thaw: it neither ends nor says a word."""
    core = "/usr/lib/python3/dist-packages/snapshot/guard/core.py"
    hang = "import time; time.sleep(3600)"
    node.machine.shell(f"cp {core} /root/core.py")
    node.machine.shell(f"sed -i 's/^        told = reported_stuck = False$/&; {hang}/' {core}; grep -q 3600 {core}")
    try:
        assert node.broken("--max-window", "5") == "guard"
    finally:
        node.machine.shell(f"cp /root/core.py {core}; systemctl kill --signal=KILL 'vzdump-hooks-guard-*'; true")
        assert reached(lambda: not node.timeline.is_frozen())


def test_a_wrong_textfile_folder_and_mail_that_is_down_are_both_named(node: Node) -> None:
    onthenode.configure(node.machine, textfile="/var/lib/nowhere/x.prom", sendmail="/bin/false")
    # On a very busy machine the disk may not tell a round closely enough: that is named beside them.
    assert {"metrics", "mail"} <= set(node.broken().split(", "))


def test_metrics_that_the_node_exporter_does_not_read_are_named(node: Node) -> None:
    stand_in = "systemd-run --unit=stand-in bash -c 'exec -a node_exporter sleep 3600'"
    node.machine.shell(f"{stand_in}; until grep -qs ^node_exporter /proc/[0-9]*/cmdline; do sleep 0.1; done")
    try:
        assert "metrics" in node.broken().split(", ")
    finally:
        node.machine.shell("systemctl stop stand-in")
