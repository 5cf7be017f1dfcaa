"""Every freeze of a backup is followed, whoever makes it: thawed when it lasts too long or vzdump does not, or told."""

from __future__ import annotations

import functools
import os
import signal
import time
from collections.abc import Callable

import pytest

from snapshot.model import Policy
from tests.engine.kit import set_pending
from tests.hook.kit import HandMadeJob, back_up, by_hand, check_thawed, hook_site, newest, processes, said, settled
from tests.lab.guest.agentmodel import Faults, Refusal
from tests.lab.guest.scripted import ScriptedGuest
from tests.lab.node.node import GuestSpec
from tests.lab.site import Site, wait_for
from tests.lab.vzdump.testing import QUICK

FREEZE, THAW = "guest-fsfreeze-freeze", "guest-fsfreeze-thaw"
FROZEN_METRIC = 'pve_fsfreeze_guest_frozen{id="qemu/100",node="pve1",source="vzdump",vmid="100"} 1.0'
FAILED_THAW = Refusal("GenericError", "failed to thaw /data: Input/output error", times=1)


def policy(lab: Site, word: str) -> None:
    lab.settings["freeze"]["policy"] = word
    lab.write_config()


def lost(job: HandMadeJob, monkeypatch: pytest.MonkeyPatch) -> None:
    """The job's task cannot be found."""
    found = job.worker._replace(upid=None, log=None)
    for module in ("backup_start", "post_restart", "backup_end"):
        monkeypatch.setattr(f"vzdump_hooks.phases.{module}.find_worker", lambda config: found)


def vzdump_freezes(guest: ScriptedGuest, job: HandMadeJob) -> None:
    job.write("INFO: issuing guest-agent 'fs-freeze' command")
    guest.ask(FREEZE)
    assert guest.is_frozen()


def watcher(lab: Site) -> int:
    (pid,) = processes(lab, "vzdump_hooks.hold")
    return pid


# ------------------------------------------------------------------------------------------ wherever we do not freeze


def never(lab: Site, job: HandMadeJob, monkeypatch: pytest.MonkeyPatch) -> None:
    policy(lab, "never")


def obstacle(lab: Site, job: HandMadeJob, monkeypatch: pytest.MonkeyPatch) -> None:
    """The program runs in the guest itself, as far as it can tell."""
    uuid = "11111111-2222-3333-4444-555555555555"
    lab.node.set_config(100, smbios1=f"uuid={uuid}")
    (lab.run / "no-product-uuid").write_text(uuid + "\n")


def mute_api(lab: Site, job: HandMadeJob, monkeypatch: pytest.MonkeyPatch) -> None:
    lab.node.stop_front()
    lab.settings["local"]["pvesh"] = "/nonexistent/pvesh"
    lab.write_config()


def missing_task(lab: Site, job: HandMadeJob, monkeypatch: pytest.MonkeyPatch) -> None:
    lost(job, monkeypatch)


def log_without_the_guest(lab: Site, job: HandMadeJob, monkeypatch: pytest.MonkeyPatch) -> None:
    job.log.write_text("INFO: something else\n")


def no_journal(lab: Site, job: HandMadeJob, monkeypatch: pytest.MonkeyPatch) -> None:
    lab.journal_path.mkdir()


def no_guard(lab: Site, job: HandMadeJob, monkeypatch: pytest.MonkeyPatch) -> None:
    """The holder is started; its guard, as a unit of a systemd that is not there, is not."""
    lab.write_config(guard={"launcher": "systemd", "arm_timeout_seconds": 5})
    monkeypatch.setattr("vzdump_hooks.phases.post_restart.uses_systemd", lambda config: False)


HINDRANCES = [never, obstacle, mute_api, missing_task, log_without_the_guest, no_journal, no_guard]


@pytest.mark.parametrize("hindrance", HINDRANCES, ids=lambda value: value.__name__)
def test_a_worker_that_is_killed_inside_vzdumps_own_freeze_leaves_the_guest_thawed(
    lab: Site,
    guest: ScriptedGuest,
    job: HandMadeJob,
    monkeypatch: pytest.MonkeyPatch,
    hindrance: Callable[[Site, HandMadeJob, pytest.MonkeyPatch], None],
) -> None:
    hindrance(lab, job, monkeypatch)
    assert job.phase("backup-start") == 0
    assert job.phase("post-restart") == 0
    assert not guest.is_frozen()
    assert any("watched" in line for line in job.said), job.said
    vzdump_freezes(guest, job)
    time.sleep(0.1)
    job.kill()
    check_thawed(lab, 5.0)


@pytest.mark.parametrize("hindrance", [never, missing_task], ids=lambda value: value.__name__)
def test_a_freeze_of_vzdumps_that_lasts_past_the_deadline_is_thawed(
    lab: Site,
    guest: ScriptedGuest,
    job: HandMadeJob,
    monkeypatch: pytest.MonkeyPatch,
    hindrance: Callable[[Site, HandMadeJob, pytest.MonkeyPatch], None],
) -> None:
    lab.settings["freeze"] |= {"freeze_timeout_seconds": 1, "max_window_seconds": 1.0}
    lab.write_config()
    hindrance(lab, job, monkeypatch)
    job.phase("backup-start")
    job.phase("post-restart")
    vzdump_freezes(guest, job)
    assert wait_for(lambda: not guest.is_frozen(), 20)
    window = settled(lab)
    assert window.verdict == "crash-consistent"
    assert window.failure_reason == "deadline"


def test_a_thaw_that_fails_once_is_done_by_us_under_policy_never() -> None:
    faults = Faults(refuse={THAW: FAILED_THAW})
    with hook_site(functools.partial(ScriptedGuest, faults=faults)) as lab:
        policy(lab, "never")
        assert back_up(lab, 100).ok
        check_thawed(lab, 5.0)


@pytest.mark.parametrize("word", ["prefer", "never"])
def test_a_guest_that_vzdump_froze_and_nobody_can_thaw_is_an_alarm(word: str) -> None:
    with hook_site(functools.partial(ScriptedGuest, faults=Faults(blocked=frozenset({THAW})))) as lab:
        lab.settings["thaw"]["owner_limit_seconds"] = 120
        policy(lab, word)
        began = time.monotonic()
        result = back_up(lab, 100)
        assert time.monotonic() - began < 60, "a refusal is an answer"
        assert lab.guest.is_frozen()
        (alarm,) = [line for line in said(result) if "guest 100 MAY STILL BE FROZEN" in line]
        assert "fsfreeze --unfreeze" in alarm, "its agent would refuse any other thaw"
        assert "safe-snapshot thaw" not in alarm
        assert FROZEN_METRIC in lab.metrics_path.read_text()


def test_without_a_journal_a_guest_that_stays_frozen_is_told_all_the_same() -> None:
    with hook_site(functools.partial(ScriptedGuest, faults=Faults(blocked=frozenset({THAW})))) as lab:
        lab.settings["thaw"]["owner_limit_seconds"] = 1
        policy(lab, "never")
        lab.journal_path.mkdir()
        result = back_up(lab, 100)
        assert result.ok
        assert lab.guest.is_frozen()
        assert any("guest 100 MAY STILL BE FROZEN" in line for line in said(result)), said(result)


@pytest.mark.parametrize("pending", ["enabled=1,freeze-fs=0", "0"])
def test_a_freeze_option_that_only_waits_leaves_no_guest_unwatched(pending: str) -> None:
    """PVE goes by the option as it was until the guest's next stop and start, and freezes."""
    with hook_site() as lab:
        set_pending(lab, agent=pending)
        with lab.vzdump(100, limits=QUICK, backup_delay=5.0) as job:
            job.wait_for_line("issuing guest-agent 'fs-freeze' command")
            assert wait_for(lab.guest.is_frozen, 10)
            job.kill()
            assert wait_for(lambda: not job.running, 10)
            check_thawed(lab, 5.0)
            lines = said(job)
        assert not any("left alone" in line or "WARNING" in line for line in lines), lines
        assert any("full stop and start" in line for line in lines), lines


def test_a_freeze_option_that_only_waits_does_not_keep_require_from_its_freeze(
    lab: Site, guest: ScriptedGuest, job: HandMadeJob
) -> None:
    set_pending(lab, agent="1,freeze-fs=0")
    policy(lab, "require")
    assert job.phase("backup-start") == 0
    assert job.phase("post-restart") == 0
    assert guest.is_frozen()


# --------------------------------------------------------------------------------------------- without a log to follow


def test_without_a_log_the_backups_end_ends_the_watch_and_nothing_is_proven(
    lab: Site, guest: ScriptedGuest, job: HandMadeJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost(job, monkeypatch)
    for phase in ("backup-start", "post-restart", "backup-end"):
        assert job.phase(phase) == 0
    window = newest(lab)
    assert (window.verdict, window.closed_at is None) == ("unknown", False)
    assert "never seen frozen" in (window.reason or "")
    assert wait_for(lambda: not processes(lab), 20)


def test_without_a_log_a_freeze_that_was_seen_to_come_and_go_ends_the_watch(
    lab: Site, guest: ScriptedGuest, job: HandMadeJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost(job, monkeypatch)
    job.phase("backup-start")
    job.phase("post-restart")
    guest.ask(FREEZE)
    assert wait_for(lambda: newest(lab).state == "freezing", 20)
    guest.ask(THAW)
    window = settled(lab)
    assert window.verdict == "unknown"
    assert window.thaw_attempts is None


def test_policy_require_is_not_met_by_a_backup_that_cannot_be_followed(
    lab: Site, guest: ScriptedGuest, job: HandMadeJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy(lab, "require")
    lost(job, monkeypatch)
    assert job.phase("backup-start") == 0
    assert job.phase("post-restart") == 1
    assert not guest.hook_log()


# ------------------------------------------------------------------------------------------------ the watch is guarded


@pytest.fixture
def watched(lab: Site, job: HandMadeJob) -> int:
    """vzdump's own freeze is about to be watched: the watching process."""
    lab.settings["hook"] = {"owner": "vzdump"}
    lab.settings["freeze"] |= {"freeze_timeout_seconds": 2, "max_window_seconds": 2.0}
    lab.write_config()
    assert job.phase("post-restart") == 0
    return watcher(lab)


@pytest.mark.parametrize("when", ["before", "inside"])
def test_a_watcher_that_is_killed_leaves_nobody_frozen(
    lab: Site, guest: ScriptedGuest, job: HandMadeJob, watched: int, when: str
) -> None:
    if when == "before":
        os.kill(watched, signal.SIGKILL)
        vzdump_freezes(guest, job)
    else:
        vzdump_freezes(guest, job)
        os.kill(watched, signal.SIGKILL)
    check_thawed(lab, 10.0)
    job.start_backup(own_freeze=True)
    assert job.phase("backup-end") == 0
    assert newest(lab).verdict in ("unknown", "crash-consistent")
    assert newest(lab).closed_at is not None
    assert wait_for(lambda: not processes(lab), 20), "a guard that would thaw other people's freezes"


@pytest.mark.parametrize("when", ["before", "inside"])
def test_a_watcher_that_stands_still_loses_its_turn_at_the_deadline(
    lab: Site, guest: ScriptedGuest, job: HandMadeJob, watched: int, when: str
) -> None:
    if when == "inside":
        vzdump_freezes(guest, job)
        time.sleep(0.2)
    os.kill(watched, signal.SIGSTOP)
    if when == "before":
        vzdump_freezes(guest, job)
        job.kill()
    assert wait_for(lambda: not guest.is_frozen(), 30)


def test_a_guard_leaves_vzdumps_freeze_to_the_watcher(
    lab: Site, guest: ScriptedGuest, job: HandMadeJob, watched: int
) -> None:
    time.sleep(2.5)  # longer than a window may last: that counts from vzdump's freeze
    vzdump_freezes(guest, job)
    time.sleep(1.0)
    assert guest.is_frozen()
    job.write("INFO: starting backup via QMP command", "INFO: issuing guest-agent 'fs-thaw' command")
    guest.ask(THAW)
    job.write("INFO: started backup task 'x'")
    window = settled(lab)
    assert (window.verdict, window.guard_cause, window.thaw_attempts) == ("filesystem-consistent", None, None)


# -------------------------------------------------------------------------------------------- one verdict, true reasons


@pytest.mark.parametrize("mode", ["stop", "snapshot"])
def test_a_container_that_is_off_during_its_backup_is_offline(lab: Site, mode: str) -> None:
    lab.node.add_guest(GuestSpec(201, kind="lxc", running=mode == "stop"))
    lines = said(back_up(lab, 201, mode=mode))
    assert newest(lab, 201).verdict == "offline"
    assert not any("WARNING" in line for line in lines), lines


@pytest.mark.parametrize("choice", ["never", "option", "suspend", "container"])
def test_what_the_operator_chose_is_no_warning(lab: Site, choice: str) -> None:
    vmid, mode = 100, "snapshot"
    if choice == "never":
        policy(lab, "never")
    elif choice == "option":
        lab.node.set_config(100, agent="1,freeze-fs=0")
    elif choice == "suspend":
        mode = "suspend"
    else:
        vmid = 200
        lab.node.add_guest(GuestSpec(200, kind="lxc"))
    lines = said(back_up(lab, vmid, mode=mode))
    assert lines
    assert not any("WARNING" in line for line in lines), lines
    assert "last_failure{" not in lab.metrics_path.read_text()


@pytest.mark.parametrize("agent", ["1,freeze-fs=0", "1,freeze-fs-on-backup=0"])
def test_require_is_not_met_by_a_guest_whose_option_turns_freezing_off(lab: Site, job: HandMadeJob, agent: str) -> None:
    """As with safe-snapshot. The backup fails before any work, with what can be done about it."""
    lab.node.set_config(100, agent=agent)
    policy(lab, "require")
    assert job.phase("backup-start") == 1
    (line,) = job.said
    assert line.startswith("ERROR: policy require")
    for remedy in ("ignore_freeze_option", "qm set 100 --agent", "policy prefer or never"):
        assert remedy in line
    assert lab.safe_snapshot("100", "--name", "s1", "--policy", Policy.REQUIRE.value).exit_code == 6


def test_a_guest_in_which_nothing_freezes_gets_one_verdict_from_whoever_freezes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with hook_site(functools.partial(ScriptedGuest, mounts=0)) as lab:
        lab.safe_snapshot("100", "--name", "s1")
        verdicts = {newest(lab).verdict}
        assert back_up(lab, 100).ok
        verdicts.add(newest(lab).verdict)
        lab.settings["hook"] = {"owner": "vzdump"}
        lab.write_config()
        with by_hand(lab, monkeypatch) as job:
            job.phase("post-restart")
            job.write("INFO: issuing guest-agent 'fs-freeze' command", "INFO: starting backup via QMP command")
            time.sleep(0.3)
            job.write("INFO: issuing guest-agent 'fs-thaw' command", "INFO: started backup task 'x'")
            verdicts.add(settled(lab).verdict)
        assert verdicts == {"crash-consistent"}


def test_a_strangers_freeze_before_vzdumps_is_told_as_that(lab: Site, guest: ScriptedGuest, job: HandMadeJob) -> None:
    """Before qemu-server 9.0.23 vzdump does not notice, and thaws it."""
    lab.settings["hook"] = {"owner": "vzdump"}
    lab.write_config()
    guest.ask(FREEZE)
    job.phase("post-restart")
    job.write("INFO: issuing guest-agent 'fs-freeze' command")
    time.sleep(0.3)
    job.write("INFO: issuing guest-agent 'fs-thaw' command")
    guest.ask(THAW)
    job.write("INFO: started backup task 'x'")
    window = settled(lab)
    assert window.verdict == "crash-consistent"
    assert "somebody else had frozen the guest" in (window.reason or "")


def test_the_second_backup_of_a_guest_in_one_job_does_not_get_the_first_ones_verdict(
    lab: Site, guest: ScriptedGuest, job: HandMadeJob
) -> None:
    for agent in ("1", "0"):
        lab.node.set_config(100, agent=agent)
        for phase in ("backup-start", "post-restart"):
            assert job.phase(phase) == 0
        job.start_backup()
        assert job.phase("backup-end") == 0
        job.write("INFO: Finished Backup of VM 100 (00:00:01)", "INFO: Starting Backup of VM 100 (qemu)")
    assert [window.verdict for window in lab.windows()] == ["crash-consistent", "filesystem-consistent"]
    assert "WARNING" in job.said[-1]
