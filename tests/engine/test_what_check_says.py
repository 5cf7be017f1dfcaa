"""``check`` and a run's preflight: each answer of agent and PVE judged by itself, through the real command."""

from __future__ import annotations

import os
import re
import time
from typing import Any

import pytest

from tests.engine import kit
from tests.engine.kit import FREEZE, QUICK_LIMITS, check, set_pending, take
from tests.lab.guest.agentfacts import LINUX, GuestFacts
from tests.lab.guest.scripted import ScriptedGuest
from tests.lab.node.node import GuestSpec
from tests.lab.site import Site, site

STATUS, THAW = "guest-fsfreeze-status", "guest-fsfreeze-thaw"


@pytest.mark.parametrize("blocked", [(FREEZE, THAW, STATUS), (FREEZE,), (STATUS,), ("guest-info",)], ids=str)
def test_an_agent_that_refuses_a_command_answers(lab: Site, guest: ScriptedGuest, blocked: tuple[str, ...]) -> None:
    guest.faults.blocked = frozenset(blocked)
    run = check(lab, lab.safe_snapshot("check", "100"))
    assert run.exit_code == 6, run
    assert "does not answer" not in run.text, run
    assert "apt install" not in run.text, run
    assert "block-rpcs" in run.text, run
    assert blocked[0] in run.text
    assert take(lab).exit_code == 0
    assert re.search(r"pve_fsfreeze_agent_up\{.*\} 1.0", lab.metrics_path.read_text())
    assert not lab.node.requests("fsfreeze-freeze"), "what cannot be proven or thawed is not frozen"


@pytest.mark.parametrize("answer", ['{"error":{"class":"GenericError","desc":"no"}}', '["thawed"]', "null", '"?"'])
def test_an_agent_that_gives_no_status_is_not_called_thawed(lab: Site, answer: str) -> None:
    lab.node.fault("/agent/fsfreeze-status", "body", body=f'{{"data":{{"result":{answer}}}}}', times=None)
    run = check(lab, lab.safe_snapshot("check", "100"))
    assert run.exit_code == 6, run
    assert "not frozen" not in run.stdout


@pytest.mark.parametrize("body", ["{}", '{"data":5}', '{"data":{}}', "<html>Bad Gateway</html>", '{"data":null}'])
def test_nonsense_of_pves_own_about_the_agent_is_not_called_its_silence(lab: Site, body: str) -> None:
    lab.node.fault("/agent/", "body", body=body, times=None)
    run = check(lab, lab.safe_snapshot("check", "100"))
    assert run.exit_code == 6, run
    assert "the guest agent could not be asked, for PVE did not answer, or in a way that makes no sense" in run.text
    assert "apt install" not in run.text
    assert take(lab).exit_code == 0
    assert not re.search(r"pve_fsfreeze_agent_up\{.*\} 0", lab.metrics_path.read_text()), "nobody knows of the agent"


def test_a_frozen_guest_whose_agent_may_not_thaw_is_not_sent_to_our_thaw(lab: Site, guest: ScriptedGuest) -> None:
    guest.ask(FREEZE)
    guest.faults.blocked = frozenset({THAW})
    run = check(lab, lab.safe_snapshot("check", "100"), thawed=False)
    assert run.exit_code == 13, run
    assert f"the agent has {THAW} switched off" in run.stdout
    assert "safe-snapshot thaw" not in run.stdout
    assert "fsfreeze --unfreeze" in run.stdout
    guest.faults.blocked = frozenset()
    guest.ask(THAW)


OUR_WINDOW = f"in our own freeze window since 20[^ ]+, held by process {os.getpid()}"


@pytest.mark.parametrize("words", ["check 100", "100 --name s1", "100 --dry-run", "100 --vmstate"])
def test_a_guest_that_is_frozen_in_our_own_window_is_to_be_waited_for(
    lab: Site, guest: ScriptedGuest, words: str
) -> None:
    guest.ask(FREEZE)
    kit.in_our_window(lab)
    run = check(lab, lab.safe_snapshot(*words.split()), thawed=False)
    assert run.exit_code == 13, run
    assert re.search(OUR_WINDOW, run.text), run
    assert "wait until it is over" in run.text, run
    assert "safe-snapshot thaw" not in run.text, run
    assert guest.is_frozen()
    guest.ask(THAW)


def test_a_guest_that_is_frozen_in_our_own_window_is_told_in_its_checks(lab: Site, guest: ScriptedGuest) -> None:
    guest.ask(FREEZE)
    kit.in_our_window(lab)
    run = check(lab, lab.safe_snapshot("--json", "100", "--name", "s1"), thawed=False)
    (told,) = (found for found in run.json["checks"] if found["name"] in ("thawed", "window"))
    assert re.search(OUR_WINDOW, told["message"]), run
    guest.ask(THAW)


@pytest.mark.parametrize(
    "values",
    [
        {"state": "stuck"},
        {"at": time.time() - 120, "deadline_at": time.time() - 60},
        {"owner_pid_start": 1},
        {"state": "armed", "thawed_at": time.time()},
    ],
    ids=["stuck", "past-its-deadline", "whose-owner-is-gone", "that-is-thawed"],
)
def test_a_window_that_sees_to_no_thaw_is_not_to_be_waited_for(
    lab: Site, guest: ScriptedGuest, values: dict[str, Any]
) -> None:
    guest.ask(FREEZE)
    kit.in_our_window(lab, **values)
    run = check(lab, lab.safe_snapshot("check", "100"), thawed=False)
    assert run.exit_code == 13, run
    assert "`safe-snapshot thaw 100`" in run.text, run
    assert "our own freeze window" not in run.text, run
    guest.ask(THAW)


@pytest.mark.parametrize("answer", ["[]", '"x"', "null", "{}", "[5,null]"])
def test_filesystems_are_missing_only_where_the_agent_lists_none(lab: Site, answer: str) -> None:
    lab.node.fault("/agent/get-fsinfo", "body", body=f'{{"data":{{"result":{answer}}}}}', times=None)
    run = check(lab, lab.safe_snapshot("check", "100"))
    assert run.exit_code == (6 if answer == "[]" else 0), run


@pytest.mark.parametrize("answer", ["{}", '{"hasFeature":null}', '{"hasFeature":[]}'])
def test_storage_of_which_pve_says_nothing_is_tried(lab: Site, answer: str) -> None:
    lab.node.fault("/feature", "body", body=f'{{"data":{answer}}}', times=None)
    run = check(lab, lab.safe_snapshot("check", "100"))
    assert run.exit_code == 0, run
    assert "PVE does not say whether it can" in run.stdout
    assert take(lab, "--policy", "require").exit_code == 0


@pytest.mark.parametrize("fault", ["{}", '{"supported_commands":5}', '{"supported_commands":[1,null,{"name":7}]}'])
def test_an_agent_that_lists_nonsense_is_tried(lab: Site, fault: str) -> None:
    lab.node.fault("/agent/info", "body", body=f'{{"data":{{"result":{fault}}}}}', times=None)
    run = check(lab, lab.safe_snapshot("check", "100"))
    assert run.exit_code == 0, run
    assert "freeze-commands: not known" in run.stdout
    run = take(lab, "--policy", "require")
    assert run.exit_code == 0, run
    assert "filesystem-consistent" in run.stdout


def test_an_agent_whose_status_makes_no_sense_is_not_frozen(lab: Site) -> None:
    lab.node.fault("/agent/fsfreeze-status", "body", body='{"data":{"result":["thawed"]}}', times=None)
    run = take(lab, "--policy", "require")
    assert run.exit_code == 6, run
    assert "neither frozen nor thawed" in run.stderr
    assert not lab.node.requests("fsfreeze-freeze")


def test_a_guest_in_which_nothing_can_be_frozen_is_not_called_ready() -> None:
    facts = GuestFacts(osinfo=LINUX.osinfo, fsinfo=())

    with site(lambda vmid, run: ScriptedGuest(vmid, run, mounts=0, facts=facts), limits=dict(QUICK_LIMITS)) as lab:
        run = check(lab, lab.safe_snapshot("check", "100"))
        assert run.exit_code == 6, run
        assert "ZFS" in run.text
        assert "ready" not in run.text


@pytest.mark.parametrize("answer", ["{}", '{"status":null}', '{"status":"unknown"}', '{"status":"Stopped"}'])
@pytest.mark.parametrize("policy", ["require", "prefer"])
def test_only_stopped_is_off(lab: Site, guest: ScriptedGuest, answer: str, policy: str) -> None:
    """Such a guest is frozen as one that runs, and so its snapshot is proven."""
    lab.node.fault("/status/current", "body", body=f'{{"data":{answer}}}', times=None)
    run = take(lab, "--policy", policy)
    assert "offline" not in run.text, run
    assert "PVE does not say whether the guest runs" in run.stderr
    assert "filesystem-consistent" in run.stdout
    guest.kill_agent()
    run = check(lab, lab.safe_snapshot("100", "--name", "s2", "--policy", policy))
    assert "offline" not in run.text, run
    assert run.exit_code == (6 if policy == "require" else 0)


def test_what_one_host_alone_calls_stopped_is_not_called_offline(lab: Site) -> None:
    """Its own node knows better: QEMU lives there. So it is frozen and proven as any other."""
    lab.on_the_node()
    lab.node.fault("/status/current", "body", body='{"data":{"status":"stopped"}}', times=None)
    run = take(lab, "--policy", "require")
    assert "PVE calls the guest stopped, which its own node" in run.stderr
    assert "filesystem-consistent" in run.stdout


def test_a_guest_that_was_started_meanwhile_is_not_called_offline_by_one_host(lab: Site, guest: ScriptedGuest) -> None:
    lab.on_the_node()
    guest.stop()
    lab.node.fault("/status/current", "body", body='{"data":{"status":"stopped"}}', times=None)
    lab.node.fault("/snapshot$", "hold", method="POST")
    with lab.start("100", "--name", "s1") as owner:
        assert kit.reaches(lab, "/snapshot", method="POST")
        guest.start()
        lab.node.release()
        out, _ = owner.communicate(timeout=60)
    assert "unknown: the guest was shut down at first" in out


def test_a_guest_that_was_off_is_called_offline_only_while_pve_says_stopped(lab: Site, guest: ScriptedGuest) -> None:
    guest.stop()
    lab.node.fault("/status/current", "body", body='{"data":{}}', nth=2)
    run = take(lab)
    assert "unknown: the guest was shut down at first, and PVE does not say whether it stayed so" in run.stdout


def test_a_hibernated_guest_is_not_at_rest(lab: Site, guest: ScriptedGuest) -> None:
    guest.stop()
    lab.node.set_config(100, lock="suspended", vmstate="local-lvm:vm-100-state-suspend-2026-11-22")
    run = check(lab, lab.safe_snapshot("check", "100"))
    assert run.exit_code == 4, run
    assert "`qm resume 100`" in run.text
    assert "unlock" not in run.text
    assert "at rest" not in run.text


@pytest.mark.parametrize(("lock", "unlocks"), [("", False), ("snapshot", True)])
def test_a_guest_whose_processors_stand_still_is_not_told_to_install_its_agent(
    lab: Site, guest: ScriptedGuest, lock: str, unlocks: bool
) -> None:
    """As a snapshot's worker leaves it that was killed between PVE's savevm-start and savevm-end."""
    guest.pause()
    lab.node.set(guests={"100": {**lab.node.settings.guests["100"], "qmpstatus": "paused"}})
    if lock:
        lab.node.set_config(100, lock=lock)
    run = check(lab, lab.safe_snapshot("check", "100"))
    assert run.exit_code == (4 if lock else 6), run
    assert "install" not in run.text, run
    resume = run.text.index("`qm resume 100`")
    assert ("`qm unlock 100`" in run.text[:resume]) is unlocks, run
    lab.write_config(thaw={"owner_limit_seconds": 1, "attempt_timeout_seconds": 1})
    run = check(lab, lab.safe_snapshot("thaw", "100"))
    assert run.exit_code == 8, run
    resume = run.text.index("`qm resume 100`")
    assert ("`qm unlock 100`" in run.text[:resume]) is unlocks, run
    assert "`safe-snapshot thaw 100`" in run.text[resume:], run


@pytest.mark.parametrize(
    ("value", "pending", "words"),
    [
        ("1", "1,freeze-fs=0", "switched off only from the guest's next full stop"),
        ("1", "0", "switched off only from the guest's next full stop"),
        ("1,freeze-fs=0", "1", "switched on only from the guest's next full stop"),
    ],
)
def test_an_agent_option_that_waits_for_the_next_start_is_told(lab: Site, value: str, pending: str, words: str) -> None:
    lab.node.set_config(100, agent=value)
    set_pending(lab, agent=pending)
    run = check(lab, lab.safe_snapshot("check", "100"))
    assert words in run.stdout, run
    assert run.exit_code == (0 if value == "1" else 6), run


def test_a_guest_on_a_node_that_is_offline_is_told_so() -> None:
    with site(ScriptedGuest, ScriptedGuest, nodes=("pve1", "pve2"), limits=dict(QUICK_LIMITS)) as lab:
        lab.node.move_guest(101, "pve2")
        lab.node.set_node_online("pve2", False)
        for command in (["check", "101"], ["101", "--name", "s1"], ["101", "--name", "s1", "--dry-run"]):
            run = lab.safe_snapshot(*command)
            assert run.exit_code == 4, run
            assert "its node pve2 is offline" in run.text
            assert "may still be carried out" not in run.text


def test_a_guard_that_cannot_be_started_is_a_failure_whatever_the_policy(lab: Site) -> None:
    lab.settings["guard"] = {"launcher": "systemd", "arm_timeout_seconds": 3}  # no systemd in the lab
    lab.write_config()
    assert take(lab).exit_code == 0
    assert (kit.window(lab).failure_stage, kit.window(lab).failure_reason) == ("guard", "not-started")
    text = lab.metrics_path.read_text()
    assert re.search(r"pve_fsfreeze_last_success_timestamp_seconds\{.*\} 0.0", text)
    assert re.search(r'pve_fsfreeze_last_failure\{.*reason="not-started".*stage="guard".*\} 1.0', text)


@pytest.mark.parametrize(
    ("version", "option", "words"),
    [
        ("9.2.6", "1", "filesystem-consistent at best (qemu-server 9.2.6)"),
        ("9.1.10", "1", "filesystem-consistent at best (qemu-server 9.1.10)"),
        ("9.1.9", "1", "unknown at best, with qemu-server 9.1.9: before 9.1.10"),
        ("9.1.9", "1,freeze-fs=0", "filesystem-consistent at best (qemu-server 9.1.9)"),
        ("8.4.1", "1", "unknown at best, with qemu-server 8.4.1"),
    ],
)
def test_what_can_be_had_at_best_is_said_beforehand(version: str, option: str, words: str) -> None:
    with site(ScriptedGuest, pve_version=version, limits=dict(QUICK_LIMITS)) as lab:
        lab.only_we_freeze(option)
        assert words in lab.safe_snapshot("check", "100").stdout
        assert words in take(lab, "--dry-run").stdout


@pytest.mark.parametrize("line", ["100", "all"])
def test_a_guest_of_which_nothing_can_be_proven_is_not_called_ready_for_a_consistent_one(line: str) -> None:
    with site(ScriptedGuest, pve_version="9.1.9", limits=dict(QUICK_LIMITS)) as lab:
        run = check(lab, lab.safe_snapshot("check", line))
    assert run.exit_code == 0
    assert "consistently" not in run.stdout
    if line == "100":
        assert (
            run.stdout.splitlines()[-1] == "ready: it can be frozen, but its snapshots are unknown at best: see proof"
        )
    else:
        assert run.stdout.splitlines()[-1].startswith("1 guest: 1 unknown at best")


def test_a_container_is_not_counted_as_ready_for_a_freeze() -> None:
    with site(ScriptedGuest, limits=dict(QUICK_LIMITS)) as lab:
        lab.node.add_guest(GuestSpec(104, kind="lxc"))
        run = check(lab, lab.safe_snapshot("check", "all"))
    assert run.exit_code == 0, run
    assert run.stdout.splitlines()[-1].startswith("2 guests: 1 ready, 1 container"), run


def test_a_token_that_may_not_see_the_version_is_told_by_pves_release() -> None:
    with site(ScriptedGuest, pve_version="8.4.1", limits=dict(QUICK_LIMITS)) as lab:
        lab.node.fault("/apt/versions", "status", status=403, reason="Permission check failed", times=None)
        assert "unknown at best, with qemu-server 8.x" in lab.safe_snapshot("check", "100").stdout
    with site(ScriptedGuest, limits=dict(QUICK_LIMITS)) as lab:
        lab.node.fault("/apt/versions", "status", status=403, reason="Permission check failed", times=None)
        assert "PVE does not say which one runs (it takes Sys.Audit)" in lab.safe_snapshot("check", "100").stdout


def test_a_description_waits_for_another_snapshot_of_the_guest(lab: Site) -> None:
    lab.node.fault("/snapshot/s1/config", "status", status=500, reason="VM is locked (snapshot)", times=3)
    run = take(lab)
    assert run.exit_code == 0, run
    assert "filesystem-consistent" in kit.description(lab)
