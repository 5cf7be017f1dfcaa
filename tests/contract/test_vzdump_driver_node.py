"""The lab's vzdump on a LabNode: the API sees its lock, its task and its archive, and both know the same guests."""

from __future__ import annotations

import json
import ssl
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.lab.guest.scripted import ScriptedGuest
from tests.lab.node.node import EVERYTHING, GuestSpec, LabNode
from tests.lab.rundir import run_directory
from tests.lab.vzdump.testing import Bench


class Api:
    """As much of a client as these tests need."""

    def __init__(self, node: LabNode) -> None:
        self._url = f"{node.url}/api2/json/nodes/pve1"
        self._headers = {"Authorization": f"PVEAPIToken=root@pam!lab={node.add_token('root@pam!lab', EVERYTHING)}"}
        self._context = ssl.create_default_context(cafile=str(node.ca_file))

    def __call__(self, path: str, method: str = "GET") -> Any:
        request = urllib.request.Request(self._url + path, headers=self._headers, method=method)
        with urllib.request.urlopen(request, context=self._context, timeout=30) as answer:
            return json.load(answer)["data"]


@pytest.fixture
def guest() -> Iterator[ScriptedGuest]:
    with run_directory() as run, ScriptedGuest(100, run) as guest:
        yield guest


@pytest.fixture
def node(guest: ScriptedGuest) -> Iterator[LabNode]:
    elsewhere = GuestSpec(300, node="pve2")
    container = GuestSpec(200, kind="lxc")
    with run_directory() as root, LabNode(root, [guest, container, elsewhere], nodes=("pve1", "pve2")) as node:
        yield node


@pytest.fixture
def bench(node: LabNode, guest: ScriptedGuest) -> Bench:
    return Bench(node.root, guest.run)


def test_the_api_sees_the_lock_the_task_and_the_archive(node: LabNode, bench: Bench, guest: ScriptedGuest) -> None:
    api = Api(node)
    with bench.job(archive_seconds=1.0) as job:
        job.wait_for_line("started backup task")
        upid = urllib.parse.quote(job.upid)
        assert api("/qemu/100/config")["lock"] == "backup"
        assert api(f"/tasks/{upid}/status")["status"] == "running"
        assert [entry["upid"] for entry in api("/tasks?source=active")] == [job.upid]
        shown = [line["t"] for line in api(f"/tasks/{upid}/log?limit=500")]
        assert any("started backup task" in line for line in shown)
        result = job.wait()
    assert result.exitstatus == "OK"
    assert "lock" not in api("/qemu/100/config")
    assert api(f"/tasks/{upid}/status")["exitstatus"] == "OK"
    archive = Path(result.guests[100].target)
    assert [entry["volid"] for entry in api("/storage/local/content")] == [f"local:backup/{archive.name}"]
    assert archive.parent == node.root / "var/lib/vz/dump"


def test_the_guests_configuration_is_the_nodes(node: LabNode, bench: Bench, guest: ScriptedGuest) -> None:
    node.set_config(100, name="web", agent="1,freeze-fs=0")
    hook = bench.hook()
    with bench.job(hook) as job:
        result = job.wait()
    assert hook.call("backup-start").environment["HOSTNAME"] == "web"
    assert "INFO: skipping guest filesystem freeze - disabled in VM options" in result.log_lines
    assert "INFO: include disk 'scsi0' 'local:100/vm-100-disk-0.qcow2'" in result.log_lines


def test_guests_of_other_nodes_are_skipped_and_containers_are_containers(node: LabNode, bench: Bench) -> None:
    hook = bench.hook()
    with bench.job(hook, vmids=(100, 200, 300, 400)) as job:
        result = job.wait()
    assert "INFO: skip external VMs: 300" in result.log_lines
    assert {vmid: guest.state for vmid, guest in result.guests.items()} == {100: "ok", 200: "ok", 400: "err"}
    of_container = [call.environment.get("VMTYPE") for call in hook.calls if call.arguments[-1] == "200"]
    assert set(of_container) == {"lxc"}
    assert job.guest_log(200).name == "lxc-200.log"


def test_a_guest_locked_by_a_snapshot_is_left_alone(node: LabNode, bench: Bench) -> None:
    node.set_config(100, lock="snapshot")
    with bench.job() as job:
        assert job.wait().guests[100].message == "VM is locked (snapshot)"
    assert node.config(100).lock == "snapshot"


def test_a_backup_can_be_stopped_through_the_api(node: LabNode, bench: Bench, guest: ScriptedGuest) -> None:
    with bench.job(archive_seconds=20) as job:
        job.wait_for_line("started backup task")
        Api(node)(f"/tasks/{urllib.parse.quote(job.upid)}", "DELETE")
        assert job.wait().exitstatus == "interrupted by signal"


def test_two_nodes_back_up_at_the_same_time(node: LabNode, bench: Bench, guest: ScriptedGuest) -> None:
    with run_directory() as second_root, run_directory() as second_run, ScriptedGuest(300, second_run):
        node.add_guest(GuestSpec(300, second_run, node="pve2"))
        tasks = second_root / "var/log/pve/tasks"
        tasks.parent.mkdir(parents=True)
        tasks.symlink_to(node.root / "var/log/pve/tasks")
        second = Bench(second_root, second_run)
        with (
            bench.job(archive_seconds=1.5) as here,
            second.job(vmids=(300,), node="pve2", cluster=node.root, archive_seconds=1.5) as there,
        ):
            here.wait_for_line("started backup task")
            there.wait_for_line("started backup task")
            assert {str(upid) for upid in node.running_tasks()} == {here.upid, there.upid}
            assert node.config(100).lock == node.config(300).lock == "backup"
            assert (here.wait().exitstatus, there.wait().exitstatus) == ("OK", "OK")
