"""Freezing at the knock: PVE's task is started first, the guest is frozen when the task asks for its agent."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator

import pytest

from snapshot.journal.record import WindowRecord
from snapshot.journal.store import Journal
from tests.engine import kit
from tests.engine.kit import take
from tests.lab.fixtures import real_guest
from tests.lab.guest.scripted import ScriptedGuest
from tests.lab.site import Site, site, wait_for
from tests.unit.kit import record

CONSISTENT = "filesystem-consistent"


def seed(lab: Site, *freezing: float | None) -> None:
    """Earlier windows of the guest, oldest first, by how long their freeze took; None: its answer was lost."""
    with contextlib.closing(Journal(lab.journal_path)) as journal:
        for number, seconds in enumerate(freezing):
            at = time.time() - 1000 + number
            outcome = "unknown" if seconds is None else "acknowledged"
            journal.begin(
                record(f"old-{number}", at=at, state="thawed", closed_at=at, freeze_outcome=outcome)._replace(
                    freezing_seconds=seconds
                )
            )


@contextlib.contextmanager
def a_site(kind: object = ScriptedGuest, **settings: object) -> Iterator[Site]:
    with site(kind, **settings) as lab:  # type: ignore[arg-type]
        lab.on_the_node()
        lab.write_config(freeze={"at_the_knock": True})
        yield lab
        assert lab.node.server_log() == "", lab.node.server_log()


@pytest.fixture
def lab() -> Iterator[Site]:
    with a_site() as found:
        yield found


@pytest.fixture
def guest(lab: Site) -> ScriptedGuest:
    return kit.the_guest(lab)


def ours(lab: Site) -> list[WindowRecord]:
    """This test's windows, newest first."""
    return [one for one in lab.windows() if not one.id.startswith("old-")]


def is_at_the_knock(lab: Site) -> bool:
    """Whether the snapshot was asked for before the freeze: which then did not go over the API."""
    return not lab.node.requests("fsfreeze-freeze")


@pytest.mark.parametrize("kind", [ScriptedGuest, pytest.param(real_guest, marks=pytest.mark.real)])
def test_a_guest_whose_freezes_are_short_is_frozen_when_the_task_asks_for_its_agent(kind: object) -> None:
    with a_site(kind) as lab:
        seed(lab, 0.2, 0.3, 0.1)
        run = take(lab, "--policy", "require", "--json")
        assert run.exit_code == 0, run
        assert run.json["verdict"]["kind"] == CONSISTENT
        assert is_at_the_knock(lab)
        assert len(ours(lab)) == 1
        assert len(lab.guest.windows()) == 1
        assert any("already frozen" in line for line in run.json["task"]["log"])


@pytest.mark.parametrize(
    "freezing",
    [(), (0.2, 0.2), (0.2, 0.2, 1.0), (1.5, 0.2, 0.2), (0.2, None, 0.2)],
    ids=["none", "too few", "slow", "slow before", "lost"],
)
def test_a_guest_that_is_not_known_to_freeze_quickly_is_frozen_in_sequence(
    lab: Site, freezing: tuple[float | None, ...]
) -> None:
    seed(lab, *freezing)
    run = take(lab, "--policy", "require")
    assert run.exit_code == 0, run
    assert not is_at_the_knock(lab)


def test_only_the_last_three_freezes_count(lab: Site) -> None:
    seed(lab, 5.0, None, 0.2, 0.2, 0.2)
    assert take(lab, "--policy", "require").exit_code == 0
    assert is_at_the_knock(lab)


def test_it_is_off_unless_it_is_switched_on_and_elsewhere(lab: Site) -> None:
    seed(lab, 0.2, 0.2, 0.2)
    lab.write_config(freeze={"at_the_knock": False})
    assert take(lab, "--policy", "require").exit_code == 0
    assert not is_at_the_knock(lab)


def test_away_from_the_node_there_is_no_seat_and_the_freeze_goes_in_sequence(lab: Site) -> None:
    seed(lab, 0.2, 0.2, 0.2)
    lab.write_config(local={"node": ""}, freeze={"at_the_knock": True})
    run = take(lab, "--policy", "require")
    assert run.exit_code == 0, run
    assert not is_at_the_knock(lab)


def test_a_task_that_does_not_ask_in_time_is_taken_again_in_sequence(lab: Site) -> None:
    """It waits for something for longer than we hold its place: its own freeze proves nothing."""
    seed(lab, 0.2, 0.2, 0.2)
    lab.node.set(task_delays={"prepare": 7.0})
    run = take(lab, "--policy", "require", timeout=120)
    assert run.exit_code == 0, run
    assert "taking it again in sequence" in run.stderr
    assert list(kit.snapshots(lab)) == ["s1"]
    assert CONSISTENT in kit.description(lab)
    last, first = ours(lab)
    assert (last.verdict, last.failure_stage) == (CONSISTENT, None)
    assert (first.verdict, first.failure_stage, first.freeze_outcome) == ("unknown", None, None)
    assert first.reason == (
        "not frozen at the knock: PVE's task did not ask for the agent within 6 s; taken again in sequence"
    )
    assert first.closed_at is not None


@pytest.mark.parametrize("policy", ["require", "prefer"])
def test_a_guest_that_is_shut_down_before_the_knock_is_taken_again_as_what_it_is(
    lab: Site, guest: ScriptedGuest, policy: str
) -> None:
    seed(lab, 0.2, 0.2, 0.2)
    lab.node.set(task_delays={"prepare": 4.0})
    process = lab.start("100", "--name", "s1", "--policy", policy)
    assert kit.reaches(lab, "/snapshot", method="POST")
    guest.stop()
    lab.node.set(task_delays={})
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 0, stderr
    last, first = ours(lab)
    assert (last.verdict, last.reason) == ("offline", "the guest was shut down")
    assert first.reason == (
        "not frozen at the knock: PVE's task ended without asking for the agent: the guest was shut down; "
        "taken again in sequence"
    )
    assert "offline" in kit.description(lab)


def test_a_guest_that_was_thawed_at_the_knock_is_taken_again_in_sequence(lab: Site, guest: ScriptedGuest) -> None:
    seed(lab, 0.2, 0.2, 0.2)
    lab.node.set(task_delays={"after": 1.0})
    process = lab.start("100", "--name", "s1", "--policy", "require")
    assert wait_for(guest.is_frozen, 30)
    lab.node.set(task_delays={})
    guest.thaw_from_inside()
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 0, stderr
    assert "taking it again in sequence" in stderr
    last, first = ours(lab)
    assert [last.verdict, first.verdict] == [CONSISTENT, "unknown"]
    assert first.reason is not None
    assert first.reason.startswith("frozen at the knock, and not proven: ")
    assert list(kit.snapshots(lab)) == ["s1"]


def stop_the_task_at_its_ping(lab: Site, guest: ScriptedGuest) -> bool:
    """TERM to PVE's worker while the freeze is carried out; the guest goes on when the worker has. False: too early."""
    with guest.held() as (model, _):
        if [what for _, what in model.hook_log] != ["freeze"]:
            return False
        (task,) = lab.node.running_tasks()
        os.kill(task.pid, signal.SIGTERM)
        assert wait_for(lambda: any("not running?" in line for line in lab.node.task_log(str(task))), 30)
    return True


@pytest.mark.parametrize("policy", ["prefer", "require"])
def test_a_task_that_is_terminated_while_its_ping_waits_for_the_freeze_is_taken_again_in_sequence(
    lab: Site, guest: ScriptedGuest, policy: str
) -> None:
    """PVE swallows the signal and takes its volumes as they are; the freeze is acknowledged and counted behind that."""
    seed(lab, 0.2, 0.2, 0.2)
    guest.set_knob("freeze_sleep", 1.0)
    process = lab.start("100", "--name", "s1", "--policy", policy, "--json")
    assert wait_for(lambda: stop_the_task_at_its_ping(lab, guest), 30)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 0, stderr
    last, first = ours(lab)
    assert [last.verdict, first.verdict] == [CONSISTENT, "unknown"]
    assert list(kit.snapshots(lab)) == ["s1"]


def test_what_was_frozen_in_sequence_already_is_not_taken_again(lab: Site, guest: ScriptedGuest) -> None:
    seed(lab, 0.2, 0.2, 0.2)
    lab.write_config(local={"node": ""}, freeze={"at_the_knock": True})
    lab.node.set(task_delays={"after": 1.0})
    process = lab.start("100", "--name", "s1", "--policy", "prefer")
    assert wait_for(guest.is_frozen, 30)
    guest.thaw_from_inside()
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 0, stderr
    assert not is_at_the_knock(lab)
    assert [one.verdict for one in ours(lab)] == ["crash-consistent"]


def test_a_snapshot_that_cannot_be_removed_is_kept_for_what_it_is_worth(lab: Site, guest: ScriptedGuest) -> None:
    seed(lab, 0.2, 0.2, 0.2)
    lab.node.set(task_delays={"after": 1.0})
    lab.node.fault("/snapshot/s1$", "status", method="DELETE", status=500, reason="no")
    process = lab.start("100", "--name", "s1", "--policy", "prefer")
    assert wait_for(guest.is_frozen, 30)
    guest.thaw_from_inside()
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 0, stderr
    assert "not taken again in sequence" in stdout
    assert [one.verdict for one in ours(lab)] == ["crash-consistent"]
    assert "crash-consistent" in kit.description(lab)


@pytest.mark.parametrize(
    ("seconds", "policy"),
    [
        (2.8, "prefer"),
        (3.6, "require"),
        pytest.param(2.8, "require", marks=pytest.mark.slow),
        pytest.param(3.6, "prefer", marks=pytest.mark.slow),
    ],
)
def test_a_freeze_that_outlasts_pves_patience_is_given_up_thawed_and_taken_again_in_sequence(
    lab: Site, guest: ScriptedGuest, seconds: float, policy: str
) -> None:
    """History said otherwise. PVE gives up its ping after 3 s, and takes its volumes as they are."""
    seed(lab, 0.2, 0.2, 0.2)
    guest.set_knob("freeze_sleep", seconds)
    run = take(lab, "--policy", policy, "--json", timeout=120)
    assert run.exit_code == 0, run
    assert run.json["verdict"]["kind"] == CONSISTENT
    last, first = ours(lab)
    assert (last.verdict, last.failure_stage) == (CONSISTENT, None)
    assert (first.verdict, first.failure_stage, first.freeze_outcome) == ("unknown", None, "unknown")
    assert "given up at the knock, where PVE waits no longer, and undone" in (first.reason or "")
    assert "no answer" in (first.freeze_detail or ""), "the freeze was ours, and its task's end is known"
    assert first.closed_at is not None
    assert first.closed_at < last.intent_at, "its guard would have taken the second freeze for a late one"
    assert list(kit.snapshots(lab)) == ["s1"]
    assert not guest.is_frozen()
    guest.set_knob("freeze_sleep", 0.0)


@pytest.mark.parametrize("policy", ["prefer", "require"])
def test_a_freeze_that_outlasts_pves_patience_and_was_not_seen_to_be_undone_is_not_taken_again(
    lab: Site, guest: ScriptedGuest, policy: str
) -> None:
    """The count of the first thaw is lost: a freeze may come still, as far as anybody knows."""
    seed(lab, 0.2, 0.2, 0.2)
    guest.set_knob("freeze_sleep", 3.6)
    with guest.held():
        guest.faults.lose_replies["guest-fsfreeze-thaw"] = 1
    run = take(lab, "--policy", policy, timeout=120)
    assert run.exit_code == 11, run
    assert is_at_the_knock(lab)
    assert kit.window(lab).freeze_outcome == "unknown"
    assert bool(kit.snapshots(lab)) is (policy == "prefer")
    assert ("the snapshot was removed again" in kit.window(lab).reason) is (policy == "require")
    guest.set_knob("freeze_sleep", 0.0)


def test_required_and_not_frozen_at_the_knock_the_snapshot_that_was_begun_is_removed(
    lab: Site, guest: ScriptedGuest
) -> None:
    """In sequence there would be none."""
    seed(lab, 0.2, 0.2, 0.2)
    guest.set_knob("freeze_exit", 3)
    run = take(lab, "--policy", "require", "--json", timeout=120)
    assert run.exit_code == 6, run
    assert is_at_the_knock(lab)
    assert not kit.snapshots(lab)
    assert "the snapshot was removed again" in kit.window(lab).reason


def test_a_required_snapshot_that_cannot_be_removed_is_named(lab: Site, guest: ScriptedGuest) -> None:
    seed(lab, 0.2, 0.2, 0.2)
    guest.set_knob("freeze_exit", 3)
    lab.node.fault("/snapshot/s1$", "status", method="DELETE", status=500, reason="no")
    run = take(lab, "--policy", "require")
    assert run.exit_code == 6, run
    assert "qm delsnapshot 100 s1" in run.text
    assert "crash-consistent" in kit.description(lab)


@pytest.mark.parametrize("version", ["9.1.9", "8.4.1"])
def test_where_pve_thaws_by_itself_nothing_is_taken_again(version: str) -> None:
    """In sequence it would be worth no more."""
    with a_site(pve_version=version) as lab:
        seed(lab, 0.2, 0.2, 0.2)
        run = take(lab)
        assert run.exit_code == 0, run
        assert is_at_the_knock(lab)
        assert [one.verdict for one in ours(lab)] == ["unknown"]


def test_a_task_that_pve_refuses_leaves_nothing_frozen_and_no_seat_taken(lab: Site, guest: ScriptedGuest) -> None:
    seed(lab, 0.2, 0.2, 0.2)
    lab.node.fault("/snapshot$", "status", method="POST", status=500, reason="no")
    run = take(lab, "--policy", "require")
    assert run.exit_code == 7, run
    assert not guest.hook_log()
    assert kit.window(lab).closed_at is not None


def test_an_answer_to_the_snapshot_request_that_is_lost_is_taken_again_in_sequence(lab: Site) -> None:
    seed(lab, 0.2, 0.2, 0.2)
    lab.node.fault("/snapshot$", "drop", when="after", method="POST")
    run = take(lab, "--policy", "require", timeout=120)
    assert run.exit_code == 0, run
    assert "taking it again in sequence" in run.stderr
    assert CONSISTENT in kit.description(lab)
    reason = ours(lab)[1].reason or ""
    assert reason.startswith("not frozen at the knock: the answer to the snapshot request was lost (")
