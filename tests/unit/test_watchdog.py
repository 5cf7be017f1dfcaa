"""What systemd's watchdog is told by a guard, over a real socket that stands in for systemd's."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path

import pytest

from snapshot.base import detached
from snapshot.base.watchdog import SELDOM_SECONDS, Watchdog
from snapshot.config.settings import Config, GuardConfig, LauncherKind, ThawConfig
from snapshot.guard import background
from snapshot.guard.background import BackgroundRecorder
from snapshot.guard.launcher import ProcessLauncher
from snapshot.guard.link import watchdog_seconds
from tests.campaign.kit import ManualClock, Notes, guard_spec


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[socket.socket]:
    """Where systemd would listen: its name is in NOTIFY_SOCKET."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as listener:
        listener.bind(str(tmp_path / "notify"))
        yield listener


def heard(systemd: socket.socket) -> list[str]:
    """Every word that waits there."""
    found: list[str] = []
    while True:
        try:
            found.append(systemd.recv(4096).decode())
        except BlockingIOError:
            return found


def test_systemd_is_told_the_limit_and_then_that_we_move_but_not_too_often(systemd: socket.socket) -> None:
    clock = ManualClock()
    with closing(Watchdog(systemd.getsockname(), clock)) as watchdog:
        watchdog.begins(30.0)
        assert heard(systemd) == ["READY=1\nWATCHDOG=1\nWATCHDOG_USEC=30000000"]
        for _ in range(100):
            watchdog.moves()
        assert heard(systemd) == ["WATCHDOG=1"]
        clock.sleep(SELDOM_SECONDS)
        watchdog.moves()
        assert heard(systemd) == ["WATCHDOG=1"]


@pytest.mark.timeout(60)
def test_a_systemd_that_does_not_listen_keeps_nobody_waiting(systemd: socket.socket) -> None:
    """Its queue is full: the word is dropped. One that waited would stand here for ever."""
    clock = ManualClock()
    with closing(Watchdog(systemd.getsockname(), clock)) as watchdog:
        for _ in range(2000):
            clock.sleep(SELDOM_SECONDS)
            watchdog.moves()
    assert 0 < len(heard(systemd)) < 2000


def test_an_abstract_name_is_understood() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind("")  # the kernel finds a name
        name = "@" + listener.getsockname()[1:].decode()
        with closing(Watchdog(name, ManualClock())) as watchdog:
            watchdog.begins(1.0)
        assert listener.recv(4096).startswith(b"READY=1")


@pytest.mark.parametrize("address", ["", "vsock:2:1", "/no/such/socket", "@nobody"])
def test_where_nobody_listens_nothing_happens(address: str) -> None:
    with closing(Watchdog(address, ManualClock())) as watchdog:
        watchdog.begins(30.0)
        watchdog.moves()


def test_a_guard_moves_while_it_waits_for_its_records(monkeypatch: pytest.MonkeyPatch) -> None:
    """The journal is on a disk that hangs. Its guest is thawed: nobody needs another guard."""
    monkeypatch.setattr(background, "LOOK_SECONDS", 0.02)
    hangs = threading.Event()

    class Hung(Notes):
        def left_open(self) -> None:
            hangs.wait()

        def catch_up(self) -> None:
            """Nothing is owed."""

    recorder, moved = BackgroundRecorder(Hung()), list[int]()
    recorder.left_open()
    recorder.finish(0.2, moves=lambda: moved.append(1))
    assert len(moved) >= 5
    hangs.set()
    recorder.finish()


def started_unit(monkeypatch: pytest.MonkeyPatch, config: Config) -> Mapping[str, str]:
    """The properties of the unit that a guard is started as."""
    found: dict[str, str] = {}

    def start(arguments: object, *, properties: Mapping[str, str], **_: object) -> None:
        found.update(properties)

    monkeypatch.setattr(detached, "start_unit", start)
    ProcessLauncher(config, None, ManualClock()).adopt(guard_spec())
    return found


def test_a_guards_unit_has_a_watchdog_that_waits_longer_than_any_step_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    config = Config(thaw=ThawConfig(attempt_timeout_seconds=60), guard=GuardConfig(launcher=LauncherKind.SYSTEMD))
    found = started_unit(monkeypatch, config)
    assert found["WatchdogSec"] == f"{watchdog_seconds(config):g}s" == "80s"
    assert (found["Type"], found["NotifyAccess"], found["Restart"]) == ("notify", "main", "on-failure")
    assert found["WatchdogSignal"] == "SIGKILL", "ABRT would write the token into a core dump"
    assert found["KillMode"] == "process", "else a child that cannot be killed keeps the guard from coming back"
