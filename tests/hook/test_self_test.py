"""`vzdump-hook --self-test`: every phase as vzdump calls it, and nothing that counts as a backup."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import pytest

from tests.hook.kit import add_rules, processes
from tests.lab.fixtures import real_guest
from tests.lab.guest.scripted import ScriptedGuest
from tests.lab.node.node import GuestSpec
from tests.lab.site import MUTATED_TREE, Run, Site, environment, run_command, site, wait_for

pytestmark = pytest.mark.usefixtures("named_like_vzdump")
PHASES = (
    *("job-init", "job-start", "backup-start", "pre-stop", "pre-restart", "post-restart"),
    *("backup-end", "log-end", "job-end"),
)


def self_test(lab: Site, vmid: int | str = 100) -> Run:
    return run_command([*program(lab), "--self-test", str(vmid)])


def program(lab: Site) -> list[str]:
    """The hook as it is installed: a file. It calls itself by its name, and its phases have no environment to find a
    mutated tree by.
    """
    path = lab.run / "the-hook"
    tree = f"sys.path.insert(0, {MUTATED_TREE!r})\n" if MUTATED_TREE else ""
    path.write_text(f"#!{sys.executable}\nimport sys\n{tree}from vzdump_hooks.entry import main\nmain()\n")
    path.chmod(0o755)
    return [str(path), "--config", str(lab.config_path)]


def phases(run: Run) -> list[str]:
    return [line.split()[0] for line in run.stderr.splitlines() if line.split()[0] in {*PHASES, "backup-abort"}]


def leaves_nothing(lab: Site) -> None:
    assert not list((lab.node.root / "var/log/pve/tasks").glob("?/UPID:*selftest*"))
    assert lab.finds_nothing()
    assert wait_for(lambda: not processes(lab))


@pytest.mark.parametrize("owner", ["hook", "vzdump"])
def test_all_phases_are_played_and_the_guest_is_frozen_for_a_moment(
    lab: Site, guest: ScriptedGuest, owner: str
) -> None:
    lab.settings["hook"] = {"owner": owner}
    lab.write_config()
    run = self_test(lab)
    assert run.exit_code == 0, run.text
    assert phases(run) == list(PHASES)
    (window,) = lab.windows()
    assert (window.source, window.owner, window.verdict) == ("drill", owner, "filesystem-consistent")
    assert not guest.is_frozen()
    leaves_nothing(lab)


def test_nothing_of_it_counts_as_a_backup(lab: Site) -> None:
    assert self_test(lab).exit_code == 0
    lines = [line for line in lab.metrics_path.read_text().splitlines() if not line.startswith("#")]
    assert not [line for line in lines if 'id="qemu/100"' in line and "agent_up" not in line]
    status = lab.safe_snapshot("--json", "status").json
    assert not status["silences"]


def test_a_self_test_whose_task_is_not_found_is_no_backup(lab: Site) -> None:
    """Its standard output is another file than the task's log; whoever started it leads the process group."""
    player = f"#!{sys.executable}\nimport os, subprocess, sys\nos.dup2(2, 1)\n"
    script = lab.run / "player"
    script.write_text(f"{player}subprocess.run(sys.stdin.read().split())\n")
    script.chmod(0o755)
    phase = [*program(lab), "--no-commands", "post-restart", "snapshot", "100"]
    started = ["/bin/sh", "-c", f"{script} --self-test 100 <<.\n{' '.join(phase)}\n.\nexit 0"]
    environ = environment() | {"VMTYPE": "qemu", "HOSTNAME": "web1"}
    subprocess.run(started, env=environ, start_new_session=True, check=True, timeout=60)
    assert wait_for(lambda: [window.source for window in lab.windows()] == ["drill"])


def test_each_phase_gets_what_vzdump_gives_it(lab: Site) -> None:
    """By a wrapper with the hook's name, which writes down how it is called, and plays the self-test itself."""
    seen, script = lab.run / "seen", lab.run / "spy"
    script.write_text(
        f"#!{sys.executable}\nimport json, os, sys\nfrom vzdump_hooks import entry\n"
        "if '--self-test' not in sys.argv:\n"
        f"    with open({str(seen)!r}, 'a') as file:\n"
        "        file.write(json.dumps([sys.argv[3:], sorted(os.environ), os.getcwd(), sys.stdin.read()]) + '\\n')\n"
        "entry.main()\n"
    )
    script.chmod(0o755)
    run = run_command([str(script), "--config", str(lab.config_path), "--self-test", "100"])
    assert run.exit_code == 0, run.text
    calls = [json.loads(line) for line in seen.read_text().splitlines()]
    assert [arguments[1:] for arguments, *_ in calls] == [
        [phase] if phase.startswith("job") else [phase, "snapshot", "100"] for phase in PHASES
    ]
    for arguments, variables, folder, given in calls:
        of_guest = [] if arguments[1].startswith("job") else ["HOSTNAME", "VMTYPE"]
        known = {"LC_CTYPE"}  # what Python itself sets where the locale is C
        assert set(variables) - known == {"LC_ALL", "LVM_SUPPRESS_FD_WARNINGS", *of_guest}
        assert (folder, given) == ("/", "")


def test_own_commands_are_not_called(lab: Site) -> None:
    folder = lab.run / "hooks.d"
    folder.mkdir(mode=0o755)
    command = folder / "pager"
    command.write_text(f"#!/bin/sh\ntouch {lab.run}/paged\n")
    command.chmod(0o755)
    assert self_test(lab).exit_code == 0
    assert not (lab.run / "paged").exists()


def has_no_agent(lab: Site, guest: ScriptedGuest) -> None:
    """Nobody thaws it: that is found out at the end, and tried for no longer than a second."""
    lab.settings.setdefault("thaw", {})["owner_limit_seconds"] = 1.0
    lab.write_config()
    guest.kill_agent()


def test_what_a_phase_warns_of_fails_it(lab: Site, guest: ScriptedGuest) -> None:
    has_no_agent(lab, guest)
    run = self_test(lab)
    assert (run.exit_code, "SELF-TEST FAILED: backup-start" in run.text) == (1, True), run.text
    assert not list((lab.node.root / "var/log/pve/tasks").glob("?/UPID:*selftest*"))


def test_a_guest_that_require_refuses_is_aborted_as_vzdump_would(lab: Site, guest: ScriptedGuest) -> None:
    add_rules(lab, '[[guest]]\nvmid = 100\npolicy = "require"\n')
    has_no_agent(lab, guest)
    run = self_test(lab)
    assert run.exit_code == 1
    assert phases(run) == ["job-init", "job-start", "backup-start", "backup-abort", "log-end", "job-end"]
    assert not guest.is_frozen()


def test_a_broken_state_folder_shows_and_counts_in_no_series(lab: Site) -> None:
    lab.settings["journal"] = {"path": "/proc/nowhere/journal.sqlite"}
    lab.write_config()
    run = self_test(lab)
    assert run.exit_code == 1
    assert "journal" in run.text


def test_a_guest_may_be_named_and_one_that_is_not_the_only_one_of_its_name_is_not_frozen(
    lab: Site, guest: ScriptedGuest
) -> None:
    lab.node.set_config(100, name="web1")
    run = self_test(lab, "web1")
    assert (run.exit_code, phases(run)) == (0, list(PHASES)), run
    windows = len(lab.windows())
    lab.node.add_guest(GuestSpec(101, config={"name": "web1"}, run=lab.run / "off", running=False))
    for word, says in (
        ("web1", "2 guests are called web1; say which: 100, 101"),
        ("nobody", "no guest's name is 'nobody'"),
        ("web*", "'web*' may be several guests"),
    ):
        run = self_test(lab, word)
        assert (run.exit_code, says in run.stderr) == (1, True), run
    assert (guest.is_frozen(), len(lab.windows())) == (False, windows)


def test_a_guest_at_work_or_elsewhere_is_refused(lab: Site) -> None:
    lab.node.set_config(100, lock="backup")
    assert (self_test(lab).exit_code, lab.journal_path.exists()) == (1, False)
    lab.settings["local"]["node"] = "pve9"
    lab.write_config()
    assert self_test(lab).exit_code == 1
    assert self_test(lab, 999).exit_code == 1


def test_a_self_test_that_is_killed_leaves_no_frozen_guest(lab: Site, guest: ScriptedGuest) -> None:
    with subprocess.Popen(
        [*program(lab), "--self-test", "100"], env=environment(), stderr=subprocess.DEVNULL
    ) as started:
        assert wait_for(guest.is_frozen, 60)
        os.kill(started.pid, signal.SIGKILL)
    assert wait_for(lambda: not guest.is_frozen(), 60)


@pytest.mark.real
def test_on_a_real_guest() -> None:
    with site(real_guest) as lab:
        root = lab.node.root
        lab.settings["local"] = {"node": lab.node.node, "task_folder": str(root / "var/log/pve/tasks")}
        lab.write_config()
        run = self_test(lab)
        assert run.exit_code == 0, run.text
        assert lab.windows()[0].verdict == "filesystem-consistent"
        leaves_nothing(lab)
