"""What the minute's look at the guests costs: seconds, requests and PVE's workers a round, as ratios to a small node's.

Also a node of 200 guests where 20 agents are silent and all others are idle, so that each is asked.
"""

from __future__ import annotations

import time

from tests.bench.table import show
from tests.engine.test_foreign_freezes import LightGuest
from tests.lab.site import Site, site

SIZES = (10, 200)
SILENT = range(110, 130)


def main(runs: int) -> None:
    """Print the table."""
    seconds: dict[str, list[float]] = {}
    requests: dict[str, float] = {}
    for guests in SIZES:
        with site(*[LightGuest] * guests) as lab:
            lab.on_the_node()
            lab.safe_snapshot("recover")
            _measure(lab, f"{guests} guests, all write", range(100, 100 + guests), runs, seconds, requests)
            _measure(lab, f"{guests} guests, all idle", (), runs, seconds, requests)
            if guests > len(SILENT):
                for vmid in SILENT:
                    lab.guests[vmid].kill_agent()
                # The first two rounds ask them; from then on they are asked ever more seldom.
                _measure(lab, f"{guests} guests, {len(SILENT)} silent", (), min(runs, 4), seconds, requests)
    show("One round of recover on a node (a process, as the timer starts it)", "ms", seconds)
    print("\nrequests to PVE a round, and of those to its agents' API:")
    for name, count in requests.items():
        print(f"  {name:44}{count:>6.1f}")


def _measure(
    lab: Site,
    name: str,
    writing: range | tuple[int, ...],
    runs: int,
    seconds: dict[str, list[float]],
    requests: dict[str, float],
) -> None:
    lab.node.forget_requests()
    for _ in range(runs):
        lab.node.set_diskwrite(dict.fromkeys(writing, time.monotonic_ns()))
        seconds.setdefault(name, []).append(lab.safe_snapshot("recover").seconds)
    requests[name] = len(lab.node.requests()) / runs
    requests[f"  {name}: agents"] = len(lab.node.requests("/agent/")) / runs
