"""The same command on the guest's own node: the agent's socket, the worker's pidfd, pvesh without a token."""

from __future__ import annotations

import os
import shlex
import signal
import sys
from pathlib import Path

import pytest

from snapshot.errors import NotRecordedError
from tests.engine import kit
from tests.engine.kit import check, take
from tests.lab.guest.scripted import ScriptedGuest
from tests.lab.site import Site, site, wait_for

PVESH = Path(__file__).resolve().parents[1] / "lab" / "node" / "pvesh_fake.py"


@pytest.fixture
def node(lab: Site) -> Site:
    """The lab, with our commands on the guest's node."""
    lab.on_the_node()
    return lab


def pvesh_alone(lab: Site) -> None:
    """A node without an API token: only pvesh and the sockets are left."""
    wrapper = lab.run / "pvesh"
    command = [sys.executable, str(PVESH), str(lab.node.root), lab.node.node]
    wrapper.write_text(f'#!/bin/sh\nexec {shlex.join(command)} "$@"\n')
    wrapper.chmod(0o755)
    lab.node.token_file.unlink()
    lab.settings["local"] = {"node": lab.node.node, "pvesh": str(wrapper)}
    lab.write_config()


def test_the_proof_and_the_thaw_go_through_the_agents_own_socket(node: Site) -> None:
    run = take(node, "--policy", "require", "--json")
    assert run.exit_code == 0, run
    assert run.json["thaw"]["route"].startswith("agent socket")
    assert run.json["verdict"]["kind"] == "filesystem-consistent"
    assert not node.node.requests("fsfreeze-thaw")


def test_the_end_of_the_task_is_seen_without_a_request(node: Site) -> None:
    """The worker's pid stands in the UPID: its end is seen through a pidfd."""
    node.node.set(task_delays={"before": 1.0})
    run = take(node, "--policy", "require")
    assert run.exit_code == 0, run
    assert len(node.node.requests("/tasks/")) <= 3, "the task's end and its log, no polling"


def test_a_busy_agent_is_busy_on_its_socket_too(node: Site, guest: ScriptedGuest) -> None:
    with kit.busy_agent(guest):
        run = take(node, "--policy", "require")
    assert run.exit_code == 6, run
    assert "busy" in run.stderr


def test_an_api_that_fails_in_the_window_is_told_behind_the_thaw(node: Site) -> None:
    node.settings["local"] |= {"pvesh": str(node.node.pvesh)}
    node.write_config()
    node.node.fault("/snapshot$", "status", method="POST", status=401, reason="authentication failure")
    run = take(node, "--policy", "require", timeout=120)
    assert run.exit_code == 0, run
    told = [part for part in ("guard armed", "; window ", "going on with pvesh") if part in run.stderr]
    assert sorted(told, key=run.stderr.index) == ["guard armed", "; window ", "going on with pvesh"], run


def test_an_api_that_goes_down_in_the_window_does_not_keep_the_guest_frozen(node: Site, guest: ScriptedGuest) -> None:
    node.write_config(snapshot={"task_timeout_seconds": 2})
    node.node.set(task_delays={"before": 2.0})
    process = node.start("100", "--name", "s1", "--policy", "prefer")
    assert wait_for(lambda: bool(node.node.running_tasks()))
    assert wait_for(guest.is_frozen)
    node.node.stop_front()
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 7, stderr
    # The front may go down before or after it has passed the task's name on.
    assert "did not end within 2 s" in stderr or "the snapshot request was lost" in stderr
    assert not guest.is_frozen()
    assert guest.windows()[0] < 10, "thawed by the socket when the worker ended"


@pytest.mark.parametrize("policy", ["require", "never"])
def test_a_killed_worker_is_seen_at_once(node: Site, guest: ScriptedGuest, policy: str) -> None:
    node.node.set(task_delays={"before": 20.0})
    process = node.start("100", "--name", "s1", "--policy", policy)
    assert wait_for(guest.is_frozen)
    assert wait_for(lambda: bool(node.node.running_tasks()))
    for upid in node.node.running_tasks():
        os.kill(upid.pid, signal.SIGKILL)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 7, stderr
    assert "unexpected status" in stderr
    assert not guest.is_frozen()
    assert guest.windows()[0] < 15


@pytest.mark.parametrize("version", ["9.1.9", "8.4.1"])
def test_pves_own_thaw_is_no_proof_here_either(version: str) -> None:
    with site(ScriptedGuest, pve_version=version) as lab:
        lab.on_the_node()
        run = take(lab)
        assert run.exit_code == 0, run
        assert kit.window(lab).verdict == "unknown"


# ---------------------------------------------------------------- without a token


def test_without_a_token_pvesh_does_it_all(lab: Site) -> None:
    pvesh_alone(lab)
    run = take(lab, "--policy", "require", timeout=120)
    assert run.exit_code == 0, run
    assert "filesystem-consistent" in run.stdout
    assert "filesystem-consistent" in kit.description(lab)
    assert not lab.node.requests()


def test_a_task_that_fails_in_pvesh_is_a_failed_task(lab: Site, guest: ScriptedGuest) -> None:
    """pvesh itself exits with 0 and prints the UPID."""
    pvesh_alone(lab)
    guest.set_knob("freeze_sleep", 1.0)
    process = lab.start("100", "--name", "s1")
    assert wait_for(lambda: bool(guest.hook_log()), 60)
    lab.node.set_config(100, lock="backup")
    _, stderr = process.communicate(timeout=120)
    assert process.returncode == 7, stderr
    assert "VM is locked (backup)" in stderr
    assert not guest.is_frozen()


def test_check_works_without_a_token(lab: Site) -> None:
    pvesh_alone(lab)
    run = check(lab, lab.safe_snapshot("check", "100"))
    assert run.exit_code == 0, run
    assert "ready" in run.stdout
    assert check(lab, lab.safe_snapshot("check", "999")).exit_code == 4


def test_the_rescue_works_without_a_token_and_without_pvesh(lab: Site, guest: ScriptedGuest) -> None:
    pvesh_alone(lab)
    (lab.run / "pvesh").unlink()
    guest.ask("guest-fsfreeze-freeze")
    run = check(lab, lab.safe_snapshot("thaw", "100"))
    assert run.exit_code == 0, run


@pytest.mark.parametrize("with_pvesh", [True, False])
@pytest.mark.parametrize("status", [401, 403])
def test_a_token_that_is_revoked_in_the_window_costs_no_verdict(node: Site, status: int, with_pvesh: bool) -> None:
    """The task is followed by its own file, and what has to be written goes over pvesh."""
    pvesh = str(node.node.pvesh) if with_pvesh else "/nowhere/pvesh"
    node.settings["local"] |= {"task_folder": str(node.node.root / "var/log/pve/tasks"), "pvesh": pvesh}
    node.write_config()
    for path in ("/tasks/", "/snapshot/s1/config"):
        node.node.fault(path, "status", status=status, reason="Permission check failed", times=None)
    run = take(node, "--policy", "require")
    assert run.exit_code == (0 if with_pvesh and status == 401 else NotRecordedError.exit_code), run
    assert "filesystem-consistent" in run.text
    assert kit.window(node).verdict == "filesystem-consistent"
