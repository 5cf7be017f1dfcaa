"""``make bench``: freeze windows and costs, as ratios within one run. Options: see --help."""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

from tests.bench import bench_metrics, fleet, hookcost, kinds, looks, owncommands, svg, trace, windows
from tests.bench.table import TABLES
from tests.bench.variants import VARIANTS
from tests.lab.node.settings import version_tuple

PARTS = ("windows", "hook", "metrics", "looks")
TRACE, OWN, FLEET = "trace", "own", "fleet"
RESULTS = Path("dist/bench.json")


def main() -> None:
    """Run the chosen parts; print the tables, and write them as JSON and as a picture."""
    options = _parser().parse_args()
    results: dict[str, Any] = {"runs": options.runs, "settings": options.set, "traces": []}
    try:
        _run(options, results)
    finally:  # a later part that fails takes nothing of the earlier ones away
        _write(options.json, results)


def _run(options: argparse.Namespace, results: dict[str, Any]) -> None:
    for name in options.parts or PARTS:
        match name:
            case "windows":
                windows.main(options.runs, options.variant or ("idle",), options.set, options.pve or (windows.NEWEST,))
            case "trace":
                results["traces"] += [line.as_json() for line in trace.main(options.runs, options.set)]
            case "own":
                owncommands.main(options.runs, options.set, options.sleep)
            case "fleet":
                results["fleet"] = fleet.main(
                    options.guests, options.nodes, options.at_once, options.task, kills_a_node=options.kill_node
                )
            case "hook":
                hookcost.main(options.runs)
            case "metrics":
                bench_metrics.main(options.runs)
            case "looks":
                looks.main(options.runs)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="make bench ARGS=...", description=__doc__)
    parser.add_argument(
        "parts",
        nargs="*",
        choices=[[], *PARTS, TRACE, OWN, FLEET],
        help="which parts; all but trace, own and fleet by default. trace: what happens in which millisecond, into "
        "docs/window.md; own: windows with own commands that misbehave (some two minutes for each of --runs); fleet: "
        "many guests at once",
    )
    parser.add_argument("--runs", type=int, default=30, help="measurements of each kind (default 30)")
    parser.add_argument(
        "--variant",
        action="append",
        choices=list(VARIANTS),
        help="windows: the measured guest, a table each: "
        + ", ".join(f"{name} ({variant.what})" for name, variant in VARIANTS.items()),
    )
    parser.add_argument(
        "--pve",
        action="append",
        type=pve_version,
        metavar="VERSION",
        help="windows: the version of qemu-server that the lab's node behaves as, a table each, as 8.4.0, 9.1.8 "
        f"(default {windows.NEWEST})",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        type=setting,
        metavar="TABLE.KEY=VALUE",
        help="windows, trace: a setting of the configuration, as freeze.policy='prefer'",
    )
    parser.add_argument(
        "--sleep", type=float, default=20.0, help="own: seconds that the sleeping command sleeps (default 20)"
    )
    parser.add_argument("--guests", type=int, default=500, help="fleet: how many guests (default 500)")
    parser.add_argument("--nodes", type=int, default=5, help="fleet: on how many nodes (default 5)")
    parser.add_argument("--at-once", type=int, default=50, help="fleet: how many at once (default 50)")
    parser.add_argument("--task", type=float, default=10.0, help="fleet: seconds of PVE's task (default 10)")
    parser.add_argument("--kill-node", action="store_true", help="fleet: the last node dies half-way")
    parser.add_argument(
        "--json", type=Path, default=RESULTS, help=f"where the results go, a picture beside them (default {RESULTS})"
    )
    return parser


def setting(text: str) -> str:
    """Argparse tells its user of a ValueError."""
    kinds.setting(text)
    return text


def pve_version(text: str) -> str:
    """Argparse tells its user of a ValueError."""
    version_tuple(text)
    return text


def _write(path: Path, results: dict[str, Any]) -> None:
    made_at = time.strftime("%Y-%m-%dT%H:%M:%S%z")
    results = {"version": 1, "made_at": made_at, "tables": [table.as_json() for table in TABLES], **results}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(results, indent=1) + "\n")
    print(f"\nwritten: {path}", end="")
    if TABLES:
        drawn = path.with_suffix(".svg")
        drawn.write_text(svg.spreads(TABLES, f"make bench, {made_at}"))
        print(f" and {drawn}", end="")
    print()


if __name__ == "__main__":
    main()
