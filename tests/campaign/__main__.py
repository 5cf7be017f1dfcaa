"""``python -m tests.campaign --windows 50000 --seed 1``: many windows in virtual time, every one of them judged.

A run that breaks an invariant is shrunk to the faults that matter and printed with the command that repeats it.
Exit status 1 then, 0 otherwise.
"""

from __future__ import annotations

import argparse
import gc
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from tests.campaign import faults, invariants, shrink
from tests.campaign.plan import Plan
from tests.campaign.world import World

MOST_LINES = 90
"""Of a failing run's story."""


@dataclass
class Outcome:
    """What one run came to."""

    windows: int
    violations: list[str]
    happened: list[str]
    verdicts: list[str]
    trace: list[str] = field(default_factory=list)


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


@dataclass
class Tally:
    """The sum of a campaign."""

    windows: int = 0
    runs: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    verdicts: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)

    def add(self, outcome: Outcome) -> None:
        self.runs += 1
        self.windows += outcome.windows
        self.faults.update(outcome.happened)
        self.verdicts.update(outcome.verdicts)


def campaign(windows: int, seed: str, *, progress: bool = False, most_failures: int = 3) -> Tally:
    """Run until ``windows`` windows have been opened, or ``most_failures`` runs have failed."""
    tally = Tally()
    began = said = time.monotonic()
    while tally.windows < windows and len(tally.failures) < most_failures:
        run_seed = f"{seed}:{tally.runs}"
        outcome = run_plan(faults.draw(run_seed))
        tally.add(outcome)
        if outcome.violations:
            tally.failures.append(run_seed)
            print("\n".join(explain(run_seed)), flush=True)
        if tally.runs % 200 == 0:
            gc.collect()
        if progress and time.monotonic() - said > 5.0:
            said = time.monotonic()
            print(f"  {tally.windows} windows, {tally.runs} runs, {said - began:.0f} s", file=sys.stderr, flush=True)
    return tally


def explain(run_seed: str) -> list[str]:
    """A failing run, shrunk, with the command that repeats it."""
    plan = faults.draw(run_seed)
    small = shrink.shrink(plan, lambda candidate: run_plan(candidate).violations)
    outcome = run_plan(small, trace=True)
    return [
        f"VIOLATION in run {run_seed}:",
        *(f"  {line}" for line in outcome.violations),
        "smallest plan that shows it:",
        *(f"  {line}" for line in small.lines()),
        *(f"    {line}" for line in _middle_out(outcome.trace)),
        f"repeat: python -m tests.campaign --run '{run_seed}'",
        f"repeat the smallest: python -m tests.campaign --plan '{small.to_json()}'",
        "",
    ]


def _middle_out(lines: list[str]) -> list[str]:
    """The end of a long watch is its middle over again."""
    return lines if len(lines) <= MOST_LINES else [*lines[: MOST_LINES - 10], "...", *lines[-10:]]


def main(argv: Sequence[str] | None = None) -> int:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(prog="python -m tests.campaign", description=__doc__)
    parser.add_argument("--windows", type=int, default=50_000)
    parser.add_argument("--seed", default="1")
    parser.add_argument("--run", metavar="SEED:NUMBER", help="one run again, shrunk when it fails")
    parser.add_argument("--plan", metavar="JSON", help="one plan, as a failing run prints it")
    options = parser.parse_args(argv)
    if options.run or options.plan:
        plan = faults.draw(options.run) if options.run else Plan.from_json(options.plan)
        outcome = run_plan(plan, trace=True)
        print("\n".join([*plan.lines(), *outcome.trace, *outcome.violations, f"{outcome.windows} windows"]))
        if options.run and outcome.violations:
            print("\n".join(explain(options.run)))
        return 1 if outcome.violations else 0
    began = time.monotonic()
    tally = campaign(options.windows, options.seed, progress=True)
    print(f"seed {options.seed}: {tally.windows} windows in {tally.runs} runs, {time.monotonic() - began:.0f} s")
    print("verdicts:", ", ".join(f"{name} {count}" for name, count in tally.verdicts.most_common()))
    print("faults that struck:", ", ".join(f"{name} {count}" for name, count in tally.faults.most_common()))
    print(f"violations: {len(tally.failures)} {tally.failures or ''}")
    return 1 if tally.failures else 0


if __name__ == "__main__":
    sys.exit(main())
