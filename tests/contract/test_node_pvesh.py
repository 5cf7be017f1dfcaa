"""The lab's pvesh against PVE's own habits."""

from __future__ import annotations

import json
import subprocess

import pytest

from tests.lab.guest.agentmodel import Refusal
from tests.lab.node.client import Lab, with_scripted
from tests.lab.node.node import GuestSpec

QEMU = "/nodes/pve1/qemu/100"


def _pvesh(lab: Lab, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [lab.node.pvesh, *arguments]
    return subprocess.run(command, capture_output=True, text=True, env={}, timeout=60, check=False)


def _json(lab: Lab, *arguments: str) -> subprocess.CompletedProcess[str]:
    return _pvesh(lab, *arguments, "--output-format", "json")


def test_a_thaw_needs_neither_pveproxy_nor_pvedaemon() -> None:
    with with_scripted() as lab:
        lab.agent("fsfreeze-freeze")
        lab.node.kill()
        done = _json(lab, "create", f"{QEMU}/agent/fsfreeze-thaw")
        assert (done.returncode, done.stdout, done.stderr) == (0, '{"result": 1}\n', "")
        assert not lab.guest.is_frozen()


def test_a_refusal_by_the_agent_exits_0() -> None:
    with with_scripted() as lab:
        lab.guest.faults.refuse["guest-fsfreeze-thaw"] = Refusal("GenericError", "no")
        done = _json(lab, "create", f"{QEMU}/agent/fsfreeze-thaw")
        assert (done.returncode, json.loads(done.stdout)["result"]["error"]["desc"]) == (0, "no")


def test_an_agent_that_does_not_run_exits_111() -> None:
    with with_scripted(limits={"ping": 0.1}) as lab:
        lab.guest.kill_agent()
        done = _json(lab, "create", f"{QEMU}/agent/ping")
        assert (done.returncode, done.stdout, done.stderr) == (111, "", "QEMU guest agent is not running\n")


def test_an_unknown_guest_exits_2() -> None:
    with with_scripted() as lab:
        done = _json(lab, "get", "/nodes/pve1/qemu/999/config")
        text = "Configuration file 'nodes/pve1/qemu-server/999.conf' does not exist\n"
        assert (done.returncode, done.stderr) == (2, text)


def test_a_bad_parameter_exits_255() -> None:
    with with_scripted() as lab:
        done = _json(lab, "create", f"{QEMU}/snapshot", "--snapname", "1x")
        assert done.returncode == 255
        assert done.stderr.startswith("400 Parameter verification failed.\nsnapname: ")
        assert _json(lab, "create", f"{QEMU}/agent/ping", "--nonsense", "1").returncode == 255


def test_an_unknown_path_exits_1() -> None:
    with with_scripted() as lab:
        done = _json(lab, "create", "/no/such/path")
        assert (done.returncode, done.stderr) == (1, "No 'create' handler defined for '/no/such/path'\n")


def test_a_snapshot_runs_in_the_foreground_and_ends_with_its_upid() -> None:
    with with_scripted(task_delays={"before": 0.2}) as lab:
        done = _json(lab, "create", f"{QEMU}/snapshot", "-snapname", "s1", "--description", "by hand")
        lines = done.stdout.splitlines()
        assert (done.returncode, lines[0]) == (0, "snapshotting 'drive-scsi0' (local:100/vm-100-disk-0.qcow2)")
        assert lines[-1].startswith('"UPID:pve1:')
        assert lines[-1].endswith(':qmsnapshot:100:root@pam:"')
        assert lab.ask("GET", f"{QEMU}/snapshot").data[0]["description"] == "by hand"


def test_a_failed_task_exits_0_with_its_error_on_stderr() -> None:
    with with_scripted() as lab:
        _json(lab, "create", f"{QEMU}/snapshot", "--snapname", "s1")
        done = _json(lab, "create", f"{QEMU}/snapshot", "--snapname", "s1")
        assert (done.returncode, done.stderr) == (0, "snapshot name 's1' already used\n")
        assert done.stdout.startswith('"UPID:')


def test_only_root_may_use_it() -> None:
    with with_scripted(pvesh_as_root=False) as lab:
        done = _json(lab, "get", "/version")
        assert (done.returncode, done.stderr) == (255, "please run as root\n")


@pytest.mark.parametrize("path", ["/version", "/nodes", f"{QEMU}/config", f"{QEMU}/snapshot"])
def test_it_reads_what_the_api_reads(path: str) -> None:
    with with_scripted() as lab:
        assert json.loads(_json(lab, "get", path).stdout) == lab.ask("GET", path).data


def test_root_may_unlock_a_guest_and_a_method_without_result_prints_nothing() -> None:
    with with_scripted(GuestSpec(100, config={"lock": "backup"})) as lab:
        done = _json(lab, "set", f"{QEMU}/config", "--delete", "lock", "--skiplock", "1")
        assert (done.returncode, done.stdout) == (0, "")
        assert lab.node.config(100).lock == ""


def test_another_node_of_the_cluster_is_reached_unless_it_is_down() -> None:
    with with_scripted(GuestSpec(100, node="pve2"), nodes=("pve1", "pve2")) as lab:
        path = "/nodes/pve2/qemu/100/agent/fsfreeze-status"
        assert json.loads(_json(lab, "create", path).stdout) == {"result": "thawed"}
        lab.node.set_node_online("pve2", online=False)
        assert _json(lab, "create", path).returncode == 255
