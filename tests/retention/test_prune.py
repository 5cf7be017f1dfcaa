"""What a prune removes and what it never does: on a lab node, by PVE's own tasks."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest

from snapshot.base.clock import SystemClock
from snapshot.base.slots import FOLDER, Slots
from snapshot.journal.store import Journal
from snapshot.model import VerdictKind
from snapshot.retention.ours import Left
from tests.lab.guest.scripted import ScriptedGuest
from tests.lab.node.node import GuestSpec
from tests.lab.site import Site, Started, site, wait_for
from tests.retention.kit import CRASH, names, open_removals, plant, prune, rows
from tests.unit.kit import record


@pytest.fixture
def running() -> Iterator[Site]:
    """Guest 100 runs: its disk knows nothing of what is planted, so PVE cannot remove it."""
    with site(ScriptedGuest) as found:
        yield found


def deletions(lab: Site) -> list[str]:
    return [request.path for request in lab.node.requests("/snapshot/") if request.method == "DELETE"]


def test_what_no_option_keeps_is_removed_oldest_first_and_the_rest_stays(lab: Site) -> None:
    old = [plant(lab, hours) for hours in (9, 8, 7)]
    kept = [plant(lab, hours) for hours in (3, 2)]
    run = prune(lab, "100", "--keep", "2")
    assert run.exit_code == 0, run
    assert names(lab) == set(kept)
    assert [path.rpartition("/")[2] for path in deletions(lab)] == old
    assert "3 snapshots removed, 2 kept, 0 left alone" in run.stdout
    assert not open_removals(lab)


def test_a_dry_run_says_it_and_changes_nothing(lab: Site) -> None:
    old, new = plant(lab, 5), plant(lab, 1)
    before = lab.journal_path.read_bytes()
    run = prune(lab, "100", "--keep-last", "1", "--dry-run")
    assert run.exit_code == 0, run
    assert f"would remove {old} (no option keeps it)" in run.stdout
    assert names(lab) == {old, new}
    assert not deletions(lab)
    assert lab.journal_path.read_bytes() == before


def test_each_label_keeps_to_its_own(lab: Site) -> None:
    daily = [plant(lab, hours, label="daily") for hours in (50, 26, 2)]
    weekly = [plant(lab, hours, label="weekly") for hours in (500, 300)]
    plain = [plant(lab, hours) for hours in (40, 1)]
    assert prune(lab, "100", "--label", "daily", "--keep", "1").exit_code == 0
    assert names(lab) == {daily[-1], *weekly, *plain}
    assert prune(lab, "100", "--keep", "1").exit_code == 0
    assert names(lab) == {daily[-1], *weekly, plain[-1]}


def test_the_guests_tags_say_what_is_kept_of_each_label(lab: Site) -> None:
    lab.node.set_config(100, tags="prod;snap-daily-2;snap-weekly-1")
    daily = [plant(lab, hours, label="daily") for hours in (50, 26, 2)]
    weekly = [plant(lab, hours, label="weekly") for hours in (500, 300)]
    plain = [plant(lab, hours) for hours in (40, 1)]
    assert prune(lab, "label:daily", "--label", "daily").exit_code == 0
    assert names(lab) == {*daily[1:], *weekly, *plain}
    assert prune(lab, "all").exit_code == 0
    assert names(lab) == {*daily[1:], weekly[-1], *plain}


def test_without_a_rule_nothing_is_done_and_it_says_what_to_give(lab: Site) -> None:
    plant(lab, 5)
    run = prune(lab, "100")
    assert run.exit_code == 2
    assert "give --keep N" in run.stderr
    assert "snap-daily-7" in run.stderr
    assert not deletions(lab)


def test_newer_crash_consistent_ones_never_cost_the_last_consistent_one(lab: Site) -> None:
    gone, good = plant(lab, 50), plant(lab, 40)
    bad = [plant(lab, hours, verdict=CRASH) for hours in (30, 20, 10)]
    assert prune(lab, "100", "--keep", "1").exit_code == 0
    assert names(lab) == {good, bad[-1]}
    assert gone not in names(lab)


def test_a_verdict_counts_as_the_journal_has_it_not_as_the_description_says(lab: Site) -> None:
    good = plant(lab, 50)
    lying = plant(lab, 10, record_values={"verdict": "crash-consistent"})
    assert prune(lab, "100", "--keep", "1").exit_code == 0
    assert names(lab) == {good, lying}


def others(lab: Site) -> dict[str, str]:
    """One of each kind that is none of ours to remove, and the word for it."""
    mark = "somebody's own words"
    return {
        plant(lab, 90, mark=mark): "no-mark",
        plant(lab, 89, name="before-upgrade"): "other-name",
        plant(lab, 88, name="safe-house"): "other-name",
        plant(lab, 87, name="other-20260101-000000"): "other-name",
        plant(lab, 86, is_known=False): "not-in-journal",
        plant(lab, 85, record_values={"snapshot_name": "safe-20200101-000000"}): "other-in-journal",
        plant(lab, 84, record_values={"vmid": 101}): "other-in-journal",
        plant(lab, 83, record_values={"kind": "lxc"}): "other-in-journal",
        plant(lab, 81, snapstate="prepare"): "not-whole",
        plant(lab, 80, snapstate="delete"): "not-whole",
        plant(lab, 79, mark="safe-snapshot: filesystem-consistent: copied", is_known=False): "not-in-journal",
    }


def test_what_is_not_ours_is_named_and_left_with_the_reason(lab: Site) -> None:
    wanted = others(lab)
    plant(lab, 70)
    new = plant(lab, 1)
    run = prune(lab, "100", "--keep", "1", "--json")
    assert run.exit_code == 0, run
    assert {name: row["left"] for name, row in rows(run).items() if row["left"]} == wanted
    assert names(lab) == {*wanted, new}
    assert len(deletions(lab)) == 1
    shown = " ".join(prune(lab, "100", "--keep", "1").stdout.split())
    for word in set(wanted.values()):
        named = ", ".join(name for name, other in wanted.items() if other == word)
        assert f"left alone: {named}: {Left(word).sentence}" in shown


def test_one_whose_run_is_not_over_does_not_count_yet(lab: Site) -> None:
    ours = [plant(lab, hours) for hours in (9, 8)]
    open_one = plant(lab, 1, record_values={"verdict": None, "closed_at": None, "state": "frozen"})
    found = rows(lab.safe_snapshot("list", "100", "--keep", "2", "--json"))
    assert found[open_one]["left"] == "at-work"
    assert all(found[name]["keeps"] for name in ours)


def test_what_is_not_ours_takes_no_place_of_ours(lab: Site) -> None:
    ours = [plant(lab, hours, verdict=CRASH) for hours in (9, 8)]
    wanted = set(others(lab))
    newest = plant(lab, 1, mark="mine")
    assert prune(lab, "100", "--keep", "2").exit_code == 0
    assert names(lab) == {*ours, *wanted, newest}


def test_one_of_an_earlier_version_is_known_by_its_name_and_its_time(lab: Site) -> None:
    said = "safe-snapshot: filesystem-consistent: held; freeze window 74 ms; 2026-01-01T00:00:00+0100"
    old = plant(lab, 50, mark=said)
    another = plant(lab, 40, mark=said, record_values={"closed_at": 1_700_000_000.0, "intent_at": 1_600_000_000.0})
    new = plant(lab, 1)
    run = prune(lab, "100", "--keep", "1", "--json")
    assert names(lab) == {another, new}
    assert rows(run)[another]["left"] == "not-in-journal"
    assert old not in names(lab)


def test_an_operator_makes_one_his_own_by_taking_the_mark_out(lab: Site) -> None:
    kept, new = plant(lab, 50), plant(lab, 1)
    found = lab.node.config(100)
    with lab.node.store.locked(found.node, found.kind, 100, 10) as locked:
        locked.snapshots[kept]["description"] = "keep this one"
    assert prune(lab, "100", "--keep", "1").exit_code == 0
    assert names(lab) == {kept, new}


def test_one_that_the_guest_was_rolled_back_to_stays_until_another_is_taken(lab: Site) -> None:
    old, base, new = plant(lab, 9), plant(lab, 8), plant(lab, 1)
    lab.node.set_config(100, parent=base)
    run = prune(lab, "100", "--keep", "1", "--json")
    assert run.exit_code == 0
    assert names(lab) == {base, new}
    assert rows(run)[base]["left"] == "rolled-back-to"
    lab.node.set_config(100, parent=new)
    assert prune(lab, "100", "--keep", "1").exit_code == 0
    assert names(lab) == {new}
    assert old not in names(lab)


def test_one_with_ram_goes_as_any_other_and_counts_as_consistent(lab: Site) -> None:
    old = plant(lab, 9, verdict=VerdictKind.MEMORY, vmstate="local:100/vm-100-state-x.raw")
    new = plant(lab, 1, verdict=VerdictKind.MEMORY, vmstate="local:100/vm-100-state-y.raw")
    listed = lab.safe_snapshot("list", "100", "--keep", "1")
    assert "memory with RAM" in listed.stdout
    assert prune(lab, "100", "--keep", "1").exit_code == 0
    assert names(lab) == {new}
    assert old not in names(lab)


def test_another_of_the_same_name_that_came_meanwhile_is_left(lab: Site) -> None:
    """Between the listing and the removal somebody removes ours, and takes his own under its name."""
    old, next_one, new = plant(lab, 9), plant(lab, 8), plant(lab, 1)
    lab.node.fault("status/current", "hold", when="before")
    process = lab.start("prune", "100", "--keep", "1", "--json")
    assert wait_for(lambda: lab.node.held() > 0, 30)
    found = lab.node.config(100)
    with lab.node.store.locked(found.node, found.kind, 100, 10) as locked:
        locked.snapshots[old] |= {"description": "not yours", "snaptime": "1795000000"}
    lab.node.release()
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 0, stderr
    assert '"left": "changed"' in stdout
    assert names(lab) == {old, new}
    assert [path.rpartition("/")[2] for path in deletions(lab)] == [next_one], "the others go all the same"


def test_one_that_is_the_last_consistent_one_by_now_is_left(lab: Site) -> None:
    """The newer consistent one, for whose sake it was to go, was removed by hand since the listing."""
    old, good = plant(lab, 9), plant(lab, 1)
    lab.node.fault("status/current", "hold", when="before")
    process = lab.start("prune", "100", "--keep", "1")
    assert wait_for(lambda: lab.node.held() > 0, 30)
    found = lab.node.config(100)
    with lab.node.store.locked(found.node, found.kind, 100, 10) as locked:
        del locked.snapshots[good]
    lab.node.release()
    process.communicate(timeout=60)
    assert names(lab) == {old}
    assert not deletions(lab)


def test_a_guest_that_is_locked_is_waited_for(lab: Site) -> None:
    old, new = plant(lab, 9), plant(lab, 1)
    lab.node.set_config(100, lock="backup")
    process = lab.start("prune", "100", "--keep", "1")
    assert wait_for(lambda: len(lab.node.requests("status/current")) > 1, 30)
    assert not deletions(lab)
    lab.node.set_config(100, lock=None)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 0, stderr
    assert names(lab) == {new}
    assert old not in names(lab)


def test_a_guest_that_a_run_has_in_its_window_is_waited_for(lab: Site) -> None:
    """PVE's lock for the removal would make the snapshot task of that run fail."""
    old, new = plant(lab, 9), plant(lab, 1)
    with contextlib.closing(Journal(lab.journal_path)) as journal:
        journal.begin(record("window", state="frozen"))
        process = lab.start("prune", "100", "--keep", "1")
        assert wait_for(lambda: len(lab.node.requests("status/current")) > 1, 30)
        assert not deletions(lab)
        journal.update("window", verdict="filesystem-consistent", state="thawed")
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 0, stderr
    assert names(lab) == {new}
    assert old not in names(lab)


def test_a_container_is_pruned_as_any_guest_with_its_own_tool(lab: Site) -> None:
    lab.node.add_guest(GuestSpec(110, kind="lxc", running=False))
    lxc = {"kind": "lxc"}
    old, new = (plant(lab, hours, vmid=110, record_values=lxc) for hours in (9, 1))
    strange = plant(lab, 20, vmid=110, is_known=False)
    run = prune(lab, "110", "--keep", "1", "--json")
    assert run.exit_code == 0, run
    assert names(lab, 110) == {new, strange}
    assert f"`pct delsnapshot 110 {strange}`" in rows(run, 110)[strange]["remedy"]
    assert old not in names(lab, 110)


def test_a_guest_that_fails_keeps_no_other_from_its_turn(lab: Site) -> None:
    lab.node.add_guest(GuestSpec(110, kind="lxc", running=False))
    plant(lab, 9), plant(lab, 1)
    new = [plant(lab, hours, vmid=110, record_values={"kind": "lxc"}) for hours in (9, 1)][1]
    lab.node.fault("/qemu/100/snapshot$", "status", status=500, reason="no quorum", times=None)
    run = prune(lab, "all", "--keep", "1")
    assert run.exit_code == 5, run
    assert "ERROR: guest 100:" in run.stderr
    assert names(lab, 110) == {new}


def test_a_signal_ends_it_and_says_that_pve_goes_on(lab: Site) -> None:
    plant(lab, 9)
    new = plant(lab, 1)
    lab.node.fault("/snapshot/safe-", "hold", when="after", method="DELETE")
    process = lab.start("prune", "100", "--keep", "1")
    assert wait_for(lambda: lab.node.held() > 0, 30)
    process.terminate()
    _, stderr = process.communicate(timeout=60)
    lab.node.release()
    assert process.returncode == 143
    assert "the next prune finds out" in stderr
    assert wait_for(lambda: not lab.node.running_tasks(), 30)
    assert prune(lab, "100", "--keep", "1").exit_code == 0
    assert names(lab) == {new}
    assert not open_removals(lab)


def test_a_lock_that_comes_between_the_look_and_the_task_costs_nothing(lab: Site) -> None:
    old, new = plant(lab, 9), plant(lab, 1)
    lab.node.fault("/snapshot/safe-", "hold", when="before", method="DELETE")
    process = lab.start("prune", "100", "--keep", "1")
    assert wait_for(lambda: lab.node.held() > 0, 30)
    lab.node.set_config(100, lock="backup")
    lab.node.release()
    assert wait_for(lambda: len(deletions(lab)) == 1 and len(lab.node.requests("status/current")) > 2, 30)
    lab.node.set_config(100, lock=None)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 0, stderr
    assert names(lab) == {new}
    assert old not in names(lab)
    assert not open_removals(lab)


def test_what_pve_cannot_remove_is_named_with_the_remedy_and_ends_the_guests_turn(running: Site) -> None:
    busy, next_one, new = plant(running, 9), plant(running, 8), plant(running, 1)
    run = prune(running, "100", "--keep", "1")
    assert run.exit_code == 15, run
    assert f"snapshot {busy} of guest 100 was not removed" in run.stderr
    assert "does not exist on device" in run.stderr
    assert "`qm unlock 100`" in run.stderr
    assert f"qm delsnapshot 100 {busy}" in run.stderr
    assert names(running) == {busy, next_one, new}
    assert len(deletions(running)) == 1, "nothing else is tried under PVE's lock"


def test_what_pve_left_half_removed_is_removed_once_the_guest_is_unlocked(running: Site) -> None:
    busy, new = plant(running, 9), plant(running, 1)
    assert prune(running, "100", "--keep", "1").exit_code == 15
    assert running.node.config(100).snapshots[busy]["snapstate"] == "delete"
    running.guest.stop()  # nothing is in the way of its disk any more
    running.node.set_config(100, lock=None)
    run = prune(running, "100", "--keep", "1")
    assert run.exit_code == 0, run
    assert names(running) == {new}
    assert "its removal was begun" in run.stdout


def test_what_others_left_half_removed_is_never_touched(lab: Site) -> None:
    half, new = plant(lab, 9, snapstate="delete"), plant(lab, 1)
    run = prune(lab, "100", "--keep", "1", "--json")
    assert run.exit_code == 0
    assert rows(run)[half]["left"] == "not-whole"
    assert "delsnapshot" in rows(run)[half]["remedy"]
    assert names(lab) == {half, new}
    assert not deletions(lab)


@pytest.mark.parametrize("when", ["before", "after"])
def test_an_answer_that_is_lost_is_found_out(lab: Site, when: str) -> None:
    old, new = plant(lab, 9), plant(lab, 1)
    lab.node.fault("/snapshot/safe-", "drop", when=when, method="DELETE")
    run = prune(lab, "100", "--keep", "1")
    assert run.exit_code == (0 if when == "after" else 15), run
    assert names(lab) == ({new} if when == "after" else {old, new})
    assert prune(lab, "100", "--keep", "1").exit_code == 0
    assert names(lab) == {new}
    assert not open_removals(lab)


def test_without_its_intent_in_the_journal_nothing_is_removed(lab: Site) -> None:
    old, new = plant(lab, 9), plant(lab, 1)
    with contextlib.closing(Journal(lab.journal_path)) as journal, journal.transaction("written") as db:
        db.execute("CREATE TRIGGER full BEFORE INSERT ON removals BEGIN SELECT RAISE(FAIL, 'disk is full'); END")
    run = prune(lab, "100", "--keep", "1")
    assert run.exit_code == 9, run
    assert names(lab) == {old, new}
    assert not deletions(lab)


def test_what_is_there_is_listed_before_the_first_window_too(lab: Site) -> None:
    plant(lab, 9)
    lab.journal_path.unlink()
    for words in (("list", "100"), ("prune", "100", "--keep", "1", "--dry-run")):
        run = lab.safe_snapshot(*words)
        assert run.exit_code == 0, run
        assert "safe-" in run.stdout
    assert not lab.journal_path.exists(), "a look makes none"


def test_without_a_journal_nothing_is_known_and_nothing_removed(lab: Site) -> None:
    old, new = plant(lab, 9), plant(lab, 1)
    lab.journal_path.unlink()
    run = prune(lab, "100", "--keep", "1", "--json")
    assert {row["left"] for row in rows(run).values()} == {"not-in-journal"}
    assert names(lab) == {old, new}


def held_or_over(lab: Site, process: Started) -> bool:
    """How often it looks for the end of its task is not always the same: it may be through before that request."""
    return wait_for(lambda: lab.node.held() > 0 or process.poll() is not None, 60)


def test_a_prune_killed_at_any_step_is_finished_by_the_next(lab: Site) -> None:
    """SIGKILL while one of its requests is on its way, before PVE has acted on it and after, at every request."""
    kept = [plant(lab, 1), plant(lab, 500, mark="not ours")]
    plant(lab, 400)
    lab.node.forget_requests()
    assert prune(lab, "100", "--keep", "1").exit_code == 0
    steps = len(lab.node.requests())
    assert steps >= 6
    for step in range(1, steps + 1):
        for when in ("before", "after"):
            doomed = plant(lab, 300 + step + (0.5 if when == "after" else 0))
            lab.node.fault("api2", "hold", when=when, nth=step)
            process = lab.start("prune", "100", "--keep", "1")
            assert held_or_over(lab, process), (step, when)
            process.kill()
            process.communicate()
            lab.node.clear_faults()
            assert wait_for(lambda: not lab.node.running_tasks(), 30)
            run = prune(lab, "100", "--keep", "1")
            assert run.exit_code == 0, (step, when, run)
            assert names(lab) == set(kept), (step, when)
            assert doomed not in names(lab)
            assert not open_removals(lab), (step, when)


def test_two_prunes_at_once_do_what_one_does(lab: Site) -> None:
    new, mine = plant(lab, 1), plant(lab, 99, mark="mine")
    for hours in range(20, 26):
        plant(lab, hours)
    processes = [lab.start("prune", "100", "--keep", "1") for _ in range(2)]
    for process in processes:
        _, stderr = process.communicate(timeout=120)
        assert process.returncode == 0, stderr
    assert names(lab) == {new, mine}
    assert not open_removals(lab)


def test_a_prune_waits_for_another_one_of_the_same_guest(lab: Site) -> None:
    """Two removals of one snapshot at once leave a guest locked for good."""
    new = plant(lab, 1)
    for hours in (20, 21):
        plant(lab, hours)
    lab.node.fault("/snapshot/safe-", "hold", when="before", method="DELETE")
    with lab.start("prune", "100", "--keep", "1") as first:
        assert wait_for(lambda: lab.node.held() > 0, 30)
        with lab.start("prune", "100", "--keep", "1") as second:
            assert second.stderr is not None
            assert any("guest 100: waiting for another prune of it" in line for line in second.stderr)
            assert len(deletions(lab)) == 1
            lab.node.release()
            first.communicate(timeout=120)
            second.communicate(timeout=120)
    assert (first.returncode, second.returncode) == (0, 0)
    assert names(lab) == {new}
    assert len(deletions(lab)) == 2
    assert not open_removals(lab)


def test_a_prune_that_never_gets_its_turn_says_so(lab: Site) -> None:
    plant(lab, 1)
    plant(lab, 20)
    lab.settings["snapshot"]["task_timeout_seconds"] = 1.0
    lab.write_config()
    with Slots(lab.journal_path.parent / FOLDER, "prune-100", 1, SystemClock()).take(0.0):
        run = prune(lab, "100", "--keep", "1")
    assert run.exit_code == 15, run
    assert "guest 100 was not pruned: another prune of it was at work for 1 s" in run.stderr
    assert not deletions(lab)
