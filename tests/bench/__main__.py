"""``make bench``: freeze windows and costs, as ratios within one run. Options: see --help."""

from __future__ import annotations

import argparse

from tests.bench import bench_metrics, hookcost, looks, windows

PARTS = {"windows": windows.main, "hook": hookcost.main, "metrics": bench_metrics.main, "looks": looks.main}


def main() -> None:
    """Run the chosen parts."""
    parser = argparse.ArgumentParser(prog="make bench ARGS=...", description=__doc__)
    parser.add_argument("parts", nargs="*", choices=[[], *PARTS], help="which parts; all by default")
    parser.add_argument("--runs", type=int, default=30, help="measurements of each kind (default 30)")
    options = parser.parse_args()
    for name in options.parts or PARTS:
        PARTS[name](options.runs)


if __name__ == "__main__":
    main()
