"""From ``[api] host`` to the address that is asked."""

from __future__ import annotations

import os
import socket
import subprocess
import threading
from pathlib import Path

import pytest

from snapshot.base.clock import SystemClock
from snapshot.config import token
from snapshot.config.reading import parse
from snapshot.errors import ApiUnreachableError, ConfigError
from snapshot.model import Guest, GuestKind, Node, Vmid
from snapshot.pve import credentials
from snapshot.pve.access import open_access
from snapshot.pve.pvesh import PveshTransport
from snapshot.pve.routes import build_ladder
from tests.lab.node.certs import authority


def url(tmp_path: Path, host: str) -> str:
    token = tmp_path / "token"
    token.write_text("root@pam!hooks=secret\n")
    token.chmod(0o600)
    api = {"host": host, "port": 8006, "token_file": str(token)}
    access = open_access(parse({"api": api, "local": {"node": ""}}, "test"), SystemClock())
    assert access.api is not None
    return access.api.name


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("pve1", "https://pve1:8006"),
        ("pve1:443", "https://pve1:443"),
        ("pve1.example.org", "https://pve1.example.org:8006"),
        ("192.0.2.7", "https://192.0.2.7:8006"),
        ("192.0.2.7:443", "https://192.0.2.7:443"),
        ("2001:db8::7", "https://[2001:db8::7]:8006"),
        ("[2001:db8::7]", "https://[2001:db8::7]:8006"),
        ("[2001:db8::7]:443", "https://[2001:db8::7]:443"),
        ("::1", "https://[::1]:8006"),
    ],
)
def test_a_host_may_be_a_name_or_an_address_with_or_without_a_port(tmp_path: Path, host: str, expected: str) -> None:
    assert url(tmp_path, host) == expected


@pytest.mark.parametrize("host", ["", " ", "https://pve1", "pve1/", "pve 1", "user@pve1", "pve1:", "pve1:port", "\n"])
def test_what_is_no_host_is_refused(tmp_path: Path, host: str) -> None:
    with pytest.raises(ConfigError, match=r"\[api\] host|'api.host'"):
        url(tmp_path, host)


@pytest.mark.parametrize("program", ["/usr/bin/true", "/nowhere/pvesh"])
def test_pvesh_stands_by_on_a_node_where_it_can_be_run(tmp_path: Path, program: str) -> None:
    token = tmp_path / "token"
    token.write_text("root@pam!hooks=secret\n")
    token.chmod(0o600)
    tree = {"api": {"token_file": str(token)}, "local": {"node": "pve1", "pvesh": program}}
    on_node = open_access(parse(tree, "test"), SystemClock())
    assert (on_node.standby is not None) == (program == "/usr/bin/true" and os.geteuid() == 0)
    tree["local"]["node"] = ""
    assert open_access(parse(tree, "test"), SystemClock()).standby is None


@pytest.mark.parametrize("with_socket", [False, True])
def test_to_build_the_ladder_of_a_rescue_asks_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, with_socket: bool
) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_: pytest.fail("somebody was asked"))
    monkeypatch.setattr(subprocess, "Popen", lambda *_: pytest.fail("somebody was asked"))
    token = tmp_path / "token"
    token.write_text("root@pam!hooks=secret\n")
    token.chmod(0o600)
    if with_socket:
        (tmp_path / "100.qga").touch()
    tree = {"api": {"token_file": str(token)}, "local": {"node": "pve1", "socket_folder": str(tmp_path)}}
    access = open_access(parse(tree, "test"), SystemClock())
    ladder = build_ladder(access, Guest(Vmid(100), Node("pve1"), GuestKind.QEMU))
    expected = ["https://localhost:8006", "pvesh"]
    assert [route.name for route in ladder.routes][-2:] == expected
    assert next(ladder.round()).name == (f"agent socket {tmp_path / '100.qga'}" if with_socket else expected[0])


@pytest.mark.parametrize("how", ["readable by others", "no certificate in the CA file", "no token"])
def test_a_token_that_cannot_be_used_on_a_node_is_said_and_none_at_all_is_a_choice(tmp_path: Path, how: str) -> None:
    token = tmp_path / "token"
    if how != "no token":
        token.write_text("root@pam!hooks=secret\n")
        token.chmod(0o644 if how == "readable by others" else 0o600)
    ca_file = tmp_path / "ca.pem"
    ca_file.touch()
    said: list[str] = []
    tree = {"api": {"token_file": str(token), "ca_file": str(ca_file)}, "local": {"node": "pve1"}}
    access = open_access(parse(tree, "test"), SystemClock(), said.append)
    assert access.main.name == "pvesh"
    assert [how.split(maxsplit=1)[0] in line for line in said] == ([] if how == "no token" else [True])


def test_a_ca_file_that_does_not_answer_keeps_nobody_from_the_agents_socket(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As /etc/pve where the cluster's file system hangs: a pipe that nobody writes into."""
    monkeypatch.setattr(credentials, "FILES_SECONDS", 0.1)
    token, ca_file = tmp_path / "token", tmp_path / "ca.pem"
    token.write_text("root@pam!hooks=secret\n")
    token.chmod(0o600)
    os.mkfifo(ca_file)
    (tmp_path / "100.qga").touch()
    said: list[str] = []
    api = {"host": "127.0.0.1", "port": 1, "token_file": str(token), "ca_file": str(ca_file)}
    tree = {"api": api, "local": {"node": "pve1", "socket_folder": str(tmp_path)}}
    access = open_access(parse(tree, "test"), SystemClock(), said.append)
    assert [str(ca_file) in line for line in said] == [True]
    ladder = build_ladder(access, Guest(Vmid(100), Node("pve1"), GuestKind.QEMU))
    assert ladder.fastest.name == f"agent socket {tmp_path / '100.qga'}"
    assert access.api is not None
    for _ in range(3):
        with pytest.raises(ApiUnreachableError, match="cannot be read now"):
            access.api.request("GET", "version")
    assert len([thread for thread in threading.enumerate() if thread.name == "credentials"]) == 1
    with ca_file.open("wb") as pipe:
        pipe.write(authority().certificate)
    for thread in threading.enumerate():
        if thread.name == "credentials":
            thread.join(30)
    with pytest.raises(ApiUnreachableError, match="cannot be reached"):
        access.api.request("GET", "version")


def test_a_token_file_that_does_not_answer_is_said_off_a_node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(credentials, "FILES_SECONDS", 0.1)
    answers = threading.Event()
    monkeypatch.setattr(token, "token", lambda config: answers.wait(30))
    try:
        access = open_access(parse({"local": {"node": ""}}, "test"), SystemClock())
        with pytest.raises(ApiUnreachableError, match="token file"):
            access.main.request("GET", "version")
    finally:
        answers.set()


def test_without_pvesh_it_says_that_this_is_no_node(tmp_path: Path) -> None:
    with pytest.raises(ApiUnreachableError, match="cannot be run") as caught:
        PveshTransport(str(tmp_path / "none")).request("GET", "version")
    assert "this is no PVE node" in caught.value.remedy
    (tmp_path / "closed").touch(0o600)
    with pytest.raises(ApiUnreachableError, match="cannot be run") as caught:
        PveshTransport(str(tmp_path / "closed")).request("GET", "version")
    assert "no PVE node" not in caught.value.remedy
