"""Is the guest off, is it gone? The source that is asked when one route says so."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from snapshot.config import ApiConfig, Config, LocalConfig
from snapshot.errors import ApiDeniedError, ApiFailureError, ApiUnreachableError, GuestRemovedError, ReplyLostError
from snapshot.pve.here import qemu_lives
from snapshot.pve.routes import Access, build_ladder
from snapshot.window.ladder import Ladder
from tests.unit.kit import GUEST, ScriptedTransport, VirtualClock

OTHERS = [{"vmid": 7, "type": "qemu", "node": "pve1", "status": "running"}]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


def ladder(folder: Path, node: str = "", listed: object = OTHERS, status: object = None) -> Ladder:
    config = Config(api=ApiConfig(host="pve1"), local=LocalConfig(node=node, socket_folder=folder))
    api = ScriptedTransport({"status/current": status, "cluster/resources": listed, "cluster/status": []})
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
