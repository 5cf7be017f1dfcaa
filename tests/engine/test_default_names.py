"""The names that are given where none is asked for: never one that the guest has. A second run within a second and the
hour that comes twice look alike to a run: the name of this second is taken.
"""

from __future__ import annotations

import time

from snapshot.base.clock import compact
from tests.engine import kit
from tests.engine.kit import check
from tests.fleet import kit as fleet
from tests.lab.site import Site

HANG_SECONDS = 300
"""No run here takes as long."""


def take_all_names(lab: Site, *vmids: int) -> set[str]:
    """Give the guests a snapshot for every second that a run which begins now may name."""
    now = time.time()
    names = {f"safe-{compact(now + second)}" for second in range(HANG_SECONDS)}
    for vmid in vmids:
        found = kit.config(lab, vmid)
        with lab.node.store.locked(found.node, found.kind, vmid, 10) as locked:
            locked.snapshots.update({name: {"snaptime": str(int(now))} for name in names})
    return names


def test_a_run_whose_name_is_taken_gives_another_one(lab: Site) -> None:
    taken = take_all_names(lab, 100)
    run = check(lab, lab.safe_snapshot("--json", "100"))
    assert run.exit_code == 0, run
    (made,) = set(kit.snapshots(lab)) - taken
    assert run.json["snapshot"] == made
    assert made.removesuffix("-2") in taken
    assert [row.snapshot_name for row in lab.windows()] == [made], "the journal says it as PVE has it"


def test_what_would_be_done_has_that_name_too(lab: Site) -> None:
    take_all_names(lab, 100)
    run = check(lab, lab.safe_snapshot("--json", "100", "--dry-run"))
    assert run.exit_code == 0, run
    assert run.json["snapshot"].endswith("-2")


def test_the_members_of_a_group_have_one_name_that_none_of_them_has() -> None:
    with fleet.guests(2) as lab:
        taken = take_all_names(lab, 101)
        run = fleet.take(lab, "--json", "100", "101", "--together")
        assert run.exit_code == 0, run
        made = {one["snapshot"] for one in fleet.outcomes(run).values()}
        assert len(made) == 1
        assert made == set(kit.snapshots(lab, 101)) - taken == set(kit.snapshots(lab, 100))
