"""What a campaign of any kind of plans does: runs them, shrinks the one that fails, says what came of it.

``python -m tests.campaign`` has plans of one guest, ``python -m tests.campaign.grouprun`` those of groups.
"""

from __future__ import annotations

import argparse
import gc
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Generic, Protocol, Self, TypeVar


class AnyPlan(Protocol):
    """Who does what, and what goes wrong."""

    @classmethod
    def from_json(cls, text: str) -> Self: ...

    def to_json(self) -> str: ...

    def lines(self) -> list[str]: ...


P = TypeVar("P", bound=AnyPlan)


@dataclass
class Outcome:
    """What one run came to."""

    windows: int
    violations: list[str]
    happened: list[str]
    verdicts: list[str]
    trace: list[str] = field(default_factory=list)
    is_of_one_point: bool = False
    """Of a group: whether its snapshots were called one point in time."""


@dataclass
class Tally:
    """The sum of a campaign."""

    windows: int = 0
    runs: int = 0
    of_one_point: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    verdicts: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)

    def add(self, outcome: Outcome) -> None:
        self.runs += 1
        self.windows += outcome.windows
        self.of_one_point += outcome.is_of_one_point
        self.faults.update(outcome.happened)
        self.verdicts.update(outcome.verdicts)


class Run(Protocol[P]):  # type: ignore[misc]
    """Runs one plan in a world of its own and judges it."""

    def __call__(self, plan: P, *, trace: bool = False) -> Outcome: ...


@dataclass(frozen=True)
class Campaign(Generic[P]):
    """One kind of plans."""

    command: str
    doc: str | None
    plan: type[P]
    draw: Callable[[str], P]
    run: Run[P]
    shrink: Callable[[P, Callable[[P], list[str]]], P]
    most_lines: int
    """Of a failing run's story."""
    told: Callable[[Tally], str] = lambda tally: f"{tally.runs} runs"

    def go(self, windows: int, seed: str, *, progress: bool = False, most_failures: int = 3) -> Tally:
        """Run until ``windows`` windows have been opened, or ``most_failures`` runs have failed."""
        tally = Tally()
        began = said = time.monotonic()
        while tally.windows < windows and len(tally.failures) < most_failures:
            run_seed = f"{seed}:{tally.runs}"
            outcome = self.run(self.draw(run_seed))
            tally.add(outcome)
            if outcome.violations:
                tally.failures.append(run_seed)
                print("\n".join(self.explain(run_seed)), flush=True)
            if tally.runs % 100 == 0:
                gc.collect()
            if progress and time.monotonic() - said > 5.0:
                said = time.monotonic()
                print(
                    f"  {tally.windows} windows, {tally.runs} runs, {said - began:.0f} s", file=sys.stderr, flush=True
                )
        return tally

    def explain(self, run_seed: str) -> list[str]:
        """A failing run, shrunk, with the command that repeats it."""
        small = self.shrink(self.draw(run_seed), lambda candidate: self.run(candidate).violations)
        outcome = self.run(small, trace=True)
        return [
            f"VIOLATION in run {run_seed}:",
            *(f"  {line}" for line in outcome.violations),
            "smallest plan that shows it:",
            *(f"  {line}" for line in small.lines()),
            *(f"    {line}" for line in self._middle_out(outcome.trace)),
            f"repeat: python -m {self.command} --run '{run_seed}'",
            f"repeat the smallest: python -m {self.command} --plan '{small.to_json()}'",
            "",
        ]

    def _middle_out(self, lines: list[str]) -> list[str]:
        """The end of a long watch is its middle over again."""
        return lines if len(lines) <= self.most_lines else [*lines[: self.most_lines - 10], "...", *lines[-10:]]

    def main(self, argv: Sequence[str] | None = None) -> int:
        """The command line. 1 when an invariant was broken."""
        parser = argparse.ArgumentParser(prog=f"python -m {self.command}", description=self.doc)
        parser.add_argument("--windows", type=int, default=50_000)
        parser.add_argument("--seed", default="1")
        parser.add_argument("--run", metavar="SEED:NUMBER", help="one run again, shrunk when it fails")
        parser.add_argument("--plan", metavar="JSON", help="one plan, as a failing run prints it")
        options = parser.parse_args(argv)
        if options.run or options.plan:
            plan = self.draw(options.run) if options.run else self.plan.from_json(options.plan)
            outcome = self.run(plan, trace=True)
            print("\n".join([*plan.lines(), *outcome.trace, *outcome.violations, f"{outcome.windows} windows"]))
            if options.run and outcome.violations:
                print("\n".join(self.explain(options.run)))
            return 1 if outcome.violations else 0
        began = time.monotonic()
        tally = self.go(options.windows, options.seed, progress=True)
        took = time.monotonic() - began
        print(f"seed {options.seed}: {tally.windows} windows in {self.told(tally)}, {took:.0f} s")
        print("verdicts:", ", ".join(f"{name} {count}" for name, count in tally.verdicts.most_common()))
        print("faults that struck:", ", ".join(f"{name} {count}" for name, count in tally.faults.most_common()))
        print(f"violations: {len(tally.failures)} {tally.failures or ''}")
        return 1 if tally.failures else 0
