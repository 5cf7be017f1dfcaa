"""The administrator's own commands in whole backups: called in the right phases, never while the guest is frozen, and
what one that fails, hangs, floods or stays behind does to a backup.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.hook.kit import HandMadeJob, add_rules, back_up, check_thawed, hook_site, newest, said
from tests.hook.test_phases import left_open
from tests.hooks_schema import follows_the_schema
from tests.lab.fixtures import require_real
from tests.lab.guest.base import Guest, pid_is_alive
from tests.lab.guest.real import RealGuest
from tests.lab.guest.scripted import ScriptedGuest
from tests.lab.node.node import GuestSpec
from tests.lab.site import Site, wait_for
from tests.process.timeline import watched

NOTES = """
import json, os, sys, time
begun = time.monotonic()
text = sys.stdin.read()
time.sleep({seconds})
note = dict(phase=sys.argv[1], arguments=sys.argv[2:], environment=dict(os.environ), text=text, begun=begun)
with open({path!r}, "a") as file:
    file.write(json.dumps(dict(note, ended=time.monotonic())) + "\\n")
"""
OPEN = """
import sqlite3, sys
(count,) = sqlite3.connect({path!r}).execute("SELECT count(*) FROM windows WHERE closed_at IS NULL").fetchone()
print(count, "open in", sys.argv[1])
sys.exit(1)
"""
OF_A_BACKUP = [
    "job-init", "job-start", "backup-start", "pre-stop", "pre-restart", "post-restart", "before-freeze",
    "verdict", "backup-end", "log-end", "job-end",
]  # fmt: skip


def add(lab: Site, name: str, body: str, *, shebang: str = "#!/bin/sh", mode: int = 0o755) -> None:
    folder = lab.run / "hooks.d"
    folder.mkdir(mode=0o755, exist_ok=True)
    folder.chmod(0o755)
    (folder / name).write_text(f"{shebang}\n{body}\n")
    (folder / name).chmod(mode)


def in_phase(phase: str, body: str) -> str:
    return f'case "$1" in {phase}) {body};; esac'


def noting(lab: Site, seconds: float = 0.0) -> None:
    """A command that notes how it was called, and when."""
    add(lab, "10-notes", NOTES.format(path=str(lab.run / "notes"), seconds=seconds), shebang=f"#!{sys.executable} -IS")


def notes(lab: Site) -> list[dict[str, Any]]:
    path = lab.run / "notes"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def configure(lab: Site, **tables: dict[str, Any]) -> None:
    for name, values in tables.items():
        lab.settings.setdefault(name, {}).update(values)
    lab.write_config()


# -------------------------------------------------------------------------------- never inside a window


def check_none_while_frozen(lab: Site, guest: Guest, owner: str) -> None:
    """By the guest's own writes: between the QMP command's start and the point in time it stands still for a second."""
    configure(lab, hook={"owner": owner})
    noting(lab, 0.1)
    with watched(guest) as timeline:
        result = back_up(lab, backup_delay=1.0)
        frozen = timeline.freezes()
    assert result.ok, result.log_lines
    found = notes(lab)
    assert [note["phase"] for note in found] == OF_A_BACKUP
    assert frozen, "nothing was frozen"
    assert newest(lab).verdict == "filesystem-consistent", result.log_lines
    inside = [note["phase"] for note in found for start, end in frozen if note["begun"] < end and start < note["ended"]]
    assert not inside, f"ran while the guest was frozen: {inside}"


@pytest.mark.parametrize("owner", ["hook", "vzdump"])
def test_no_command_runs_while_the_guest_is_frozen(lab: Site, owner: str) -> None:
    check_none_while_frozen(lab, lab.guest, owner)


@pytest.mark.real
@pytest.mark.parametrize("owner", ["hook", "vzdump"])
def test_no_command_runs_while_a_real_guest_is_frozen(owner: str) -> None:
    require_real()
    with hook_site(RealGuest) as lab:
        check_none_while_frozen(lab, lab.guest, owner)


@pytest.mark.parametrize("phase", ["job-init", "job-start", "backup-start"])
def test_no_command_runs_before_a_guest_that_a_dead_run_left_frozen_is_thawed(
    lab: Site, job: HandMadeJob, phase: str
) -> None:
    """A command may take a minute, and one that fails in backup-start vetoes our own preflight, which would thaw it."""
    left_open(lab)
    guest = lab.guest
    assert isinstance(guest, ScriptedGuest)
    guest.ask("guest-fsfreeze-freeze")
    add(lab, "10-asks", OPEN.format(path=str(lab.journal_path)), shebang=f"#!{sys.executable} -IS")
    job.phase(phase)
    assert not guest.is_frozen()
    assert f"10-asks: 0 open in {phase}" in job.said
    assert any("a window was left open: thawed" in line for line in job.said)


# -------------------------------------------------------------------------------- how it is called


def test_a_command_is_called_as_vzdump_calls_its_script(lab: Site) -> None:
    noting(lab)
    assert back_up(lab).ok
    found = {note["phase"]: note for note in notes(lab)}
    assert found["backup-start"]["arguments"] == ["snapshot", "100"]
    assert found["job-start"]["arguments"] == []
    assert found["backup-end"]["environment"]["VMTYPE"] == "qemu"
    assert found["backup-end"]["environment"]["TARGET"]
    assert not any("token" in value.lower() for note in found.values() for value in note["environment"].values())
    assert all(found[phase]["text"] == "" for phase in OF_A_BACKUP if phase not in ("before-freeze", "verdict"))


def test_our_own_phases_bring_what_a_command_needs_to_know(lab: Site) -> None:
    noting(lab)
    assert back_up(lab).ok
    before, verdict = (
        follows_the_schema(json.loads(note["text"])) for note in notes(lab) if note["phase"] in OF_A_BACKUP[6:8]
    )
    window = newest(lab)
    assert before["guest"] == {"vmid": 100, "name": window.guest_name, "node": "pve1", "kind": "qemu"}
    assert (before["source"], before["policy"], before["verdict"]) == ("backup", "prefer", None)
    assert before["task"] == window.upid
    assert (verdict["verdict"], verdict["reason"]) == ("filesystem-consistent", window.reason)
    assert verdict["window_seconds"] == window.window_seconds
    assert verdict["may_still_be_frozen"] is False


def test_a_container_and_a_guest_that_is_off_have_vzdumps_phases_and_a_verdict() -> None:
    with hook_site(ScriptedGuest) as lab:
        noting(lab)
        lab.guest.stop()
        lab.node.add_guest(GuestSpec(200, kind="lxc"))
        assert back_up(lab, 100, 200).ok
        found = notes(lab)
        phases = [note["phase"] for note in found]
        assert "before-freeze" not in phases
        told = [follows_the_schema(json.loads(note["text"])) for note in found if note["phase"] == "verdict"]
        assert [(one["guest"]["kind"], one["verdict"]) for one in told] == [
            ("qemu", "offline"),
            ("lxc", "crash-consistent"),
        ]
        of_container = [note["phase"] for note in found if note["arguments"][1:] == ["200"]]
        assert {"backup-start", "post-restart", "backup-end", "log-end"} <= set(of_container)


def test_a_phase_that_we_do_not_know_may_be_known_to_a_command(lab: Site, job: HandMadeJob) -> None:
    noting(lab)
    assert job.phase("brand-new") == 0
    assert [(note["phase"], note["arguments"]) for note in notes(lab)] == [("brand-new", ["snapshot", "100"])]


# -------------------------------------------------------------------------------- one that fails


@pytest.mark.parametrize("phase", ["job-init", "job-start"])
def test_one_that_fails_before_the_guests_fails_the_job(lab: Site, phase: str) -> None:
    noting(lab)
    add(lab, "20-fails", in_phase(phase, "echo no; exit 3"))
    result = back_up(lab)
    assert not result.ok
    assert not lab.guest.hook_log()
    assert "backup-start" not in [note["phase"] for note in notes(lab)]
    assert "ERROR: own command 20-fails: ended with 3; this job fails" in said(result)
    assert "20-fails: no" in said(result)


@pytest.mark.parametrize("phase", ["backup-start", "pre-stop", "pre-restart", "post-restart"])
def test_one_that_fails_before_the_backup_vetoes_it_and_the_guest_is_not_frozen(lab: Site, phase: str) -> None:
    noting(lab)
    add(lab, "20-fails", in_phase(phase, "exit 3"))
    add(lab, "30-after", in_phase(phase, "echo nobody calls me any more"))
    result = back_up(lab)
    assert result.guests[100].state == "err"
    assert not lab.guest.hook_log()
    assert "ERROR: own command 20-fails: ended with 3; this guest's backup fails" in said(result)
    assert not any("nobody" in line for line in said(result))
    phases = [note["phase"] for note in notes(lab)]
    assert "before-freeze" not in phases
    assert phases[-3:] == ["backup-abort", "log-end", "job-end"]


@pytest.mark.parametrize(
    ("phase", "state", "is_ok", "line"),
    [
        ("backup-end", "err", False, "ERROR: own command 20-fails: ended with 3; this guest is reported as failed"),
        ("log-end", "ok", True, "WARNING: own command 20-fails: ended with 3; vzdump warns of it, and goes on"),
        ("job-end", "ok", False, "ERROR: own command 20-fails: ended with 3; this job is reported as failed"),
        ("verdict", "ok", True, "WARNING: own command 20-fails: ended with 3 in verdict; the verdict stands"),
        (
            "before-freeze",
            "ok",
            True,
            "WARNING: own command 20-fails: ended with 3 in before-freeze; the backup goes on",
        ),
    ],
)
def test_one_that_fails_later_means_what_it_means_to_vzdump(
    lab: Site, phase: str, state: str, is_ok: bool, line: str
) -> None:
    add(lab, "20-fails", in_phase(phase, "exit 3"))
    result = back_up(lab)
    assert (result.guests[100].state, result.ok) == (state, is_ok), result.log_lines
    assert result.guests[100].archive is not None
    assert any(text.startswith(line) for text in said(result)), said(result)
    assert newest(lab).verdict == "filesystem-consistent"


def test_with_require_one_that_fails_before_the_freeze_vetoes_it(lab: Site) -> None:
    configure(lab, freeze={"policy": "require"})
    add(lab, "20-fails", in_phase("before-freeze", "exit 3"))
    result = back_up(lab)
    assert result.guests[100].state == "err"
    assert not lab.guest.hook_log()
    assert any("20-fails: ended with 3 in before-freeze; policy require: this guest's" in line for line in said(result))


def test_ours_and_theirs_are_joined(lab: Site, job: HandMadeJob) -> None:
    """Our require fails a backup whose window was not held, and the commands are called all the same."""
    configure(lab, freeze={"policy": "require"})
    noting(lab)
    assert job.phase("backup-start") == job.phase("post-restart") == 0
    lab.guest.ask("guest-fsfreeze-thaw")
    job.start_backup()
    assert job.phase("backup-end") == 1
    assert [note["phase"] for note in notes(lab)][-2:] == ["verdict", "backup-end"]


# -------------------------------------------------------------------------------- one that hangs, floods, stays behind


@pytest.mark.parametrize("owner", ["hook", "vzdump"])
def test_floods_and_daemons_change_nothing_about_a_backup(lab: Site, owner: str) -> None:
    """On real guests: tests/real/test_own_commands.py."""
    configure(lab, hook={"owner": owner})
    add(lab, "10-flood", in_phase("post-restart", "yes | head -c 100000000"))
    add(lab, "20-daemon", in_phase("post-restart|backup-end", f"sleep 60 & echo $! >>{lab.run}/daemons"))
    began = time.monotonic()
    result = back_up(lab, terminal=True)
    try:
        assert result.ok, result.log_lines
        assert time.monotonic() - began < 50, "a daemon's pipes were waited for"
        assert newest(lab).verdict == "filesystem-consistent", result.log_lines
        assert len(result.log_lines) < 1000
    finally:
        for pid in (lab.run / "daemons").read_text().split():
            os.kill(int(pid), signal.SIGKILL)


@pytest.mark.parametrize(("phase", "state"), [("post-restart", "err"), ("before-freeze", "ok"), ("log-end", "ok")])
def test_one_that_hangs_is_ended_and_has_failed(lab: Site, phase: str, state: str) -> None:
    configure(lab, commands={"timeout_seconds": 0.5})
    add(lab, "10-hangs", in_phase(phase, "exec sleep 100"))
    began = time.monotonic()
    result = back_up(lab)
    assert time.monotonic() - began < 90
    assert result.guests[100].state == state
    assert any("10-hangs: was ended by us: it did not end within 0.5 s" in line for line in said(result))
    check_thawed(lab)
    assert bool(lab.guest.hook_log()) == (state == "ok")


def test_a_job_that_is_stopped_takes_the_command_with_it(lab: Site) -> None:
    """vzdump's TERM goes to the process group of the hook; the command has a group of its own."""
    add(
        lab,
        "10-long",
        in_phase("pre-stop", f"echo $$ >{lab.run}/pid.new; mv {lab.run}/pid.new {lab.run}/pid; sleep 60"),
    )
    path = lab.run / "pid"
    with subprocess.Popen(
        [lab.hook_script(), "pre-stop", "snapshot", "100"], stdout=subprocess.PIPE, text=True
    ) as hook:
        assert wait_for(path.exists, 30)
        hook.terminate()
        out, _ = hook.communicate(timeout=30)
    assert hook.returncode == 1
    assert "and with us the own command that was running" in out
    assert not pid_is_alive(int(path.read_text()))


# -------------------------------------------------------------------------------- refused


def test_one_that_is_refused_is_told_and_fails_no_backup(lab: Site) -> None:
    noting(lab)
    add(lab, "20-shared", "exit 1", mode=0o775)
    result = back_up(lab)
    assert result.ok, result.log_lines
    told = [line for line in said(result) if "20-shared" in line]
    assert len(told) == 2, "once in the job's log, once in the guest's"
    assert all(line.startswith("WARNING: own command 20-shared: not run: others than") for line in told)
    assert [note["phase"] for note in notes(lab)] == OF_A_BACKUP


@pytest.mark.parametrize("selector", ["vmid = 100", 'tag = "db"', 'pool = "prod"'])
def test_one_that_is_refused_fails_the_backups_that_require_a_freeze(lab: Site, selector: str) -> None:
    lab.node.set_config(100, tags="web;db")
    lab.node.set(guests={"100": {**lab.node.settings.guests["100"], "pool": "prod"}})
    add_rules(lab, f'[[guest]]\n{selector}\npolicy = "require"\n')
    add(lab, "20-shared", "exit 1", mode=0o775)
    result = back_up(lab)
    assert result.guests[100].state == "err"
    line = "ERROR: policy require, and this guest cannot be frozen: own command 20-shared is not run: others than"
    assert any(text.startswith(line) for text in said(result)), said(result)
    assert "post-restart" not in "\n".join(said(result))
    assert not lab.guest.hook_log()
    assert (newest(lab).failure_stage, newest(lab).failure_reason) == ("preflight", "before-freeze")


def test_one_that_is_refused_fails_a_backup_that_requires_a_freeze_also_where_pve_had_no_answer_at_first(
    lab: Site, job: HandMadeJob
) -> None:
    """Which guests a tag names is PVE's word: post-restart examines the guest again then."""
    lab.node.set_config(100, tags="db")
    add_rules(lab, '[[guest]]\ntag = "db"\npolicy = "require"\n')
    add(lab, "20-shared", "exit 1", mode=0o775)
    assert job.phase("post-restart") == 1
    assert "own command 20-shared is not run" in job.said[-1]
    assert not lab.guest.hook_log()


# -------------------------------------------------------------------------------- cost


@pytest.fixture
def idle(tmp_path: Path) -> Path:
    (tmp_path / "hooks.d").mkdir()
    (tmp_path / "hooks.d/.keep").touch()
    return tmp_path / "config.toml"


def test_an_empty_folder_costs_an_idle_phase_nothing_but_a_look(idle: Path) -> None:
    code = (
        "import sys; from vzdump_hooks.entry import run; before = set(sys.modules); "
        "run(['--config', sys.argv[1], 'pre-stop', 'snapshot', '100'], {}); print(*(set(sys.modules) - before))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(idle)], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
