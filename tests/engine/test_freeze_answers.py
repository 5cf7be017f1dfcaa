"""The freeze, the proof and the thaw: what the agent may answer, and what a run makes of it, by the real command."""

from __future__ import annotations

import pytest

from tests.engine import kit
from tests.engine.kit import FREEZE, take
from tests.lab.guest.scripted import ScriptedGuest
from tests.lab.site import Run, Site, wait_for


@pytest.mark.parametrize("policy", ["require", "prefer"])
def test_a_freeze_cut_with_596_is_unknown_and_the_guest_is_thawed_once_the_agent_answers(
    lab: Site, guest: ScriptedGuest, policy: str
) -> None:
    lab.node.set(limits={**kit.QUICK_LIMITS, "cut": 0.5})
    lab.write_config(freeze={"late_freeze_seconds": 600})
    guest.set_knob("freeze_sleep", 1.5)
    run = take(lab, "--policy", policy)
    assert run.exit_code == 11, run
    assert "596" in run.stderr
    assert "the guest is thawed" in run.stderr
    assert len(lab.node.requests("fsfreeze-thaw")) > 1, "the thaw was retried while the agent was busy"
    found = kit.window(lab)
    assert found.freeze_outcome == "unknown"
    assert found.filesystems_thawed == 1
    assert kit.closes(lab), "the thaw counted it: it was carried out, and none can come late"
    assert kit.window(lab).state == "thawed"
    assert "none can come late" in run.stderr
    assert ("s1" in kit.snapshots(lab)) == (policy == "prefer")
    if policy == "prefer":
        assert "crash-consistent" in run.stdout


def test_the_window_of_an_unknown_freeze_closes_when_no_late_freeze_can_come_any_more(
    lab: Site, guest: ScriptedGuest
) -> None:
    lab.write_config(freeze={"late_freeze_seconds": 2})
    lab.node.fault("fsfreeze-freeze", "drop", when="after")
    run = take(lab, "--policy", "require")
    assert run.exit_code == 11, run
    assert kit.closes(lab)
    assert not guest.is_frozen()


def test_a_freeze_slower_than_our_deadline_is_unknown(lab: Site, guest: ScriptedGuest) -> None:
    guest.set_knob("freeze_sleep", 1.2)
    run = take(lab, "--policy", "require", "--freeze-timeout", "0.3")
    assert run.exit_code == 11, run
    assert "did not answer in time" in run.stderr


def test_a_freeze_that_pve_gave_up_waiting_for_is_unknown(lab: Site, guest: ScriptedGuest) -> None:
    lab.node.set(limits={**kit.QUICK_LIMITS, "freeze": 0.3})
    guest.set_knob("freeze_sleep", 1.0)
    run = take(lab, "--policy", "require")
    assert run.exit_code == 11, run
    assert "got timeout" in run.stderr


NOT_SENT = (
    "QEMU guest agent is not running",
    "No QEMU guest agent configured",
    "VM 100 is not running",
    "Configuration file 'nodes/pve1/qemu-server/100.conf' does not exist",
    "hostname lookup 'pve1' failed - failed to get address info",
)


@pytest.mark.parametrize("reason", NOT_SENT)
def test_a_freeze_request_that_was_never_sent_is_refused_and_leaves_nothing_open(lab: Site, reason: str) -> None:
    """Something has changed between the preflight and the freeze: PVE's own check in front of the agent fails."""
    lab.node.fault("/qemu/100/agent/fsfreeze-freeze", "status", status=500, reason=reason)
    run = take(lab, "--policy", "require")
    assert run.exit_code == 6, run
    assert reason in run.stderr
    assert kit.window(lab).freeze_outcome == "refused"
    assert kit.window(lab).closed_at is not None
    assert not lab.node.requests("fsfreeze-thaw"), "nothing was sent, so nothing is to be thawed"


@pytest.mark.parametrize("policy", ["require", "prefer"])
def test_a_guest_that_goes_off_while_it_is_frozen_is_not_waited_for(
    lab: Site, guest: ScriptedGuest, policy: str
) -> None:
    """The proof and the thaw are answered `VM 100 is not running`: it holds nothing any more, and proves nothing."""
    lab.node.set(task_delays={"finish": 1.5})
    process = lab.start("100", "--name", "s1", "--policy", policy)
    assert wait_for(lambda: bool(lab.node.points()))
    guest.stop()
    stdout, stderr = process.communicate(timeout=60)
    run = kit.check(lab, Run(process.returncode, stdout, stderr, 0.0))
    assert run.exit_code == (6 if policy == "require" else 0), run
    assert "unknown: the agent did not say whether the guest was still frozen" in run.text
    assert "guest went off" in run.stderr
    assert ("s1" in kit.snapshots(lab)) == (policy == "prefer")
    assert kit.window(lab).closed_at is not None


@pytest.mark.parametrize(
    "reason",
    [
        "VM 100 is not running",
        "VM 100 qga command 'guest-fsfreeze-thaw' failed - got wrong command id 'VM 100 is not running' (expected 1)",
    ],
)
def test_a_route_that_is_wrong_about_a_guest_being_off_ends_no_thaw(
    lab: Site, guest: ScriptedGuest, reason: str
) -> None:
    """A peer that is behind, or a guest that puts words into PVE's mouth."""
    lab.node.fault("/agent/fsfreeze-thaw", "status", status=500, reason=reason, times=3)
    run = take(lab, "--policy", "prefer")
    assert run.exit_code == 0, run
    assert not guest.is_frozen()
    assert "guest went off" not in run.stderr
    assert len(lab.node.requests("fsfreeze-thaw")) == 4
    assert kit.window(lab).filesystems_thawed == 1


def test_a_thaw_hook_that_fails_is_reported_and_not_repeated(lab: Site, guest: ScriptedGuest) -> None:
    guest.set_knob("thaw_exit", 4)
    run = take(lab, "--policy", "prefer")
    assert run.exit_code == 0, run
    assert "thaw hook failed" in run.stdout
    assert "unknown: no count of thawed filesystems" in run.stdout
    assert [event for _, event in guest.hook_log()] == ["freeze", "thaw"]


def test_a_thaw_hook_that_fails_leaves_no_proof_for_policy_require(lab: Site, guest: ScriptedGuest) -> None:
    guest.set_knob("thaw_exit", 4)
    run = take(lab, "--policy", "require")
    assert run.exit_code == 6, run
    assert "s1" not in kit.snapshots(lab), "what is not proven is removed again"


def test_an_unproven_snapshot_that_cannot_be_removed_says_what_it_is_worth(lab: Site, guest: ScriptedGuest) -> None:
    guest.set_knob("thaw_exit", 4)
    lab.node.fault("/snapshot/s1$", "status", method="DELETE", status=500, reason="storage is busy")
    run = take(lab, "--policy", "require")
    assert run.exit_code == 6, run
    assert "could not be removed" in run.stderr
    assert "qm delsnapshot 100 s1" in run.stderr
    assert "safe-snapshot: unknown: no count" in kit.description(lab)


def test_a_guest_that_was_thawed_from_inside_is_not_called_consistent(lab: Site, guest: ScriptedGuest) -> None:
    """The status goes on saying frozen; the count of the thaw gives it away."""
    lab.node.set(task_delays={"finish": 0.5})
    process = lab.start("100", "--name", "s1", "--policy", "prefer", "--json")
    assert wait_for(guest.is_frozen)
    guest.thaw_from_inside()
    stdout, _ = process.communicate(timeout=60)
    assert '"kind": "crash-consistent"' in stdout
    assert "only 0 were still so" in stdout


def test_a_status_that_lies_thawed_is_not_called_consistent(lab: Site, guest: ScriptedGuest) -> None:
    guest.faults.status = "thawed"
    run = take(lab)
    assert run.exit_code == 0, run
    assert kit.window(lab).verdict == "unknown"


def test_a_status_that_lies_frozen_ends_with_the_alarm(lab: Site, guest: ScriptedGuest) -> None:
    """Nobody can know that the guest is thawed: the run ends with exit 8, and the guard goes on."""
    lab.write_config(thaw={"owner_limit_seconds": 1})
    lab.node.set(task_delays={"finish": 0.5})
    process = lab.start("100", "--name", "s1")
    assert wait_for(guest.is_frozen)
    guest.faults.status = "frozen"
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 8, stderr
    assert "GUEST 100 MAY STILL BE FROZEN" in stderr
    assert "safe-snapshot thaw 100" in stderr
    assert kit.window(lab).closed_at is None
    guest.faults.status = None
    assert kit.closes(lab), "the guard has seen it thawed"


def test_a_guest_found_frozen_by_somebody_else_is_left_alone(lab: Site, guest: ScriptedGuest) -> None:
    guest.ask(FREEZE)
    run = take(lab, thawed=False)
    assert run.exit_code == 13, run
    assert "safe-snapshot thaw 100" in run.stderr
    assert guest.is_frozen()
    assert not lab.node.requests("fsfreeze-thaw")


def test_a_locked_guest_found_frozen_is_left_to_whoever_works_on_it(lab: Site, guest: ScriptedGuest) -> None:
    """A backup holds its lock and its freeze: thawing it would break that backup, whatever the operator said."""
    lab.write_config(freeze={"foreign": "thaw"})
    lab.node.set_config(100, lock="backup")
    guest.ask(FREEZE)
    run = take(lab, thawed=False)
    assert run.exit_code == 4, run
    assert "the guest is locked (backup)" in run.stderr
    assert guest.is_frozen()


def test_a_guest_found_frozen_by_somebody_else_is_not_thawed_before_a_window_of_another_machine_is_over(
    lab: Site, guest: ScriptedGuest
) -> None:
    """Thawed and frozen again by us, the other one would find it frozen at its proof: a false verdict."""
    lab.write_config(freeze={"foreign": "thaw"})
    guest.ask(FREEZE)
    for _ in range(2):
        run = take(lab, thawed=False)
        assert run.exit_code == 13, run
        assert "try again in " in run.stderr, run
        assert guest.is_frozen()
    assert not lab.node.requests("fsfreeze-thaw")
    (window,) = (one for one in lab.windows() if one.owner == "foreign")
    assert (window.state, window.closed_at) == ("frozen", None)
    refused = [one for one in lab.windows() if one.owner != "foreign"]
    assert [(one.freeze_outcome, one.failure_stage is not None) for one in refused] == [(None, True)] * 2


def test_a_guest_found_frozen_by_somebody_else_is_thawed_when_the_operator_says_so(
    lab: Site, guest: ScriptedGuest
) -> None:
    lab.write_config(freeze={"foreign": "thaw"})
    guest.ask(FREEZE)
    kit.seen_frozen(lab, 900)
    run = take(lab, "--policy", "require")
    assert run.exit_code == 0, run
    assert "somebody else had left frozen" in run.stderr


@pytest.mark.parametrize(
    ("option", "setting"), [("--freeze-timeout", "freeze_timeout_seconds"), ("--max-window", "max_window_seconds")]
)
def test_a_limit_that_is_too_short_is_named(lab: Site, guest: ScriptedGuest, option: str, setting: str) -> None:
    guest.set_knob("freeze_sleep", 1.5)
    run = take(lab, option, "0.5")
    said = " ".join(run.stderr.split())
    assert run.exit_code == 11, run
    assert f"raise {option} ([freeze] {setting}, now 0.5 s) where the guest needs longer to freeze" in said
    assert "held for" not in said
