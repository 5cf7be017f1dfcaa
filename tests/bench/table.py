"""Measurements as a table of ratios: printed, and kept for the JSON file and the picture of a run."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from snapshot.model import VerdictKind

PROVEN = VerdictKind.FILESYSTEM_CONSISTENT.value


@dataclass(frozen=True)
class Row:
    """What was measured of one kind, in the unit of its table."""

    name: str
    values: tuple[float, ...]
    ratio: float | None
    """Its median to that of the first measured row of the table."""
    verdicts: Mapping[str, int] = field(default_factory=dict)
    """What they were called, and how many each, where we judge."""

    @property
    def spread(self) -> tuple[float, float, float]:
        """Least, median and most. ValueError when nothing was measured."""
        return min(self.values), statistics.median(self.values), max(self.values)


@dataclass(frozen=True)
class Table:
    """One table of a run."""

    title: str
    unit: str
    rows: tuple[Row, ...]
    pve: str = ""
    """The version of qemu-server that the lab's node behaved as; "" where that changes nothing."""

    def as_json(self) -> dict[str, Any]:
        """For the JSON file: every value, and what the printed table says of them."""
        rows = []
        for row in self.rows:
            spread = dict(zip(("min", "median", "max"), row.spread if row.values else (None,) * 3, strict=True))
            judged = {"verdicts": dict(row.verdicts)} if row.verdicts else {}
            rows.append({"name": row.name, **spread, "ratio": row.ratio, "values": list(row.values), **judged})
        return {"title": self.title, "unit": self.unit, **({"pve": self.pve} if self.pve else {}), "rows": rows}


TABLES: list[Table] = []
"""Every table that this process has shown, oldest first."""


def show(
    title: str,
    unit: str,
    rows: Mapping[str, Sequence[float]],
    scale: float = 1000.0,
    *,
    pve: str = "",
    verdicts: Mapping[str, Mapping[str, int]] | None = None,
) -> None:
    """Print min, median and max of each row, its median as a ratio to the first row's, and what was called anything but
    filesystem-consistent.
    """
    table = _table(title, unit, rows, scale, pve=pve, verdicts=verdicts)
    TABLES.append(table)
    print(f"\n{title}\n{'':44}{'n':>4}{'min':>9}{'median':>9}{'max':>9}  {unit:4} {'ratio':>6}")
    for row in table.rows:
        if not row.values:
            print(f"{row.name:44}   - not measured")
            continue
        low, middle, high = row.spread
        others = [f"{count} {verdict}" for verdict, count in row.verdicts.items() if verdict != PROVEN]
        print(
            f"{row.name:44}{len(row.values):>4}{low:>9.1f}{middle:>9.1f}{high:>9.1f}  {unit:4} {row.ratio:>6.2f}"
            + (f"  {', '.join(others)}" if others else "")
        )


def _table(
    title: str,
    unit: str,
    rows: Mapping[str, Sequence[float]],
    scale: float,
    *,
    pve: str = "",
    verdicts: Mapping[str, Mapping[str, int]] | None = None,
) -> Table:
    reference: float | None = None
    found = []
    for name, values in rows.items():
        middle = statistics.median(values) * scale if values else None
        reference = middle if reference is None else reference
        ratio = middle / reference if middle is not None and reference else None
        found.append(Row(name, tuple(value * scale for value in values), ratio, (verdicts or {}).get(name, {})))
    return Table(title, unit, tuple(found), pve)
