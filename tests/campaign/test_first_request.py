"""Nothing of ours writes to disk, logs or imports between the decision to thaw and the first thaw request.

The real commands, the real HTTPS and socket routes, and a witness inside the process (probe.py).
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from snapshot.base import detached
from snapshot.base.procfs import process_start
from snapshot.guard.link import GuardSpec, Op
from tests.campaign.kit import guard_spec
from tests.lab.site import Site, site, wait_for

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def lab() -> Iterator[Site]:
    with site() as found:
        yield found


def probe(lab: Site, role: str, *arguments: str) -> subprocess.Popen[str]:
    """One of our commands with a witness in it."""
    return subprocess.Popen(
        [sys.executable, "-m", "tests.campaign.probe", str(lab.run / "witness.json"), role, *arguments],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def seen(lab: Site, process: subprocess.Popen[str]) -> dict[str, Any]:
    """What the witness wrote once the process has ended."""
    out, err = process.communicate(timeout=60)
    path = lab.run / "witness.json"
    assert path.exists(), f"no thaw was requested after a decision: {out}{err}"
    found: dict[str, Any] = json.loads(path.read_text())
    found["noted"] = [_known(lab, event) for event in found["noted"]]
    return found


def _known(lab: Site, event: str) -> str:
    """A connection to a place that is no news gets its name."""
    if event.startswith("socket.connect"):
        for text, name in ((f"{lab.guest.vmid}.qga", "AGENT"), (f"{lab.node.port})", "NODE")):
            if text in event:
                return f"socket.connect {name}"
    return event


NOTHING: dict[str, Any] = {"writes": 0, "imported": [], "noted": []}
ON_THE_NODE = {**NOTHING, "noted": ["socket.connect AGENT"]}
"""A guard has kept no connection to the agent's own socket: to connect to it is the request."""


@pytest.mark.parametrize("on_the_node", [False, True])
def test_the_owner_does_nothing_else_between_its_decision_and_its_thaw(lab: Site, on_the_node: bool) -> None:
    """On the node the connection to the agent that brought the proof carries the thaw."""
    if on_the_node:
        lab.on_the_node()
    process = probe(lab, "owner", "--config", str(lab.config_path), "100", "--policy", "require")
    assert seen(lab, process) == NOTHING
    assert process.returncode == 0


def test_an_owner_that_is_interrupted_does_nothing_else_before_its_thaw(lab: Site) -> None:
    """Where the signal cuts a request off, its connection is lost and opened again; hardly any falls into one."""
    lab.node.set(task_delays={"inside": 3.0})
    for attempt in range(4):
        before = len(lab.node.requests("/agent/fsfreeze-freeze"))
        process = probe(lab, "owner", "--config", str(lab.config_path), "100", "--name", f"s{attempt}")
        assert wait_for(lambda before=before: len(lab.node.requests("/agent/fsfreeze-freeze")) > before, 20)
        time.sleep(0.5)
        process.send_signal(signal.SIGTERM)
        found = seen(lab, process)
        if found == NOTHING:
            return
        assert (found["imported"], found["noted"]) == ([], ["socket.connect NODE"])
        assert found["writes"] <= 3, "the handshake of that connection: OpenSSL writes to its socket"
        (lab.run / "witness.json").unlink()
        assert wait_for(lambda: not lab.node.running_tasks(), 20)
    pytest.fail("each of four signals made it open a connection before its thaw")


@contextlib.contextmanager
def armed_guard(lab: Site, **spec: object) -> Iterator[tuple[subprocess.Popen[str], socket.socket]]:
    """A guard with a witness, whose owner is this test."""
    address = detached.new_address("w1")
    order = guard_spec(node=lab.node.node, owner_pid=os.getpid(), owner_pid_start=process_start(os.getpid()), **spec)
    assert isinstance(order, GuardSpec)
    with detached.listen(address) as listener:
        process = probe(lab, "guard", "--spec", order.to_json(), "--socket", address, "--config", str(lab.config_path))
        listener.settimeout(30)
        connection, _ = listener.accept()
    connection.settimeout(30)
    assert b"armed" in connection.recv(4096)
    try:
        yield process, connection
    finally:
        connection.close()
        process.kill()
        process.wait()


def say(connection: socket.socket, op: Op) -> None:
    connection.sendall(json.dumps({"op": op.value}).encode() + b"\n")


@pytest.mark.parametrize(("on_the_node", "expected"), [(False, NOTHING), (True, ON_THE_NODE)])
def test_a_guard_whose_owner_died_does_nothing_else_before_its_thaw(
    lab: Site, on_the_node: bool, expected: dict[str, Any]
) -> None:
    if on_the_node:
        lab.on_the_node()
    with armed_guard(lab) as (process, connection):
        say(connection, Op.FREEZING)
        say(connection, Op.FROZEN)
        time.sleep(0.3)
        connection.close()
        assert seen(lab, process) == expected


def test_a_guard_whose_connection_pve_has_closed_opens_that_one_again_and_nothing_else(lab: Site) -> None:
    """pveproxy closes an idle connection after 5 s; a window may last longer."""
    with armed_guard(lab) as (process, connection):
        say(connection, Op.FREEZING)
        say(connection, Op.FROZEN)
        time.sleep(6.0)
        connection.close()
        found = seen(lab, process)
        assert found.pop("noted") == ["socket.connect NODE"]
        assert found["imported"] == []
        assert found["writes"] <= 3, "the handshake of that connection: OpenSSL writes to its socket"


def test_a_guard_at_its_deadline_does_nothing_else_before_its_thaw(lab: Site) -> None:
    with armed_guard(lab, deadline_seconds=0.2) as (process, connection):
        say(connection, Op.FREEZING)
        say(connection, Op.FROZEN)
        wait_for((lab.run / "witness.json").exists, 15)
        say(connection, Op.DISARM)
        assert seen(lab, process) == NOTHING


def test_a_guard_that_is_told_to_end_does_nothing_else_before_its_thaw(lab: Site) -> None:
    with armed_guard(lab) as (process, connection):
        say(connection, Op.FREEZING)
        say(connection, Op.FROZEN)
        time.sleep(0.3)
        process.send_signal(signal.SIGTERM)
        wait_for((lab.run / "witness.json").exists, 15)
        say(connection, Op.DISARM)
        assert seen(lab, process) == NOTHING


def test_a_guard_whose_worker_died_does_nothing_else_before_its_thaw(lab: Site) -> None:
    worker = subprocess.Popen(["sleep", "60"])
    watch = ((worker.pid, process_start(worker.pid)),)
    with armed_guard(lab, watch=watch) as (process, connection):
        say(connection, Op.FREEZING)
        say(connection, Op.FROZEN)
        time.sleep(0.3)
        worker.kill()
        worker.wait()
        wait_for((lab.run / "witness.json").exists, 15)
        say(connection, Op.DISARM)
        assert seen(lab, process) == NOTHING


def test_the_witness_sees_a_file_that_is_written_and_a_module_that_is_imported(lab: Site) -> None:
    """A test that cannot fail is a defect."""
    script = (
        "import sys; from pathlib import Path; from tests.campaign.probe import Witness\n"
        f"w = Witness(Path({str(lab.run / 'witness.json')!r})); w.decided()\n"
        f"open({str(lab.run / 'written')!r}, 'w').write('x'); import colorsys\n"
        "w.requested()\n"
    )
    process = subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    found = seen(lab, process)
    assert found["writes"] >= 1
    assert "colorsys" in found["imported"]
    assert any(event.startswith("open") for event in found["noted"])
