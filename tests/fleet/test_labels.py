"""Runs by label: once the snapshot is taken, what the label's rule does not keep goes; who was left out is told."""

from __future__ import annotations

import time
from contextlib import closing

from snapshot.journal.labelruns import label_runs
from snapshot.journal.store import Journal
from tests.engine.kit import FREEZE, NOT_ALLOWED, snapshots
from tests.fleet import kit
from tests.lab.site import Run, Site, wait_for


def daily(lab: Site, *arguments: str) -> Run:
    """In a second of its own: of several in one second PVE's rules count one."""
    begun = int(time.time())
    wait_for(lambda: int(time.time()) > begun, 5)
    return kit.take(lab, "--json", "all", "--label", "daily", *arguments)


def test_what_the_rule_of_a_label_does_not_keep_goes_once_there_is_a_newer_one() -> None:
    with kit.guests(2) as lab:
        lab.node.set_config(100, tags="snap-daily-2")
        assert kit.take(lab, "--json", "all", "--name", "by-hand").exit_code == 0
        runs = [daily(lab) for _ in range(3)]
        assert [run.exit_code for run in runs] == [0, 0, 0], runs
        made = [[kit.outcomes(run)[vmid]["snapshot"] for run in runs] for vmid in (100, 101)]
        assert set(snapshots(lab, 100)) == {"by-hand", *made[0][1:]}, "its tag keeps two"
        assert set(snapshots(lab, 101)) == {"by-hand", *made[1]}, "no tag, no rule: all are kept"
        assert [kit.outcomes(run)[100]["removed"] for run in runs] == [[], [], made[0][:1]]
        # The command line's rule holds for all of the run's guests, and for its label alone.
        last = kit.outcomes(daily(lab, "--keep", "1"))
        assert [len(last[vmid]["removed"]) for vmid in (100, 101)] == [2, 3]
        assert all(len(snapshots(lab, vmid)) == 2 and "by-hand" in snapshots(lab, vmid) for vmid in (100, 101))


def test_the_one_that_was_just_taken_stays_though_another_is_of_the_same_second() -> None:
    with kit.guests(1) as lab:
        for _ in range(4):
            run = kit.take(lab, "100", "--label", "daily", "--keep", "1")
            assert run.exit_code == 0, run
            newest = max(lab.windows(), key=lambda window: window.intent_at)
            assert set(snapshots(lab, 100)) == {newest.snapshot_name}, run


def test_nothing_goes_where_no_newer_one_was_taken_or_in_a_dry_run() -> None:
    with kit.guests(2) as lab:
        assert [daily(lab).exit_code, daily(lab).exit_code] == [0, 0]
        kit.guest(lab, 100).faults.refuse[FREEZE] = NOT_ALLOWED
        before = set(snapshots(lab, 100))
        assert len(before) == 2
        assert daily(lab, "--keep", "1", "--policy", "require").exit_code == 6
        assert set(snapshots(lab, 100)) == before
        left = set(snapshots(lab, 101))
        assert daily(lab, "--keep", "0", "--dry-run").exit_code == 0
        assert set(snapshots(lab, 101)) == left


def test_a_dry_run_says_what_would_go_once_the_new_one_is_there_and_the_run_then_does_that() -> None:
    with kit.guests(2) as lab:
        would = daily(lab, "--keep", "1", "--dry-run")
        assert [one["would_remove"] for one in kit.outcomes(would).values()] == [[], []]
        assert not lab.journal_path.exists(), "it changes nothing"
        runs = [daily(lab) for _ in range(2)]
        assert [run.exit_code for run in runs] == [0, 0]
        lab.node.set_config(101, agent=0)  # what is not consistent costs no consistent one its place
        would = daily(lab, "--keep", "2", "--dry-run")
        told = {vmid: one["would_remove"] for vmid, one in kit.outcomes(would).items()}
        assert told == {100: [kit.outcomes(runs[0])[100]["snapshot"]], 101: []}
        said = kit.take(lab, "100", "--label", "daily", "--keep", "2", "--dry-run").stdout
        assert f"; then {told[100][0]} would be removed\n" in said
        assert said.splitlines()[-1].endswith(", 1 older snapshot would be removed")
        said = kit.take(lab, "100", "--name", "by-hand", "--keep", "1", "--dry-run").stdout
        assert "removed" not in said, "a name that is not ours does not count, nor do those with a label"
        done = kit.outcomes(daily(lab, "--keep", "2"))
        assert {vmid: one["removed"] for vmid, one in done.items()} == told
        assert {vmid: one["would_remove"] for vmid, one in done.items()} == {100: [], 101: []}


def test_a_removal_that_fails_is_named_and_the_snapshot_stays_what_it_is() -> None:
    with kit.guests(1) as lab:
        first = kit.outcomes(daily(lab))[100]["snapshot"]
        lab.node.fault(f"/snapshot/{first}$", "status", method="DELETE", status=500, reason="no", times=None)
        run = daily(lab, "--keep", "1")
        found = kit.outcomes(run)[100]
        assert (run.exit_code, found["verdict"], found["error"]["code"]) == (15, "filesystem-consistent", "not-pruned")
        assert first in snapshots(lab, 100)
        assert found["error"]["remedy"]


def test_the_run_of_a_label_is_written_down_with_whom_it_left_out() -> None:
    with kit.guests(2) as lab:
        lab.node.set_config(101, lock="backup")
        assert daily(lab, "--wait", "0").exit_code == 4
        with closing(Journal(lab.journal_path)) as journal:
            taken, missed = label_runs(journal)
        assert taken.vmid == 100
        assert taken.last_at
        assert taken.left_out_at is None
        assert (missed.vmid, missed.last_at) == (101, None)
        assert missed.left_out_at
        assert "locked" in missed.left_out_why
