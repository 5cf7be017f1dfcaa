"""A signal ends each wait of a thread that minds one, and none of a thread that does not."""

from __future__ import annotations

import contextlib
import gc
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from snapshot.base.clock import SystemClock
from snapshot.base.interruption import LOOK_SECONDS, MindingClock, Signals, mind, minding, patience
from snapshot.base.procfs import process_start
from snapshot.commands.runner import run_commands
from snapshot.errors import InterruptedBySignalError, SafeSnapshotError
from snapshot.fleet.link import pair
from snapshot.model import Node, Upid
from snapshot.pve.connection import Connection
from snapshot.pve.https import Endpoint, HttpsTransport
from snapshot.pve.pvesh import PveshTransport
from snapshot.pve.tasks import Tasks
from tests.lab.guest.base import pid_is_alive
from tests.lab.site import wait_for
from tests.unit.wire import Connection as Wired
from tests.unit.wire import Wire

LONG = 600.0
"""What each wait would take. A bound for hangs only."""

Wait = Callable[[Path, contextlib.ExitStack], object]


def sleeps(_folder: Path, _stack: contextlib.ExitStack) -> None:
    MindingClock(SystemClock()).sleep(LONG)


def waits_for_its_parent(_folder: Path, stack: contextlib.ExitStack) -> None:
    ours, theirs = pair()
    stack.callback(ours.close)
    stack.callback(theirs.close)
    theirs.wait()


def asks_a_silent_agent(folder: Path, stack: contextlib.ExitStack) -> None:
    listener = stack.enter_context(socket.socket(socket.AF_UNIX))
    listener.bind(str(folder / "agent"))
    listener.listen()
    clock = SystemClock()
    connection = Connection(clock)
    stack.callback(connection.close)
    connection.open(folder / "agent", clock.monotonic() + LONG)
    connection.sync(clock.monotonic() + LONG)


def asks_a_silent_api(folder: Path, stack: contextlib.ExitStack) -> None:
    def is_silent(connection: Wired) -> None:
        connection.send(b"HTTP/1.1 200 OK\r\n")
        connection.over.wait(LONG)

    wire = stack.enter_context(Wire(folder, is_silent))
    api = HttpsTransport(Endpoint("127.0.0.1", wire.port, "root@pam!t", "secret", wire.ca_file))
    stack.callback(api.close)
    api.request("POST", "nodes/pve1/qemu/100/agent/fsfreeze-freeze", timeout_seconds=LONG)


def asks_a_silent_pvesh(folder: Path, _stack: contextlib.ExitStack) -> None:
    program = folder / "pvesh"
    program.write_text("#!/bin/sh\nexec sleep 600\n")
    program.chmod(0o755)
    PveshTransport(str(program)).request("GET", "version", timeout_seconds=LONG)


def waits_for_a_task(folder: Path, stack: contextlib.ExitStack) -> None:
    worker = stack.enter_context(subprocess.Popen(["sleep", "600"]))
    stack.callback(worker.kill)
    start = process_start(worker.pid) or 0
    upid = Upid.parse(f"UPID:pve1:{worker.pid:08X}:{start:08X}:6B0B3A01:qmsnapshot:100:root@pam:")
    tasks = Tasks(PveshTransport("/bin/false"), SystemClock(), Node("pve1"), folder)
    tasks.wait_for_end(upid, time.monotonic() + LONG)


def runs_an_own_command(folder: Path, _stack: contextlib.ExitStack) -> None:
    folder.chmod(0o755)
    command = folder / "10-sleeps"
    command.write_text("#!/bin/sh\nexec sleep 600\n")
    command.chmod(0o755)
    run_commands(folder, "verdict", (), {}, {}, say=lambda line: None, timeout_seconds=LONG)


WAITS: list[Wait] = [
    sleeps,
    waits_for_its_parent,
    asks_a_silent_agent,
    asks_a_silent_api,
    asks_a_silent_pvesh,
    waits_for_a_task,
    runs_an_own_command,
]


@pytest.fixture
def signals() -> Iterator[Signals]:
    made = Signals()
    yield made
    made.close()


@pytest.mark.parametrize("wait", WAITS, ids=lambda wait: wait.__name__)
def test_a_signal_ends_each_wait_of_a_thread_that_minds_it(wait: Wait, tmp_path: Path, signals: Signals) -> None:
    found: list[object] = []

    def work() -> None:
        with contextlib.ExitStack() as stack:
            try:
                with minding(signals):
                    found.append(wait(tmp_path, stack))
            except (InterruptedBySignalError, SafeSnapshotError, OSError) as error:
                found.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    time.sleep(2 * LOOK_SECONDS)  # it is in its wait by now, most likely; before it, the signal ends it as well
    assert found == []
    signals.tell(15)
    thread.join(60)
    assert [type(one) for one in found] == [InterruptedBySignalError]


def test_an_own_command_that_a_signal_has_ended_is_gone(tmp_path: Path, signals: Signals) -> None:
    """With whoever kept it: to put them away is no wait that the signal ends, too."""
    tmp_path.chmod(0o755)
    command, told = tmp_path / "10-sleeps", tmp_path.parent / f"{tmp_path.name}-pid"
    command.write_text(f"#!/bin/sh\ntrap '' TERM\necho $$ > {told}\nwhile :; do sleep 0.1; done\n")
    command.chmod(0o755)
    found: list[object] = []

    def work() -> None:
        try:
            with minding(signals):
                found.append(run_commands(tmp_path, "verdict", say=lambda line: None, timeout_seconds=LONG))
        except InterruptedBySignalError as error:
            found.append(error.signal_number)

    thread = threading.Thread(target=work)
    thread.start()
    assert wait_for(lambda: told.exists() and told.read_text().strip() != "", 60)
    signals.tell(15)
    thread.join(60)
    assert found == [15]
    assert not pid_is_alive(int(told.read_text()))
    gc.collect()  # a process that nobody waits for would be told here


def test_outside_of_the_context_nothing_is_ended(signals: Signals) -> None:
    """Such as the thaw: it is never torn."""
    signals.tell(15)
    mind()
    assert patience(LONG) == LONG
    MindingClock(SystemClock()).sleep(0.01)
    with pytest.raises(InterruptedBySignalError), minding(signals):
        raise AssertionError("it is ended at once")
    mind()


def test_a_signal_is_another_threads_business_where_that_one_minds_it(signals: Signals) -> None:
    found: list[float] = []
    with contextlib.suppress(InterruptedBySignalError), minding(signals):
        signals.tell(15)

        def other() -> None:
            mind()
            found.append(patience(LONG))

        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
        mind()
    assert found == [LONG]
