"""The administrator's own commands around a snapshot: what they are told, and what one that fails does to the run."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.engine.kit import snapshots, take
from tests.hooks_schema import follows_the_schema
from tests.lab.guest.scripted import ScriptedGuest
from tests.lab.site import Site, wait_for
from tests.process.timeline import watched

NOTES = """
import json, sys, time
begun = time.monotonic()
told = json.load(sys.stdin)
time.sleep(0.1)
with open({path!r}, "a") as file:
    file.write(json.dumps(dict(told=told, begun=begun, ended=time.monotonic(), arguments=sys.argv[1:])) + "\\n")
"""


def add(lab: Site, name: str, body: str, *, shebang: str = "#!/bin/sh", mode: int = 0o755) -> Path:
    folder = lab.run / "hooks.d"
    folder.mkdir(mode=0o755, exist_ok=True)
    folder.chmod(0o755)
    path = folder / name
    path.write_text(f"{shebang}\n{body}\n")
    path.chmod(mode)
    return path


@pytest.fixture
def noted(lab: Site) -> Path:
    """Where a command notes what it was told, and when."""
    path = lab.run / "notes"
    add(lab, "10-notes", NOTES.format(path=str(path)), shebang=f"#!{sys.executable} -IS")
    return path


def notes(noted: Path) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in noted.read_text().splitlines()] if noted.exists() else []
    for note in found:
        follows_the_schema(note["told"])
        assert note["arguments"] == [note["told"]["phase"]]
    return found


def told(noted: Path) -> list[dict[str, Any]]:
    return [note["told"] for note in notes(noted)]


@pytest.mark.parametrize("node", ["", "pve1"], ids=["elsewhere", "on the node"])
def test_commands_are_called_before_the_freeze_and_when_the_verdict_stands(lab: Site, noted: Path, node: str) -> None:
    if node:
        lab.on_the_node()
    with watched(lab.guest) as timeline:
        run = take(lab, "--json")
    assert run.exit_code == 0, run.text
    before, after = told(noted)
    assert (before["phase"], before["verdict"], before["task"]) == ("before-freeze", None, None)
    assert (after["phase"], after["verdict"]) == ("verdict", "filesystem-consistent")
    assert before["guest"] == after["guest"] == {"vmid": 100, "name": "guest100", "node": "pve1", "kind": "qemu"}
    assert (after["source"], after["snapshot"], after["task"]) == ("snapshot", "s1", run.json["upid"])
    assert after["window_seconds"] == run.json["window"]["window_seconds"]
    frozen = timeline.freezes()
    assert frozen
    inside = [n["told"]["phase"] for n in notes(noted) for a, b in frozen if n["begun"] < b and a < n["ended"]]
    assert not inside, f"ran while the guest was frozen: {inside}"


def test_a_dry_run_calls_none(lab: Site, noted: Path) -> None:
    assert take(lab, "--dry-run").exit_code == 0
    assert told(noted) == []


@pytest.mark.parametrize("how", ["off", "never, and PVE freezes nothing"])
def test_a_guest_that_nobody_freezes_has_a_verdict_alone(lab: Site, noted: Path, how: str) -> None:
    if how == "off":
        lab.guest.stop()
    else:
        lab.node.set_config(100, agent="1,freeze-fs=0")
    assert take(lab, "--policy", "never").exit_code == 0
    (after,) = told(noted)
    assert after["verdict"] == ("offline" if how == "off" else "crash-consistent")


def test_one_that_fails_before_the_freeze_is_a_warning(lab: Site) -> None:
    add(lab, "20-fails", "echo no; exit 3")
    run = take(lab, "--json")
    assert run.exit_code == 0
    assert run.json["verdict"]["kind"] == "filesystem-consistent"
    assert [line.partition(" (")[0] for line in run.json["warnings"]] == [
        "own command 20-fails: ended with 3 in before-freeze",
        "own command 20-fails: ended with 3 in verdict",
    ]


@pytest.mark.parametrize("kind", ["fails", "is refused"])
def test_with_require_it_is_a_veto_and_nothing_is_frozen_or_taken(lab: Site, noted: Path, kind: str) -> None:
    add(lab, "20-mine", "exit 3", mode=0o755 if kind == "fails" else 0o775)
    run = take(lab, "--json", "--policy", "require")
    assert run.exit_code == 6
    assert "own command 20-mine: " in run.json["error"]["message"]
    assert not lab.guest.hook_log()
    assert snapshots(lab) == {}
    assert [one["phase"] for one in told(noted)] == ["before-freeze", "verdict"], "what was stopped is started again"
    assert (lab.windows()[0].failure_stage, lab.windows()[0].failure_reason) == ("preflight", "before-freeze")


def test_one_that_hangs_is_ended(lab: Site) -> None:
    lab.write_config(commands={"timeout_seconds": 0.3})
    add(lab, "20-hangs", "exec sleep 100")
    run = take(lab, "--json", timeout=90)
    assert run.exit_code == 0
    assert sum("20-hangs: was ended by us" in line for line in run.json["warnings"]) == 2


def test_a_signal_ends_the_command_and_the_run_and_the_verdict_is_told(
    lab: Site, guest: ScriptedGuest, noted: Path
) -> None:
    pid = lab.run / "pid"
    add(lab, "20-hangs", f'[ "$1" = verdict ] || {{ echo $$ >{pid}.new; mv {pid}.new {pid}; exec sleep 100; }}')
    with lab.start("100") as run:
        assert wait_for(pid.exists, 30)
        run.send_signal(signal.SIGTERM)
        run.communicate(timeout=60)
    assert run.returncode == 143
    assert not guest.hook_log()
    assert [one["phase"] for one in told(noted)] == ["before-freeze", "verdict"]


def test_check_says_which_are_called_and_which_are_passed_over(lab: Site) -> None:
    """Who has forgotten to make his executable reads it here, not in the log of a night in which it was missed."""
    assert "own commands" not in lab.safe_snapshot("check", "100").stdout
    for name, mode in (
        ("9-last", 0o755),
        ("10-first", 0o755),
        ("20-forgotten", 0o644),
        ("30-bad", 0o775),
        ("x.bak", 0o755),
    ):
        add(lab, name, "exit 3", mode=mode)
    found = lab.safe_snapshot("check", "100").stdout
    assert "\n  own commands, in this order: 10-first, 9-last; passed over: 20-forgotten, x.bak\n" in found
    for number in range(12):
        add(lab, f"a{number:02}", "", mode=0o644)
    assert "a08 and 4 more\n" in lab.safe_snapshot("check", "100").stdout
    (lab.run / "hooks.d").chmod(0o777)
    assert "in this order" not in lab.safe_snapshot("check", "100").stdout, "the warning speaks of all"


@pytest.mark.parametrize("command", ["check 100", "status"])
def test_check_and_status_name_a_command_that_is_refused_and_the_mend(lab: Site, command: str) -> None:
    path = add(lab, "20-mine", "exit 3", mode=0o775)
    run = lab.safe_snapshot("--json", *command.split())
    assert run.exit_code == 0
    assert run.json["warnings"] == [
        f"own command 20-mine is not run: others than its owner may write to it: `chmod go-w {path}` once you know "
        "what it does"
    ]
