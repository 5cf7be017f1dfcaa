"""Measurements as a table of ratios."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence


def show(title: str, unit: str, rows: Mapping[str, Sequence[float]], scale: float = 1000.0) -> None:
    """Print min, median and max of each row, and its median as a ratio to the first row's."""
    print(f"\n{title}\n{'':44}{'n':>4}{'min':>9}{'median':>9}{'max':>9}  {unit:4} {'ratio':>6}")
    reference: float | None = None
    for name, values in rows.items():
        if not values:
            print(f"{name:44}   - not measured")
            continue
        middle = statistics.median(values)
        reference = reference if reference is not None else middle
        low, high = min(values) * scale, max(values) * scale
        ratio = middle / reference
        print(f"{name:44}{len(values):>4}{low:>9.1f}{middle * scale:>9.1f}{high:>9.1f}  {unit:4} {ratio:>6.2f}")
