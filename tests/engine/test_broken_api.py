"""An API that drips, floods, redirects or never answers, on the node and off it: every command ends, and the guest is
thawed over the next route.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Iterator

import pytest

from snapshot.cli import main as cli
from snapshot.errors import ApiError, SafeSnapshotError
from snapshot.pve import doors, standby
from tests.engine.kit import FREEZE, the_guest
from tests.lab.site import Site, wait_for
from tests.unit.wire import Connection, Handler, Wire

HANG_SECONDS = 40.0
"""What any of these commands took for each request, and more, before a limit was the whole request's."""


def drips(connection: Connection) -> None:
    connection.send(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 1000000\r\n\r\n")
    while not connection.over.wait(0.2):
        connection.send(b" ")


def says_continue(connection: Connection) -> None:
    while not connection.over.wait(0.01):
        connection.send(b"HTTP/1.1 100 Continue\r\n\r\n" * 10)


def never_ends_its_status_line(connection: Connection) -> None:
    connection.send(b"HTTP/1.1 200 ")
    while not connection.over.wait(0.2):
        connection.send(b"O")


def floods(connection: Connection) -> None:
    connection.send(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n")
    while not connection.over.is_set():
        connection.send(b'{"data":' + b"[" * 65536)


def redirects(connection: Connection) -> None:
    connection.send(b"HTTP/1.1 302 Found\r\nLocation: https://elsewhere:8006/\r\nContent-Length: 0\r\n\r\n")


def is_silent(connection: Connection) -> None:
    connection.over.wait(60)


BROKEN = [drips, says_continue, never_ends_its_status_line, floods, redirects, is_silent]


@pytest.fixture(autouse=True)
def small_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(standby, "UNPROVEN_SECONDS", 0.5)
    monkeypatch.setattr(doors, "AHEAD_SECONDS", 0.5)


@contextlib.contextmanager
def broken_host(lab: Site, handler: Handler, *, peer: bool = False) -> Iterator[Wire]:
    """The configured host is a server that misbehaves; the node's own may be a peer."""
    with Wire(lab.run, handler) as wire:
        peers = [f"{lab.node.host}:{lab.node.port}"] if peer else []
        lab.settings["api"] = {"host": "127.0.0.1", "port": wire.port, "peers": peers}
        lab.settings["thaw"] = {"attempt_timeout_seconds": 1.0, "owner_limit_seconds": 10.0}
        lab.write_config()
        yield wire


def run(lab: Site, *arguments: str) -> int | str:
    """The command in this process; its exit code."""
    began = time.monotonic()
    try:
        cli.main_group.main(["--config", str(lab.config_path), *arguments], standalone_mode=False)
        code: int | str | None = 0
    except SystemExit as ended:
        code = ended.code
    except SafeSnapshotError as error:
        code = error.exit_code
    assert time.monotonic() - began < HANG_SECONDS
    assert code is not None
    return code


@pytest.mark.parametrize("handler", BROKEN, ids=lambda handler: handler.__name__)
def test_the_rescue_on_the_node_asks_the_agent_and_not_the_api(lab: Site, handler: Handler) -> None:
    lab.on_the_node()
    the_guest(lab).ask(FREEZE)
    with broken_host(lab, handler):
        assert run(lab, "thaw", "100") == 0
    assert not lab.guest.is_frozen()


@pytest.mark.parametrize("handler", BROKEN, ids=lambda handler: handler.__name__)
def test_the_rescue_off_the_node_goes_over_the_peer(lab: Site, handler: Handler) -> None:
    the_guest(lab).ask(FREEZE)
    with broken_host(lab, handler, peer=True) as wire:
        assert run(lab, "thaw", "100") == 0
        assert not any(b"fsfreeze-thaw" in request for request in wire.requests), "it was known to be silent by then"
    assert not lab.guest.is_frozen()


@pytest.mark.parametrize("command", [("status",), ("recover",), ("check", "100"), ("100", "--dry-run")])
@pytest.mark.parametrize("where", ["node", "peer"])
def test_every_command_goes_on_with_pvesh_or_a_peer(lab: Site, command: tuple[str, ...], where: str) -> None:
    if where == "node":
        lab.settings["local"] = {"pvesh": str(lab.node.pvesh)}
        lab.on_the_node()
    with broken_host(lab, drips, peer=where == "peer"):
        assert run(lab, *command) == 0


def test_with_neither_a_command_ends_at_its_first_questions_limit(lab: Site) -> None:
    with broken_host(lab, drips):
        assert run(lab, "check", "100") == ApiError.exit_code


def test_a_snapshot_is_taken_over_the_peer_of_a_host_that_drips(lab: Site) -> None:
    with broken_host(lab, drips, peer=True):
        ended = lab.safe_snapshot("100", "--name", "s1", "--policy", "require", timeout=HANG_SECONDS)
    assert ended.exit_code == 0, ended
    assert "cannot be used" in ended.stderr
    assert "filesystem-consistent" in ended.stdout


def test_a_host_that_begins_to_drip_in_the_window_does_not_keep_the_guest_frozen(lab: Site) -> None:
    """Until the freeze it hands everything on to the real node, the freeze too, whose answer it never gives."""
    begun = threading.Event()

    def begins_to_drip(connection: Connection) -> None:
        if not begun.is_set():
            answer = relay(lab, connection.request)
            if b"fsfreeze-freeze" not in connection.request:
                connection.send(answer)
                return
            begun.set()
        drips(connection)

    with broken_host(lab, begins_to_drip, peer=True):
        lab.settings["freeze"] = {"freeze_timeout_seconds": 2.0, "max_window_seconds": 3.0}
        lab.write_config()
        ended = lab.safe_snapshot("100", "--name", "s1", "--policy", "require", timeout=HANG_SECONDS)
        print(ended.stdout, ended.stderr, ended.seconds)
        assert begun.is_set(), ended
        assert wait_for(lambda: not lab.guest.is_frozen(), 10), ended


def relay(lab: Site, request: bytes) -> bytes:
    """The node's answer to a request."""
    context = ssl.create_default_context(cafile=str(lab.node.ca_file))
    plain = socket.create_connection((lab.node.host, lab.node.port), 30)
    with context.wrap_socket(plain, server_hostname=lab.node.host) as tls:
        tls.sendall(request.replace(b"Connection: keep-alive", b"Connection: close"))
        return b"".join(iter(lambda: tls.recv(65536), b""))
