"""Silence is an alarm: a guest nobody comes to, a backup past the hook, a configuration that cannot be read."""

from __future__ import annotations

import contextlib
import os
import subprocess
from pathlib import Path

import pytest

from snapshot.config.settings import Config, GuestRule, JournalConfig, LocalConfig
from snapshot.journal import silences
from snapshot.journal.looks import GuestLook, Why
from snapshot.journal.silences import KEPT_SECONDS, NOT_KNOWN_SECONDS, SETTLED_SECONDS, UnhookedBackup
from snapshot.journal.store import Journal
from tests.hook.kit import back_up, hook_site, said
from tests.lab.guest.scripted import ScriptedGuest
from tests.lab.site import wait_for
from tests.metrics.conftest import DAY, World

HOUR = 3600.0
OURS = "UPID:pve1:00001000:00002000:6A000000:vzdump::root@pam:"
THEIRS = "UPID:pve1:00001001:00002001:6A000001:vzdump:100:root@pam:"


def look(world: World, vmid: int = 100, **values: object) -> GuestLook:
    seen = GuestLook(f"qemu/{vmid}", vmid, "pve1", f"guest-{vmid}", True, world.clock.now, state="thawed")
    return seen._replace(**values)  # type: ignore[arg-type]


def lines(world: World) -> list[str]:
    return silences.silences(world.journal, world.config, world.clock.now)


def test_every_running_guest_has_series_guarded_or_not(world: World) -> None:
    world.good_run(100)
    off = look(world, 103, running=False, why=Why.NODE_OFFLINE.value)
    world.journal.put_looks([look(world), look(world, 101), look(world, 102, state=""), off])
    for vmid in ("100", "101", "102"):
        assert world.value("pve_fsfreeze_guest_running", vmid=vmid) == 1
        assert world.value("pve_fsfreeze_guest_frozen", vmid=vmid, source="foreign") == 0
        assert world.value("pve_fsfreeze_run_limit_seconds", vmid=vmid) == 26 * HOUR
    assert world.value("pve_fsfreeze_guest_running", vmid="103") is None
    assert world.value("pve_fsfreeze_guest_state_known", vmid="101") == 1
    assert world.value("pve_fsfreeze_guest_state_known", vmid="102") == 0
    assert world.value("pve_fsfreeze_last_run_timestamp_seconds", vmid="101") is None
    assert lines(world) == []


def test_a_freeze_by_others_counts_once_it_has_lasted_too_long_and_is_no_run(world: World) -> None:
    world.good_run(100)
    before = world.value("pve_fsfreeze_last_run_timestamp_seconds", vmid="100")
    world.clock.now += 60
    deadline = world.clock.now + 300
    foreign = {"owner": "foreign", "source": "foreign", "state": "frozen", "deadline_at": deadline}
    window = world.intent(100, frozen_at=world.clock.now, **foreign)
    world.clock.now = deadline
    assert world.value("pve_fsfreeze_guest_frozen", vmid="100", source="foreign") == 0
    world.clock.now = deadline + 1
    assert world.value("pve_fsfreeze_guest_frozen", vmid="100", source="foreign") == 1
    assert world.value("pve_fsfreeze_frozen_since_timestamp_seconds", vmid="100", source="foreign") == deadline - 300
    world.journal.update(window, state="thawed", closed_at=world.clock.now, thawed_at=world.clock.now)
    assert world.value("pve_fsfreeze_guest_frozen", vmid="100", source="foreign") in (None, 0)
    names = {name for (name, pairs) in world.samples() if ("source", "foreign") in pairs}
    assert names <= {"pve_fsfreeze_guest_frozen"}
    assert world.value("pve_fsfreeze_last_run_timestamp_seconds", vmid="100") == before


def test_a_last_run_that_is_too_old_is_said_with_the_guests_own_limit(world: World) -> None:
    for vmid in (100, 101, 102):
        world.good_run(vmid)
    world.config = world.config._replace(
        guest=(
            GuestRule(vmid=101, run_limit_seconds=8 * DAY),
            GuestRule(vmid=102, run_limit_seconds=0.0),
        )
    )
    world.clock.now += 27 * HOUR
    world.journal.put_looks([look(world, vmid) for vmid in (100, 101, 102)])
    (line,) = lines(world)
    assert "guest 100 (guest-100) on pve1" in line
    assert "27 h old" in line
    assert "run_limit_seconds" in line
    assert world.value("pve_fsfreeze_run_limit_seconds", vmid="102") is None
    world.journal.put_looks([look(world, 100, run_limit_seconds=0.0), look(world, 101)])  # by a rule for its tag
    assert lines(world) == []
    assert world.value("pve_fsfreeze_run_limit_seconds", vmid="100") is None


def test_a_guest_that_no_run_has_ever_come_to_is_said_after_its_limit(world: World) -> None:
    world.journal.put_looks([look(world)])
    world.clock.now += 25 * HOUR
    world.journal.put_looks([look(world)])
    assert lines(world) == []
    world.clock.now += 2 * HOUR
    world.journal.put_looks([look(world)])
    (line,) = lines(world)
    assert "has never had a guarded backup or snapshot" in line
    world.good_run(100)
    assert lines(world) == []


@pytest.mark.parametrize("why", [Why.AGENT_SILENT, Why.REFUSED, Why.DENIED])
def test_a_guest_of_which_nobody_knows_is_named_with_the_reason(world: World, why: Why) -> None:
    world.good_run(100)
    since = world.clock.now - NOT_KNOWN_SECONDS - 1
    world.journal.put_looks([look(world, state="", why=why.value, still_since_at=since)])
    (line,) = lines(world)
    assert why.value in line
    assert world.value("pve_fsfreeze_guest_not_known_since_timestamp_seconds", vmid="100", why=why.value) == since
    for well in (
        {"state": "", "why": why.value, "still_since_at": None},  # it writes
        {"state": "", "why": Why.AGENT_OFF.value, "still_since_at": since},  # nobody can freeze it
        {"state": "thawed", "still_since_at": since},
    ):
        world.journal.put_looks([look(world, **well)])
        assert lines(world) == []


def test_a_look_that_is_old_is_a_silence_of_its_own(world: World) -> None:
    world.good_run(100)
    world.journal.put_looks([look(world)])
    world.clock.now += 1000
    (line,) = lines(world)
    assert "safe-snapshot-recover.timer" in line


def task_index(world: World, *tasks: tuple[str, float, str], name: str = "index") -> None:
    folder = world.folder / "tasks"
    folder.mkdir(exist_ok=True)
    with (folder / name).open("a") as index:
        index.writelines(f"{upid} {int(at):08X} {status}\n" for upid, at, status in tasks)
    world.config = world.config._replace(local=LocalConfig(task_folder=folder))


def found(world: World) -> list[UnhookedBackup]:
    return silences.look_at_tasks(world.journal, world.config, world.clock.now)


def test_a_vzdump_task_without_our_hook_is_found_once_and_told_for_a_day(world: World) -> None:
    task_index(world, (THEIRS.replace("1001", "0FFF"), world.clock.now - 60, "OK"))
    assert found(world) == []  # before us
    world.clock.now += 600
    silences.note_job(world.journal, 0x1000, 0x2000, world.clock.now)
    ended = world.clock.now
    task_index(
        world,
        (OURS, ended, "job errors"),
        (THEIRS, ended, "OK"),
        (THEIRS.replace(":vzdump:", ":qmstart:"), ended, "OK"),
        (THEIRS.replace("00001001", "00001002"), ended, "could not get storage information"),
    )
    with (world.folder / "tasks" / "index").open("a") as index:
        index.write("UPID:nonsense:vzdump:\n\x00\xff:vzdump:\n")
    world.clock.now += SETTLED_SECONDS + 1
    assert found(world) == [UnhookedBackup(THEIRS, int(ended))]
    assert found(world) == []
    assert world.value("pve_fsfreeze_last_unhooked_backup_timestamp_seconds") == int(ended)
    (line,) = lines(world)
    assert THEIRS in line
    assert "vzdump.conf" in line
    world.clock.now += DAY
    assert lines(world) == []


def test_what_was_rotated_away_meanwhile_is_looked_at_too(world: World) -> None:
    assert found(world) == []
    world.clock.now += 600
    task_index(world, (THEIRS, world.clock.now, "WARNINGS: 2"), name="index.1")
    world.clock.now += 5
    assert [backup.upid for backup in found(world)] == [THEIRS]


def test_nothing_is_looked_for_where_no_backup_is_expected_to_be_guarded(world: World) -> None:
    world.config = world.config._replace(metrics=world.config.metrics._replace(run_limit_seconds=0.0))
    assert found(world) == []
    world.clock.now += 600
    task_index(world, (THEIRS, world.clock.now, "OK"))
    world.config = world.config._replace(metrics=world.config.metrics._replace(run_limit_seconds=0.0))
    world.clock.now += 5
    assert found(world) == []


def test_a_clock_that_goes_back_neither_hides_tasks_for_ever_nor_finds_old_ones(world: World) -> None:
    assert found(world) == []
    world.clock.now -= 10 * DAY
    assert found(world) == []
    world.clock.now += 600
    task_index(world, (THEIRS, world.clock.now, "OK"))
    world.clock.now += 5
    assert len(found(world)) == 1


def test_jobs_that_had_our_hook_are_forgotten_in_the_end_but_not_by_a_broken_journal(world: World) -> None:
    silences.note_job(world.journal, 1, 1, world.clock.now)
    silences.note_job(world.journal, 2, 2, world.clock.now + KEPT_SECONDS)
    silences.note_job(world.journal, 3, 3, world.clock.now + KEPT_SECONDS + 1)
    assert world.journal.note("job:1:1") is None
    assert world.journal.note("job:2:2") == silences.BEGUN
    for name in ("plan:of a backup", "done:before in its job", "failed:in its job"):
        world.journal.set_note(name, "of a job that goes on", world.clock.now)
    path = world.config.journal.path
    root = world.journal.query("SELECT rootpage FROM sqlite_schema WHERE name = 'windows_by_time'")[0][0]
    raw = bytearray(path.read_bytes())
    raw[(root - 1) * 4096 : root * 4096] = b"\xff" * 4096
    path.write_bytes(raw)
    with contextlib.closing(Journal(path)) as journal:
        journal.history(limit=1)
        assert journal.note("job:2:2") == silences.BEGUN
        for name in ("plan:of a backup", "done:before in its job", "failed:in its job"):
            assert journal.note(name) == "of a job that goes on"
        assert silences.begun_anew_at(journal) is not None


def test_a_broken_configuration_is_a_metric_until_it_is_mended(world: World) -> None:
    assert world.value("pve_fsfreeze_config_broken") == 0
    silences.note_config(world.journal, ["[freeze] policy\x1b is 'maybe'"], world.clock.now)
    assert world.value("pve_fsfreeze_config_broken") == 1
    (line,) = lines(world)
    assert "policy" in line
    assert line.isprintable()
    silences.note_config(world.journal, [], world.clock.now)
    assert world.value("pve_fsfreeze_config_broken") == 0


def test_a_missing_folder_for_the_metrics_is_said_for_no_metric_can(world: World) -> None:
    world.textfile.parent.rmdir()
    (line,) = lines(world)
    assert str(world.textfile.parent) in line
    assert silences.told_by(Path("/nowhere/journal"), world.config, 0) == [line]
    world.config = world.config._replace(metrics=world.config.metrics._replace(textfile=None))
    assert lines(world) == []
    assert silences.told_by(Path("/nowhere/journal"), Config(metrics=world.config.metrics), 0) == []


def test_a_backup_past_the_hook_raises_the_alarm_and_a_hooked_one_whose_guests_are_all_skipped_does_not() -> None:
    with hook_site(ScriptedGuest) as lab:
        lab.on_the_node()
        assert lab.safe_snapshot("recover").exit_code == 0  # from here on it looks
        hooked = back_up(lab, 999)  # a guest that is not there
        assert any("vzdump-hook" in line for line in hooked.log_lines) or hooked.log_lines
        assert back_up(lab, 100, script="/bin/true").log_lines[-1] == "TASK OK"
        lab.node.tasks.refresh()

        def alarms() -> bool:
            lab.safe_snapshot("recover")
            return "pve_fsfreeze_last_unhooked_backup_timestamp_seconds{" in lab.metrics_path.read_text()

        assert wait_for(alarms, 30)
        with contextlib.closing(Journal(lab.journal_path, read_only=True)) as journal:
            unhooked = silences.last_unhooked(journal)
        assert unhooked is not None
        assert ":vzdump:100:" in unhooked.upid or ":vzdump::" in unhooked.upid


def test_a_broken_configuration_is_an_alarm_that_the_hook_raises() -> None:
    with hook_site(ScriptedGuest) as lab:
        lab.write_config()
        good = lab.config_path.read_text()
        lab.rules = "[[guest]]\nvmid = 'x'\n"
        lab.write_config()
        result = back_up(lab, 100)
        assert result.log_lines[-1] == "TASK OK"
        assert any("WARNING" in line for line in said(result))
        assert "pve_fsfreeze_config_broken{" in lab.metrics_path.read_text()
        broken = next(
            line for line in lab.metrics_path.read_text().splitlines() if line.startswith("pve_fsfreeze_config_broken{")
        )
        assert broken.endswith(" 1.0")
        lab.rules = ""
        lab.config_path.write_text(good)
        assert back_up(lab, 100).log_lines[-1] == "TASK OK"
        assert not [line for line in lab.metrics_path.read_text().splitlines() if line == broken]


def test_status_and_recover_tell_the_silences_and_every_guest_of_the_node_has_series() -> None:
    with hook_site(ScriptedGuest, ScriptedGuest) as lab:
        lab.on_the_node()
        lab.rules = '[[guest]]\ntag = "lazy"\nrun_limit_seconds = 0\n'
        lab.write_config()
        lab.node.set_config(101, tags="lazy")
        assert lab.safe_snapshot("recover").exit_code == 0
        text = lab.metrics_path.read_text()
        for vmid in (100, 101):
            assert f'pve_fsfreeze_guest_running{{id="qemu/{vmid}",node="pve1",vmid="{vmid}"}} 1.0' in text
        assert 'pve_fsfreeze_run_limit_seconds{id="qemu/100"' in text
        assert 'pve_fsfreeze_run_limit_seconds{id="qemu/101"' not in text
        with contextlib.closing(Journal(lab.journal_path)) as journal, journal.transaction("written") as db:
            db.execute("UPDATE looks SET first_seen_at = 1000.0")
        (line,) = [line for line in lab.safe_snapshot("status").text.splitlines() if "never had a guarded" in line]
        assert "guest 100" in line
        lab.rules = "[[guest]]\nvmid = 'x'\n"
        lab.write_config()
        lab.safe_snapshot("recover")
        assert "pve_fsfreeze_config_broken{node=" in lab.metrics_path.read_text()
        assert "the configuration cannot be used as it is" in lab.safe_snapshot("status").text


# ---------------------------------------------------------------- folders that strangers may change


STRANGER = 4242


def folder_lines(world: World, me: int | None = None) -> list[str]:
    return silences.folder_lines(world.config, os.geteuid() if me is None else me)


def state_folders(world: World) -> dict[str, Path]:
    folder = world.config.journal.path.parent
    (folder / "guards").mkdir(mode=0o700, exist_ok=True)
    return {
        "the journal's folder": folder,
        "the journal": world.config.journal.path,
        "the guards' folder": folder / "guards",
        "the metrics' folder": world.textfile.parent,
    }


STATE = ["the journal's folder", "the journal", "the guards' folder", "the metrics' folder"]


@pytest.mark.parametrize("what", STATE)
@pytest.mark.parametrize("bit", [0o002, 0o020])
def test_what_others_may_write_is_told_with_the_command_that_mends_it(world: World, what: str, bit: int) -> None:
    path = state_folders(world)[what]
    assert folder_lines(world, 0 if os.geteuid() == 0 else None) == []
    path.chmod(path.stat().st_mode | bit)
    with contextlib.suppress(PermissionError):
        os.chown(path, -1, STRANGER)  # not a plain user's own group
    (line,) = folder_lines(world)
    assert str(path) in line
    assert "can be written by" in line
    subprocess.run(line.split("`")[1], shell=True, check=True)
    assert folder_lines(world) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="gives files away")
@pytest.mark.parametrize("what", STATE)
def test_what_belongs_to_somebody_else_is_told_with_the_command_that_mends_it(world: World, what: str) -> None:
    path = state_folders(world)[what]
    os.chown(path, STRANGER, -1)
    path.chmod(0o777)
    (line,) = folder_lines(world)
    assert f"{path} belongs to uid {STRANGER}" in line
    subprocess.run(line.split("`")[1], shell=True, check=True)
    assert folder_lines(world) == []
    assert folder_lines(world, STRANGER) == [], "root may"


@pytest.mark.skipif(os.geteuid() != 0, reason="gives files away")
def test_who_owns_a_folder_above_may_put_another_in_its_place(world: World) -> None:
    above = world.config.journal.path.parent.parent
    os.chown(above, STRANGER, -1)
    (line,) = folder_lines(world)
    assert "choose another folder ([journal] path)" in line
    link = world.folder / "link"
    link.symlink_to(above / "state")
    world.config = world.config._replace(journal=JournalConfig(path=link / "journal.sqlite"))
    assert len(folder_lines(world)) == 1


@pytest.mark.parametrize("mode", [0o700, 0o750, 0o755, 0o1777, 0o2755])
def test_usual_folders_are_no_alarm(world: World, mode: int) -> None:
    for path in (world.config.journal.path.parent, world.textfile.parent):
        path.chmod(mode)
    assert folder_lines(world) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="gives files away")
def test_a_plain_users_own_folders_and_the_exporters_are_no_alarm(world: World) -> None:
    os.chown(world.textfile.parent, 990, 990)
    assert folder_lines(world) == []
    for path in (world.config.journal.path.parent, world.config.journal.path, world.textfile.parent):
        os.chown(path, STRANGER, -1)
    assert folder_lines(world, STRANGER) == []


@pytest.mark.parametrize("what", ["config", "sendmail", "above"])
def test_who_may_choose_the_programs_that_root_runs_is_told(world: World, what: str) -> None:
    above = world.folder / "etc"
    above.mkdir(mode=0o755)
    path, sendmail = above / "config.toml", world.folder / "sendmail"
    for file in (path, sendmail):
        file.write_text("")
        file.chmod(0o644)
    world.config = world.config._replace(notify=world.config.notify._replace(mail_to="root", sendmail=sendmail))
    assert silences.config_lines(world.config, path) == []
    other = {"config": path, "sendmail": sendmail, "above": above}[what]
    other.chmod(0o777)
    (line,) = silences.config_lines(world.config, path)
    assert f"{other} can be written by everybody: whoever that is may choose the programs that we run" in line
    assert f"`chmod go-w {other}` mends it" in line


def test_a_configuration_of_a_stranger_is_told_by_status_check_and_the_jobs_log() -> None:
    with hook_site(ScriptedGuest) as lab:
        lab.config_path.chmod(0o666)
        told = f"{lab.config_path} can be written by everybody"
        for command in (["status"], ["check", "100"]):
            assert told in lab.safe_snapshot(*command).text
        assert any(told in line for line in back_up(lab).log_lines)


@pytest.mark.skipif(os.geteuid() != 0, reason="gives files away")
def test_a_folder_of_a_stranger_is_told_by_every_command_and_costs_no_thaw() -> None:
    with hook_site(ScriptedGuest) as lab:
        told = f"{lab.journal_path.parent} belongs to uid {STRANGER}"
        assert "belongs to" not in lab.safe_snapshot("status").text
        os.chown(lab.journal_path.parent, STRANGER, -1)
        assert told in lab.safe_snapshot("status").stdout
        check = lab.safe_snapshot("check", "100")
        assert told in check.stdout
        assert told in lab.safe_snapshot("--json", "check", "100").json["warnings"][0]
        run = lab.safe_snapshot("100", "--policy", "require")
        assert (run.exit_code, told in run.text) == (0, True), run
        job = back_up(lab, 100)
        assert any("WARNING: " in line and told in line for line in job.log_lines), job.log_lines
        assert job.log_lines[-1] == "TASK OK"
        lab.guest.ask("guest-fsfreeze-freeze")
        assert lab.safe_snapshot("thaw", "100").exit_code == 0
        assert not lab.guest.is_frozen()
