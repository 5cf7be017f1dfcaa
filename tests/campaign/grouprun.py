"""``python -m tests.campaign.grouprun --windows 50000 --seed 1``: as ``python -m tests.campaign``, with groups."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable

from tests.campaign import drive, groupinvariants, groups, invariants
from tests.campaign.drive import Outcome, Tally
from tests.campaign.groups import GroupPlan, GroupWorld


def run_plan(plan: GroupPlan, *, trace: bool = False) -> Outcome:
    """Run one plan in worlds of its own and judge it."""
    with GroupWorld(plan) as group:
        try:
            group.run()
        except AssertionError as error:
            group.violations.append(f"(h) {error}")
        violations = groupinvariants.check(group)
        sent = [w for world in group.worlds for w in world.windows.values() if w.freeze_sent_at is not None]
        return Outcome(
            len(sent),
            violations,
            [*group.happened, *(kind for world in group.worlds for kind in world.happened)],
            [str(row.verdict) for world in group.worlds for row in invariants.rows(world)],
            group.story() if trace else [],
            is_of_one_point=any(True for world in group.worlds for _ in groupinvariants.claims(world)),
        )


def shrunk(plan: GroupPlan, failing: Callable[[GroupPlan], list[str]]) -> GroupPlan:
    """The smallest plan found: fewer faults, as long as it still fails."""
    again = True
    while again:
        again = False
        for smaller in _with_one_less(plan):
            if failing(smaller):
                plan, again = smaller, True
                break
    return plan


def _with_one_less(plan: GroupPlan) -> list[GroupPlan]:
    found = [
        dataclasses.replace(plan, leader=plan.leader[:at] + plan.leader[at + 1 :]) for at in range(len(plan.leader))
    ]
    for number, member in enumerate(plan.members):
        for at in range(len(member.faults)):
            less = dataclasses.replace(member, faults=member.faults[:at] + member.faults[at + 1 :])
            members = (*plan.members[:number], less, *plan.members[number + 1 :])
            found.append(dataclasses.replace(plan, members=members))
    return found


def _told(tally: Tally) -> str:
    return f"{tally.runs} groups, {tally.of_one_point} of one point in time"


OF_GROUPS = drive.Campaign(
    "tests.campaign.grouprun", __doc__, GroupPlan, groups.draw, run_plan, shrunk, most_lines=160, told=_told
)
campaign, main = OF_GROUPS.go, OF_GROUPS.main

if __name__ == "__main__":
    sys.exit(main())
