"""The lab node in front of a real guest: what it does to the agent and to the disk is real."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.fixtures import real_guest
from tests.lab.guest.real import RealGuest
from tests.lab.node.client import Client
from tests.lab.node.node import EVERYTHING, LabNode
from tests.lab.rundir import run_directory

pytestmark = pytest.mark.real
QEMU = "/nodes/pve1/qemu/100"


@pytest.fixture(scope="module")
def lab() -> Iterator[tuple[RealGuest, LabNode]]:
    with run_directory() as run, real_guest(100, run) as guest, LabNode(run / "node", [guest]) as node:
        node.token_secret = node.add_token(node.token_id, EVERYTHING)
        yield guest, node
        assert node.server_log() == ""


def _names(guest: RealGuest) -> list[str]:
    command = ["qemu-img", "snapshot", "-U", "-l", str(guest.disk)]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    return [line.split()[1] for line in lines[2:]]


def _task(node: LabNode, method: str, path: str, **values: object) -> tuple[str, list[str]]:
    with Client(node) as client:
        upid = str(client.ask(method, path, **values).data)
    return node.wait_task(upid), node.task_log(upid)


def test_a_window_by_api_around_a_snapshot(lab: tuple[RealGuest, LabNode]) -> None:
    guest, node = lab
    with Client(node) as client:
        assert client.ask("POST", f"{QEMU}/agent/fsfreeze-freeze").result == 1
        assert guest.is_frozen()
        status, log = _task(node, "POST", f"{QEMU}/snapshot", snapname="held")
        assert (status, log[0]) == ("OK", "skipping guest filesystem freeze - already frozen")
        assert client.ask("POST", f"{QEMU}/agent/fsfreeze-status").result == "frozen"
        assert client.ask("POST", f"{QEMU}/agent/fsfreeze-thaw").result == 1
    assert not guest.is_frozen()
    assert "held" in _names(guest)


def test_pves_own_freeze_is_one_window_in_the_guest(lab: tuple[RealGuest, LabNode]) -> None:
    guest, node = lab
    before = len(guest.windows())
    assert _task(node, "POST", f"{QEMU}/snapshot", snapname="own")[0] == "OK"
    assert len(guest.windows()) == before + 1
    assert "own" in _names(guest)
    assert _task(node, "DELETE", f"{QEMU}/snapshot/own")[0] == "OK"
    assert "own" not in _names(guest)


def test_with_the_processors_stopped_around_the_snapshot_as_pve_does(lab: tuple[RealGuest, LabNode]) -> None:
    guest, node = lab
    node.set(pause_guest=True)
    try:
        assert _task(node, "POST", f"{QEMU}/snapshot", snapname="paused")[0] == "OK"
    finally:
        node.set(pause_guest=False)
    assert not guest.is_frozen()
    assert "paused" in _names(guest)


def test_a_key_is_taken_by_qemu(lab: tuple[RealGuest, LabNode]) -> None:
    _, node = lab
    with Client(node) as client:
        assert client.ask("PUT", f"{QEMU}/sendkey", key="alt-sysrq-j").status == 200
    with Client(node) as client:
        assert "invalid" in client.ask("PUT", f"{QEMU}/sendkey", key="no-such-key").reason


def test_a_guest_that_is_off_is_snapshotted_in_its_image(tmp_path: Path) -> None:
    with run_directory() as run, real_guest(100, run) as guest, LabNode(tmp_path, [guest]) as node:
        guest.stop()
        assert _task(node, "POST", f"{QEMU}/snapshot", snapname="off")[0] == "OK"
        assert _names(guest)[-1] == "off"
        assert _task(node, "DELETE", f"{QEMU}/snapshot/off")[0] == "OK"
        assert "off" not in _names(guest)
