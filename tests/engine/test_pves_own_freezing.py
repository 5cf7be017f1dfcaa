"""PVE freezes by itself in snapshot tasks, differently before and after qemu-server 9.1.10: no false word on either."""

from __future__ import annotations

import os
import signal
import subprocess

import pytest

from tests.engine import kit
from tests.engine.kit import refuse, take, the_guest
from tests.lab.guest.agentmodel import Refusal
from tests.lab.guest.scripted import ScriptedGuest
from tests.lab.site import Site, site, wait_for

OWN_FREEZING = ("9.2.6", "9.1.10", "9.1.9", "9.1.4", "8.4.1")


@pytest.mark.parametrize("version", OWN_FREEZING)
def test_the_verdict_is_right_whatever_pve_freezes_by_itself(version: str) -> None:
    """Since 9.1.10 PVE leaves a frozen guest alone. Before, it thaws it inside its task: nothing is proven then."""
    with site(ScriptedGuest, pve_version=version) as lab:
        run = take(lab)
        assert run.exit_code == 0, run
        if version in ("9.2.6", "9.1.10"):
            assert "filesystem-consistent" in run.stdout
        else:
            assert "filesystem-consistent" not in run.stdout
            assert "unknown: PVE thawed the guest itself" in run.stdout
            assert "9.1.10" in run.stdout


@pytest.mark.parametrize("version", ["9.2.6", "9.1.9", "9.1.5", "9.1.4", "8.4.1"])
def test_with_pves_own_freezing_switched_off_a_proof_is_to_be_had_since_9_1_5(version: str) -> None:
    """freeze-fs=0 covers snapshots since then: PVE does not touch the agent while the guest is frozen by us."""
    with site(ScriptedGuest, pve_version=version) as lab:
        lab.only_we_freeze()
        run = take(lab, "--json")
        kind = "unknown" if version in ("9.1.4", "8.4.1") else "filesystem-consistent"
        assert run.json["verdict"]["kind"] == kind, run


@pytest.mark.parametrize("version", ["9.2.6", "9.1.9"])
def test_a_window_that_broke_inside_pves_task_is_never_called_consistent(version: str) -> None:
    with site(ScriptedGuest, pve_version=version, task_delays={"before": 0.6}) as lab:
        guest = the_guest(lab)
        process = lab.start("100", "--name", "s1", "--json")
        assert wait_for(lambda: any("snapshot" in r.path and r.method == "POST" for r in lab.node.requests()))
        assert wait_for(guest.is_frozen)
        guest.thaw_from_inside()
        stdout, _ = process.communicate(timeout=60)
        assert '"kind": "filesystem-consistent"' not in stdout


@pytest.mark.parametrize("known", [True, False], ids=["its version is known", "and is not"])
def test_pves_own_thaw_is_the_reason_only_where_it_may_have_been_it(known: bool) -> None:
    with site(ScriptedGuest, pve_version="9.2.6") as lab:
        lab.node.fault("/snapshot$", "hold", when="before", method="POST")
        if not known:
            lab.node.fault("/apt/versions", "status", status=403, reason="Permission check failed", times=None)
        guest = the_guest(lab)
        process = lab.start("100", "--name", "s1")
        assert wait_for(lambda: lab.node.held() > 0, 60)
        guest.ask("guest-fsfreeze-thaw")
        lab.node.release()
        stdout, _ = process.communicate(timeout=60)
        said = " ".join(stdout.split())
        assert "unknown: the guest was found thawed before its end: somebody else thawed it" in said
        assert ("9.1.10" in said) == (not known)


@pytest.mark.parametrize("version", ["9.2.6", "9.1.9"])
def test_what_pve_cannot_prove_is_refused_before_the_freeze_for_policy_require(version: str) -> None:
    with site(ScriptedGuest, pve_version=version) as lab:
        for line in ("100", "all"):
            run = take(lab, "--policy", "require") if line == "100" else lab.safe_snapshot(line, "--policy", "require")
            assert run.exit_code == (0 if version == "9.2.6" else 6), run
        assert ("s1" in kit.snapshots(lab)) == (version == "9.2.6")
        if version != "9.2.6":
            assert "9.1.10" in run.text
            assert "upgrade PVE" in run.text
            assert not the_guest(lab).hook_log()
            assert (kit.window(lab).failure_stage, kit.window(lab).failure_reason) == ("preflight", "proof")


def test_a_guest_whose_freezing_is_switched_off_is_frozen_when_its_rule_says_so(lab: Site) -> None:
    lab.only_we_freeze()
    run = take(lab, "--policy", "require")
    assert run.exit_code == 0, run
    assert "filesystem-consistent" in run.stdout


@pytest.mark.parametrize("selector", ['tag = "db"', 'pool = "prod"', "vmid = 100"])
def test_the_rule_of_a_tag_or_a_pool_counts_like_that_of_a_vmid(lab: Site, selector: str) -> None:
    lab.node.set_config(100, agent="1,freeze-fs=0", tags="web;db")
    lab.node.set(guests={"100": {**lab.node.settings.guests["100"], "pool": "prod"}})
    rule = f'[[guest]]\n{selector}\nignore_freeze_option = true\npolicy = "require"\nmax_window_seconds = 7\n'
    lab.config_path.write_text(lab.config_path.read_text() + rule)
    run = take(lab, "--json")
    assert run.exit_code == 0, run
    assert run.json["policy"] == "require"
    assert run.json["verdict"]["kind"] == "filesystem-consistent"
    found = kit.window(lab)
    assert 7 <= found.deadline_at - found.intent_at < 20, "the rule's limit, not the default of 30 s"


def test_trouble_of_pves_own_freezing_is_shown(lab: Site, guest: ScriptedGuest) -> None:
    """Policy never: PVE freezes by itself, and its failure stands in the task's log only."""
    refuse(lab, Refusal("GenericError", "failed to freeze /mnt"))
    run = take(lab, "--policy", "never")
    assert run.exit_code == 0
    assert "PVE's snapshot task says: unable to freeze guest fs - failed to freeze /mnt" in run.stdout


def test_before_9_0_23_a_freeze_of_pves_own_without_an_answer_is_shown() -> None:
    """It has other words there."""
    with site(ScriptedGuest, pve_version="9.0.22", limits={**kit.QUICK_LIMITS, "freeze": 0.3}) as lab:
        the_guest(lab).set_knob("freeze_sleep", 3.0)
        run = take(lab, "--policy", "never")
        assert "PVE's snapshot task says: guest-fsfreeze-freeze problems" in run.stdout, run


def test_a_thaw_of_pves_own_that_failed_is_shown(lab: Site, guest: ScriptedGuest) -> None:
    """PVE thaws once and ends its task OK: the text stands in the task's log only."""
    guest.set_knob("thaw_exit", 1)
    run = take(lab, "--policy", "never")
    assert run.exit_code == 0, run
    assert (
        "PVE's snapshot task says: guest-fsfreeze-thaw problems - Agent error: fsfreeze hook has failed" in run.stdout
    )


def test_a_guest_that_pves_own_thaw_left_frozen_is_thawed(lab: Site, guest: ScriptedGuest) -> None:
    guest.faults.refuse["guest-fsfreeze-thaw"] = Refusal("GenericError", "not now")
    lab.node.set(task_delays={"finish": 1.0})
    process = lab.start("100", "--name", "s1", "--policy", "never")
    assert wait_for(lambda: bool(lab.node.points()))
    assert wait_for(lambda: any("thaw problems" in line for u in lab.node.running_tasks() for line in log(lab, u)))
    guest.faults.refuse.clear()
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 0, stderr
    assert "PVE's snapshot task had left the guest frozen: it was thawed" in stdout
    assert not guest.is_frozen()


def test_a_guest_that_pves_own_thaw_left_frozen_is_thawed_also_when_its_agent_is_mute_by_then(
    lab: Site, guest: ScriptedGuest
) -> None:
    """A mute agent's task that ended well is no word that the guest is thawed: its log says otherwise."""
    guest.faults.refuse["guest-fsfreeze-thaw"] = Refusal("GenericError", "not now")
    lab.node.set(task_delays={"finish": 1.0})
    process = lab.start("100", "--name", "s1", "--policy", "never")
    assert wait_for(lambda: any("thaw problems" in line for u in lab.node.running_tasks() for line in log(lab, u)), 20)
    guest.stop_agent()
    guest.faults.refuse.clear()
    assert wait_for(lambda: bool(lab.node.requests("/agent/fsfreeze-thaw")) or process.poll() is not None, 60)
    guest.continue_agent()
    stdout, stderr = process.communicate(timeout=60)
    assert wait_for(lambda: not guest.is_frozen(), 10), stdout + stderr


def log(lab: Site, upid: object) -> list[str]:
    return lab.node.task_log(str(upid))


# -- PVE's own freeze inside our task is guarded


def start_plain(lab: Site, *arguments: str) -> subprocess.Popen[str]:
    """A run that does not freeze, stopped where PVE has frozen by itself."""
    lab.node.set(task_delays={"inside": 30.0})
    process = lab.start("100", "--name", "s1", "--policy", "never", *arguments)
    assert wait_for(the_guest(lab).is_frozen, 20), process.communicate()
    return process


def test_a_freeze_of_pves_own_is_thawed_at_the_deadline(lab: Site, guest: ScriptedGuest) -> None:
    process = start_plain(lab, "--max-window", "1")
    assert wait_for(lambda: not guest.is_frozen(), 10), "PVE's task holds it for 30 s"
    for upid in lab.node.running_tasks():
        os.kill(upid.pid, signal.SIGTERM)
    stdout, _ = process.communicate(timeout=60)
    assert "PVE's task held the guest frozen past 1 s: thawed" in stdout
    assert "frozen for" not in stdout


def test_a_freeze_of_pves_own_is_thawed_when_the_run_is_killed(lab: Site, guest: ScriptedGuest) -> None:
    process = start_plain(lab)
    process.kill()
    process.communicate()
    assert wait_for(lambda: not guest.is_frozen(), 10), "by the guard"


def test_a_freeze_of_pves_own_is_thawed_when_the_guard_is_killed_and_the_deadline_passes(
    lab: Site, guest: ScriptedGuest
) -> None:
    process = start_plain(lab, "--max-window", "2")
    guard = kit.window(lab).guard_pid
    assert guard is not None
    os.kill(guard, signal.SIGKILL)
    assert wait_for(lambda: not guest.is_frozen(), 15)
    assert wait_for(lambda: kit.window(lab).guard_pid != guard, 15), "another one, for what PVE may freeze yet"
    process.kill()
    process.communicate()
    guest.ask(kit.FREEZE)
    assert wait_for(lambda: not guest.is_frozen(), 15), "by the new guard"


@pytest.mark.parametrize("ends", ["the run", "the worker"])
def test_a_freeze_of_pves_own_whose_worker_is_killed_is_thawed(lab: Site, guest: ScriptedGuest, ends: str) -> None:
    process = start_plain(lab)
    for upid in lab.node.running_tasks():
        os.kill(upid.pid, signal.SIGKILL)
    if ends == "the run":
        process.kill()
    stdout, stderr = process.communicate(timeout=60)
    assert wait_for(lambda: not guest.is_frozen(), 10)
    if ends == "the worker":
        # The thaw has counted the one freeze that PVE's worker had sent: there is nothing to wait for.
        assert wait_for(lambda: kit.window(lab).closed_at is not None, 30), kit.window(lab)
        assert "freeze requested" not in stdout + stderr, "we requested none"


def test_after_a_freeze_of_ours_that_failed_pves_own_is_guarded(lab: Site, guest: ScriptedGuest) -> None:
    guest.faults.refuse[kit.FREEZE] = Refusal("GenericError", "failed to freeze /mnt: Invalid argument", times=1)
    lab.node.set(task_delays={"inside": 30.0})
    process = lab.start("100", "--name", "s1")
    assert wait_for(guest.is_frozen, 20), "by PVE"
    process.kill()
    process.communicate()
    assert wait_for(lambda: not guest.is_frozen(), 10), "by the guard"


def test_an_agent_that_is_mute_costs_a_long_task_no_false_alarm(lab: Site, guest: ScriptedGuest) -> None:
    """PVE has said that it does not freeze: a task that takes longer than a window is no danger."""
    lab.node.set(task_delays={"prepare": 2.0, "inside": 4.0})
    process = lab.start("100", "--name", "s1", "--policy", "never", "--max-window", "1")
    assert wait_for(lambda: bool(lab.node.running_tasks()), 20)
    guest.kill_agent()
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 0, stderr
    assert kit.window(lab).verdict == "crash-consistent"
    assert "FROZEN" not in stdout + stderr
    assert kit.window(lab).closed_at is not None


def test_a_guest_whose_agent_is_switched_off_needs_no_guard(lab: Site) -> None:
    lab.node.set_config(100, agent="0")
    assert "guard" not in take(lab, "--policy", "never").text
    assert not lab.node.requests("/agent/")


def test_what_pve_freezes_by_itself_is_said_beforehand(lab: Site) -> None:
    run = take(lab, "--policy", "never", "--dry-run")
    assert "PVE freezes it by itself inside its snapshot task, and a guard watches that" in run.stdout
    lab.node.set_config(100, agent="1,freeze-fs=0")
    run = take(lab, "--policy", "never", "--dry-run")
    assert "PVE freezes it" not in run.stdout
