"""Two runs for one guest on one machine: the second waits, and takes no worse snapshot beside the first one's."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator

import pytest

from snapshot.base.clock import SystemClock
from snapshot.base.slots import FOLDER, Slot, Slots
from tests.engine.kit import check, config, snapshots
from tests.lab.guest.scripted import ScriptedGuest
from tests.lab.site import Site, Started, wait_for

WAITING = "guest 100: waiting for another run of it on this machine"
SOON = 60.0


def in_use(lab: Site, vmid: int = 100) -> Slot:
    """The guest is another run's."""
    return Slots(lab.journal_path.parent / FOLDER, f"run-{vmid}", 1, SystemClock()).take(0.0)


@contextlib.contextmanager
def first_is_held(lab: Site, *arguments: str) -> Iterator[Started]:
    """A run of guest 100 whose snapshot PVE has not begun yet."""
    lab.node.fault("/snapshot$", "hold", when="before", method="POST")
    with lab.start("100", *arguments) as first:
        assert wait_for(lambda: lab.node.held() > 0, SOON)
        yield first


def until_it_waits(run: Started) -> None:
    assert run.stderr is not None
    assert any(line.rstrip().endswith(WAITING) for line in run.stderr)


def freezes(guest: ScriptedGuest) -> int:
    return [event for _, event in guest.hook_log()].count("freeze")


def test_the_second_waits_says_so_and_takes_its_own_under_a_name_of_its_own(lab: Site, guest: ScriptedGuest) -> None:
    with first_is_held(lab) as first, lab.start("100") as second:
        until_it_waits(second)
        assert len(lab.windows()) == 1
        lab.node.release()
        for run in (first, second):
            _, said = run.communicate(timeout=SOON)
            assert run.returncode == 0, said
    assert "goes on: it is this guest's turn" in said
    assert [row.verdict for row in lab.windows()] == ["filesystem-consistent"] * 2
    assert set(snapshots(lab)) == {row.snapshot_name for row in lab.windows()}
    assert len(snapshots(lab)) == 2


def test_a_name_that_the_first_has_given_by_then_is_refused_before_the_freeze(lab: Site, guest: ScriptedGuest) -> None:
    with first_is_held(lab, "same") as first, lab.start("100", "same") as second:
        until_it_waits(second)
        lab.node.release()
        _, said = first.communicate(timeout=SOON)
        assert first.returncode == 0, said
        _, said = second.communicate(timeout=SOON)
    assert second.returncode == 4, said
    assert "there is a snapshot 'same' already" in said
    assert freezes(guest) == 1


def test_a_guest_that_stays_in_use_is_told_as_one_that_is_locked_and_nothing_is_frozen(
    lab: Site, guest: ScriptedGuest
) -> None:
    lab.write_config(fleet={"wait_seconds": 0.3})
    with in_use(lab):
        run = check(lab, lab.safe_snapshot("100", "--json"))
    assert run.exit_code == 4, run
    assert run.json["error"]["message"] == "the guest is in use: another run on this machine is at work on it"
    assert "safe-snapshot status" in run.json["error"]["remedy"]
    assert freezes(guest) == 0
    assert snapshots(lab) == {}
    row = lab.windows()[0]
    assert (row.failure_stage, row.failure_reason) == ("preflight", "guest-locked")
    assert check(lab, lab.safe_snapshot("100")).exit_code == 0, "it is given back"


@pytest.mark.parametrize("line", ["100 --dry-run", "check 100", "100 --dry-run --label daily"])
def test_who_takes_none_waits_for_nobody(lab: Site, line: str) -> None:
    with in_use(lab):
        run = check(lab, lab.safe_snapshot(*line.split()))
    assert run.exit_code == 0, run
    assert "waiting" not in run.text


def test_a_signal_ends_the_wait(lab: Site) -> None:
    with in_use(lab), lab.start("100") as run:
        until_it_waits(run)
        run.send_signal(signal.SIGINT)
        run.communicate(timeout=SOON)
    assert run.returncode == 130
    assert snapshots(lab) == {}


def test_a_backups_hook_waits_for_nobody(lab: Site) -> None:
    with in_use(lab), lab.vzdump(100) as job:
        job.wait()
    assert lab.windows()[0].verdict == "filesystem-consistent"


def test_a_name_of_ours_that_another_machine_has_taken_meanwhile_is_no_reason_to_choose_one(lab: Site) -> None:
    with first_is_held(lab, "--json") as run:
        name = str(lab.windows()[0].snapshot_name)
        found = config(lab)
        with lab.node.store.locked(found.node, found.kind, 100, 10) as locked:
            locked.snapshots[name] = {"snaptime": "1"}
        lab.node.release()
        said, _ = run.communicate(timeout=SOON)
    assert run.returncode == 7, said
    assert "already used" in said
    assert "--name" not in said
    assert "try again" in said
