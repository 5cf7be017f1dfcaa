"""``python -m tests.campaign --windows 50000 --seed 1``: many windows in virtual time, every one of them judged.

A run that breaks an invariant is shrunk to the faults that matter and printed with the command that repeats it.
Exit status 1 then, 0 otherwise.
"""

from __future__ import annotations

import sys

from tests.campaign import drive, faults, invariants, shrink
from tests.campaign.drive import Outcome
from tests.campaign.plan import Plan
from tests.campaign.world import World


def run_plan(plan: Plan, *, trace: bool = False) -> Outcome:
    """Run one plan in a world of its own and judge it."""
    with World(plan) as world:
        try:
            world.run()
        except AssertionError as error:
            world.violations.append(f"(h) {error}")
        violations = invariants.check(world)
        verdicts = [str(row.verdict) for row in invariants.rows(world)]
        sent = sum(1 for window in world.windows.values() if window.freeze_sent_at is not None)
        return Outcome(sent, violations, list(world.happened), verdicts, world.story() if trace else [])


OF_ONE_GUEST = drive.Campaign("tests.campaign", __doc__, Plan, faults.draw, run_plan, shrink.shrink, most_lines=90)
campaign, main = OF_ONE_GUEST.go, OF_ONE_GUEST.main

if __name__ == "__main__":
    sys.exit(main())
