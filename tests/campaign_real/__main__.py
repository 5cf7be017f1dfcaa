"""``python -m tests.campaign_real --windows 200 --seed N``: runs a campaign; exit status 1 when an invariant broke.

``--only K`` runs window K of the seed alone, as a failing campaign asks for. The instants of the processes are their
own: a window that failed by a race may need several tries (``--repeat``).
"""

from __future__ import annotations

import argparse
import collections
import statistics
import sys
import time

from tests.campaign_real.plan import draw
from tests.campaign_real.window import SETTINGS, Outcome, WindowRun
from tests.lab.guest.real import RealGuest
from tests.lab.site import site


def main() -> int:
    """Run it; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.campaign_real", description=__doc__)
    parser.add_argument("--windows", type=int, default=200)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--only", type=int, help="run this one window")
    parser.add_argument("--repeat", type=int, default=1, help="with --only: how often")
    parser.add_argument("--quiet", action="store_true", help="no line a window")
    options = parser.parse_args()
    indices = [options.only] * options.repeat if options.only is not None else list(range(options.windows))
    print(f"campaign-real: seed {options.seed}, {len(indices)} windows", flush=True)
    outcomes = []
    with site(
        lambda vmid, run: RealGuest(vmid, run, fs="ext4"), lambda vmid, run: RealGuest(vmid, run, fs="xfs")
    ) as lab:
        lab.settings |= {name: dict(values) for name, values in SETTINGS.items()}
        lab.write_config()
        for number, index in enumerate(indices):
            plan = draw(options.seed, index, tuple(lab.guests))
            outcome = WindowRun(lab, plan).run()
            outcomes.append(outcome)
            if outcome.problems or not options.quiet:
                print(_line(number, outcome), flush=True)
            if outcome.problems:
                print(f"    again: python -m tests.campaign_real --seed {options.seed} --only {index}", flush=True)
    print(_summary(options.seed, outcomes))
    return 1 if any(outcome.problems for outcome in outcomes) else 0


def _line(number: int, outcome: Outcome) -> str:
    disk = {True: "consistent", False: "not consistent", None: "no snapshot"}[outcome.disk_says_consistent]
    head = f"{number:4} {outcome.plan}\n     -> exit {outcome.exit_code}, frozen {outcome.frozen_seconds:.2f} s, "
    text = f"{head}verdict {outcome.verdict}, disk {disk}, {outcome.seconds:.1f} s"
    for problem in outcome.problems:
        text += f"\n    VIOLATION: {problem}"
    if outcome.problems:
        text += f"\n    story: {'; '.join(outcome.story)}"
    return text


def _summary(seed: int, outcomes: list[Outcome]) -> str:
    lines = [
        "",
        f"campaign-real: seed {seed}, {len(outcomes)} windows, {sum(o.was_frozen for o in outcomes)} seen frozen, "
        f"{sum(o.was_frozen_at_the_knock for o in outcomes)} of them at the knock",
    ]
    by_blow: dict[str, list[float]] = collections.defaultdict(list)
    for outcome in outcomes:
        if not outcome.plan.has("reset guest"):
            by_blow[" + ".join(sorted(blow.action for blow in outcome.plan.blows))].append(outcome.frozen_seconds)
    lines.append(
        "frozen once somebody of ours could thaw (seconds; an idle guest's longest pause between writes counts):"
    )
    for name, seconds in sorted(by_blow.items()):
        lines.append(
            f"  {name:28} n={len(seconds):3}  median {statistics.median(seconds):5.2f}  worst {max(seconds):5.2f}"
        )
    table = collections.Counter((str(o.verdict), o.disk_says_consistent) for o in outcomes)
    lines.append("verdict against the disk:")
    for (verdict, disk), count in sorted(table.items(), key=str):
        says = {True: "consistent", False: "not consistent", None: "no snapshot"}[disk]
        lines.append(f"  {verdict:24} {says:16} {count:4}")
    bad = [outcome for outcome in outcomes if outcome.problems]
    lines.append(f"{len(bad)} windows broke an invariant" + (f": {[o.plan.index for o in bad]}" if bad else ""))
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
