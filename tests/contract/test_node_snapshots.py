"""Snapshot tasks of the lab node against PVE's own, row by row."""

from __future__ import annotations

import os
import signal
import time

import pytest

from tests.lab.guest.agentmodel import Refusal
from tests.lab.guest.scriptedqmp import read_disk
from tests.lab.node.client import Client, Lab, wait_for, with_scripted
from tests.lab.node.node import GuestSpec
from tests.lab.node.tasks import Upid, is_running, process_start

QEMU = "/nodes/pve1/qemu/100"
LXC = "/nodes/pve1/lxc/200"
VOLUME_LINE = "snapshotting 'drive-scsi0' (local:100/vm-100-disk-0.qcow2)"
ALREADY = "skipping guest filesystem freeze - already frozen"
FREEZE, THAW = "guest-fsfreeze-freeze", "guest-fsfreeze-thaw"


def _run(lab: Lab, name: str = "s1", **values: object) -> tuple[str, list[str]]:
    upid = lab.snapshot(name, **values)
    return lab.node.wait_task(upid), lab.node.task_log(upid)


def _taken_frozen(lab: Lab, name: str = "s1") -> bool:
    disk = read_disk(lab.guest.disk)
    assert disk
    return bool(disk["snapshots"][name]["frozen"])


def _windows(lab: Lab) -> list[str]:
    return [event for _, event in lab.guest.hook_log()]


# ------------------------------------------------------------------ the good path


def test_a_snapshot_freezes_and_thaws_without_a_line_in_the_log() -> None:
    with with_scripted() as lab:
        assert _run(lab, description="why") == ("OK", [VOLUME_LINE, "TASK OK"])
        assert _taken_frozen(lab)
        assert not lab.guest.is_frozen()
        listed = lab.ask("GET", f"{QEMU}/snapshot").data
        assert [entry["name"] for entry in listed] == ["s1", "current"]
        assert (listed[0]["description"], listed[0]["vmstate"]) == ("why", 0)
        assert (listed[1]["running"], listed[1]["parent"]) == (1, "s1")
        assert lab.node.config(100).lock == ""


def test_the_moment_of_the_snapshot_is_recorded_by_the_node() -> None:
    with with_scripted() as lab:
        before = time.monotonic()
        _run(lab)
        (point,) = lab.node.points()
        assert before < point["began"] <= point["ended"] < time.monotonic()


def test_a_snapshot_with_ram_is_not_frozen() -> None:
    with with_scripted() as lab:
        status, log = _run(lab, vmstate=1)
        assert status == "OK"
        assert log[0].startswith("saving VM state and RAM")
        assert _windows(lab) == []
        assert lab.ask("GET", f"{QEMU}/snapshot").data[0]["vmstate"] == 1


def test_a_guest_that_is_off_is_snapshotted_without_a_freeze() -> None:
    with with_scripted() as lab:
        lab.guest.stop()
        assert _run(lab)[0] == "OK"
        assert lab.ask("GET", f"{QEMU}/snapshot").data[-1]["running"] == 0


def test_several_disks_are_snapshotted_one_after_the_other_inside_the_freeze() -> None:
    spec = GuestSpec(
        100, config={"scsi1": "local:100/vm-100-disk-1.qcow2,size=64M"}, drives={"scsi0": "drive0", "scsi1": ""}
    )
    with with_scripted(spec, task_delays={"inside": 0.05}) as lab:
        assert len([line for line in _run(lab)[1] if line.startswith("snapshotting")]) == 2
        first, second = lab.node.points()
        assert second["began"] - first["ended"] >= 0.05
        assert _windows(lab) == ["freeze", "thaw"]


def test_a_description_can_be_read_and_changed() -> None:
    with with_scripted() as lab:
        _run(lab, description="first\nsecond: 100% ü")
        config = f"{QEMU}/snapshot/s1/config"
        assert lab.ask("GET", config).data["description"] == "first\nsecond: 100% ü"
        assert lab.ask("PUT", config, description="verdict").status == 200
        assert lab.ask("GET", f"{QEMU}/snapshot").data[0]["description"] == "verdict"
        assert lab.ask("PUT", config, description="").status == 200
        assert lab.ask("GET", config).data["description"] == "verdict", "an empty text is no text to PVE"
        assert lab.ask("PUT", f"{QEMU}/snapshot/no/config", description="x").reason == "snapshot 'no' does not exist"


def test_a_snapshot_is_deleted_by_a_task() -> None:
    with with_scripted() as lab:
        _run(lab, "s1")
        _run(lab, "s2")
        upid = str(lab.ask("DELETE", f"{QEMU}/snapshot/s1").data)
        assert Upid.parse(upid).type == "qmdelsnapshot"  # type: ignore[union-attr]
        assert lab.node.wait_task(upid) == "OK"
        names = [(entry["name"], entry.get("parent")) for entry in lab.ask("GET", f"{QEMU}/snapshot").data]
        assert names == [("s2", None), ("current", "s2")]
        disk = read_disk(lab.guest.disk)
        assert disk
        assert list(disk["snapshots"]) == ["s2"]
        again = str(lab.ask("DELETE", f"{QEMU}/snapshot/s1").data)
        assert lab.node.wait_task(again) == "snapshot 's1' does not exist"


# -------------------------------------------------- errors, only in the exit status


def test_a_locked_guest_is_an_error_of_the_task() -> None:
    with with_scripted() as lab:
        lab.node.set_config(100, lock="backup")
        assert _run(lab) == ("VM is locked (backup)", ["TASK ERROR: VM is locked (backup)"])
        lab.node.set_config(100, lock=None)
        assert _run(lab)[0] == "OK"


def test_a_name_in_use_is_an_error_of_the_task() -> None:
    with with_scripted() as lab:
        _run(lab)
        assert _run(lab)[0] == "snapshot name 's1' already used"


@pytest.mark.parametrize("volume", ["local:100/vm-100-disk-0.raw", "thick:vm-100-disk-0"])
def test_a_storage_without_snapshots_is_an_error_of_the_task_and_a_missing_feature(volume: str) -> None:
    storages = {"local": {"type": "dir"}, "thick": {"type": "lvm"}}
    with with_scripted(GuestSpec(100, config={"scsi0": volume}), storages=storages) as lab:
        assert lab.ask("GET", f"{QEMU}/feature", feature="snapshot").data["hasFeature"] == 0
        assert _run(lab)[0] == "snapshot feature is not available"


def test_a_guest_whose_disks_can_has_the_feature() -> None:
    with with_scripted() as lab:
        assert lab.ask("GET", f"{QEMU}/feature", feature="snapshot").data["hasFeature"] == 1


def test_a_failed_snapshot_is_thawed_and_cleaned_up() -> None:
    with with_scripted() as lab:
        lab.guest.qmp_faults.refuse["blockdev-snapshot-internal-sync"] = "No space left on device"
        text = "VM 100 qmp command 'blockdev-snapshot-internal-sync' failed - No space left on device"
        status, log = _run(lab)
        assert status == text
        assert "snapshot create failed: starting cleanup" in log
        assert _windows(lab) == ["freeze", "thaw"]
        assert lab.ask("GET", f"{QEMU}/snapshot").data[0]["name"] == "current"
        assert lab.node.config(100).lock == ""


@pytest.mark.parametrize("name", ["current", "pending", "Pending"])
def test_a_reserved_name_is_refused_at_once(name: str) -> None:
    with with_scripted() as lab:
        answer = lab.ask("POST", f"{QEMU}/snapshot", snapname=name)
        assert answer.status == 500
        assert answer.reason.endswith("(reserved name)")


@pytest.mark.parametrize("name", ["1x", "x", "a" * 41, "a b", "ä1", ""])
def test_a_bad_name_is_refused_with_the_parameter_named(name: str) -> None:
    with with_scripted() as lab:
        answer = lab.ask("POST", f"{QEMU}/snapshot", snapname=name)
        assert answer.status == 400
        assert "snapname" in answer.json["errors"]


def test_an_unknown_guest_is_refused_at_once() -> None:
    with with_scripted() as lab:
        answer = lab.ask("POST", "/nodes/pve1/qemu/999/snapshot", snapname="s1")
        assert answer.reason == "Configuration file 'nodes/pve1/qemu-server/999.conf' does not exist"


# ------------------------------------------------ freezes that fail end with OK


def test_a_failed_freeze_stands_in_the_log_only() -> None:
    with with_scripted() as lab:
        lab.guest.faults.refuse[FREEZE] = Refusal("GenericError", "fsfreeze hook has failed with status 3")
        status, log = _run(lab)
        assert status == "OK"
        assert log[0] == "unable to freeze guest fs - fsfreeze hook has failed with status 3"
        assert not _taken_frozen(lab)


def test_a_failed_thaw_stands_in_the_log_only() -> None:
    with with_scripted() as lab:
        lab.guest.faults.refuse[THAW] = Refusal("GenericError", "fsfreeze hook has failed with status 1")
        status, log = _run(lab)
        assert status == "OK"
        assert log[1] == "guest-fsfreeze-thaw problems - Agent error: fsfreeze hook has failed with status 1"
        assert lab.guest.is_frozen()


def test_a_slow_freeze_is_waited_for_with_status_questions() -> None:
    with with_scripted(limits={"task_freeze": 0.3}) as lab:
        lab.guest.faults.freeze_sleep = 0.5
        status, log = _run(lab)
        assert status == "OK"
        assert log[0] == "still waiting on guest fs freeze - timeout in 50 minutes"
        assert _taken_frozen(lab)


def test_a_guest_without_an_answering_agent_is_snapshotted_as_it_is() -> None:
    with with_scripted(limits={"ping": 0.1}) as lab:
        lab.guest.kill_agent()
        text = "skipping guest filesystem freeze - agent configured but not running?"
        assert _run(lab) == ("OK", [text, VOLUME_LINE, "TASK OK"])


def test_before_9_1_10_a_silent_agent_is_complained_about_in_other_words() -> None:
    with with_scripted(pve_version="9.1.9", limits={"ping": 0.1}) as lab:
        lab.guest.kill_agent()
        text = "QEMU Guest Agent is not running - VM 100 qga command 'guest-ping' failed - got timeout"
        assert _run(lab)[1][0] == text


# ----------------------------------------------------- frozen already, by version


def test_a_frozen_guest_is_not_frozen_again_and_not_thawed() -> None:
    with with_scripted() as lab:
        lab.agent("fsfreeze-freeze")
        assert _run(lab) == ("OK", [ALREADY, VOLUME_LINE, "TASK OK"])
        assert _taken_frozen(lab)
        assert lab.agent("fsfreeze-status").result == "frozen"


def test_before_9_1_10_a_frozen_guest_is_thawed_after_the_volume_snapshots() -> None:
    with with_scripted(pve_version="9.1.9") as lab:
        lab.agent("fsfreeze-freeze")
        status, log = _run(lab)
        assert status == "OK"
        assert log[0].startswith("unable to freeze guest fs - Command guest-fsfreeze-freeze has been disabled")
        assert _taken_frozen(lab)
        assert not lab.guest.is_frozen()


@pytest.mark.parametrize(("version", "says"), [("9.0.23", True), ("9.0.22", False), ("8.4.0", False)])
def test_before_9_0_23_a_refused_freeze_leaves_no_line(version: str, says: bool) -> None:
    with with_scripted(pve_version=version) as lab:
        lab.agent("fsfreeze-freeze")
        status, log = _run(lab)
        assert status == "OK"
        assert any("unable to freeze" in line for line in log) == says, log
        assert _taken_frozen(lab)
        assert not lab.guest.is_frozen(), "thawed after the volume snapshots all the same"


def test_before_9_0_23_a_freeze_without_an_answer_is_not_asked_about() -> None:
    with with_scripted(pve_version="9.0.22", limits={"freeze": 0.3}) as lab:
        lab.guest.faults.freeze_sleep = 0.6
        status, log = _run(lab)
        assert status == "OK"
        text = "VM 100 qga command 'guest-fsfreeze-freeze' failed - got timeout"
        assert log[0] == f"guest-fsfreeze-freeze problems - {text}"


@pytest.mark.parametrize("option", ["1,freeze-fs=0", "enabled=1,guest-fsfreeze=0", "1,freeze-fs-on-backup=0"])
def test_the_freeze_option_is_honoured(option: str) -> None:
    with with_scripted(GuestSpec(100, config={"agent": option})) as lab:
        assert _run(lab)[1][0] == "skipping guest filesystem freeze - disabled in VM options"
        assert _windows(lab) == []


@pytest.mark.parametrize(("version", "windows"), [("9.1.5", []), ("9.1.4", ["freeze", "thaw"])])
def test_the_freeze_option_covers_snapshots_since_9_1_5(version: str, windows: list[str]) -> None:
    with with_scripted(GuestSpec(100, config={"agent": "1,freeze-fs-on-backup=0"}), pve_version=version) as lab:
        assert _run(lab)[0] == "OK"
        assert _windows(lab) == windows


@pytest.mark.parametrize(("version", "asks"), [("9.1.6", False), ("9.1.5", True)])
def test_9_1_5_asks_for_the_agent_before_it_looks_at_the_option(version: str, asks: bool) -> None:
    guest = GuestSpec(100, config={"agent": "1,freeze-fs-on-backup=0"})
    with with_scripted(guest, pve_version=version, limits={"ping": 0.1}) as lab:
        lab.guest.kill_agent()
        assert ("QEMU Guest Agent is not running" in _run(lab)[1][0]) == asks


# -------------------------------------------------------------------- the task


def test_the_worker_is_a_real_process_and_its_status_follows_it() -> None:
    with with_scripted(task_delays={"before": 1.0}) as lab:
        upid = lab.snapshot("s1")
        parts = Upid.parse(upid)
        assert parts
        assert (parts.node, parts.type, parts.id, parts.user) == ("pve1", "qmsnapshot", "100", lab.node.token_id)
        found = process_start(parts.pid)
        assert found
        assert found[0] == parts.pstart
        running = lab.task(upid).data
        assert (running["status"], running["user"], running["tokenid"]) == ("running", "lab@pve", "safe-snapshot")
        assert "exitstatus" not in running
        pidfd = os.pidfd_open(parts.pid)
        os.close(pidfd)
        assert lab.node.wait_task(upid) == "OK"
        assert lab.task(upid).data["exitstatus"] == "OK"


def test_the_log_is_a_file_and_an_answer_with_its_total() -> None:
    with with_scripted() as lab:
        upid = lab.snapshot("s1")
        lab.node.wait_task(upid)
        starttime = upid.split(":")[4]
        path = lab.node.root / "var/log/pve/tasks" / starttime[-1] / upid
        assert path.read_text() == f"{VOLUME_LINE}\nTASK OK\n"
        assert lab.task(upid, "log").json == {
            "data": [{"n": 1, "t": VOLUME_LINE}, {"n": 2, "t": "TASK OK"}],
            "total": 2,
        }
        assert lab.task(upid, "log", start=1, limit=1).data == [{"n": 2, "t": "TASK OK"}]
        assert lab.task(upid, "log", start=2).json == {"data": [], "total": 2}


def test_active_tasks_stand_in_the_active_file() -> None:
    with with_scripted(task_delays={"before": 1.0}) as lab:
        upid = lab.snapshot("s1")
        active = lab.node.root / "var/log/pve/tasks/active"
        assert active.read_text() == f"{upid} 0\n"
        listed = lab.ask("GET", "/nodes/pve1/tasks", source="active").data
        assert [(entry["upid"], entry["status"]) for entry in listed] == [(upid, "RUNNING")]
        lab.node.wait_task(upid)
        wait_for(lambda: active.read_text().endswith(" OK\n"))
        listed = lab.ask("GET", "/nodes/pve1/tasks").data
        assert [(entry["upid"], entry["status"]) for entry in listed] == [(upid, "OK")]


def test_a_task_with_warnings_says_how_many() -> None:
    with with_scripted(task_warnings=1) as lab:
        assert _run(lab)[0] == "WARNINGS: 1"


def test_a_killed_worker_leaves_the_guest_frozen_and_locked() -> None:
    with with_scripted(task_delays={"after": 30}) as lab:
        upid = lab.snapshot("s1")
        wait_for(lab.guest.is_frozen)
        os.kill(Upid.parse(upid).pid, signal.SIGKILL)  # type: ignore[union-attr]
        assert lab.node.wait_task(upid) == "unexpected status"
        assert lab.task(upid).data["exitstatus"] == "unexpected status"
        assert lab.guest.is_frozen()
        assert lab.ask("GET", f"{QEMU}/config").data["lock"] == "snapshot"
        assert lab.ask("GET", f"{QEMU}/snapshot").data[0]["snapstate"] == "prepare"
        lab.node.set(task_delays={})
        assert _run(lab, "s2")[0] == "VM is locked (snapshot)"


def test_after_a_killed_worker_qemu_refuses_one_snapshot_and_is_well_then() -> None:
    """Its note of the one that was begun (pve-qemu, savevm-async.c) outlives a resume; PVE's clean-up ends it."""
    with with_scripted(pause_guest=True, task_delays={"inside": 30}) as lab:
        upid = lab.snapshot("s1")
        begun = lab.node.root / "lab/savevm-100"
        wait_for(begun.exists)
        os.kill(Upid.parse(upid).pid, signal.SIGKILL)  # type: ignore[union-attr]
        assert lab.node.wait_task(upid) == "unexpected status"
        lab.node.set(task_delays={})
        lab.node.set_config(100, lock=None)
        lab.guest.resume()
        lab.guest.ask(THAW)
        assert _run(lab, "s2")[0] == "VM 100 qmp command 'savevm-start' failed - VM snapshot already started"
        assert _run(lab, "s3")[0] == "OK"
        assert not lab.guest.is_frozen()


def test_a_stopped_task_thaws_and_cleans_up() -> None:
    with with_scripted(task_delays={"before": 30}) as lab:
        upid = lab.snapshot("s1")
        wait_for(lab.guest.is_frozen)
        quoted = upid.replace("!", "%21")
        assert lab.ask("DELETE", f"/nodes/pve1/tasks/{quoted}").status == 200
        assert lab.node.wait_task(upid) == "received interrupt"
        assert not lab.guest.is_frozen()
        assert lab.node.config(100).lock == ""
        assert lab.ask("GET", f"{QEMU}/snapshot").data[0]["name"] == "current"


def test_a_stop_that_lands_inside_the_freeze_is_swallowed_and_the_task_goes_on() -> None:
    with with_scripted() as lab:
        lab.guest.faults.freeze_sleep = 1.0
        upid = lab.snapshot("s1")
        lab.wait_began(FREEZE)
        assert lab.ask("DELETE", f"/nodes/pve1/tasks/{upid.replace('!', '%21')}").status == 200
        assert lab.node.wait_task(upid) == "OK"
        assert lab.node.task_log(upid)[0] == "still waiting on guest fs freeze - timeout in 50 minutes"
        assert _taken_frozen(lab)
        assert not lab.guest.is_frozen()


def test_a_task_that_does_not_end_in_time_is_killed() -> None:
    with with_scripted(limits={"stop": 0.2}) as lab:
        lab.guest.faults.freeze_sleep = 20
        upid = lab.snapshot("s1")
        lab.wait_began(FREEZE)
        lab.ask("DELETE", f"/nodes/pve1/tasks/{upid.replace('!', '%21')}")
        assert lab.node.wait_task(upid) == "unexpected status"


def test_a_worker_outlives_the_server_and_the_server_its_restart() -> None:
    with with_scripted(task_delays={"before": 1.5}) as lab:
        upid = lab.snapshot("s1")
        lab.node.kill()
        assert is_running(Upid.parse(upid).pid)  # type: ignore[union-attr]
        lab.node.restart()
        assert lab.task(upid).data["status"] == "running"
        assert lab.node.wait_task(upid) == "OK"
        assert lab.ask("GET", f"{QEMU}/snapshot").data[0]["name"] == "s1"


def test_an_unknown_task_is_a_bad_parameter() -> None:
    with with_scripted() as lab:
        assert lab.task("nonsense").json["errors"] == {"upid": "unable to parse worker upid"}
        unknown = "UPID:pve1:00000001:00000001:00000001:qmsnapshot:100:lab@pve!safe-snapshot:"
        assert lab.task(unknown).json["errors"] == {"upid": "no such task"}


def test_another_users_task_needs_sys_audit() -> None:
    with with_scripted() as lab:
        upid = lab.snapshot("s1")
        headers = lab.as_token("lab@pve!other", "VM.Audit")
        with Client(lab.node, headers=headers) as client:
            answer = client.ask("GET", f"/nodes/pve1/tasks/{upid.replace('!', '%21')}/status")
        assert (answer.status, answer.reason) == (403, "Permission check failed (/nodes/pve1, Sys.Audit)")


# --------------------------------------------------------------------- containers


def test_a_container_is_snapshotted_without_an_agent() -> None:
    with with_scripted(GuestSpec(200, kind="lxc")) as lab:
        upid = str(lab.ask("POST", f"{LXC}/snapshot", snapname="s1", description="plain").data)
        assert Upid.parse(upid).type == "vzsnapshot"  # type: ignore[union-attr]
        assert lab.node.wait_task(upid) == "OK"
        listed = lab.ask("GET", f"{LXC}/snapshot").data
        assert [entry["name"] for entry in listed] == ["s1", "current"]
        assert "vmstate" not in listed[0]
        assert lab.ask("GET", "/cluster/resources", type="vm").data[1]["type"] == "lxc"


def test_a_container_has_no_vmstate_and_says_ct_when_locked() -> None:
    with with_scripted(GuestSpec(200, kind="lxc")) as lab:
        assert "vmstate" in lab.ask("POST", f"{LXC}/snapshot", snapname="s1", vmstate=1).json["errors"]
        lab.node.set_config(200, lock="backup")
        upid = str(lab.ask("POST", f"{LXC}/snapshot", snapname="s1").data)
        assert lab.node.wait_task(upid) == "CT is locked (backup)"
