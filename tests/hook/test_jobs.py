"""Whole backup jobs: the right verdict, vzdump never held up, no confusion between guests, jobs and nodes."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hook.kit import back_up, check_thawed, hook_site, newest, processes, said
from tests.hook.matrix import Cell, matrix_site, run_cell, sample
from tests.lab.fixtures import require_real
from tests.lab.guest.oracle import judge_image
from tests.lab.guest.scripted import ScriptedGuest
from tests.lab.node.node import GuestSpec
from tests.lab.site import Site, wait_for
from tests.lab.vzdump.job import VzdumpJob
from tests.lab.vzdump.options import JobOptions
from tests.lab.vzdump.testing import QUICK

# ------------------------------------------------------------------------------------------------- a part of the matrix


@pytest.fixture(scope="module")
def real_site() -> Iterator[Site]:
    require_real()
    with matrix_site(real=True) as lab:
        yield lab


@pytest.fixture(scope="module")
def scripted_site() -> Iterator[Site]:
    with matrix_site(real=False) as lab:
        yield lab


@pytest.mark.real
@pytest.mark.parametrize("cell", sample(), ids=str)
def test_a_backup_of_a_real_guest_gets_the_right_verdict_and_the_disk_agrees(real_site: Site, cell: Cell) -> None:
    outcome = run_cell(real_site, cell)
    assert not outcome.wrong, outcome.wrong


@pytest.mark.parametrize("cell", sample()[:4], ids=str)
def test_a_backup_of_a_scripted_guest_gets_the_right_verdict(scripted_site: Site, cell: Cell) -> None:
    outcome = run_cell(scripted_site, cell)
    assert not outcome.wrong, outcome.wrong


# ------------------------------------------------------------------------------------------------- never held up


def descriptors(pid: int) -> dict[int, str]:
    """What a process has open for writing, or both ways."""
    found = {}
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        try:
            target = os.readlink(entry)
            flags = int(Path(f"/proc/{pid}/fdinfo/{entry.name}").read_text().split("flags:")[1].split()[0], 8)
        except FileNotFoundError:
            continue
        # The task log is opened for reading now and then.
        if flags & os.O_ACCMODE or not target.startswith("/") or target == "/dev/null":
            found[int(entry.name)] = target
    return found


@pytest.mark.parametrize("terminal", [False, True])
@pytest.mark.parametrize("owner", ["hook", "vzdump"])
def test_nothing_of_vzdumps_is_held_by_what_outlives_the_hook(lab: Site, owner: str, terminal: bool) -> None:
    """vzdump hands its pipes down to the hook; it reads the hook's output, and waits for its own, until their end."""
    lab.settings["hook"] = {"owner": owner}
    with lab.vzdump(100, limits=QUICK, terminal=terminal, backup_delay=1.5) as job:
        job.wait_for_line("starting backup via QMP command")
        theirs = {target for target in descriptors(job.pid).values() if target.startswith(("pipe:", "socket:"))}
        theirs.add(str(job.task_log))
        ours = {pid: descriptors(pid) for pid in processes(lab)}
        assert len(ours) == 2
        for found in ours.values():
            assert {found[number] for number in (0, 1, 2)} == {"/dev/null"}
            assert not theirs & set(found.values())
            # The guard has one pipe, which is its own: signals arrive through it.
            assert sum(target.startswith("pipe:") for target in found.values()) <= 2
        assert job.wait().ok


def test_a_guard_that_stays_for_an_hour_holds_no_backup_up(lab: Site) -> None:
    lab.settings["freeze"] = {"freeze_timeout_seconds": 2, "max_window_seconds": 8}
    lab.node.fault("fsfreeze-freeze", "hang")  # it never gets to the guest: carried out, the guard stays for 2 s only
    began = time.monotonic()
    result = back_up(lab, terminal=True)
    assert result.ok
    assert time.monotonic() - began < 30
    assert len(processes(lab)) == 1  # a freeze whose answer was lost may still come
    check_thawed(lab)


# ------------------------------------------------------------------------------------------------------- the deadline


@pytest.mark.parametrize(
    ("deadline", "delay"), [(1, 3.0), pytest.param(30, 60.0, marks=pytest.mark.slow)], ids=["scaled", "as it is"]
)
@pytest.mark.parametrize("owner", ["hook", "vzdump"])
@pytest.mark.parametrize("policy", ["prefer", "require"])
def test_a_backup_command_that_takes_too_long_finds_the_guest_thawed(
    lab: Site, owner: str, policy: str, deadline: int, delay: float
) -> None:
    """With a backup server the command may take 125 s, with the guest frozen. Scaled: a deadline of 1 s, and 3 s."""
    lab.settings |= {"hook": {"owner": owner}}
    lab.settings["freeze"] |= {"max_window_seconds": deadline, "policy": policy}
    with lab.vzdump(100, limits=QUICK, storage_kind="pbs", backup_delay=delay) as job:
        job.wait_for_line("starting backup via QMP command")
        assert wait_for(lambda: bool(newest(lab).verdict), delay - 0.1)
        assert not lab.guest.is_frozen()
        assert not any("started backup task" in line for line in job.log_lines)
        result = job.wait()
    assert result.guests[100].archive is not None
    assert result.guests[100].state == ("ok" if policy == "prefer" else "err")
    window = newest(lab)
    assert (window.verdict, window.failure_reason) == ("crash-consistent", "deadline")
    assert any(f"the deadline of {deadline} s passed" in line for line in said(result))


# ----------------------------------------------------------------------------------------------------- several at once


def test_two_jobs_on_one_node_wait_for_one_another_and_are_not_confused() -> None:
    with hook_site(ScriptedGuest, ScriptedGuest) as lab:
        first = lab.vzdump(100, limits=QUICK, archive_seconds=1.0)
        second = lab.vzdump(101, limits=QUICK)
        with first, second:
            results = [first.wait(), second.wait()]
        for vmid, result in zip((100, 101), results, strict=True):
            assert result.ok
            assert newest(lab, vmid).verdict == "filesystem-consistent"
            assert newest(lab, vmid).upid == result.upid
            assert said(result)[-1] == "1 guest: 1 filesystem-consistent"


def test_several_guests_of_one_job_each_get_their_own_window() -> None:
    with hook_site(ScriptedGuest, ScriptedGuest, ScriptedGuest) as lab:
        guest = lab.guests[101]
        assert isinstance(guest, ScriptedGuest)
        guest.kill_agent()
        result = back_up(lab, 100, 101, 102)
        assert result.ok
        assert [newest(lab, vmid).verdict for vmid in (100, 101, 102)] == [
            "filesystem-consistent", "crash-consistent", "filesystem-consistent",
        ]  # fmt: skip
        assert said(result)[-1] == "3 guests: 1 crash-consistent, 2 filesystem-consistent"


def test_two_nodes_against_one_api_back_up_at_once_without_confusion() -> None:
    with hook_site(ScriptedGuest, ScriptedGuest, nodes=("pve1", "pve2")) as lab:
        lab.node.add_guest(GuestSpec(101, lab.run, node="pve2"))
        first = lab.vzdump(100, limits=QUICK, backup_delay=0.5)
        second = VzdumpJob(on_second_node(lab))
        with first, second:
            results = [first.wait(), second.wait()]
        assert [result.ok for result in results] == [True, True], results[1].log_lines
        assert newest(lab, 100).verdict == "filesystem-consistent"
        assert [window.vmid for window in lab.windows()] == [100]
        assert "filesystem-consistent" in said(results[1])[-2]
        check_thawed(lab, 0.0)


def on_second_node(lab: Site) -> JobOptions:
    """A job of guest 101 on pve2, which has files, a configuration and a journal of its own."""
    root = lab.run / "second"
    (root / "var/log/pve").mkdir(parents=True)
    (root / "var/log/pve/tasks").symlink_to(lab.node.root / "var/log/pve/tasks")
    config = lab.config_path.read_text()
    lab.write_config(
        local={"node": "pve2", "vzdump_pid_file": str(root / "var/run/vzdump.pid")},
        journal={"path": str(root / "journal.sqlite")},
        metrics={"textfile": ""},
    )
    own = lab.run / "second.toml"
    lab.config_path.rename(own)
    lab.config_path.write_text(config)
    script = lab.run / "second-hook"
    script.write_text(Path(lab.hook_script()).read_text().replace(str(lab.config_path), str(own)))
    script.chmod(0o755)
    options = {"node": "pve2", "cluster": lab.node.root, "limits": QUICK, "backup_delay": 0.5}
    return JobOptions(root=root, run=lab.run, vmids=(101,), script=str(script), **options)


def test_a_failing_copy_is_reported_and_the_next_guest_goes_on() -> None:
    with hook_site(ScriptedGuest, ScriptedGuest) as lab:
        result = back_up(lab, 100, 101, fail_backup="copy")
        assert not result.ok
        assert {newest(lab, vmid).failure_reason for vmid in (100, 101)} == {"backup-failed"}
        assert sum("there is no backup" in line for line in said(result)) == 2


@pytest.mark.parametrize("version", ["8.4.0", "9.2.6"])
def test_a_backup_that_cannot_start_is_no_good_backup(lab: Site, version: str) -> None:
    result = back_up(lab, fail_backup="start", qemu_server_version=version)
    assert not result.ok
    window = newest(lab)
    assert (window.verdict, window.failure_reason) == ("crash-consistent", "backup-failed")
    assert any("guest 100" in line and "no backup: " in line for line in said(result)), said(result)
    assert any("1 guest: 1 no backup" in line for line in said(result)), said(result)
    check_thawed(lab, 0.0)


@pytest.mark.parametrize("owner", ["hook", "vzdump"])
def test_a_guest_that_is_backed_up_twice_in_one_job_has_a_window_of_its_own_each_time(lab: Site, owner: str) -> None:
    """`vzdump 100 100`: PVE leaves it in its list twice (PVE::VZDump, check_vmids)."""
    lab.settings["hook"] = {"owner": owner}
    if owner == "hook":  # so that nobody else freezes the guest when our window ends too early
        lab.only_we_freeze()
    result = back_up(lab, 100, 100, backup_delay=0.3)
    assert result.ok, result.log_lines
    assert [w.verdict for w in lab.windows()] == ["filesystem-consistent"] * 2, result.log_lines
    archive = result.guests[100].archive
    assert archive is not None
    assert judge_image(archive, "ext4").consistent, "the second one was let go by the first one's line"
    check_thawed(lab, 0.0)


@pytest.mark.parametrize("version", ["8.4.0", "9.1.8", "9.2.6"])
def test_with_pves_own_freezing_switched_off_our_own_is_proven(lab: Site, version: str) -> None:
    """The shorter window: vzdump turns to the agent neither before nor after its point in time."""
    lab.only_we_freeze("enabled=1,freeze-fs-on-backup=0")
    result = back_up(lab, qemu_server_version=version)
    assert result.ok, result.log_lines
    assert newest(lab).verdict == "filesystem-consistent", result.log_lines
    assert any("isabled in VM options" in line for line in result.log_lines)
    check_thawed(lab, 0.0)


def test_a_container_and_a_guest_that_is_off_are_left_alone() -> None:
    with hook_site(ScriptedGuest) as lab:
        lab.guest.stop()
        lab.node.add_guest(GuestSpec(200, kind="lxc"))
        result = back_up(lab, 100, 200)
        assert result.ok, result.log_lines
        assert newest(lab, 100).verdict == "offline"
        assert newest(lab, 200).verdict == "crash-consistent"
