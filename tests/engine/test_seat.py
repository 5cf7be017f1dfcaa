"""The agent's one seat: kept over a window, left to everybody who asks, and never a reason why the agent is alone."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import select
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from snapshot.base.clock import SystemClock
from snapshot.base.procfs import call_process
from snapshot.model import FreezeState
from snapshot.pve import agent, backlog, seat
from snapshot.pve.agent import CommandNotSentError
from snapshot.pve.qga import SocketChannel
from tests.lab.fixtures import real_guest
from tests.lab.guest.base import Guest
from tests.lab.guest.scripted import ScriptedGuest
from tests.lab.node.qmp import agent_command
from tests.lab.node.tasks import process_called
from tests.lab.rundir import run_directory
from tests.unit.kit import raised

HANGS = 20.0
"""A bound for what should have happened long before."""


@pytest.fixture(autouse=True)
def named_like_pve() -> Iterator[None]:
    """This process asks as PVE does: it is let through at any time."""
    with process_called("pvedaemon worker"):
        yield


@contextlib.contextmanager
def stranger(path: Path | str) -> Iterator[subprocess.Popen[str]]:
    """Somebody else's program that asks the agent once, and never leaves the socket; it says when it was answered."""
    program = (
        "import socket, sys; peer = socket.socket(socket.AF_UNIX); peer.connect(sys.argv[1]);"
        """peer.sendall(b'{"execute": "guest-ping"}\\n'); print(peer.recv(100), flush=True); sys.stdin.read()"""
    )
    command = [sys.executable, "-S", "-c", program, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.fixture
def run() -> Iterator[Path]:
    with run_directory() as folder:
        yield folder


@pytest.fixture(params=["scripted", pytest.param("real", marks=pytest.mark.real)])
def guest(request: pytest.FixtureRequest, run: Path) -> Iterator[Guest]:
    make = ScriptedGuest if request.param == "scripted" else real_guest
    with make(100, run) as found:
        yield found


def of(path: Path | str, sync_seconds: float = 3.0) -> SocketChannel:
    return SocketChannel(Path(path), SystemClock(), sync_seconds)


@contextlib.contextmanager
def seated(path: Path | str) -> Iterator[SocketChannel]:
    channel = of(path)
    channel.sit()
    try:
        yield channel
    finally:
        channel.release()


def pve(guest: Guest, command: str, timeout: float = 3.0) -> object:
    """One agent command as PVE sends it."""
    return agent_command(guest.vmid, Path(guest.agent_socket), f"guest-{command}", timeout=timeout)


def waiting(path: Path | str) -> int:
    """How many wait at ``path``."""
    listener = backlog.listener_at(Path(path))
    assert listener is not None
    return len(backlog.waiting(listener) or ())


def until(what: Callable[[], bool]) -> None:
    deadline = time.monotonic() + HANGS
    while not what():
        assert time.monotonic() < deadline, "it never came to that"
        time.sleep(0.002)


# ------------------------------------------------------------------------------------------------------ with an agent


def test_pve_has_all_its_turns_while_we_sit_and_the_proof_and_the_thaw_are_ours(guest: Guest) -> None:
    with seated(guest.agent_socket) as ours:
        for command, answer in (("ping", {}), ("fsfreeze-freeze", 1), ("ping", {}), ("fsfreeze-status", "frozen")):
            assert pve(guest, command) == answer
        assert agent.status(ours, keep_open=True) is FreezeState.FROZEN
        assert ours.call("fsfreeze-thaw", timeout_seconds=5.0, keep_open=True) == 1
        assert agent.status(ours) is FreezeState.THAWED
    assert pve(guest, "fsfreeze-status") == "thawed"


def test_a_seat_is_kept_on_behind_a_call_that_keeps_its_connection(guest: Guest) -> None:
    with seated(guest.agent_socket) as ours:
        assert ours.call("fsfreeze-freeze", timeout_seconds=5.0, keep_open=True) == 1
        ours.sit()
        assert pve(guest, "fsfreeze-status") == "frozen"
        assert ours.call("fsfreeze-thaw", timeout_seconds=5.0) == 1


def test_three_who_ask_at_once_are_all_let_through(guest: Guest) -> None:
    """The queue holds two: we leave even where no place is free."""
    answers: list[object] = []
    with seated(guest.agent_socket) as ours:
        asking = [
            threading.Thread(target=lambda: answers.append(pve(guest, "fsfreeze-status", HANGS))) for _ in range(3)
        ]
        for one in asking:
            one.start()
        for one in asking:
            one.join(HANGS)
        assert answers == ["thawed"] * 3
        assert agent.status(ours) is FreezeState.THAWED


def test_behind_one_who_never_leaves_we_ask_in_vain_and_thaw_once_it_is_gone(guest: Guest) -> None:
    with seated(guest.agent_socket) as ours:
        with guest.agent() as stays:
            stays.sync()
            with pytest.raises(CommandNotSentError, match="busy or gone"):
                agent.status(ours, 0.3)
        assert agent.status(ours) is FreezeState.THAWED


def test_an_agent_that_lost_our_sync_keeps_nobody_waiting_behind_us(guest: Guest, run: Path) -> None:
    """It was killed with our request in hand: nobody will ever answer that, and PVE's ping has three seconds."""
    with seated(guest.agent_socket) as ours:
        with guest.agent() as first:
            first.sync()
            until(lambda: waiting(guest.agent_socket) == 1)  # our new place
            guest.stop_agent()
        until(lambda: waiting(guest.agent_socket) == 0)  # seated, and not answered
        guest.kill_agent()
        guest.start_agent()
        assert pve(guest, "ping", HANGS) == {}
        assert agent.status(ours) is FreezeState.THAWED


def states(channel: SocketChannel) -> list[FreezeState]:
    return [heard.state for heard in channel.heard()]


def test_the_agent_says_to_us_behind_each_turn_of_pves_whether_it_is_frozen(guest: Guest) -> None:
    """However soon PVE asks again: our place stands between its calls."""
    thawed, frozen = FreezeState.THAWED, FreezeState.FROZEN
    with seated(guest.agent_socket) as ours:
        heard = states(ours)
        assert heard == [thawed]
        for command in ("ping", "fsfreeze-freeze", "fsfreeze-thaw", "ping"):
            pve(guest, command)

        def are_five() -> bool:
            heard.extend(states(ours))
            return len(heard) >= 5

        until(are_five)
        assert heard == [thawed, thawed, frozen, thawed, thawed]


def test_in_our_turn_the_agent_is_asked_again_as_often_as_is_wished(run: Path) -> None:
    with ScriptedGuest(100, run) as guest, seated(guest.agent_socket) as ours:
        assert states(ours) == [FreezeState.THAWED]
        until(lambda: bool(ours.heard(0.0)))
        with guest.agent() as other:
            other.sync()
            ours.heard()
            assert not ours.heard(0.0), "it is not our turn"
        until(lambda: bool(ours.heard(0.0)))


def test_behind_one_who_stays_for_long_there_is_one_place_of_ours_and_its_question_is_answered(run: Path) -> None:
    """As behind a slow freeze of vzdump's, with somebody else behind us: our silence counts from our turn on."""
    clock = Stopped()
    with ScriptedGuest(100, run) as guest, contextlib.ExitStack() as stack:
        path = Path(guest.agent_socket)
        ours = SocketChannel(path, clock)
        stack.callback(ours.release)
        with guest.agent() as first:
            first.sync()
            ours.sit()
            assert waiting(path) == 1
            asking = threading.Thread(target=pve, args=(guest, "ping", HANGS))
            asking.start()
            until(lambda: waiting(path) == 2)
            clock.now += 60.0
            guest.stop_agent()
        until(lambda: waiting(path) == 1)
        for _ in range(3):
            clock.has_slept.clear()
            until(clock.has_slept.is_set)
        guest.continue_agent()
        asking.join(HANGS)
        assert [heard.asked_at for heard in ours.heard()][:1] == [0.0]


class Stopped(SystemClock):
    """A clock that goes on when it is told to."""

    def __init__(self) -> None:
        self.now = 0.0
        self.has_slept = threading.Event()

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        super().sleep(seconds)
        self.has_slept.set()


def test_a_seat_that_is_left_is_free(guest: Guest) -> None:
    with seated(guest.agent_socket) as ours:
        ours.release()
        with guest.agent() as other:
            other.sync()
            assert waiting(guest.agent_socket) == 0
        ours.release()


def test_where_qemu_ends_the_seat_ends_and_nothing_was_sent(run: Path) -> None:
    with ScriptedGuest(100, run) as guest, seated(guest.agent_socket) as ours:
        guest.stop()
        with pytest.raises(CommandNotSentError):
            agent.status(ours, 1.0)


def test_a_guest_that_was_started_again_is_asked_anew(run: Path) -> None:
    with ScriptedGuest(100, run) as guest, seated(guest.agent_socket) as ours:
        guest.stop()
        guest.start()
        assert agent.status(ours) is FreezeState.THAWED


def test_an_agent_that_is_busy_gives_no_seat_and_its_calls_are_as_ever(run: Path) -> None:
    with ScriptedGuest(100, run) as guest:
        with guest.agent() as first:
            first.sync()
            ours = of(guest.agent_socket)
            assert not ours.sit()
            assert not ours.sit()
        assert agent.status(ours) is FreezeState.THAWED


def test_behind_somebody_else_nobody_is_kept_waiting_for_a_knock(run: Path) -> None:
    with ScriptedGuest(100, run) as guest:
        ours = of(guest.agent_socket)
        with guest.agent() as first:
            first.sync()
            assert not ours.sit(awaits_knock=True)
        with guest.agent() as other:
            other.sync()
            assert waiting(guest.agent_socket) == 0


def test_without_a_look_at_who_waits_there_is_no_seat(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """PVE would wait behind us and nobody would see it."""
    monkeypatch.setattr("snapshot.pve.qga.listener_at", lambda path: None)
    with ScriptedGuest(100, run) as guest, seated(guest.agent_socket):
        assert pve(guest, "ping") == {}
        with guest.agent() as other:
            other.sync()
            assert waiting(guest.agent_socket) == 0


def test_where_no_thread_can_be_started_there_is_no_seat(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    with ScriptedGuest(100, run) as guest:
        monkeypatch.setattr("snapshot.pve.seat.start_thread", refused)
        ours = of(guest.agent_socket)
        assert not ours.sit(awaits_knock=True)
        assert pve(guest, "ping") == {}
        assert agent.status(ours) is FreezeState.THAWED


@pytest.mark.parametrize("error", [MemoryError, None])
def test_a_look_that_fails_in_whatever_way_keeps_nobody_waiting(
    run: Path, monkeypatch: pytest.MonkeyPatch, error: type[Exception] | None
) -> None:
    looked = threading.Event()

    def failed(_: int) -> None:
        looked.set()
        if error is not None:
            raise error

    with ScriptedGuest(100, run) as guest, seated(guest.agent_socket) as ours:
        monkeypatch.setattr("snapshot.pve.seat.waiting", failed)
        assert looked.wait(HANGS)
        assert pve(guest, "ping", HANGS) == {}
        assert agent.status(ours) is FreezeState.THAWED


def test_whoever_waits_once_we_hold_the_seat_waits(run: Path) -> None:
    with ScriptedGuest(100, run) as guest, seated(guest.agent_socket) as ours:
        assert agent.status(ours, keep_open=True) is FreezeState.THAWED
        asking = threading.Thread(target=pve, args=(guest, "ping", HANGS))
        asking.start()
        until(lambda: waiting(guest.agent_socket) == 1)
        time.sleep(0.1)  # a look, if there still were any, would let it pass
        assert ours.call("fsfreeze-freeze", timeout_seconds=5.0, keep_open=True) == 1
        assert asking.is_alive()
        assert ours.call("fsfreeze-thaw", timeout_seconds=5.0) == 1
        asking.join(HANGS)
        assert not asking.is_alive()


# ---------------------------------------------------------------------------------------------------------- the knock


def test_whoever_knocks_waits_for_our_freeze_and_finds_the_guest_frozen(
    guest: Guest, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers: list[object] = []
    asking = threading.Thread(target=lambda: answers.append(pve(guest, "fsfreeze-status", HANGS)))
    ours = of(guest.agent_socket)
    with contextlib.ExitStack() as stack:
        stack.callback(ours.release)
        assert ours.sit(awaits_knock=True)
        assert ours.knock(0.05) is None
        before = time.monotonic()
        asking.start()
        at = ours.knock(HANGS)
        assert at is not None
        assert before - 0.1 < at < time.monotonic()
        monkeypatch.setattr(seat, "KNOCK_SECONDS", 0.0)
        time.sleep(0.1)  # a look, if there still were any, would let it pass
        assert not answers
        assert ours.call("fsfreeze-freeze", timeout_seconds=5.0, keep_open=True) == 1
        assert not answers
        assert ours.sit()
        asking.join(HANGS)
        assert answers == ["frozen"]
        assert ours.call("fsfreeze-thaw", timeout_seconds=5.0) == 1


def test_whoever_knocks_is_let_through_where_nobody_freezes_in_time(run: Path) -> None:
    """PVE's ping has 3 s, and other things to do."""
    with ScriptedGuest(100, run) as guest:
        ours = of(guest.agent_socket)
        with contextlib.ExitStack() as stack:
            stack.callback(ours.release)
            assert ours.sit(awaits_knock=True)
            assert pve(guest, "ping") == {}
            assert ours.knock(0.05) is None
            assert pve(guest, "ping") == {}


def test_a_seat_that_is_lost_at_the_knock_is_not_replaced_by_another_connection(run: Path) -> None:
    """Whoever had knocked would be in front of us there, and has taken its point in time."""
    with ScriptedGuest(100, run) as guest:
        ours = of(guest.agent_socket)
        assert ours.sit(awaits_knock=True)
        seat_of_ours = ours._seat
        assert seat_of_ours is not None
        asking = threading.Thread(target=lambda: raised(lambda: pve(guest, "ping", HANGS), Exception))
        asking.start()
        assert ours.knock(HANGS) is not None
        assert seat_of_ours._connection is not None
        seat_of_ours._connection._socket.shutdown(socket.SHUT_RDWR)
        with pytest.raises(CommandNotSentError):
            ours.call("fsfreeze-freeze", timeout_seconds=5.0, keep_open=True)
        asking.join(HANGS)
        assert not guest.is_frozen()
        assert agent.status(ours) is FreezeState.THAWED


# ------------------------------------------------------------------------------------------ what QEMU sees of the queue


class Queue:
    """QEMU's side of the socket: one client at a time, and whether the next one stood there when the last one left."""

    def __init__(self, path: Path) -> None:
        self.empty: list[str] = []
        """Who left with nobody behind."""
        self.seated: list[str] = []
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen(1)
        self._ends, self._end = socket.socketpair()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._end.close()
        self._thread.join(HANGS)
        self._ends.close()
        self._listener.close()

    def _serve(self) -> None:
        while self._ends not in (ready := select.select([self._listener, self._ends], [], [], HANGS)[0]) and ready:
            client, _ = self._listener.accept()
            with client:
                name = self._answer(client)
            self.seated.append(name)
            if not select.select([self._listener], [], [], 0)[0]:
                self.empty.append(name)

    def _answer(self, client: socket.socket) -> str:
        name, kept = "ours", b""
        while self._ends not in select.select([client, self._ends], [], [], HANGS)[0] and (data := client.recv(65536)):
            *lines, kept = (kept + data).split(b"\n")
            for line in lines:
                request = json.loads(line.lstrip(b"\xff"))
                if request["execute"] == "guest-sync-delimited":
                    client.sendall(b'\xff{"return": %d}\n' % request["arguments"]["id"])
                else:
                    name = "PVE" if request["execute"] == "guest-info" else name
                    client.sendall(b'{"return": "thawed"}\n')
        return name


@pytest.fixture
def queue(run: Path) -> Iterator[tuple[Queue, Path]]:
    path = run / "100.qga"
    with contextlib.closing(Queue(path)) as found:
        yield found, path


def test_the_agent_is_never_alone_while_pve_comes_and_goes(queue: tuple[Queue, Path]) -> None:
    """When the seat is left, and when PVE leaves it, the next one waits already: nobody sleeps."""
    found, path = queue
    with seated(path) as ours:
        for turn in range(1, 6):
            assert agent_command(100, path, "guest-info", timeout=HANGS) == "thawed"
            until(lambda turn=turn: found.seated.count("PVE") == turn)  # type: ignore[misc]
        assert agent.status(ours, keep_open=True) is FreezeState.THAWED
        assert found.empty == []
        assert found.seated.count("ours") >= 5


def test_who_waits_is_named_in_order_and_an_accepted_one_is_not(run: Path) -> None:
    path = run / "x.qga"
    assert backlog.listener_at(path) is None
    with socket.socket(socket.AF_UNIX) as listener, contextlib.ExitStack() as stack:
        listener.bind(str(path))
        assert backlog.listener_at(path) is None
        listener.listen(3)
        found = backlog.listener_at(path)
        assert found == inode(listener)
        assert backlog.waiting(found) == []
        first, second, gone = (stack.enter_context(socket.socket(socket.AF_UNIX)) for _ in range(3))
        for one in (first, second, gone):
            one.connect(str(path))
        assert backlog.waiting(found) == [inode(first), inode(second), inode(gone)]
        gone.close()
        assert backlog.waiting(found) == [inode(first), inode(second), 0]
        stack.enter_context(listener.accept()[0])
        assert backlog.waiting(found) == [inode(second), 0]
        (run / "folder").symlink_to(run)
        assert backlog.listener_at(run / "folder" / "x.qga") == found, "/var/run is a link to /run"
        assert backlog.listener_at(run / "y.qga") is None
    assert backlog.waiting(found) is None


def inode(one: socket.socket) -> int:
    return os.fstat(one.fileno()).st_ino


def test_who_is_trusted_is_told_by_the_name_of_the_process_that_has_the_socket(run: Path) -> None:
    with socket.socket(socket.AF_UNIX) as ours:
        for name in ("pvedaemon worker", "task UPID:pve1:", "vzdump", "qm", "pvesh", "safe-snapshot", "fsfreeze-guard"):
            call_process(name)
            assert backlog.is_trusted(inode(ours)), name
        for name in ("socat", "my-pve", "python3", "", "perl"):
            call_process(name)
            assert not backlog.is_trusted(inode(ours)), name
    assert backlog.is_trusted(0), "nobody's any more"
    descriptors = run / "1201" / "fd"
    descriptors.mkdir(parents=True)
    (run / "1201" / "comm").write_text("pvedaemon worke\n")
    for number in range(3, 9):
        (descriptors / str(number)).touch()  # as one that is closed while it is looked at: no link
    assert not backlog.is_trusted(7, run)
    (descriptors / "9").symlink_to("socket:[7]")
    assert backlog.is_trusted(7, run)


def test_where_the_kernel_does_not_say_who_listens_there_is_no_listener(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its module unix_diag is not there, and may not be loaded."""

    def refused(*_: object) -> Iterator[object]:
        raise OSError(errno.ENOENT, "No such file or directory")

    with ScriptedGuest(100, run) as guest:
        listener = backlog.listener_at(Path(guest.agent_socket))
        assert listener is not None
        monkeypatch.setattr(backlog, "_ask", refused)
        assert backlog.listener_at(Path(guest.agent_socket)) is None
        assert backlog.waiting(listener) is None


# ------------------------------------------------------------------------------------------------ those who never leave


def test_a_stranger_is_let_through_while_the_guest_runs_and_pve_behind_it(guest: Guest) -> None:
    with seated(guest.agent_socket) as ours, stranger(guest.agent_socket) as other:
        assert other.stdout is not None
        assert "return" in other.stdout.readline()
        asking = threading.Thread(target=pve, args=(guest, "ping", HANGS))
        asking.start()
        until(lambda: waiting(guest.agent_socket) == 2)
        other.kill()
        asking.join(HANGS)
        assert not asking.is_alive()
        assert agent.status(ours) is FreezeState.THAWED


@pytest.mark.parametrize("at_the_knock", [False, True])
def test_a_stranger_who_comes_while_the_guest_is_frozen_waits_for_the_thaw(guest: Guest, at_the_knock: bool) -> None:
    """It never leaves again: behind it there would be no thaw."""
    ours = of(guest.agent_socket)
    with contextlib.ExitStack() as stack:
        stack.callback(ours.release)
        assert ours.sit(awaits_knock=at_the_knock)
        if at_the_knock:
            asking = threading.Thread(target=pve, args=(guest, "ping", HANGS))
            asking.start()
            assert ours.knock(HANGS) is not None
            assert ours.call("fsfreeze-freeze", timeout_seconds=5.0, keep_open=True) == 1
            assert ours.sit()
            asking.join(HANGS)
        else:
            assert pve(guest, "fsfreeze-freeze") == 1
        other = stack.enter_context(stranger(guest.agent_socket))
        until(lambda: waiting(guest.agent_socket) == 1)
        time.sleep(0.1)  # looks that would let it pass
        assert waiting(guest.agent_socket) == 1
        assert agent.status(ours, keep_open=True) is FreezeState.FROZEN
        assert ours.call("fsfreeze-thaw", timeout_seconds=5.0, keep_open=True) == 1
        ours.release()
        assert other.stdout is not None
        assert "return" in other.stdout.readline()


def test_pve_passes_while_the_guest_is_frozen_and_not_with_a_stranger_behind_it(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who sits behind PVE's freeze sits in front of our thaw."""
    trusted = {1: True, 2: True, 3: False, 4: False}
    monkeypatch.setattr(seat, "is_trusted", trusted.__getitem__)
    with ScriptedGuest(100, run) as guest, seated(guest.agent_socket) as ours:
        assert ours._seat is not None
        for others, while_thawed, while_frozen in (
            ([1], True, True),
            ([1, 2], True, True),
            ([3], True, False),
            ([3, 4], True, False),
            ([3, 1], True, False),
            ([1, 3], False, False),
            ([3, 1, 4], False, False),
        ):
            for is_frozen, may_pass in ((False, while_thawed), (True, while_frozen)):
                ours._seat._is_frozen = is_frozen
                assert ours._seat._may_pass(others) is may_pass, (others, is_frozen)


def test_a_stranger_does_not_knock(run: Path) -> None:
    with ScriptedGuest(100, run) as guest, contextlib.ExitStack() as stack:
        ours = of(guest.agent_socket)
        stack.callback(ours.release)
        assert ours.sit(awaits_knock=True)
        other = stack.enter_context(stranger(guest.agent_socket))
        assert other.stdout is not None
        assert "return" in other.stdout.readline(), "it passes"
        assert ours.knock(0.05) is None
        other.kill()
        asking = threading.Thread(target=pve, args=(guest, "ping", HANGS))
        asking.start()
        assert ours.knock(HANGS) is not None
        ours.release()
        asking.join(HANGS)
