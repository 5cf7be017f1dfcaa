"""Who is frozen and who is left alone; guests found frozen; the end of a backup, its notes and the job's sum."""

from __future__ import annotations

import contextlib
import json
import os
import time
import uuid
from typing import Any
from urllib.parse import unquote

import pytest

from snapshot.base.clock import iso
from snapshot.base.procfs import boot_id
from snapshot.journal.record import WindowRecord
from snapshot.journal.store import Journal
from tests.hook.kit import (
    HandMadeJob,
    add_rules,
    by_hand,
    check_thawed,
    hook_site,
    newest,
    processes,
    settled,
    without_pvesh,
)
from tests.lab.guest.scripted import ScriptedGuest
from tests.lab.node.node import PRIVILEGES, GuestSpec
from tests.lab.site import Site, wait_for
from tests.unit.kit import record
from vzdump_hooks.phases import backup_end
from vzdump_hooks.phases.archive_notes import volume_of
from vzdump_hooks.say import say


def policy(lab: Site, word: str) -> None:
    lab.settings["freeze"]["policy"] = word
    lab.write_config()


def left_open(lab: Site, **values: Any) -> str:
    """A window of an earlier run in the journal, whose processes are gone."""
    now = time.time()
    record = WindowRecord(
        id=uuid.uuid4().hex, vmid=100, node="pve1", kind="qemu", guest_name="guest100", source="vzdump", owner="hook",
        state="frozen", intent_at=now - 60, deadline_at=now - 30, owner_pid=1, owner_pid_start=1, boot_id=boot_id(),
        freeze_outcome="acknowledged", filesystems_frozen=1, frozen_at=now - 59,
    )  # fmt: skip
    with contextlib.closing(Journal(lab.journal_path)) as journal:
        journal.begin(record)
        journal.update(record.id, **values)
    return record.id


def is_closed(lab: Site, window_id: str) -> bool:
    return next(window for window in lab.windows() if window.id == window_id).closed_at is not None


def test_the_alarm_is_not_cut_off_with_the_end_of_a_long_reason(capsys: pytest.CaptureFixture[str]) -> None:
    window = record(state="stuck", verdict="crash-consistent", reason="why " * 300)
    say(backup_end.describe(window))
    line = capsys.readouterr().out
    assert "WARNING: guest 100 MAY STILL BE FROZEN: run `safe-snapshot thaw 100`; crash-consistent: why" in line
    assert len(line) < 600


# -------------------------------------------------------------------------------------------------------- found frozen


@pytest.mark.parametrize("mode", ["suspend", "stop"])
@pytest.mark.parametrize("foreign", ["report", "thaw"])
def test_a_guest_that_somebody_else_froze_is_seen_in_every_mode(
    lab: Site, guest: ScriptedGuest, job: HandMadeJob, mode: str, foreign: str
) -> None:
    """vzdump's shutdown of it hangs until it is given up."""
    lab.settings["freeze"]["foreign"] = foreign
    lab.write_config()
    guest.ask("guest-fsfreeze-freeze")
    assert job.phase("backup-start", mode) == 0
    assert any("frozen" in line for line in job.said)
    assert guest.is_frozen() == (foreign == "report")


@pytest.mark.parametrize("mode", ["snapshot", "suspend", "stop"])
def test_a_guest_that_an_earlier_run_left_frozen_is_healed_before_its_backup(
    lab: Site, guest: ScriptedGuest, job: HandMadeJob, mode: str
) -> None:
    """vzdump would skip it without a word, night after night; in mode stop its shutdown would hang."""
    window = left_open(lab)
    guest.ask("guest-fsfreeze-freeze")
    assert job.phase("backup-start", mode) == 0
    assert any("was frozen by an earlier run: thawed" in line for line in job.said)
    assert not guest.is_frozen()
    assert is_closed(lab, window)
    if mode == "snapshot":
        job.phase("post-restart")
        job.start_backup()
        assert settled(lab).verdict == "filesystem-consistent"


def test_a_guest_that_somebody_else_froze_is_reported_and_left_frozen(
    lab: Site, guest: ScriptedGuest, job: HandMadeJob
) -> None:
    guest.ask("guest-fsfreeze-freeze")
    assert job.phase("backup-start") == 0
    assert "frozen, and not by us" in job.said[-1]
    assert "safe-snapshot thaw 100" in job.said[-1]
    assert job.phase("post-restart") == 0
    assert guest.is_frozen()
    job.write("INFO: skipping guest filesystem freeze - already frozen")
    job.start_backup()
    assert settled(lab).verdict == "crash-consistent"
    assert job.phase("backup-end") == 0
    assert guest.is_frozen()


def test_a_guest_that_somebody_else_froze_is_thawed_where_the_configuration_says_so(
    lab: Site, guest: ScriptedGuest, job: HandMadeJob
) -> None:
    lab.settings["freeze"]["foreign"] = "thaw"
    lab.write_config()
    guest.ask("guest-fsfreeze-freeze")
    assert job.phase("backup-start") == 0
    assert "frozen by somebody else: thawed" in job.said[-1]
    assert not guest.is_frozen()


def test_a_required_freeze_of_a_guest_that_somebody_else_froze_fails_before_any_work(
    lab: Site, guest: ScriptedGuest, job: HandMadeJob
) -> None:
    policy(lab, "require")
    guest.ask("guest-fsfreeze-freeze")
    assert job.phase("backup-start") == 1
    assert guest.is_frozen()


def test_a_guest_in_a_living_window_of_ours_is_not_thawed_under_it(
    lab: Site, guest: ScriptedGuest, job: HandMadeJob
) -> None:
    guest.ask("guest-fsfreeze-freeze")
    now = time.time()
    pid = job.process.pid
    left_open(lab, intent_at=now, deadline_at=now + 30, owner_pid=pid, owner_pid_start=job.upid.pstart)
    assert job.phase("backup-start") == 0
    assert f"in our own freeze window since {iso(now)}, held by process {pid}" in job.said[-1]
    assert guest.is_frozen()


def test_the_sweep_of_a_job_leaves_guests_without_a_window_to_recover(monkeypatch: pytest.MonkeyPatch) -> None:
    """vzdump waits for it, and a silent agent costs seconds. `recover` looks at every guest of a new journal."""
    with hook_site(ScriptedGuest, ScriptedGuest) as lab, by_hand(lab, monkeypatch) as job:
        left_open(lab)
        stranger = lab.guests[101]
        assert isinstance(stranger, ScriptedGuest)
        stranger.ask("guest-fsfreeze-freeze")
        assert job.phase("job-start") == 0
        with stranger.held() as (model, _):
            assert [command for _, command in model.executed][-1] == "guest-fsfreeze-freeze", "it was asked"
        recovered = lab.safe_snapshot("recover")
        assert recovered.exit_code == 8, recovered.text
        assert "guest 101" in recovered.text


def test_a_job_begins_with_a_sweep_and_says_what_it_found(lab: Site, guest: ScriptedGuest, job: HandMadeJob) -> None:
    window = left_open(lab)
    guest.ask("guest-fsfreeze-freeze")
    assert job.phase("job-start") == 0
    assert "a window was left open: thawed" in job.said[-1]
    assert not guest.is_frozen()
    assert is_closed(lab, window)
    assert job.phase("job-start") == 0
    assert len(job.said) == 1


# ----------------------------------------------------------------------------------------------------------- left alone


def test_a_guest_whose_option_turns_freezing_off_is_left_alone(
    lab: Site, guest: ScriptedGuest, job: HandMadeJob
) -> None:
    lab.node.set_config(100, agent="enabled=1,freeze-fs=0")
    assert job.phase("backup-start") == 0
    assert job.said[-1].startswith("left alone")
    assert job.phase("post-restart") == 0
    assert not processes(lab)
    job.write("INFO: skipping guest filesystem freeze - disabled in VM options")
    job.start_backup()
    assert job.phase("backup-end") == 0
    assert (newest(lab).verdict, newest(lab).failure_stage) == ("crash-consistent", None)
    assert not guest.hook_log()


@pytest.mark.parametrize("selector", ["vmid = 100", 'tag = "db"', 'pool = "gold"'])
def test_a_guest_that_the_configuration_names_is_frozen_in_spite_of_its_option(
    guest_with_tags: Site, monkeypatch: pytest.MonkeyPatch, selector: str
) -> None:
    lab = guest_with_tags
    lab.node.set_config(100, agent="enabled=1,freeze-fs=0")
    add_rules(lab, f"[[guest]]\n{selector}\nignore_freeze_option = true\n")
    with by_hand(lab, monkeypatch) as job:
        assert job.phase("backup-start") == 0
        assert not job.said
        job.phase("post-restart")
        assert lab.guest.is_frozen()
        job.start_backup()
        assert settled(lab).verdict == "filesystem-consistent"


@pytest.fixture
def guest_with_tags() -> Any:
    """A guest with a tag and in a pool."""
    with hook_site() as lab:
        lab.node.add_guest(GuestSpec(100, lab.run, pool="gold"))
        lab.node.set_config(100, tags="web;db")
        yield lab


@pytest.mark.parametrize("selector", ["vmid = 100", 'tag = "db"', 'pool = "gold"'])
def test_a_rule_by_vmid_tag_and_pool_sets_policy_owner_and_limits(
    guest_with_tags: Site, monkeypatch: pytest.MonkeyPatch, selector: str
) -> None:
    lab = guest_with_tags
    add_rules(lab, f'[[guest]]\n{selector}\npolicy = "require"\nowner = "vzdump"\nmax_window_seconds = 7\n')
    with by_hand(lab, monkeypatch) as job:
        assert job.phase("backup-start") == 0
        assert job.phase("post-restart") == 0
        assert "watching" in job.said[-1]
        window = newest(lab)
        assert window.deadline_at - window.intent_at == pytest.approx(7)
        job.start_backup()  # vzdump does not freeze
        assert job.phase("backup-end") == 1
        assert "policy require" in job.said[-1]


@pytest.mark.parametrize("selector", ["vmid = 100", 'tag = "db"', 'pool = "gold"'])
def test_require_by_vmid_tag_and_pool_fails_a_guest_without_an_agent_before_any_work(
    guest_with_tags: Site, monkeypatch: pytest.MonkeyPatch, selector: str
) -> None:
    lab = guest_with_tags
    add_rules(lab, f'[[guest]]\n{selector}\npolicy = "require"\n')
    guest = lab.guest
    assert isinstance(guest, ScriptedGuest)
    guest.kill_agent()
    with by_hand(lab, monkeypatch) as job:
        assert job.phase("backup-start") == 1
        assert "policy require" in job.said[-1]
        assert "does not answer" in job.said[-1]


def test_the_more_particular_rule_wins(guest_with_tags: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    lab = guest_with_tags
    add_rules(lab, '[[guest]]\npool = "gold"\npolicy = "require"\n[[guest]]\nvmid = 100\npolicy = "never"\n')
    with by_hand(lab, monkeypatch) as job:
        job.phase("backup-start")
        assert job.phase("post-restart") == 0
        assert "policy never" in job.said[-1]
        job.start_backup()
        assert job.phase("backup-end") == 0
        assert not lab.guest.is_frozen()


@pytest.mark.parametrize("reason", ["option", "policy", "owner"])
def test_a_guest_that_backup_start_could_not_look_at_is_looked_at_before_it_is_frozen(
    guest_with_tags: Site, monkeypatch: pytest.MonkeyPatch, reason: str
) -> None:
    """pveproxy was being restarted: a guest that is to be left alone was once frozen a second later."""
    lab = guest_with_tags
    guest = lab.guest
    assert isinstance(guest, ScriptedGuest)
    if reason == "option":
        lab.node.set_config(100, agent="enabled=1,freeze-fs=0")
    else:
        add_rules(lab, f'[[guest]]\ntag = "db"\n{reason} = "{"never" if reason == "policy" else "vzdump"}"\n')
    with by_hand(lab, monkeypatch) as job:
        lab.node.stop_front()
        assert job.phase("backup-start") == 0
        lab.node.start_front()
        assert job.phase("post-restart") == 0
        assert not guest.hook_log()
        assert bool(processes(lab)) == (reason != "option")


def test_a_rule_that_requires_holds_for_a_guest_that_backup_start_could_not_look_at(
    guest_with_tags: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab = guest_with_tags
    guest = lab.guest
    assert isinstance(guest, ScriptedGuest)
    add_rules(lab, '[[guest]]\ntag = "db"\npolicy = "require"\n')
    without_pvesh(lab)
    with by_hand(lab, monkeypatch) as job:
        for held in (True, False):
            lab.node.stop_front()
            assert job.phase("backup-start") == 0
            lab.node.start_front()
            if held:
                assert job.phase("post-restart") == 0
                guest.ask("guest-fsfreeze-thaw")
                job.start_backup()
                assert job.phase("backup-end") == 1
            else:
                guest.kill_agent()
                job.write("INFO: Finished Backup of VM 100 (00:00:01)", "INFO: Starting Backup of VM 100 (qemu)")
                assert job.phase("post-restart") == 1
        assert "policy require" in job.said[-1]


def test_a_guest_that_the_token_may_not_see_is_watched_while_vzdump_freezes_it(
    lab: Site, guest: ScriptedGuest, job: HandMadeJob
) -> None:
    """A backup that was stopped then left it frozen, and nobody came."""
    secret = lab.node.add_token("blind@pve!hooks", ("Sys.Audit",))
    lab.node.token_file.write_text(f"blind@pve!hooks={secret}\n")
    assert job.phase("backup-start") == 0
    assert "VM.Audit" in job.said[-1]
    assert job.phase("post-restart") == 0
    assert not guest.is_frozen()
    job.write("INFO: issuing guest-agent 'fs-freeze' command")
    guest.ask("guest-fsfreeze-freeze")
    time.sleep(0.2)
    job.kill()
    check_thawed(lab)


def test_policy_never_freezes_nothing_and_watches_vzdumps_own_freeze(
    lab: Site, guest: ScriptedGuest, job: HandMadeJob
) -> None:
    policy(lab, "never")
    assert job.phase("backup-start") == 0
    assert job.phase("post-restart") == 0
    assert job.said == ["not frozen by us (policy never); vzdump's own freeze is watched"]
    assert processes(lab)
    assert not guest.hook_log()
    job.start_backup()
    assert job.phase("backup-end") == 0
    assert newest(lab).failure_stage is None


def test_a_guest_without_an_agent_is_said_with_its_remedy_and_its_backup_goes_on(
    lab: Site, guest: ScriptedGuest, job: HandMadeJob
) -> None:
    guest.kill_agent()
    assert job.phase("backup-start") == 0
    assert "apt install qemu-guest-agent" in job.said[-1]
    assert job.phase("post-restart") == 0
    job.write("INFO: skipping guest filesystem freeze - agent configured but not running?")
    job.start_backup()
    window = settled(lab)
    assert (window.verdict, window.failure_reason) == ("crash-consistent", "agent-not-running")
    assert job.phase("backup-end") == 0


def test_an_agent_that_comes_back_before_vzdumps_own_freeze_is_watched(
    lab: Site, guest: ScriptedGuest, job: HandMadeJob
) -> None:
    guest.stop_agent()
    assert job.phase("backup-start") == 0
    assert "WARNING" in job.said[-1]
    assert job.phase("post-restart") == 0
    guest.continue_agent()
    job.write("INFO: issuing guest-agent 'fs-freeze' command")
    guest.ask("guest-fsfreeze-freeze")
    time.sleep(0.2)
    job.kill()
    check_thawed(lab)


@pytest.mark.parametrize("agent", [None, "0"])
def test_a_guest_whose_agent_is_not_switched_on_is_told_the_first_step(
    lab: Site, job: HandMadeJob, agent: str | None
) -> None:
    lab.node.set_config(100, agent=agent)
    assert job.phase("backup-start") == 0
    assert "qm set 100 --agent enabled=1" in job.said[-1]
    assert job.phase("post-restart") == 0
    assert not processes(lab)
    job.start_backup()
    assert job.phase("backup-end") == 0
    window = newest(lab)
    assert (window.failure_stage, window.failure_reason) == ("preflight", "agent-option"), "nobody would be alerted"
    assert 'failures_total{id="qemu/100",node="pve1",reason="agent-option",source="vzdump",stage="preflight"' in (
        lab.metrics_path.read_text()
    )


def test_a_guest_that_was_to_be_frozen_and_has_no_window_is_a_failure(lab: Site, job: HandMadeJob) -> None:
    """Its holder could not be started, say; nobody would be alerted otherwise."""
    assert job.phase("backup-start") == 0
    assert job.phase("backup-end") == 0
    assert (newest(lab).failure_stage, newest(lab).failure_reason) == ("guard", "not-started")


@pytest.mark.parametrize("mode", ["suspend", "stop"])
def test_other_modes_are_not_frozen_and_get_their_verdict(
    lab: Site, guest: ScriptedGuest, job: HandMadeJob, mode: str
) -> None:
    assert job.phase("backup-start", mode) == 0
    assert job.phase("post-restart", mode) == 0
    assert job.phase("backup-end", mode) == 0
    assert newest(lab).verdict == ("offline" if mode == "stop" else "crash-consistent")
    assert not guest.hook_log()


@pytest.mark.parametrize("mode", ["snapshot", "suspend"])
def test_a_backup_that_require_refuses_stands_in_the_journal(
    lab: Site, guest: ScriptedGuest, job: HandMadeJob, mode: str
) -> None:
    """As a snapshot that it refuses does: the history has it, and the alert on failures."""
    policy(lab, "require")
    if mode == "snapshot":
        guest.kill_agent()
    assert job.phase("backup-start", mode) == 1
    assert job.phase("backup-abort", mode) == 0
    window = newest(lab)
    assert (window.verdict, window.failure_stage) == ("unknown", "preflight")
    assert window.failure_reason == ("agent" if mode == "snapshot" else "mode")
    assert job.said[-1].startswith("WARNING: guest 100: no backup: policy require")
    assert 'failures_total{id="qemu/100"' in lab.metrics_path.read_text()


def test_require_fails_mode_suspend_before_any_work_and_is_met_by_mode_stop(lab: Site, job: HandMadeJob) -> None:
    policy(lab, "require")
    assert job.phase("backup-start", "suspend") == 1
    assert "use mode snapshot" in job.said[-1]
    assert job.phase("backup-start", "stop") == 0
    assert job.phase("backup-end", "stop") == 0


@pytest.mark.parametrize("kind", ["container", "stop"])
def test_a_backup_that_needs_no_freeze_needs_no_journal_either(lab: Site, job: HandMadeJob, kind: str) -> None:
    """With policy require and a full disk every container's backup was once reported as failed."""
    policy(lab, "require")
    lab.journal_path.parent.mkdir(exist_ok=True)
    lab.journal_path.mkdir()
    environment = {"VMTYPE": "lxc", "HOSTNAME": "ct"} if kind == "container" else {}
    for phase in ("backup-start", "backup-end"):
        assert job.phase(phase, "stop" if kind == "stop" else "snapshot", **environment) == 0
    assert "the backup goes on" in job.said[-1]


def test_a_container_is_left_alone_whatever_the_policy(lab: Site, job: HandMadeJob) -> None:
    policy(lab, "require")
    lxc = {"VMTYPE": "lxc", "HOSTNAME": "ct"}
    for phase in ("backup-start", "post-restart", "backup-end", "log-end"):
        assert job.phase(phase, **lxc) == 0
    window = newest(lab)
    assert (window.kind, window.verdict) == ("lxc", "crash-consistent")


# ------------------------------------------------------------------------------------------------ the end of a backup


def test_require_fails_a_backup_whose_window_was_not_held_and_prefer_does_not(
    lab: Site, guest: ScriptedGuest, job: HandMadeJob
) -> None:
    for word, code in (("prefer", 0), ("require", 1)):
        policy(lab, word)
        assert job.phase("backup-start") == 0
        assert job.phase("post-restart") == 0
        guest.ask("guest-fsfreeze-thaw")
        job.start_backup()
        assert job.phase("backup-end") == code
        job.write("INFO: Finished Backup of VM 100 (00:00:01)", "INFO: Starting Backup of VM 100 (qemu)")
    assert "the backup is kept" in job.said[-1]
    lines = len(job.said)
    assert job.phase("backup-abort") == 0  # vzdump's next call after that failure
    assert len(job.said) == lines


def test_the_plan_of_a_guest_does_not_stay_in_the_journal(lab: Site, job: HandMadeJob) -> None:
    def plans() -> int:
        with contextlib.closing(Journal(lab.journal_path)) as journal, journal.transaction("read") as db:
            return int(db.execute("SELECT count(*) FROM notes WHERE key GLOB 'plan:*'").fetchone()[0])

    with contextlib.closing(Journal(lab.journal_path)) as journal:
        journal.set_note("plan:1:1:100", "{}", time.time() - 8 * 86400)  # of a job that was killed last week
    job.phase("backup-start")
    assert plans() == 2
    job.phase("post-restart")
    job.start_backup()
    job.phase("backup-end")
    assert plans() == 0


def test_an_earlier_jobs_window_is_not_this_ones(
    lab: Site, guest: ScriptedGuest, job: HandMadeJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where its task could not be found, a backup once got the verdict of the last one that was."""
    left_open(lab, verdict="filesystem-consistent", reason="yesterday", closed_at=time.time(), state="thawed")
    lost = job.worker._replace(upid=None, log=None)
    for module in ("backup_start", "post_restart", "backup_end"):
        monkeypatch.setattr(f"vzdump_hooks.phases.{module}.find_worker", lambda config: lost)
    for phase in ("backup-start", "post-restart", "backup-end"):
        assert job.phase(phase) == 0
    assert newest(lab).verdict == "unknown"
    assert "WARNING" in job.said[-1]


def test_a_clock_that_went_back_since_the_job_began_loses_no_window(lab: Site, job: HandMadeJob) -> None:
    past = job.upid.started_at - 900.0
    left_open(lab, intent_at=past, upid=job.upid.text, verdict="filesystem-consistent", reason="x", closed_at=past)
    assert job.phase("backup-end") == 0
    assert job.said == ["guest 100: filesystem-consistent: x"]


def test_the_job_ends_with_a_sum_and_with_metrics(lab: Site, job: HandMadeJob) -> None:
    job.phase("backup-start")
    job.phase("post-restart")
    job.start_backup()
    job.phase("backup-end")
    assert job.phase("job-end") == 0
    assert job.said[-1] == "1 guest: 1 filesystem-consistent"
    assert 'pve_fsfreeze_last_verdict{id="qemu/100"' in lab.metrics_path.read_text()


# --------------------------------------------------------------------------------------------------- the backup's notes


def finished(lab: Site, job: HandMadeJob) -> None:
    lab.settings["hook"] = {"write_notes": True}
    lab.write_config()
    job.phase("backup-start")
    job.phase("post-restart")
    job.start_backup()
    job.phase("backup-end")


def test_the_verdict_is_appended_to_the_notes_of_a_file(lab: Site, job: HandMadeJob) -> None:
    secret = lab.node.add_token("notes@pve!hooks", (*PRIVILEGES, "Datastore.AllocateSpace", "VM.Backup"))
    lab.node.token_file.write_text(f"notes@pve!hooks={secret}\n")
    target = lab.node.root / "var/lib/vz/dump/vzdump-qemu-100-2026_11_22-21_19_23.vma.zst"
    target.touch()
    notes = target.with_name(target.name + ".notes")
    notes.write_text("guest100, pve1")
    finished(lab, job)
    lines = len(job.said)
    assert job.phase("log-end", TARGET=str(target), LOGFILE="/nonexistent") == 0
    assert job.said[lines:] == []
    first, second = notes.read_text().split("\n")
    assert first == "guest100, pve1"
    assert second.startswith("vzdump-hooks: filesystem-consistent: 1 filesystem frozen")


def test_the_verdict_is_appended_to_the_notes_on_a_backup_server(lab: Site, job: HandMadeJob) -> None:
    finished(lab, job)
    answer = json.dumps({"data": {"notes": "old"}})
    lab.node.fault("/storage/pbs/content/", "body", body=answer, times=None)
    assert job.phase("log-end", STOREID="pbs", TARGET="vm/100/2026-11-22T21:19:23Z") == 0
    got, put = lab.node.requests("/storage/pbs/content/")
    assert (got.method, put.method) == ("GET", "PUT")
    assert unquote(put.path).endswith("/pbs:backup/vm/100/2026-11-22T21:19:23Z")
    assert put.params["notes"].startswith("old\nvzdump-hooks: filesystem-consistent")


def test_notes_that_cannot_be_written_are_a_warning(lab: Site, job: HandMadeJob) -> None:
    finished(lab, job)
    target = str(lab.node.root / "var/lib/vz/dump/vzdump-qemu-100-2026_11_22-21_19_23.vma")
    assert job.phase("log-end", TARGET=target) == 0
    assert "WARNING: the verdict could not be written into the backup's notes" in job.said[-1]
    without_pvesh(lab)
    lab.node.stop_front()
    assert job.phase("log-end", TARGET=target) == 0
    assert "cannot be reached" in job.said[-1]


def test_a_backup_that_came_to_nothing_has_no_notes(lab: Site, job: HandMadeJob) -> None:
    lab.settings["hook"] = {"write_notes": True}
    lab.write_config()
    job.phase("backup-start")
    job.phase("post-restart")
    job.write("ERROR: Backup of VM 100 failed - x")
    job.phase("backup-abort")
    lab.node.forget_requests()
    assert job.phase("log-end", TARGET="/var/lib/vz/dump/vzdump-qemu-100-x.vma") == 0
    assert not lab.node.requests("/storage/")


@pytest.mark.parametrize(
    ("store", "target", "volume"),
    [
        ("local", "/var/lib/vz/dump/vzdump-qemu-100-x.vma.zst", "local:backup/vzdump-qemu-100-x.vma.zst"),
        ("pbs", "vm/100/2026-11-22T21:19:23Z", "pbs:backup/vm/100/2026-11-22T21:19:23Z"),
        ("vendor", "any/thing:it calls", "vendor:backup/any/thing:it calls"),
        ("local", "/../../../etc/passwd", "local:backup/passwd"),
        ("", "/mnt/dump/vzdump-qemu-100-x.vma", None),
        ("local", "-", None),
        ("local", "", None),
        ("local", "/", None),
    ],
)
def test_a_volume_is_named_as_pve_names_it(store: str, target: str, volume: str | None) -> None:
    assert volume_of(store, target) == volume


def test_every_process_of_ours_ends_with_its_backup(lab: Site, job: HandMadeJob) -> None:
    finished(lab, job)
    assert wait_for(lambda: not processes(lab), 20)
    assert os.getpgid(job.process.pid) == os.getpgid(0)


@pytest.mark.parametrize(
    ("values", "span"),
    [
        ({"freeze_outcome": "acknowledged", "owner": "hook"}, ", frozen for 153 ms"),
        ({"freeze_outcome": "acknowledged", "owner": "vzdump", "verdict": "unknown"}, ", window 153 ms"),
        ({"freeze_outcome": "acknowledged", "owner": "vzdump", "filesystems_thawed": 1}, ", frozen for 153 ms"),
        (
            {"freeze_outcome": "acknowledged", "owner": "vzdump", "verdict": "filesystem-consistent"},
            ", frozen for 153 ms",
        ),
        ({"freeze_outcome": "unknown"}, ", window 153 ms"),
        ({"freeze_outcome": "failed"}, ""),
        ({"freeze_outcome": "failed", "filesystems_thawed": 1}, ", frozen for 153 ms"),
        ({"freeze_outcome": "nothing-frozen", "filesystems_thawed": 0}, ""),
    ],
)
def test_frozen_for_is_said_of_what_an_agent_called_frozen(values: dict[str, object], span: str) -> None:
    window = record(**{"verdict": "crash-consistent", "reason": "r", "window_seconds": 0.153, **values})
    assert f"guest 100{span}: " in backup_end.describe(window)
