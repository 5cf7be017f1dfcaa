"""The window of one backup, line by line: the test plays vzdump, and everything that can end a window ends it."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from pathlib import Path

import pytest

from snapshot.base import detached
from tests.engine.kit import write_secret
from tests.hook.kit import OURS, HandMadeJob, check_thawed, newest, processes, settled, without_pvesh
from tests.lab.guest.scripted import ScriptedGuest
from tests.lab.node.certs import authority
from tests.lab.site import Site, wait_for

UNSAID = ("INFO: issuing guest-agent 'fs-freeze' command",)
SAID = (*UNSAID, "INFO: starting backup via QMP command")
"""vzdump's own freeze, before 9.1.7 and since: then its QMP command is said, too."""

DEADLINE = {"freeze": {"freeze_timeout_seconds": 8, "max_window_seconds": 1.0}}


def owner_vzdump(lab: Site) -> None:
    lab.settings["hook"] = {"owner": "vzdump"}
    lab.write_config()


def test_the_guest_is_frozen_when_the_hook_returns_and_thawed_at_vzdumps_next_line(
    lab: Site, guest: ScriptedGuest, job: HandMadeJob
) -> None:
    assert job.phase("backup-start") == 0
    assert not job.said
    assert job.phase("post-restart") == 0
    assert guest.is_frozen()
    assert "frozen (1 filesystem" in job.said[-1]
    time.sleep(0.3)
    assert guest.is_frozen()
    job.write("INFO: skipping guest filesystem freeze - already frozen", "INFO: starting backup via QMP command")
    time.sleep(0.1)
    assert guest.is_frozen()
    job.write("INFO: started backup task 'x'")
    check_thawed(lab)
    assert settled(lab).verdict == "filesystem-consistent"
    job.write("INFO: resuming VM again")
    assert job.phase("backup-end") == 0
    assert "filesystem-consistent" in job.said[-1]


@pytest.mark.parametrize("start", [SAID, UNSAID], ids=["9.1.9", "8.4"])
def test_before_9_1_10_vzdump_freezes_and_thaws_on_top_of_ours(
    lab: Site, guest: ScriptedGuest, job: HandMadeJob, start: tuple[str, ...]
) -> None:
    job.phase("post-restart")
    job.write(*start)
    time.sleep(0.2)
    assert guest.is_frozen()
    job.write("INFO: issuing guest-agent 'fs-thaw' command")
    guest.ask("guest-fsfreeze-thaw")
    job.write("INFO: started backup task 'x'")
    window = settled(lab)
    assert window.verdict == "filesystem-consistent", window.reason


@pytest.mark.parametrize("start", [SAID, UNSAID], ids=["9.1.9", "8.4"])
def test_before_9_1_10_a_stranger_who_thaws_before_vzdump_does_is_noticed(
    lab: Site, guest: ScriptedGuest, job: HandMadeJob, start: tuple[str, ...]
) -> None:
    job.phase("post-restart")
    job.write(*start)
    guest.ask("guest-fsfreeze-thaw")
    time.sleep(0.4)
    job.write("INFO: issuing guest-agent 'fs-thaw' command", "INFO: started backup task 'x'")
    window = settled(lab)
    assert (window.verdict, window.failure_reason) == ("crash-consistent", "thawed-early")


def test_a_stranger_who_thaws_is_noticed(lab: Site, guest: ScriptedGuest, job: HandMadeJob) -> None:
    job.phase("post-restart")
    guest.ask("guest-fsfreeze-thaw")
    job.start_backup()
    assert settled(lab).verdict == "crash-consistent"


def test_a_thaw_from_inside_that_leaves_the_agents_memory_is_noticed(
    lab: Site, guest: ScriptedGuest, job: HandMadeJob
) -> None:
    job.phase("post-restart")
    guest.thaw_from_inside()
    job.start_backup()
    window = settled(lab)
    assert (window.verdict, window.failure_reason) == ("crash-consistent", "count-mismatch")


@pytest.mark.parametrize(
    "line",
    [
        "ERROR: Backup of VM 100 failed - interrupted by signal",
        "INFO: Finished Backup of VM 100 (00:00:01)",
        "INFO: Starting Backup of VM 101 (qemu)",
        "TASK ERROR: job errors",
    ],
)
def test_a_backup_that_ends_before_its_point_in_time_ends_the_window(
    lab: Site, guest: ScriptedGuest, job: HandMadeJob, line: str
) -> None:
    job.phase("post-restart")
    assert guest.is_frozen()
    job.write(line)
    check_thawed(lab)
    window = settled(lab)
    assert (window.verdict, window.failure_stage, window.failure_reason) == (
        "crash-consistent", "hold", "backup-failed",
    )  # fmt: skip


def test_a_backup_without_disks_ends_the_window_and_did_not_fail(
    lab: Site, guest: ScriptedGuest, job: HandMadeJob
) -> None:
    lab.settings["freeze"]["policy"] = "require"
    lab.write_config()
    job.phase("backup-start")
    job.phase("post-restart")
    assert guest.is_frozen()
    job.write("INFO: backup contains no disks")
    check_thawed(lab)
    assert job.phase("backup-end") == 0  # nothing that a freeze could have made better
    assert (newest(lab).verdict, newest(lab).failure_stage) == ("crash-consistent", None)
    assert "no disks" in job.said[-1]
    assert "WARNING" not in job.said[-1]


def test_before_9_1_10_a_qmp_command_that_fails_behind_the_thaw_is_no_backup(lab: Site, job: HandMadeJob) -> None:
    job.phase("post-restart")
    job.write("INFO: issuing guest-agent 'fs-freeze' command", "INFO: starting backup via QMP command")
    job.write("INFO: issuing guest-agent 'fs-thaw' command", "ERROR: VM 100 qmp command 'backup' failed - timeout")
    check_thawed(lab)
    window = settled(lab)
    assert (window.verdict, window.failure_reason) == ("crash-consistent", "backup-failed")


def test_a_backup_that_fails_after_its_point_in_time_keeps_no_good_verdict(lab: Site, job: HandMadeJob) -> None:
    job.phase("backup-start")
    job.phase("post-restart")
    job.start_backup()
    assert settled(lab).verdict == "filesystem-consistent"
    job.write("ERROR: job failed with err -5 - Input/output error")
    assert job.phase("backup-abort") == 0
    window = newest(lab)
    assert (window.verdict, window.failure_stage, window.failure_reason) == ("unknown", "snapshot", "backup-failed")


def test_the_deadline_thaws_and_says_so(lab: Site, guest: ScriptedGuest, job: HandMadeJob) -> None:
    lab.write_config(**DEADLINE)
    began = time.monotonic()
    job.phase("post-restart")
    job.write("INFO: starting backup via QMP command")
    assert guest.is_frozen()
    assert wait_for(lambda: not guest.is_frozen(), 10)
    assert time.monotonic() - began < 6
    window = settled(lab)
    assert (window.verdict, window.failure_reason) == ("crash-consistent", "deadline")
    assert window.window_seconds is not None
    assert 0.9 < window.window_seconds < 3
    job.write("INFO: started backup task 'x'")
    assert job.phase("backup-end") == 0
    assert "the deadline of 1 s passed" in job.said[-1]


def test_the_workers_death_thaws_within_2_s(lab: Site, guest: ScriptedGuest, job: HandMadeJob) -> None:
    job.phase("post-restart")
    assert guest.is_frozen()
    job.kill()
    check_thawed(lab)
    window = settled(lab)
    assert "worker died" in (window.reason or "")


@pytest.mark.parametrize("who", ["holder", "guard", "both"])
def test_a_process_of_ours_that_is_killed_leaves_the_guest_thawed(
    lab: Site, guest: ScriptedGuest, job: HandMadeJob, who: str
) -> None:
    assert job.phase("backup-start") == 0
    job.phase("post-restart")
    assert guest.is_frozen()
    modules = {"holder": OURS[1:], "guard": OURS[:1], "both": OURS}
    victims = [pid for module in modules[who] for pid in processes(lab, module)]
    assert len(victims) == (2 if who == "both" else 1)
    for pid in victims:
        os.kill(pid, signal.SIGKILL)
    if who != "both":
        check_thawed(lab)
    job.start_backup()
    # Both dead: vzdump's next phase is the first one of us that comes by.
    assert job.phase("backup-end") == 0
    check_thawed(lab, 0.0)
    window = settled(lab)
    assert window.verdict in ("unknown", "crash-consistent")
    assert window.closed_at is not None
    assert "WARNING" in job.said[-1]


def test_a_hook_that_is_killed_while_it_waits_leaves_the_guest_thawed(
    lab: Site, guest: ScriptedGuest, job: HandMadeJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    """vzdump goes on without us then, or is dead: nobody has taken the word that the guest is frozen."""
    guest.set_knob("freeze_sleep", 0.5)

    def killed(connection: object) -> bytes:
        raise KeyboardInterrupt

    monkeypatch.setattr("vzdump_hooks.phases.post_restart.detached.read_line", killed)
    with pytest.raises(KeyboardInterrupt):
        job.phase("post-restart")
    window = settled(lab)
    assert (window.verdict, window.freeze_outcome) == ("crash-consistent", "acknowledged")
    assert "the hook was killed" in (window.reason or "")
    check_thawed(lab, 0.0)


def test_a_window_whose_freeze_may_still_come_is_not_closed_when_its_processes_are_dead(
    lab: Site, guest: ScriptedGuest, job: HandMadeJob
) -> None:
    lab.node.fault("/agent/fsfreeze-freeze", "hang")  # on its way, and nobody knows where it stands
    assert job.phase("backup-start") == 0

    def kill_ours() -> None:
        assert wait_for(lambda: bool(lab.node.requests("/agent/fsfreeze-freeze")), 20)
        for module in OURS:
            for pid in processes(lab, module):
                os.kill(pid, signal.SIGKILL)

    killer = threading.Thread(target=kill_ours)
    killer.start()
    assert job.phase("post-restart") == 0
    killer.join()
    assert "did not report" in job.said[-1]
    job.start_backup()
    assert job.phase("backup-end") == 0
    assert any("may still come" in line for line in job.said)
    check_thawed(lab, 0.0)
    window = next(window for window in lab.windows() if window.owner == "hook")
    assert (window.state, window.closed_at) == ("unknown", None), "`recover` must go on looking"


def test_a_guest_that_dies_in_the_window_ends_it(lab: Site, guest: ScriptedGuest, job: HandMadeJob) -> None:
    job.phase("post-restart")
    guest.stop()
    job.start_backup()
    assert settled(lab).verdict != "filesystem-consistent"


# ------------------------------------------------------------------------------------------------- no log, no freeze


def test_without_a_log_that_can_be_followed_nothing_is_frozen(
    lab: Site, guest: ScriptedGuest, job: HandMadeJob
) -> None:
    """A hook that waits for a line in a log it cannot read holds the guest until its time-out."""
    job.log.write_text("INFO: something else\n")
    assert job.phase("post-restart") == 0
    assert "cannot be followed" in job.said[-1]
    assert not guest.hook_log()


def test_a_log_that_vanishes_is_followed_over_the_api(lab: Site, guest: ScriptedGuest, job: HandMadeJob) -> None:
    job.phase("post-restart")
    hidden = job.log.with_suffix(".hidden")
    job.log.rename(hidden)
    time.sleep(0.3)
    assert guest.is_frozen()
    hidden.rename(job.log)
    job.start_backup()
    check_thawed(lab, 3.0)
    assert settled(lab).verdict == "filesystem-consistent"


def test_a_task_that_cannot_be_found_is_not_frozen(
    lab: Site, guest: ScriptedGuest, job: HandMadeJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = job.worker._replace(upid=None, log=None)
    monkeypatch.setattr("vzdump_hooks.phases.post_restart.find_worker", lambda config: found)
    assert job.phase("post-restart") == 0
    assert "not found" in job.said[-1]
    assert not guest.hook_log()


# -------------------------------------------------------------------------------------------------------- owner vzdump


def vzdump_freezes(guest: ScriptedGuest, job: HandMadeJob) -> None:
    job.write("INFO: issuing guest-agent 'fs-freeze' command")
    guest.ask("guest-fsfreeze-freeze")


@pytest.mark.parametrize("start", [SAID[1:], ()], ids=["9.2", "8.4"])
def test_vzdumps_own_freeze_is_seen_and_judged(
    lab: Site, guest: ScriptedGuest, job: HandMadeJob, start: tuple[str, ...]
) -> None:
    owner_vzdump(lab)
    assert job.phase("post-restart") == 0
    assert "watching" in job.said[-1]
    assert not guest.is_frozen()
    vzdump_freezes(guest, job)
    time.sleep(0.3)
    assert newest(lab).state == "freezing"  # metrics show a guest that is frozen
    job.write(*start, "INFO: issuing guest-agent 'fs-thaw' command")
    guest.ask("guest-fsfreeze-thaw")
    job.write("INFO: started backup task 'x'")
    window = settled(lab)
    assert (window.verdict, window.state) == ("filesystem-consistent", "thawed")
    assert window.freeze_outcome == "acknowledged"
    assert window.window_seconds is not None
    assert window.window_seconds > 0.25
    assert window.thaw_attempts is None  # vzdump's own thaw did it


def test_vzdumps_freeze_is_thawed_at_the_deadline(lab: Site, guest: ScriptedGuest, job: HandMadeJob) -> None:
    owner_vzdump(lab)
    lab.write_config(**DEADLINE)
    job.phase("post-restart")
    vzdump_freezes(guest, job)
    job.write("INFO: starting backup via QMP command")
    assert wait_for(lambda: not guest.is_frozen(), 6)
    window = settled(lab)
    assert (window.verdict, window.failure_reason) == ("crash-consistent", "deadline")


def test_vzdumps_freeze_is_thawed_when_vzdump_dies(lab: Site, guest: ScriptedGuest, job: HandMadeJob) -> None:
    owner_vzdump(lab)
    lab.write_config(freeze={"freeze_timeout_seconds": 8, "max_window_seconds": 300})  # no deadline thaws it
    job.phase("post-restart")
    vzdump_freezes(guest, job)
    assert guest.is_frozen()
    job.kill()
    check_thawed(lab, 20.0)
    window = settled(lab)
    assert (window.verdict, window.failure_reason) == ("crash-consistent", "backup-failed")


def test_a_thaw_of_vzdumps_that_failed_is_done_by_us(lab: Site, guest: ScriptedGuest, job: HandMadeJob) -> None:
    owner_vzdump(lab)
    job.phase("post-restart")
    vzdump_freezes(guest, job)
    job.write("INFO: starting backup via QMP command", "INFO: issuing guest-agent 'fs-thaw' command")
    job.write("ERROR: VM 100 qga command 'guest-fsfreeze-thaw' failed - got timeout", "INFO: started backup task 'x'")
    check_thawed(lab)
    assert settled(lab).verdict == "unknown"


def test_a_thaw_that_vzdump_only_logged_is_done_by_us(lab: Site, guest: ScriptedGuest, job: HandMadeJob) -> None:
    """Before 9.1.6 an agent's refusal of the thaw leaves no line."""
    owner_vzdump(lab)
    job.phase("post-restart")
    vzdump_freezes(guest, job)
    time.sleep(0.1)
    job.start_backup(own_freeze=True)
    check_thawed(lab)
    assert settled(lab).thaw_attempts == 1


def test_a_stranger_who_thaws_vzdumps_freeze_is_noticed(lab: Site, guest: ScriptedGuest, job: HandMadeJob) -> None:
    owner_vzdump(lab)
    job.phase("post-restart")
    vzdump_freezes(guest, job)
    time.sleep(0.3)
    guest.ask("guest-fsfreeze-thaw")
    time.sleep(0.3)
    job.write("INFO: starting backup via QMP command")
    job.start_backup(own_freeze=True)
    window = settled(lab)
    assert window.verdict == "crash-consistent"
    assert "something else thawed it" in (window.reason or "")


def test_a_watch_that_is_told_to_stop_thaws_what_vzdump_froze(
    lab: Site, guest: ScriptedGuest, job: HandMadeJob
) -> None:
    owner_vzdump(lab)
    job.phase("post-restart")
    vzdump_freezes(guest, job)
    time.sleep(0.1)
    os.kill(processes(lab, "vzdump_hooks.hold")[0], signal.SIGTERM)
    check_thawed(lab)
    assert "signal" in (settled(lab).reason or "")


def test_a_holder_that_is_told_to_stop_thaws(lab: Site, guest: ScriptedGuest, job: HandMadeJob) -> None:
    job.phase("post-restart")
    os.kill(processes(lab, "vzdump_hooks.hold")[0], signal.SIGTERM)
    check_thawed(lab)
    assert settled(lab).verdict == "crash-consistent"


def test_a_thaw_that_nobody_can_confirm_gets_a_guard_that_goes_on(
    lab: Site, guest: ScriptedGuest, job: HandMadeJob
) -> None:
    owner_vzdump(lab)
    lab.write_config(**DEADLINE, thaw={"owner_limit_seconds": 1, "attempt_timeout_seconds": 0.5})
    job.phase("post-restart")
    vzdump_freezes(guest, job)
    job.write("INFO: starting backup via QMP command")
    guest.stop_agent()
    assert wait_for(lambda: newest(lab).state == "stuck", 20)
    job.start_backup(own_freeze=True)
    job.phase("backup-end")
    assert "MAY STILL BE FROZEN" in job.said[-1]
    assert guest.is_frozen()
    guest.continue_agent()
    check_thawed(lab, 5.0)
    assert wait_for(lambda: newest(lab).closed_at is not None, 20)


# ----------------------------------------------------------------------------------------------- when we cannot freeze


@pytest.mark.parametrize("stage", ["backup-start", "post-restart"])
def test_without_the_api_vzdumps_own_freeze_is_watched(
    lab: Site, guest: ScriptedGuest, job: HandMadeJob, stage: str
) -> None:
    without_pvesh(lab)
    if stage == "post-restart":
        assert job.phase("backup-start") == 0
    lab.node.stop_front()
    if stage == "backup-start":
        assert job.phase("backup-start") == 0
        assert job.said[-1].startswith("WARNING")
    assert job.phase("post-restart") == 0
    assert "vzdump's own freeze is watched" in job.said[-1]
    vzdump_freezes(guest, job)
    time.sleep(0.3)
    job.write("INFO: starting backup via QMP command", "INFO: issuing guest-agent 'fs-thaw' command")
    guest.ask("guest-fsfreeze-thaw")
    job.write("INFO: started backup task 'x'")
    assert settled(lab).verdict == "filesystem-consistent"


@pytest.mark.parametrize("how", ["down", "certificate", "token"])
def test_an_api_that_cannot_be_used_at_all_is_gone_around_by_pvesh_and_that_is_said(
    lab: Site, job: HandMadeJob, how: str
) -> None:
    if how == "down":
        lab.node.stop_front()
    elif how == "certificate":
        lab.node.certify(authority("Some Public CA"))
        lab.node.restart()
    else:
        path = write_secret(lab.run / "revoked", "root@pam!gone=5cc9cd64-7b0c-4d2e-a2a3-1a2b3c4d5e6f\n")
        lab.settings["api"] = {"token_file": str(path)}
        lab.write_config()
    assert job.phase("backup-start") == 0
    (line,) = [line for line in job.said if "pvesh" in line]
    assert "cannot be used" in line
    assert job.phase("post-restart") == 0
    job.start_backup()
    check_thawed(lab)
    assert settled(lab).verdict == "filesystem-consistent"
    assert job.phase("backup-end") == 0


def test_the_api_that_goes_in_the_window_does_not_keep_the_guest_frozen(
    lab: Site, guest: ScriptedGuest, job: HandMadeJob
) -> None:
    job.phase("post-restart")
    lab.node.stop_front()
    job.start_backup()
    check_thawed(lab)
    assert settled(lab).verdict == "filesystem-consistent"
    assert job.phase("backup-end") == 0


def test_a_refused_freeze_is_said_and_vzdumps_own_one_is_watched(
    lab: Site, guest: ScriptedGuest, job: HandMadeJob
) -> None:
    guest.set_knob("freeze_exit", 3)
    assert job.phase("post-restart") == 0
    assert "fsfreeze hook has failed" in job.said[-1]
    assert "watched" in job.said[-1]
    job.write("INFO: issuing guest-agent 'fs-freeze' command", "ERROR: unable to freeze guest fs - hook has failed")
    job.start_backup(own_freeze=True)
    window = settled(lab)
    assert (window.verdict, window.owner) == ("crash-consistent", "vzdump")
    assert not guest.is_frozen()


def test_a_required_freeze_that_fails_fails_the_backup_and_watches_nothing(
    lab: Site, guest: ScriptedGuest, job: HandMadeJob
) -> None:
    lab.settings["freeze"]["policy"] = "require"
    lab.write_config()
    assert job.phase("backup-start") == 0
    guest.set_knob("freeze_exit", 3)
    assert job.phase("post-restart") == 1
    assert wait_for(lambda: not processes(lab), 20)
    assert [window.owner for window in lab.windows()] == ["hook"]


def test_a_freeze_whose_answer_is_lost_is_thawed_and_watched_for(
    lab: Site, guest: ScriptedGuest, job: HandMadeJob
) -> None:
    lab.write_config(freeze={"freeze_timeout_seconds": 0.5, "max_window_seconds": 10, "late_freeze_seconds": 4})
    guest.set_knob("freeze_sleep", 1.5)
    assert job.phase("post-restart") == 0
    assert "freeze unknown" in job.said[-1]
    check_thawed(lab, 5.0)
    job.start_backup()
    assert job.phase("backup-end") == 0
    assert newest(lab).verdict == "crash-consistent"


def no_systemd(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(arguments: object, **options: object) -> None:
        raise subprocess.CalledProcessError(1, ["systemd-run", "x" * 500], stderr=b"Failed to connect to bus\n")

    monkeypatch.setattr("vzdump_hooks.phases.post_restart.uses_systemd", lambda config: True)
    monkeypatch.setattr("vzdump_hooks.phases.post_restart.detached.start_unit", refuse)


def test_a_holder_that_systemd_does_not_start_is_started_without_it(
    lab: Site, guest: ScriptedGuest, job: HandMadeJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    no_systemd(monkeypatch)
    assert job.phase("post-restart") == 0
    assert guest.is_frozen()
    job.start_backup()
    assert settled(lab).verdict == "filesystem-consistent"


def test_a_holder_that_cannot_be_started_at_all_leaves_the_guest_to_recover(
    lab: Site, guest: ScriptedGuest, job: HandMadeJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    """vzdump freezes by itself then, and nobody would know of it."""
    lab.write_config(freeze={"max_window_seconds": 0.2, "freeze_timeout_seconds": 0.2}, thaw={"owner_limit_seconds": 1})
    no_systemd(monkeypatch)

    def refuse(arguments: object) -> None:
        raise OSError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(detached, "start_process", refuse)
    assert job.phase("post-restart") == 0
    assert "vzdump may freeze by itself unseen" in job.said[-1]
    assert "`safe-snapshot recover` looks at the guest after 0.2 s" in job.said[-1]
    assert not guest.hook_log()
    window = newest(lab)
    assert (window.owner, window.closed_at) == ("vzdump", None)
    vzdump_freezes(guest, job)
    job.kill()
    assert lab.safe_snapshot("recover").exit_code == 0
    assert not guest.is_frozen()
    assert newest(lab).closed_at is not None


def test_a_guard_that_cannot_be_started_freezes_nothing(
    lab: Site, guest: ScriptedGuest, job: HandMadeJob, tmp_path: Path
) -> None:
    lab.settings["journal"] = {"path": str(tmp_path / "journal.sqlite")}
    lab.write_config()
    (tmp_path / "journal.sqlite").mkdir()
    assert job.phase("post-restart") == 0
    assert "no regular file" in job.said[-1]
    assert not guest.hook_log()
