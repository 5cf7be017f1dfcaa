"""Starting a process that reports back, while others are in the way."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import stat
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from snapshot.base import detached
from snapshot.base.clock import SystemClock
from tests.lab.site import wait_for

NOBODY = 65534
AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="another user is needed")


@contextlib.contextmanager
def as_nobody(body: Callable[[], None]) -> Iterator[None]:
    """``body``, for ever, in a process of another user."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.setgid(NOBODY)
        os.setuid(NOBODY)
        os.write(writer, b"x")
        while True:
            with contextlib.suppress(OSError):
                body()
    os.read(reader, 1)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(reader)
        os.close(writer)


def knock(address: str) -> None:
    with socket.socket(socket.AF_UNIX) as peer:
        peer.connect("\0" + address)


@AS_ROOT
def test_the_limit_of_an_accept_holds_whoever_else_knocks() -> None:
    address = detached.new_address("w")
    clock = SystemClock()
    with detached.listen(address) as listener, as_nobody(lambda: knock(address)):
        began = clock.monotonic()
        with pytest.raises(TimeoutError, match="refused"):
            detached.accept(listener, 0.3, clock)
        assert clock.monotonic() - began < 20


@AS_ROOT
def test_a_process_of_ours_gets_in_between_others() -> None:
    address = detached.new_address("w")
    found: list[socket.socket | None] = []
    with detached.listen(address) as listener, as_nobody(lambda: knock(address)):
        ours = threading.Thread(target=lambda: found.append(detached.connect(address)))
        ours.start()
        with detached.accept(listener, 20.0, SystemClock()) as accepted:
            ours.join(20)
            assert found[0] is not None
            found[0].send(b"armed\n")
            assert detached.read_line(accepted) == b"armed\n"
            found[0].close()


def test_a_queue_that_others_keep_full_is_waited_for_within_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is accepted: a guard that was started again must not stand there for ever."""
    monkeypatch.setattr(detached, "QUEUE", 0)
    monkeypatch.setattr(detached, "CONNECT_SECONDS", 0.2)
    address = detached.new_address("w")
    with detached.listen(address), contextlib.ExitStack() as stack:
        while True:
            connection = stack.enter_context(socket.socket(socket.AF_UNIX))
            connection.settimeout(0.0)
            try:
                connection.connect("\0" + address)
            except BlockingIOError:
                break
        assert detached.connect(address) is None


def test_a_line_that_drips_or_has_no_end_is_no_line() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.settimeout(0.3)
        stop = threading.Event()

        def drip() -> None:
            while not stop.wait(0.05):
                theirs.send(b"x")

        dripping = threading.Thread(target=drip)
        dripping.start()
        with pytest.raises(TimeoutError):
            detached.read_line(ours)
        stop.set()
        dripping.join()
        assert ours.gettimeout() == 0.3

    ours, theirs = socket.socketpair()
    with ours, theirs:
        flood = threading.Thread(target=lambda: _flood(theirs))
        flood.start()
        with pytest.raises(ConnectionResetError, match="endless"):
            detached.read_line(ours)
        ours.close()
        flood.join(20)


def _flood(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while True:
            connection.sendall(b"x" * 65536)


@pytest.fixture
def systemd_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """A systemd-run that is this shell script."""

    def write(script: str) -> None:
        program = tmp_path / "systemd-run"
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(program.stat().st_mode | stat.S_IXUSR)

    monkeypatch.setattr(detached.shutil, "which", lambda name, path=None: str(tmp_path / name))
    return write


def start(timeout_seconds: float = 20.0) -> None:
    detached.start_unit(["x"], unit="u", description="d", properties={}, timeout_seconds=timeout_seconds)


def test_a_unit_that_starts_says_nothing(systemd_run: Callable[[str], None]) -> None:
    systemd_run("echo noise >&2")
    start()


def test_what_systemd_run_says_is_short_and_fit_for_a_terminal(systemd_run: Callable[[str], None]) -> None:
    systemd_run(r"printf 'Failed:\033[31m no\nbus' >&2; head -c 20000000 /dev/zero >&2; exit 3")
    with pytest.raises(OSError, match=r"ended with 3: Failed: \[31m no bus") as caught:
        start()
    assert len(str(caught.value)) < 400
    assert "\033" not in str(caught.value)


@pytest.mark.parametrize("script", ["exec sleep 60", "exec sleep 60 2>/dev/null", "while :; do echo x >&2; done"])
def test_a_systemd_run_that_does_not_end_is_ended(systemd_run: Callable[[str], None], script: str) -> None:
    systemd_run(script)
    with pytest.raises(TimeoutError, match="did not end within"):
        start(0.4)


def test_a_systemd_run_that_cannot_be_killed_costs_its_limit_and_a_moment(
    systemd_run: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    systemd_run("exec sleep 60")
    stuck: list[subprocess.Popen[bytes]] = []
    with monkeypatch.context() as patched:
        patched.setattr(subprocess.Popen, "kill", lambda self: stuck.insert(0, self))
        began = time.monotonic()
        with pytest.raises(TimeoutError):
            start(0.2)
        assert time.monotonic() - began < 30
    (process,) = stuck
    process.kill()


def test_a_process_is_told_where_our_units_credentials_are_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """A guard in the unit of its owner reads its token there, while its owner waits for it to be armed."""
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", "/run/credentials/ours.service")
    monkeypatch.setenv("SOMETHING_ELSE", "1")
    process = detached.start_process(["timeit", "-n", "1", "import time; time.sleep(60)"])
    try:
        environment = Path(f"/proc/{process.pid}/environ")
        assert wait_for(lambda: environment.read_bytes() != b"")  # the kernel fills it in behind the exec
        raw = environment.read_bytes().decode()
    finally:
        process.kill()
        process.wait()
    found = dict(line.split("=", 1) for line in raw.split("\0") if line)
    assert found == {**detached.ENVIRONMENT, "CREDENTIALS_DIRECTORY": "/run/credentials/ours.service"}
