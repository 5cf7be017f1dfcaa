"""Is the guest off, is it gone? The source that is asked when one route says so."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

import pytest

from snapshot.config.settings import ApiConfig, Config, LocalConfig
from snapshot.errors import ApiDeniedError, ApiFailureError, ApiUnreachableError, GuestRemovedError, ReplyLostError
from snapshot.pve.access import Access
from snapshot.pve.doors import LIST_SECONDS, Doors, off_by_another_door
from snapshot.pve.here import qemu_lives
from snapshot.pve.ladder import Ladder
from snapshot.pve.routes import build_ladder
from tests.unit.kit import GUEST, ScriptedTransport, VirtualClock

OTHERS = [{"vmid": 7, "type": "qemu", "node": "pve1", "status": "running"}]
GONE = ApiFailureError("Configuration file 'nodes/pve1/qemu-server/100.conf' does not exist", status=500)
DEAD = ApiUnreachableError("refused")
HIDDEN = ApiDeniedError("Permission check failed (/vms/100, VM.Audit)", status=403)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


def door(listed: object = OTHERS, status: object = None) -> ScriptedTransport:
    return ScriptedTransport({"status/current": status, "cluster/resources": listed, "cluster/status": []})


def ladder(folder: Path, node: str = "", listed: object = OTHERS, status: object = GONE) -> Ladder:
    config = Config(api=ApiConfig(host="pve1"), local=LocalConfig(node=node, socket_folder=folder))
    api = door(listed, status)
    return build_ladder(Access(config=config, clock=VirtualClock(), api=api, local_node=node), GUEST)


def dead_pid() -> int:
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    return child


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        ({"status": "stopped"}, True),
        ({"status": "running"}, False),
        ({"status": "odd"}, False),
        ({}, False),
        (None, False),
        ("stopped", False),
        (ApiFailureError("Configuration file 'x' does not exist", status=500), False),
        (ApiUnreachableError("refused"), False),
        (ReplyLostError("silent"), False),
    ],
)
def test_only_stopped_is_off(folder: Path, status: object, expected: bool) -> None:
    assert ladder(folder, status=status).is_off() is expected


@pytest.mark.parametrize("error", [ApiUnreachableError("x"), ReplyLostError("x"), ApiDeniedError("x", status=401)])
def test_on_its_node_qemus_end_speaks_where_the_api_cannot(folder: Path, error: Exception) -> None:
    (folder / "100.pid").write_text(f"{dead_pid()}\n")
    assert ladder(folder, "pve1", status=error).is_off()
    assert not ladder(folder, "pve2", status=error).is_off(), "another node's files say nothing"
    assert not ladder(folder, "pve1", status={"status": "running"}).is_off(), "what PVE says goes first"
    (folder / "100.pid").write_text(f"{os.getpid()}\n")
    assert not ladder(folder, "pve1", status=error).is_off()


def test_qemu_lives_by_its_pid_else_by_its_socket_else_nobody_knows(folder: Path) -> None:
    assert qemu_lives(folder, 100) is None
    path = folder / "100.qga"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(path))
        listener.listen(1)
        assert qemu_lives(folder, 100) is True
    assert qemu_lives(folder, 100) is False
    (folder / "100.pid").write_text(f"{os.getpid()}")
    assert qemu_lives(folder, 100) is True


def test_a_guest_that_the_token_does_not_see_any_more_is_not_gone_while_its_qemu_lives_here(folder: Path) -> None:
    (folder / "100.pid").write_text(f"{os.getpid()}\n")
    assert ladder(folder, "pve1").relocate() is None
    (folder / "100.pid").write_text(f"{dead_pid()}\n")
    with pytest.raises(GuestRemovedError):
        ladder(folder, "pve1").relocate()


def test_an_api_that_lists_nobody_says_nothing_of_this_guest(folder: Path) -> None:
    assert ladder(folder, listed=[]).relocate() is None


@pytest.mark.parametrize(
    ("statuses", "is_off", "seconds"),
    [
        (["stopped"], True, 0),
        (["running", "running", "stopped"], True, 2),
        (["running"], False, LIST_SECONDS),
        (["unknown"], False, LIST_SECONDS),
        ([None], False, LIST_SECONDS),
    ],
)
def test_off_the_node_pves_list_bears_out_that_a_guest_is_off(
    folder: Path, statuses: list[object], is_off: bool, seconds: float
) -> None:
    """It shows a guest as it was some seconds ago: that is waited for."""
    answers = [[*OTHERS, {"vmid": 100, "type": "qemu", "node": "pve1", "status": status}] for status in statuses]
    clock = VirtualClock()

    class Door(ScriptedTransport):
        def request(self, method: str, path: str, *_: Any, **__: Any) -> Any:
            assert path == "cluster/resources"
            return answers.pop(0) if len(answers) > 1 else answers[0]

    config = Config(local=LocalConfig(socket_folder=folder))
    assert off_by_another_door(Access(config, clock, Door({}), ""), GUEST) is is_off
    assert clock.now == seconds


def test_on_its_node_qemus_files_bear_out_that_a_guest_is_off(folder: Path) -> None:
    listed = [{"vmid": 100, "type": "qemu", "node": "pve1", "status": "stopped"}]
    access = Access(Config(local=LocalConfig(socket_folder=folder)), VirtualClock(), door(listed), "pve1")
    assert off_by_another_door(access, GUEST)
    (folder / "100.pid").write_text(f"{os.getpid()}\n")
    assert not off_by_another_door(access, GUEST)
    (folder / "100.pid").write_text(f"{dead_pid()}\n")
    assert off_by_another_door(access, GUEST)


def among(monkeypatch: pytest.MonkeyPatch, host: ScriptedTransport, *peers: ScriptedTransport) -> Ladder:
    """A ladder off the node, with a host and its peers."""
    config = Config(api=ApiConfig(host="pve1", peers=tuple(f"pve{n}" for n, _ in enumerate(peers, 2))))
    monkeypatch.setattr(Doors, "_transports", lambda self, hosts: [*peers] if hosts else [])
    return build_ladder(Access(config=config, clock=VirtualClock(), api=host, local_node=""), GUEST)


def test_one_host_alone_cannot_say_that_a_guest_is_gone_where_there_are_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """It may be cut off from the cluster, or belong to another one with a node of the same name."""
    wrong, dead = door(status=GONE), door(DEAD, DEAD)
    assert among(monkeypatch, dead, wrong).relocate() is None
    assert among(monkeypatch, wrong, dead).relocate() is None
    assert among(monkeypatch, dead, dead, wrong).relocate() is None
    assert among(monkeypatch, wrong, door([])).relocate() is None, "nor does one that sees nobody at all bear it out"


def test_two_hosts_that_know_no_such_guest_are_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    for doors in ([door(status=GONE), door(status=GONE)], [door(DEAD, DEAD), door(status=GONE), door(status=GONE)]):
        with pytest.raises(GuestRemovedError):
            among(monkeypatch, *doors).relocate()


def test_a_host_that_knows_where_the_guest_is_outdoes_one_that_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = [{"vmid": 100, "type": "qemu", "node": "pve3", "status": "running"}]
    moved = among(monkeypatch, door(status=GONE), door(elsewhere, status=GONE)).relocate()
    assert moved is not None
    here = [{"vmid": 100, "type": "qemu", "node": "pve1", "status": "running"}]
    assert among(monkeypatch, door(status=GONE), door(here)).relocate() is None


def test_a_guest_that_the_token_does_not_see_any_more_is_not_gone(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for status in (HIDDEN, {"status": "running"}, DEAD):
        assert ladder(folder, status=status).relocate() is None
        assert among(monkeypatch, door(status=status), door(status=status)).relocate() is None
    with pytest.raises(GuestRemovedError):
        ladder(folder, status=GONE).relocate()


def test_one_host_alone_cannot_say_that_a_guest_is_off_where_there_are_others(monkeypatch: pytest.MonkeyPatch) -> None:
    off, on = door(status={"status": "stopped"}), door(status={"status": "running"})
    dead = door(DEAD, DEAD)
    assert not among(monkeypatch, dead, off).is_off()
    assert not among(monkeypatch, off, dead).is_off()
    assert not among(monkeypatch, off, on).is_off()
    assert not among(monkeypatch, dead, dead).is_off()
    assert among(monkeypatch, off, off).is_off()
    assert among(monkeypatch, dead, off, off).is_off()
