"""The snapshot's task: refused, failed, killed, stopped, slow, or its answer lost (pve-facts, section 5)."""

from __future__ import annotations

import json
import os
import signal

import pytest

from tests.engine import kit
from tests.engine.kit import check, take
from tests.lab.guest.scripted import ScriptedGuest
from tests.lab.site import Site, wait_for

THAW = "guest-fsfreeze-thaw"


def test_a_name_that_is_taken_is_found_before_anything_is_at_risk(lab: Site) -> None:
    assert take(lab).exit_code == 0
    lab.node.forget_requests()
    run = take(lab)
    assert run.exit_code == 4, run
    assert "there is a snapshot 's1' already" in run.stderr
    assert "--name" in run.stderr
    assert not lab.node.requests("fsfreeze-freeze")


def test_a_name_that_is_taken_meanwhile_fails_the_task_and_thaws(lab: Site) -> None:
    assert take(lab).exit_code == 0
    lab.node.fault("/qemu/100/snapshot$", "body", method="GET", body='{"data": []}', times=None)
    run = take(lab)
    assert run.exit_code == 7, run
    assert "snapshot name 's1' already used" in run.stderr
    assert "--name" in run.stderr
    assert "s1" in kit.snapshots(lab), "the other one is not ours to remove"


def test_a_locked_guest_is_left_alone(lab: Site) -> None:
    lab.node.set_config(100, lock="backup")
    run = take(lab)
    assert run.exit_code == 4, run
    assert "the guest is locked (backup)" in run.stderr
    assert "qm unlock 100" in run.stderr
    assert not lab.node.requests("fsfreeze-freeze")


def test_a_guest_that_a_run_of_it_alone_did_not_begin_is_in_the_history_as_one_of_many_is(lab: Site) -> None:
    lab.node.set_config(100, lock="backup")
    for words in (("--dry-run",), ("--vmstate", "--together")):
        take(lab, *words)
    take(lab, vmid=999)
    assert not lab.windows(), "a look, a wrong line and a guest that is not there leave nothing"
    run = take(lab, "--json")
    (row,) = lab.windows()
    assert (row.failure_stage, row.failure_reason, row.verdict) == ("preflight", "guest-locked", "unknown")
    assert row.reason == f"no snapshot taken: {run.json['error']['message']}"
    told = [line for line in lab.metrics_path.read_text().splitlines() if 'reason="guest-locked"' in line]
    assert [line.endswith(" 1.0") for line in told] == [True, True], "the failures, and the last one"
    take(lab, "--policy", "require")
    assert len(lab.windows()) == 2, "one row a run"


def test_a_guest_that_is_locked_meanwhile_fails_the_task_and_thaws(lab: Site) -> None:
    """A backup begins between our preflight and the task."""
    lab.node.fault("fsfreeze-freeze", "hold", when="after")
    process = lab.start("100", "--name", "s1")
    assert wait_for(lambda: lab.node.held() > 0, 20)
    lab.node.set_config(100, lock="backup")
    lab.node.release()
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 7, stderr
    assert "VM is locked (backup)" in stderr
    assert "qm unlock 100" in stderr
    assert not lab.guest.is_frozen()


def test_storage_without_snapshots_is_found_before_anything_is_at_risk(lab: Site) -> None:
    lab.node.set_config(100, scsi1="local:100/vm-100-disk-1.raw,size=64M")
    run = take(lab)
    assert run.exit_code == 4, run
    assert "storage that cannot take snapshots" in run.stderr
    assert "qm move-disk" in run.stderr
    assert not lab.node.requests("fsfreeze-freeze")


def test_storage_without_snapshots_found_by_the_task_only(lab: Site) -> None:
    lab.node.fault("/feature", "status", status=500, reason="storage 'x' is not online")
    lab.node.set_config(100, scsi1="local:100/vm-100-disk-1.raw,size=64M")
    run = take(lab)
    assert run.exit_code == 7, run
    assert "snapshot feature is not available" in run.stderr
    assert "storage without snapshots" in run.stderr


def test_a_task_that_ended_with_warnings_has_made_the_snapshot(lab: Site) -> None:
    lab.node.set(task_warnings=1)
    run = take(lab, "--policy", "require")
    assert run.exit_code == 0, run
    assert "warning: PVE's snapshot task ended with WARNINGS: 1" in run.stdout
    assert "filesystem-consistent" in run.stdout


@pytest.mark.parametrize("policy", ["require", "never"])
def test_a_killed_task_worker_leaves_no_frozen_guest(lab: Site, guest: ScriptedGuest, policy: str) -> None:
    """SIGKILL in the middle: `unexpected status`, the guest is locked and frozen, by us or (never) by PVE."""
    lab.node.set(task_delays={"before": 5.0})
    process = lab.start("100", "--name", "s1", "--policy", policy)
    assert wait_for(guest.is_frozen)
    assert wait_for(lambda: bool(lab.node.running_tasks()))
    for upid in lab.node.running_tasks():
        os.kill(upid.pid, signal.SIGKILL)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 7, stderr
    assert "unexpected status" in stderr
    assert "qm unlock 100" in stderr
    assert wait_for(lambda: not guest.is_frozen(), 1.0)


def test_what_is_told_after_a_killed_worker_leads_to_a_good_snapshot(lab: Site, guest: ScriptedGuest) -> None:
    """As PVE has it: the guest's processors stand still, and QEMU refuses the first snapshot after that."""
    lab.settings["thaw"] = {"owner_limit_seconds": 1}
    lab.write_config()
    known = lab.node.settings.guests["100"]
    lab.node.set(pause_guest=True, task_delays={"inside": 20.0}, guests={"100": {**known, "qmpstatus": "save-vm"}})
    process = lab.start("100", "--name", "s1")
    assert wait_for((lab.node.root / "lab/savevm-100").exists)
    for upid in lab.node.running_tasks():
        os.kill(upid.pid, signal.SIGKILL)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 8, stderr
    lab.node.set(task_delays={}, guests={"100": known})
    steps = ("`qm unlock 100`", "`qm resume 100`", "`safe-snapshot thaw 100`", "`qm delsnapshot 100 <name> --force`")
    assert [step for step in steps if step not in stderr] == [], stderr
    assert sorted(steps, key=stderr.index) == list(steps)
    lab.node.set_config(100, lock=None)
    guest.resume()
    assert check(lab, lab.safe_snapshot("thaw", "100")).exit_code == 0
    run = check(lab, lab.safe_snapshot("100", "--name", "s2"))
    assert run.exit_code == 7, run
    assert "VM snapshot already started; QEMU still held a snapshot whose task had been killed" in run.stderr
    assert "try again" in run.stderr
    assert check(lab, lab.safe_snapshot("100", "--name", "s3")).exit_code == 0


def test_a_killed_worker_is_told_though_its_guest_cannot_be_thawed(lab: Site, guest: ScriptedGuest) -> None:
    """What it has left stays when the guest has been helped: the alarm does not hide it."""
    guest.faults.blocked = frozenset({THAW})
    lab.node.set(task_delays={"before": 20.0})
    process = lab.start("100", "--name", "s1")
    assert wait_for(guest.is_frozen), "by PVE: our own freeze asks for a thaw that is allowed"
    assert wait_for(lambda: bool(lab.node.running_tasks()))
    for upid in lab.node.running_tasks():
        os.kill(upid.pid, signal.SIGKILL)
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 8, stderr
    assert "unexpected status" in stdout
    assert "`qm delsnapshot 100 s1 --force`" in stdout
    assert "was seen to" not in stderr
    assert "freeze requested" not in stderr, "we requested none"


@pytest.mark.parametrize("policy", ["require", "prefer"])
def test_a_guest_that_pve_froze_behind_our_window_is_not_left_frozen(
    lab: Site, guest: ScriptedGuest, policy: str
) -> None:
    """Our window breaks while the task prepares; PVE then finds the guest thawed, freezes it by itself, and dies."""
    lab.node.set(task_delays={"prepare": 2.5, "inside": 20.0})
    process = lab.start("100", "--name", "s1", "--max-window", "1", "--policy", policy)
    assert wait_for(guest.is_frozen)
    assert wait_for(lambda: not guest.is_frozen())
    assert wait_for(guest.is_frozen), "by PVE"
    (worker,) = lab.node.running_tasks()
    os.kill(worker.pid, signal.SIGKILL)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 7, stderr
    assert not guest.is_frozen()


def test_a_stopped_task_thaws_and_cleans_up_by_itself(lab: Site, guest: ScriptedGuest) -> None:
    lab.node.set(task_delays={"before": 5.0})
    process = lab.start("100", "--name", "s1")
    assert wait_for(lambda: bool(lab.node.running_tasks()))
    (upid,) = lab.node.running_tasks()
    # A TERM that lands inside PVE's look at the agent is swallowed, and the task goes on.
    assert wait_for(lambda: any("already frozen" in line for line in lab.node.task_log(str(upid))))
    os.kill(upid.pid, signal.SIGTERM)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 7, stderr
    assert "received interrupt" in stderr
    assert not guest.is_frozen()
    assert "s1" not in kit.snapshots(lab)


def test_a_task_that_outlasts_the_deadline_is_thawed_and_waited_for(lab: Site, guest: ScriptedGuest) -> None:
    lab.node.set(task_delays={"before": 5.0})
    run = take(lab, "--max-window", "0.7")
    assert run.exit_code == 0, run
    assert "crash-consistent: the deadline of 0.7 s passed" in run.stdout
    assert guest.windows()[0] < 4, "thawed at the deadline, not at the end of the task"


def test_a_task_that_never_ends_is_given_up(lab: Site) -> None:
    lab.write_config(snapshot={"task_timeout_seconds": 1})
    lab.node.set(task_delays={"finish": 20.0})
    run = take(lab, "--max-window", "0.5")
    assert run.exit_code == 7, run
    assert "did not end within 1 s" in run.stderr
    assert "pvesh get /nodes/pve1/tasks/UPID:pve1:" in run.stderr


@pytest.mark.parametrize("policy", ["require", "prefer"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_the_snapshot_requests_reply_is_lost(lab: Site, when: str, policy: str) -> None:
    """`before`: PVE never saw it. `after`: the task ran. Either way the guest is thawed at once."""
    lab.write_config(snapshot={"lost_reply_seconds": 2})
    lab.node.fault("/qemu/100/snapshot$", "drop", method="POST", when=when)
    run = take(lab, "--policy", policy)
    if when == "before":
        assert run.exit_code == 7, run
        assert "no such snapshot has appeared" in run.stderr
        assert "qm listsnapshot 100" in run.stderr
    elif policy == "require":
        assert run.exit_code == 6, run
        assert "s1" not in kit.snapshots(lab)
    else:
        assert run.exit_code == 0, run
        assert "crash-consistent: the answer to the snapshot request was lost" in run.stdout
        assert "s1" in kit.snapshots(lab)


def test_one_that_has_not_appeared_may_come_yet(lab: Site) -> None:
    """Nobody knows for how long PVE keeps a request: a group of all or none goes on looking for it."""
    lab.write_config(snapshot={"lost_reply_seconds": 0.5})
    lab.node.fault("/qemu/100/snapshot$", "drop", method="POST", when="before")
    run = take(lab, "--json")
    assert run.exit_code == 7, run
    assert json.loads(run.stdout)["snapshot_exists"] is None


def test_a_snapshot_of_the_same_name_by_somebody_else_is_not_taken_for_ours(lab: Site) -> None:
    """Our request is lost before PVE saw it; another one's snapshot has our name. Policy require must not remove it."""
    lab.write_config(snapshot={"lost_reply_seconds": 2})
    assert take(lab).exit_code == 0
    before = kit.description(lab)
    lab.node.fault("/qemu/100/snapshot$", "body", method="GET", body='{"data": []}', times=1)
    lab.node.fault("/qemu/100/snapshot$", "drop", method="POST", when="before")
    run = take(lab, "--policy", "require")
    assert run.exit_code == 7, run
    assert kit.description(lab) == before


def test_a_task_that_was_refused_in_front_of_its_freeze_is_no_reason_to_thaw_anybodys(
    lab: Site, guest: ScriptedGuest
) -> None:
    """Somebody else has locked and frozen the guest meanwhile: a backup, another run."""
    lab.node.fault("/qemu/100/snapshot$", "hold", method="POST")
    process = lab.start("100", "--name", "s1", "--policy", "never")
    assert wait_for(lambda: lab.node.fault_hits() > 0, 20)
    lab.node.set_config(100, lock="backup")
    guest.ask(kit.FREEZE)
    lab.node.release()
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 7, stderr
    assert "VM is locked (backup)" in stderr
    assert "left the guest frozen" not in stdout
    assert guest.is_frozen()
