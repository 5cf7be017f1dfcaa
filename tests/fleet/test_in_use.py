"""A run of many and a group, while another run of this machine is at work on one of their guests."""

from __future__ import annotations

import pytest

from tests.engine.kit import snapshots
from tests.engine.test_two_runs import in_use
from tests.fleet import kit
from tests.lab.site import Started, wait_for

IN_USE = "the guest is in use: another run on this machine is at work on it"


def test_a_guest_in_use_is_tried_again_and_keeps_no_slot_meanwhile() -> None:
    with kit.guests(2) as lab, in_use(lab) as other:
        with lab.start("--json", "all", "--at-once", "1", "--wait", "10m") as process:
            assert wait_for(lambda: bool(snapshots(lab, 101)), kit.SOON)
            other.release()
            run = kit.finished(process)
        found = kit.outcomes(run)
        assert kit.codes(run) == {100: 0, 101: 0}
        assert found[100]["tries"] > 1


def test_one_that_stays_in_use_is_named_when_its_time_is_over() -> None:
    with kit.guests(2) as lab, in_use(lab):
        run = kit.take(lab, "--json", "all", "--wait", "1s")
        assert kit.codes(run) == {100: 4, 101: 0}
        assert kit.outcomes(run)[100]["error"]["message"] == IN_USE
        assert not snapshots(lab, 100)
        (row,) = [row for row in lab.windows() if row.vmid == 100]
        assert (row.failure_stage, row.failure_reason) == ("preflight", "guest-locked")


def test_two_runs_of_many_at_once_take_two_consistent_ones_of_each() -> None:
    with kit.guests(3) as lab, lab.start("--json", "all") as one, lab.start("--json", "all") as other:
        runs = [kit.finished(one), kit.finished(other)]
        assert [kit.codes(run) for run in runs] == [{100: 0, 101: 0, 102: 0}] * 2
        assert {row.verdict for row in lab.windows()} == {"filesystem-consistent"}
        assert all(len(snapshots(lab, vmid)) == 2 for vmid in lab.guests)


def test_older_ones_are_removed_before_the_next_run_begins() -> None:
    with kit.guests(1) as lab:
        kit.take(lab, "all", "--label", "daily", "--keep", "1")
        lab.node.fault("/snapshot/safe-", "hold", when="before", method="DELETE")
        with lab.start("--json", "all", "--label", "daily", "--keep", "1") as first:
            assert kit.held(lab)
            with lab.start("100") as second:
                assert second.stderr is not None
                assert any("waiting for another run" in line for line in second.stderr)
                lab.node.release()
                assert kit.finished(first).exit_code == 0
                assert kit.finished(second).exit_code == 0


# ------------------------------------------------------------------- groups


def test_two_groups_at_once_with_their_guests_the_other_way_round_wait_for_each_other() -> None:
    with kit.guests(2) as lab:
        lab.node.fault("/snapshot$", "hold", when="before", method="POST")
        with lab.start("--json", "100", "101", "--together") as one:
            assert kit.held(lab)
            with lab.start("--json", "101", "100", "--together") as other:
                assert other.stderr is not None
                lab.node.release()
                runs = [kit.finished(one), kit.finished(other)]
        assert [run.exit_code for run in runs] == [0, 0], runs
        assert {row.verdict for row in lab.windows()} == {"filesystem-consistent"}
        assert all(len(snapshots(lab, vmid)) == 2 for vmid in (100, 101))


def the_guest_is_waited_for(run: Started) -> bool:
    assert run.stderr is not None
    return any("guest 101: waiting for another run of it" in line for line in run.stderr)


def test_a_group_waits_for_a_guest_in_use_ahead_of_its_name_and_says_so() -> None:
    with kit.guests(2) as lab, in_use(lab, 101) as other, lab.start("101", "100", "--together") as run:
        assert the_guest_is_waited_for(run)
        assert not lab.journal_path.exists()
        other.release()
        assert kit.finished(run).exit_code == 0


def test_groups_take_their_guests_in_one_order() -> None:
    """Or two of them would each have what the other waits for."""
    with kit.guests(2) as lab, in_use(lab, 100), lab.start("101", "100", "--together") as run:
        assert run.stderr is not None
        assert any("guest 100: waiting for another run of it" in line for line in run.stderr)
        in_use(lab, 101).release()
        run.terminate()
        kit.finished(run)


@pytest.mark.parametrize(
    ("how", "codes"),
    [(["--together"], {100: 6, 101: 4}), (["--together", "--best-effort"], {100: 0, 101: 4})],
    ids=["all or none", "best effort"],
)
def test_a_member_that_stays_in_use_is_as_one_that_is_locked(how: list[str], codes: dict[int, int]) -> None:
    with kit.guests(2) as lab, in_use(lab, 101):
        run = kit.take(lab, "--json", "100", "101", *how, "--wait", "0.3s")
        assert kit.codes(run) == codes, run
        assert kit.outcomes(run)[101]["error"]["message"] == IN_USE
        assert not snapshots(lab, 101)
