"""pvesh as a transport: over the lab's pvesh and a real scripted guest, and over small programs that misbehave."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from snapshot.base.signals import SignalGate
from snapshot.errors import (
    ApiDeniedError,
    ApiError,
    ApiFailureError,
    ApiUnreachableError,
    InterruptedBySignalError,
    ReplyLostError,
)
from snapshot.model import FreezeOutcome, FreezeState, Upid
from snapshot.pve import agent, pvesh
from snapshot.pve.agent import ApiChannel, CommandNotSentError
from snapshot.pve.guests import GuestApi
from snapshot.pve.pvesh import PveshTransport
from tests.lab.guest.base import pid_is_alive
from tests.lab.guest.scripted import ScriptedGuest
from tests.lab.node.node import LabNode
from tests.lab.rundir import run_directory
from tests.lab.site import wait_for
from tests.unit.kit import GUEST


@pytest.fixture(scope="module")
def node() -> Iterator[tuple[LabNode, ScriptedGuest]]:
    """A node whose daemons are not even started: pvesh needs none of them."""
    with run_directory() as run, ScriptedGuest(100, run) as guest:
        yield LabNode(run / "node", [guest]), guest


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A path for a small program in place of pvesh, with little patience for it."""
    monkeypatch.setattr(pvesh, "START_SECONDS", 0.3)
    return tmp_path / "pvesh"


def program(path: Path, body: str) -> PveshTransport:
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return PveshTransport(str(path))


def failure(transport: PveshTransport, seconds: float = 5.0) -> ApiError:
    with pytest.raises(ApiError) as caught:
        transport.request("POST", "nodes/pve1/qemu/100/agent/fsfreeze-freeze", timeout_seconds=seconds)
    assert str(caught.value).isprintable()
    return caught.value


# -------------------------------------------------------------------------------------------------- the lab's pvesh


def test_a_guest_is_frozen_proven_and_thawed_over_pvesh(node: tuple[LabNode, ScriptedGuest]) -> None:
    lab, guest = node
    channel = ApiChannel(PveshTransport(str(lab.pvesh)), GUEST)
    try:
        assert agent.freeze(channel, 5.0).outcome is FreezeOutcome.ACKNOWLEDGED
        assert guest.is_frozen()
        assert agent.status(channel) is FreezeState.FROZEN
        again = agent.freeze(channel, 5.0)
        assert (again.outcome, "frozen" in again.detail) == (FreezeOutcome.REFUSED, True)
    finally:
        assert channel.call("fsfreeze-thaw", timeout_seconds=5.0) == 1
    assert not guest.is_frozen()


def test_a_snapshot_over_pvesh_gives_the_upid_from_among_the_tasks_own_lines(
    node: tuple[LabNode, ScriptedGuest],
) -> None:
    lab, _ = node
    api = GuestApi(PveshTransport(str(lab.pvesh)))
    upid = api.create_snapshot(GUEST, "s1", "two words; $(and more)", memory=False, timeout_seconds=20.0)
    assert isinstance(upid, Upid)
    assert (upid.kind, upid.id) == ("qmsnapshot", "100")
    assert api.snapshots(GUEST)["s1"].description.strip() == "two words; $(and more)"


def test_an_agent_that_is_busy_or_gone_was_not_asked(node: tuple[LabNode, ScriptedGuest]) -> None:
    lab, guest = node
    lab.set(limits={"ping": 0.2, "command": 1.0})
    guest.stop_agent()
    try:
        with pytest.raises(CommandNotSentError) as caught:
            ApiChannel(PveshTransport(str(lab.pvesh)), GUEST).call("fsfreeze-thaw", timeout_seconds=5.0)
        assert caught.value.busy_or_gone
    finally:
        guest.continue_agent()


def test_a_guest_that_does_not_exist_was_not_asked(node: tuple[LabNode, ScriptedGuest]) -> None:
    lab, _ = node
    with pytest.raises(ApiFailureError, match="does not exist"):
        PveshTransport(str(lab.pvesh)).request("POST", "nodes/pve1/qemu/999/agent/fsfreeze-thaw")


def test_a_node_that_nobody_knows_is_an_error_of_pves(node: tuple[LabNode, ScriptedGuest]) -> None:
    lab, _ = node
    with pytest.raises(ApiFailureError, match="hostname lookup"):
        PveshTransport(str(lab.pvesh)).request("GET", "nodes/nowhere/qemu/100/config")


def test_a_bad_parameter_is_named_over_pvesh(node: tuple[LabNode, ScriptedGuest]) -> None:
    lab, _ = node
    with pytest.raises(ApiFailureError, match="snapname") as caught:
        PveshTransport(str(lab.pvesh)).request("POST", "nodes/pve1/qemu/100/snapshot", {"snapname": "1"})
    assert caught.value.status == 400


# ------------------------------------------------------------------------------------------ programs that misbehave


@pytest.mark.parametrize("how", ["missing", "folder", "not executable", "no program"])
def test_a_pvesh_that_cannot_be_run_was_never_asked(fake: Path, how: str) -> None:
    if how == "folder":
        fake.mkdir()
    elif how == "not executable":
        fake.write_text("#!/bin/sh\n")
    elif how == "no program":
        fake.write_text("#!/no/such/interpreter\n")
        fake.chmod(0o755)
    assert isinstance(failure(PveshTransport(str(fake))), ApiUnreachableError)


def test_a_pvesh_that_hangs_is_killed_with_its_children_and_may_have_done_it(fake: Path) -> None:
    pids = fake.with_name("pids")
    started = time.monotonic()
    error = failure(program(fake, f"echo $$ >{pids}; sleep 60 & echo $! >>{pids}; wait"), 0.2)
    assert isinstance(error, ReplyLostError)
    assert time.monotonic() - started < 5
    for pid in map(int, pids.read_text().split()):
        deadline = time.monotonic() + 5
        while pid_is_alive(pid) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert not pid_is_alive(pid)


def test_a_child_that_keeps_pveshs_output_open_does_not_keep_us(fake: Path) -> None:
    started = time.monotonic()
    with contextlib.suppress(ApiError):
        program(fake, "sleep 60 & echo 1").request("GET", "version", timeout_seconds=0.2)
    assert time.monotonic() - started < 5


@pytest.mark.parametrize("output", ["garbage", "{", "UPID:", "1 2", "UPID:a:b:\\nmore", "x" * 10000])
def test_an_answer_that_is_not_json_is_a_lost_reply(fake: Path, output: str) -> None:
    assert isinstance(failure(program(fake, f"printf '{output}'")), ReplyLostError)


def test_brackets_without_end_and_bytes_of_no_alphabet_are_a_lost_reply(fake: Path) -> None:
    run = f"exec {sys.executable} -c"
    assert isinstance(failure(program(fake, f"{run} \"print('[' * 200000)\"")), ReplyLostError)
    assert isinstance(failure(program(fake, r"printf '\377\376\000'")), ReplyLostError)


@pytest.mark.parametrize(("output", "value"), [("", None), ("null", None), ("1", 1), ('{"a": "ü"}', {"a": "ü"})])
def test_an_answer_is_its_json_and_silence_is_none(fake: Path, output: str, value: object) -> None:
    assert program(fake, f"printf '%s' '{output}'").request("GET", "version") == value


@pytest.mark.parametrize(
    ("code", "stderr", "kind", "status"),
    [
        (111, "QEMU guest agent is not running", ApiFailureError, 500),
        (2, "Configuration file does not exist", ApiFailureError, 500),
        (255, "400 Parameter verification failed.", ApiFailureError, 400),
        (255, "please run as root", ApiFailureError, 500),
        (255, "501 not implemented", ApiFailureError, 501),
        (255, "Permission check failed (/vms/100, VM.Snapshot)", ApiDeniedError, 403),
        (13, "ipcc_send_rec failed: Permission denied", ApiDeniedError, 403),
        (1, "", ApiFailureError, 500),
        (255, "596 Connection timed out", ReplyLostError, None),
    ],
)
def test_exit_codes_and_stderr_are_read_as_the_api_would_have_said_it(
    fake: Path, code: int, stderr: str, kind: type[ApiError], status: int | None
) -> None:
    error = failure(program(fake, f"echo '{stderr}' >&2; exit {code}"))
    assert type(error) is kind
    assert getattr(error, "status", None) == status


def test_a_pvesh_that_is_killed_may_have_done_it(fake: Path) -> None:
    assert isinstance(failure(program(fake, "kill -9 $$")), ReplyLostError)


def test_an_answer_on_stdout_counts_even_when_something_stands_on_stderr(fake: Path) -> None:
    assert program(fake, "echo 'a warning' >&2; echo 3").request("GET", "version") == 3


def test_much_output_on_both_streams_does_not_block(fake: Path) -> None:
    script = f"exec {sys.executable} -c \"import sys; sys.stderr.write('e' * 10**6); print('[' + '1,' * 10**5 + '1]')\""
    answer = program(fake, script).request("GET", "version", timeout_seconds=10.0)
    assert isinstance(answer, list)
    assert len(answer) == 10**5 + 1


def test_arguments_reach_pvesh_as_they_are_without_a_shell(fake: Path) -> None:
    script = f'exec {sys.executable} -c "import sys, json; print(json.dumps(sys.argv[1:]))" "$@"'
    answer = program(fake, script).request("PUT", "a/b", {"description": "$(reboot); 'x' \n --y"}, timeout_seconds=9.0)
    assert answer == ["set", "/a/b", "--output-format", "json", "--description", "$(reboot); 'x' \n --y"]


def test_pvesh_gets_a_session_of_its_own_and_none_of_our_environment(
    fake: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PERL5LIB", "/tmp/evil")
    code = "import os, json; print(json.dumps([os.getsid(0), os.getpid(), sorted(os.environ)]))"
    answer = program(fake, f'exec {sys.executable} -I -c "{code}"').request("GET", "version", timeout_seconds=9.0)
    session, pid, names = json.loads(json.dumps(answer))
    assert session == pid != os.getsid(0)
    assert "PERL5LIB" not in names
    assert {"PATH", "LC_ALL"} <= set(names)


# ------------------------------------------------------------------------------------- floods, signals and long tasks


@pytest.mark.parametrize("stream", [1, 2])
def test_a_pvesh_that_talks_without_end_is_killed_at_its_cap(fake: Path, stream: int) -> None:
    began = time.monotonic()
    says = f"while head -c 262144 /dev/zero; do sleep 0.1; done >&{stream}"  # bounded, also where it is kept
    error = failure(program(fake, f"echo $$ >{fake}.pid; {says}"), 60.0)
    assert isinstance(error, ReplyLostError)
    assert "MiB" in error.message
    assert time.monotonic() - began < 30
    assert not pid_is_alive(int(Path(f"{fake}.pid").read_text()))


@pytest.fixture
def gate() -> Iterator[SignalGate]:
    installed = SignalGate()
    yield installed
    installed.restore()


@pytest.mark.parametrize("when", ["at its start", "while it runs", "at its end"])
def test_a_signal_ends_the_wait_for_pvesh_and_pvesh_with_it(
    fake: Path, gate: SignalGate, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    pid = Path(f"{fake}.pid")
    said = f"echo $$ >{fake}.new; mv {fake}.new {pid}"

    class Interrupted(subprocess.Popen[bytes]):
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            assert wait_for(pid.exists, 20)
            signal.raise_signal(signal.SIGTERM)

    def interrupted(group: int, number: int, kill: Callable[[int, int], None] = os.killpg) -> None:
        assert wait_for(pid.exists, 20)
        signal.raise_signal(signal.SIGTERM)
        kill(group, number)

    if when == "at its start":
        monkeypatch.setattr(subprocess, "Popen", Interrupted)
    elif when == "at its end":
        monkeypatch.setattr(os, "killpg", interrupted)
    else:
        said += f"; kill -TERM {os.getpid()}"
    transport = program(fake, f"{said}; exec sleep 60")
    seconds = 0.1 if when == "at its end" else 60.0
    with pytest.raises(InterruptedBySignalError), gate.open():
        transport.request("POST", "nodes/pve1/qemu/100/agent/fsfreeze-thaw", timeout_seconds=seconds)
    assert not pid_is_alive(int(pid.read_text()))


def test_a_task_that_takes_longer_than_we_wait_is_not_cut_off_in_its_middle(fake: Path) -> None:
    """pvesh runs it in its own foreground: killed, or with nobody to read its lines, it would take the task with it."""
    transport = program(fake, f"sleep 1; echo saving; echo saved >{fake}.done")
    with pytest.raises(ReplyLostError, match="may still be carried out"):
        transport.request("POST", "nodes/pve1/qemu/100/snapshot", {"snapname": "s1"}, timeout_seconds=0.1)
    assert wait_for(Path(f"{fake}.done").exists, 20)


def test_nothing_piles_up_behind_a_pvesh_that_hangs(fake: Path) -> None:
    transport = program(fake, "sleep 60")
    failure(transport, 0.05)
    before, threads = len(os.listdir("/proc/self/fd")), threading.active_count()
    for _ in range(3):
        failure(transport, 0.05)
    assert (len(os.listdir("/proc/self/fd")), threading.active_count()) == (before, threads)


def test_a_pvesh_that_cannot_be_killed_ends_nothing_and_is_not_started_again_while_it_hangs(
    fake: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in an uninterruptible sleep on a file system that does not answer."""
    transport = program(fake, f"echo $$ >>{fake}.pids; exec sleep 60")
    with monkeypatch.context() as patched:
        patched.setattr(os, "killpg", lambda *_: None)
        began = time.monotonic()
        assert isinstance(failure(transport, 0.2), ReplyLostError)
        for other in (transport, PveshTransport(str(fake))):
            assert isinstance(failure(other, 0.2), ApiUnreachableError)
        assert time.monotonic() - began < 30
    (pid,) = map(int, Path(f"{fake}.pids").read_text().split())
    os.kill(pid, signal.SIGKILL)
    fake.write_text("#!/bin/sh\necho 1\n")

    def answers() -> bool:
        with contextlib.suppress(ApiUnreachableError):
            return transport.request("GET", "version") == 1
        return False

    assert wait_for(answers, 20), "once it has ended the next is started"
