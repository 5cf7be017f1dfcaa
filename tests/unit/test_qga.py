"""The agent's socket, spoken to a scripted guest and to things that are no agent: nothing stale is ever believed."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from snapshot.base.clock import SystemClock
from snapshot.base.retry import Pace
from snapshot.model import FreezeOutcome, FreezeState
from snapshot.pve import agent, qga
from snapshot.pve.agent import AgentRefusedError, AgentReplyLostError, CommandNotSentError
from snapshot.pve.ladder import Ladder
from snapshot.pve.qga import SocketChannel
from snapshot.thaw.thawer import Thawer, Thawing
from tests.lab.guest.agentmodel import Refusal
from tests.lab.guest.scripted import ScriptedGuest
from tests.lab.rundir import run_directory

Turn = Callable[[socket.socket, list[bytes]], None]
QUEUED = (
    b'\xff{"execute":"guest-sync-delimited","arguments":{"id":7}}\n{"execute":"guest-fsfreeze-freeze","arguments":{}}\n'
)


@pytest.fixture
def run() -> Iterator[Path]:
    with run_directory() as folder:
        yield folder


@pytest.fixture
def guest(run: Path) -> Iterator[ScriptedGuest]:
    with ScriptedGuest(100, run) as found:
        yield found


def channel(path: Path, sync_seconds: float = 0.3) -> SocketChannel:
    return SocketChannel(path, SystemClock(), sync_seconds)


def of(guest: ScriptedGuest) -> SocketChannel:
    return channel(guest.agent_socket)


def thawer(route: SocketChannel, attempt_seconds: float = 5.0) -> Thawer:
    return Thawer(Ladder([route]), Thawing(Pace(0.05, 0.2, 2.0), attempt_seconds), SystemClock())


def executed(guest: ScriptedGuest, command: str) -> int:
    """How often the agent has begun ``guest-<command>``."""
    with guest.held() as (model, _):
        return sum(name == f"guest-{command}" for _, name in model.executed)


@contextlib.contextmanager
def server(path: Path, turn: Turn) -> Iterator[list[bytes]]:
    """Something that is no agent: its one connection is handed to ``turn``; yields what was received."""
    received: list[bytes] = []
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen(1)
        listener.settimeout(10)

        def serve() -> None:
            connection, _ = listener.accept()
            with connection, contextlib.suppress(OSError):
                connection.settimeout(10)
                received.append(connection.recv(65536))
                turn(connection, received)

        thread = threading.Thread(target=serve)
        thread.start()
        yield received
        thread.join(15)


def token_of(request: bytes) -> int:
    return int(json.loads(request.lstrip(b"\xff").split(b"\n")[0])["arguments"]["id"])


def in_sync(received: list[bytes]) -> bytes:
    """The answers to our sync and to the ping that comes with it."""
    return b'\xff{"return": %d}\n{"return": {}}\n' % token_of(received[-1])


def wait_for_the_end(connection: socket.socket, received: list[bytes]) -> None:
    """Silent until the client leaves."""
    while connection.recv(65536):
        pass


# --------------------------------------------------------------------------------------------------- a good agent


def test_a_guest_is_frozen_proven_and_thawed(guest: ScriptedGuest) -> None:
    socket_channel = of(guest)
    reply = agent.freeze(socket_channel, 5.0)
    assert (reply.outcome, reply.filesystems) == (FreezeOutcome.ACKNOWLEDGED, 1)
    assert guest.is_frozen()
    assert agent.status(socket_channel) is FreezeState.FROZEN
    assert socket_channel.call("fsfreeze-thaw", timeout_seconds=5.0) == 1
    assert not guest.is_frozen()
    assert agent.status(socket_channel) is FreezeState.THAWED


def test_the_agents_no_is_its_own_words(guest: ScriptedGuest) -> None:
    agent.freeze(of(guest), 5.0)
    with pytest.raises(AgentRefusedError, match="the agent is in frozen state") as caught:
        of(guest).call("get-osinfo", timeout_seconds=5.0)
    assert caught.value.kind == "CommandNotFound"


def test_the_socket_is_held_for_one_call_only(guest: ScriptedGuest) -> None:
    of(guest).call("ping", timeout_seconds=5.0)
    with guest.agent() as other:
        other.sync()


# ---------------------------------------------------------------------------------------------- stale and half words


@pytest.fixture
def connections(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The path of each connection to an agent that is made."""
    made: list[Path] = []

    class Counted(qga.Connection):
        def open(self, path: Path, deadline: float) -> None:
            made.append(path)
            super().open(path, deadline)

    monkeypatch.setattr(qga, "Connection", Counted)
    return made


def frozen(guest: ScriptedGuest) -> SocketChannel:
    """A channel that has frozen the guest and brought the proof."""
    found = of(guest)
    assert agent.freeze(found, 5.0).filesystems == 1
    assert agent.status(found, 5.0, keep_open=True) is FreezeState.FROZEN
    return found


def test_proof_thaw_and_status_share_a_connection_and_nobody_waits_afterwards(
    guest: ScriptedGuest, connections: list[Path]
) -> None:
    found = frozen(guest)
    assert len(connections) == 2
    report = thawer(found).until_confirmed(5.0)
    assert (report.confirmed, report.filesystems, report.attempts) == (True, 1, 1)
    assert len(connections) == 2
    assert of(guest).call("ping", timeout_seconds=2.0) == {}


def test_whoever_else_asks_waits_until_a_kept_connection_is_released(guest: ScriptedGuest) -> None:
    found = frozen(guest)
    with pytest.raises(CommandNotSentError, match="busy or gone"):
        of(guest).call("ping", timeout_seconds=0.2)
    found.release()
    found.release()
    assert of(guest).call("ping", timeout_seconds=2.0) == {}


@pytest.mark.parametrize("how", ["refused", "no answer", "out of time"])
def test_a_thaw_that_fails_leaves_the_agent_to_others(guest: ScriptedGuest, how: str) -> None:
    """The next route, PVE's own or a guard's, leads to the same agent."""
    found = frozen(guest)
    if how == "refused":
        guest.faults.refuse["guest-fsfreeze-thaw"] = Refusal("GenericError", "not now")
    elif how == "no answer":
        guest.set_knob("thaw_sleep", 0.8)
    else:
        guest.set_knob("thaw_sleep", 0.3)
    work = thawer(found, attempt_seconds=0.4)
    report = work.until_confirmed(0.1 if how == "out of time" else 0.01)
    assert not report.confirmed
    assert channel(guest.agent_socket, 3.0).call("ping", timeout_seconds=3.0) == {}
    guest.faults.refuse.clear()


def test_a_kept_connection_that_qemu_let_go_of_is_replaced(guest: ScriptedGuest, connections: list[Path]) -> None:
    found = frozen(guest)
    assert found._connection is not None
    found._connection._socket.shutdown(socket.SHUT_RDWR)
    assert found.call("fsfreeze-thaw", timeout_seconds=5.0) == 1
    assert len(connections) == 3


def test_a_stale_reply_is_not_taken_for_ours(guest: ScriptedGuest) -> None:
    """A client that gave up leaves a freeze that completes; the agent hands its count to whoever comes next."""
    guest.set_knob("freeze_sleep", 0.2)
    with guest.agent() as gave_up:
        gave_up.send_command("guest-fsfreeze-freeze")
        time.sleep(0.05)
    time.sleep(0.3)
    assert guest.is_frozen()
    assert agent.status(of(guest)) is FreezeState.FROZEN  # and not the stale {"return": 1}


def test_stale_replies_of_every_kind_before_our_sync_are_skipped(run: Path) -> None:
    path = run / "stale"

    def stale(connection: socket.socket, received: list[bytes]) -> None:
        connection.sendall(b'{"return": 1}\n\xff{"return": 1}\n{"error": {"class": "X", "desc": "y"}}\n')
        connection.sendall(b'{"return": %d}\n' % token_of(received[-1]))  # our number, and not delimited
        connection.sendall(b'\xff{"return": "%d"}\n' % token_of(received[-1]))  # our number as a text
        connection.sendall(b"garbage\n\xff\n\n[]\n1\nnull\n\xff[[[[\n" + b"[" * 100_000 + b"\n")
        connection.sendall(in_sync(received))
        connection.recv(65536)
        connection.sendall(b'{"return": "thawed"}\n')

    with server(path, stale):
        assert channel(path, 3.0).call("fsfreeze-status", timeout_seconds=5.0) == "thawed"


def test_half_a_reply_before_our_sync_is_skipped(run: Path) -> None:
    path = run / "half"

    def half(connection: socket.socket, received: list[bytes]) -> None:
        connection.sendall(b'{"return": ' + in_sync(received))
        connection.recv(65536)
        connection.sendall(b'{"return": {}}\n')

    with server(path, half):
        assert channel(path, 3.0).call("ping", timeout_seconds=5.0) == {}


def test_half_a_request_that_a_dead_client_left_does_not_swallow_ours(guest: ScriptedGuest) -> None:
    with guest.agent() as died:
        died.send(b'{"execute": "guest-fsfreeze-st')
        time.sleep(0.05)
    assert agent.status(of(guest)) is FreezeState.THAWED


def test_a_reply_in_portions_is_put_together(run: Path) -> None:
    path = run / "drip"

    def drip(connection: socket.socket, received: list[bytes]) -> None:
        for byte in in_sync(received):
            connection.sendall(bytes([byte]))
        connection.recv(65536)
        for byte in b'{"return": 12}\n':
            connection.sendall(bytes([byte]))
            time.sleep(0.001)

    with server(path, drip):
        assert channel(path, 3.0).call("fsfreeze-thaw", timeout_seconds=5.0) == 12


# ------------------------------------------------------------------------------------------- certainly nothing was sent


def test_a_busy_socket_is_busy_and_leaves_no_command_behind(guest: ScriptedGuest) -> None:
    with guest.agent() as first:
        first.sync()
        started = time.monotonic()
        with pytest.raises(CommandNotSentError) as caught:
            of(guest).call("fsfreeze-freeze", timeout_seconds=5.0)
        assert time.monotonic() - started < 3
        assert caught.value.busy_or_gone
    time.sleep(0.1)
    assert executed(guest, "fsfreeze-freeze") == 0
    assert not guest.is_frozen()


def test_a_queue_that_is_full_is_busy(guest: ScriptedGuest) -> None:
    with contextlib.ExitStack() as stack:
        first = stack.enter_context(guest.agent())
        first.sync()
        for _ in range(4):
            waiting = stack.enter_context(contextlib.closing(socket.socket(socket.AF_UNIX)))
            waiting.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                waiting.connect(str(guest.agent_socket))
        with pytest.raises(CommandNotSentError) as caught:
            of(guest).call("fsfreeze-thaw", timeout_seconds=5.0)
        assert caught.value.busy_or_gone


def test_a_stopped_agent_is_busy_and_no_command_waits_for_its_return(guest: ScriptedGuest) -> None:
    guest.stop_agent()
    with pytest.raises(CommandNotSentError) as caught:
        of(guest).call("fsfreeze-freeze", timeout_seconds=5.0)
    assert caught.value.busy_or_gone
    guest.continue_agent()
    assert agent.status(channel(guest.agent_socket, 3.0)) is FreezeState.THAWED
    assert executed(guest, "fsfreeze-freeze") == 0


def test_a_freeze_that_somebody_else_queued_is_answered_before_us_and_not_believed(guest: ScriptedGuest) -> None:
    guest.stop_agent()
    with guest.agent() as gave_up:
        gave_up.send(QUEUED)
        time.sleep(0.1)
    guest.continue_agent()
    assert agent.status(channel(guest.agent_socket, 3.0)) is FreezeState.FROZEN


@pytest.mark.parametrize("how", ["missing", "no socket", "stale", "folder", "long"])
def test_without_a_socket_nothing_was_sent_and_the_guest_is_not_called_off(run: Path, how: str) -> None:
    path = run / ("x" * 200 if how == "long" else "100.qga")
    if how == "no socket":
        path.touch()
    elif how == "folder":
        path.mkdir()
    elif how == "stale":  # QEMU was killed: the file stays, nobody listens
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(str(path))
    with pytest.raises(CommandNotSentError) as caught:
        channel(path).call("fsfreeze-thaw", timeout_seconds=1.0)
    assert not caught.value.guest_off


def test_an_end_of_the_stream_before_the_sync_means_that_nothing_was_sent(run: Path) -> None:
    path = run / "eof"
    with server(path, lambda connection, received: None) as received, pytest.raises(CommandNotSentError) as caught:
        channel(path).call("fsfreeze-freeze", timeout_seconds=1.0)
    assert caught.value.busy_or_gone
    assert all(b"fsfreeze-freeze" not in data for data in received)


@pytest.mark.parametrize(
    "junk",
    [b"\n" * 65536, b"x\n" * 32768, b'{"return": 1}\n' * 4096, (b"[" * 16383 + b"\n") * 4, b"\xff\n" * 32768],
    ids=["empty lines", "short lines", "answers", "brackets", "sentinels"],
)
def test_a_flood_of_lines_ends_at_the_time_limit_and_is_not_kept(run: Path, junk: bytes) -> None:
    path = run / "flood"

    def floods(connection: socket.socket, received: list[bytes]) -> None:
        while True:
            connection.sendall(junk)

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.monotonic()
    with server(path, floods), pytest.raises(CommandNotSentError):
        SocketChannel(path, SystemClock(), 0.5).call("ping", timeout_seconds=5.0)
    assert time.monotonic() - began < 5
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 << 10


def test_an_endless_line_before_the_sync_is_cut_off(run: Path) -> None:
    path = run / "endless"

    def endless(connection: socket.socket, received: list[bytes]) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection.sendall(b"x" * 65536)

    started = time.monotonic()
    with server(path, endless), pytest.raises(CommandNotSentError):
        channel(path, 5.0).call("fsfreeze-thaw", timeout_seconds=9.0)
    assert time.monotonic() - started < 5


def test_replies_without_end_before_the_sync_end_with_its_time(run: Path) -> None:
    path = run / "chatter"

    def chatter(connection: socket.socket, received: list[bytes]) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection.sendall(b'{"return": 1}\n')
                time.sleep(0.001)

    started = time.monotonic()
    with server(path, chatter), pytest.raises(CommandNotSentError):
        channel(path, 0.3).call("fsfreeze-thaw", timeout_seconds=9.0)
    assert time.monotonic() - started < 5


def test_a_time_shorter_than_the_syncs_is_kept(run: Path) -> None:
    path = run / "silent"
    started = time.monotonic()
    with server(path, wait_for_the_end), pytest.raises(CommandNotSentError):
        channel(path, 30.0).call("fsfreeze-thaw", timeout_seconds=0.2)
    assert time.monotonic() - started < 5


# ------------------------------------------------------------------------------------------- the command was sent


def after_sync(*answer: bytes, wait: bool = False) -> Turn:
    """In sync, takes the command, then answers with ``answer``."""

    def turn(connection: socket.socket, received: list[bytes]) -> None:
        connection.sendall(in_sync(received))
        received.append(connection.recv(65536))
        for part in answer:
            connection.sendall(part)
        if wait:
            wait_for_the_end(connection, received)

    return turn


ANSWERS = {
    "nothing, then the end": ([], False),
    "silence": ([], True),
    "half a line": ([b'{"return": 1'], False),
    "half a line and silence": ([b'{"return": 1'], True),
    "no JSON": ([b"garbage\n"], False),
    "a list": ([b"[1]\n"], False),
    "null": ([b"null\n"], False),
    "neither return nor error": ([b'{"event": "x"}\n'], False),
    "brackets without end": ([b"[" * 200_000 + b"\n"], False),
    "bytes of no alphabet": ([b"\xfe\xfe\n"], False),
    "an empty line": ([b"\n"], False),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_a_command_without_a_good_answer_may_have_been_executed(run: Path, name: str) -> None:
    path = run / "lost"
    parts, wait = ANSWERS[name]
    with server(path, after_sync(*parts, wait=wait)) as received, pytest.raises(AgentReplyLostError):
        channel(path, 3.0).call("fsfreeze-freeze", timeout_seconds=0.4)
    assert b"guest-fsfreeze-freeze" in received[-1]


@pytest.mark.parametrize(
    "error", [b'{"error": {"class": "GenericError", "desc": "no"}}', b'{"error": "no"}', b'{"error": null}']
)
def test_an_error_after_the_sync_is_the_agents_no(run: Path, error: bytes) -> None:
    path = run / "error"
    with server(path, after_sync(error + b"\n")), pytest.raises(AgentRefusedError):
        channel(path, 3.0).call("fsfreeze-freeze", timeout_seconds=2.0)


def test_a_slow_freeze_that_we_gave_up_is_unknown_and_completes_without_us(guest: ScriptedGuest) -> None:
    guest.set_knob("freeze_sleep", 0.5)
    reply = agent.freeze(of(guest), 0.2)
    assert reply.outcome is FreezeOutcome.UNKNOWN
    deadline = time.monotonic() + 5
    while not guest.is_frozen() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert guest.is_frozen()


def test_no_call_leaves_a_descriptor_open(guest: ScriptedGuest, run: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        of(guest).call("ping", timeout_seconds=5.0)
        with pytest.raises(CommandNotSentError):
            channel(run / "none").call("ping", timeout_seconds=1.0)
    with guest.held():  # the guest is in this process too: it has noticed that we left
        assert len(os.listdir("/proc/self/fd")) <= before
