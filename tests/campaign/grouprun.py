"""``python -m tests.campaign.grouprun --windows 50000 --seed 1``: as ``python -m tests.campaign``, with groups."""

from __future__ import annotations

import argparse
import dataclasses
import gc
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from tests.campaign import groupinvariants, groups, invariants
from tests.campaign.groups import GroupPlan, GroupWorld

MOST_LINES = 160


@dataclass
class Outcome:
    """What one run came to."""

    windows: int
    violations: list[str]
    happened: list[str]
    verdicts: list[str]
    is_of_one_point: bool
    trace: list[str] = field(default_factory=list)


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
            any(True for world in group.worlds for _ in groupinvariants.claims(world)),
            group.story() if trace else [],
        )


@dataclass
class Tally:
    """The sum of a campaign."""

    windows: int = 0
    runs: int = 0
    of_one_point: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    verdicts: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)


def campaign(windows: int, seed: str, *, progress: bool = False, most_failures: int = 3) -> Tally:
    """Run until ``windows`` windows have been opened, or ``most_failures`` runs have failed."""
    tally, began = Tally(), time.monotonic()
    said = began
    while tally.windows < windows and len(tally.failures) < most_failures:
        run_seed = f"{seed}:{tally.runs}"
        outcome = run_plan(groups.draw(run_seed))
        tally.windows += outcome.windows
        tally.runs += 1
        tally.of_one_point += outcome.is_of_one_point
        tally.faults.update(outcome.happened)
        tally.verdicts.update(outcome.verdicts)
        if outcome.violations:
            tally.failures.append(run_seed)
            print("\n".join(explain(run_seed)), flush=True)
        if tally.runs % 100 == 0:
            gc.collect()
        if progress and time.monotonic() - said > 5.0:
            said = time.monotonic()
            print(f"  {tally.windows} windows, {tally.runs} runs, {said - began:.0f} s", file=sys.stderr, flush=True)
    return tally


def explain(run_seed: str) -> list[str]:
    """A failing run, shrunk, with the command that repeats it."""
    small = shrunk(groups.draw(run_seed), lambda plan: run_plan(plan).violations)
    outcome = run_plan(small, trace=True)
    trace = outcome.trace if len(outcome.trace) <= MOST_LINES else [*outcome.trace[:MOST_LINES], "..."]
    return [
        f"VIOLATION in run {run_seed}:",
        *(f"  {line}" for line in outcome.violations),
        "smallest plan that shows it:",
        *(f"  {line}" for line in small.lines()),
        *(f"    {line}" for line in trace),
        f"repeat: python -m tests.campaign.grouprun --run '{run_seed}'",
        f"repeat the smallest: python -m tests.campaign.grouprun --plan '{small.to_json()}'",
        "",
    ]


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


def main(argv: Sequence[str] | None = None) -> int:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(prog="python -m tests.campaign.grouprun", description=__doc__)
    parser.add_argument("--windows", type=int, default=50_000)
    parser.add_argument("--seed", default="1")
    parser.add_argument("--run", metavar="SEED:NUMBER", help="one run again, shrunk when it fails")
    parser.add_argument("--plan", metavar="JSON", help="one plan, as a failing run prints it")
    options = parser.parse_args(argv)
    if options.run or options.plan:
        plan = groups.draw(options.run) if options.run else GroupPlan.from_json(options.plan)
        outcome = run_plan(plan, trace=True)
        print("\n".join([*plan.lines(), *outcome.trace, *outcome.violations, f"{outcome.windows} windows"]))
        return 1 if outcome.violations else 0
    began = time.monotonic()
    tally = campaign(options.windows, options.seed, progress=True)
    print(
        f"seed {options.seed}: {tally.windows} windows in {tally.runs} groups, {tally.of_one_point} of one point in "
        f"time, {time.monotonic() - began:.0f} s"
    )
    print("verdicts:", ", ".join(f"{name} {count}" for name, count in tally.verdicts.most_common()))
    print("faults that struck:", ", ".join(f"{name} {count}" for name, count in tally.faults.most_common()))
    print(f"violations: {len(tally.failures)} {tally.failures or ''}")
    return 1 if tally.failures else 0


if __name__ == "__main__":
    sys.exit(main())
