"""The dashboard as a page, with Prometheus' real answers to its queries: a picture to look at, and not Grafana.

Panels stand where Grafana puts them (24 columns), with its titles, units, thresholds and legends. What is drawn is what
the queries return: an empty panel here is an empty panel there.
"""

from __future__ import annotations

import html
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

Answer = Sequence[Mapping[str, Any]]


class Asked(NamedTuple):
    """Prometheus, and the time that the dashboard shows."""

    ask: Callable[[str, bool], Answer]
    """(expression as Grafana sends it, whether over the whole range) -> the result."""
    since: float
    until: float

    def x(self, at: float) -> float:
        """Where an instant lies, of 1000."""
        return 1000 * (at - self.since) / (self.until - self.since)


COLOURS = ("#73bf69", "#f2cc0c", "#8ab8ff", "#ff780a", "#f2495c", "#5794f2", "#b877d9", "#96d98d", "#ffb357", "#8f3bb8")
NAMED = {"green": "#37872d", "yellow": "#b58900", "orange": "#d9661f", "red": "#c4162a", "blue": "#1f60c4"}
PIXELS = 38
"""Of one row of Grafana's grid."""
_STYLE = """<style>body{margin:0;background:#111217;color:#ccccdc;font:13px sans-serif;width:1440px}
main{display:grid;grid-template-columns:repeat(24,1fr);grid-auto-rows:38px;gap:6px;padding:8px}
section{background:#181b1f;border:1px solid #2c3235;overflow:hidden;padding:4px 8px;position:relative}
h2{grid-column:1/-1;font-size:16px;margin:6px 0 0}h3{font-size:13px;margin:0 0 4px;font-weight:600}
.big{font-size:34px;font-weight:700;text-align:center;color:#fff}.legend{font-size:11px;line-height:14px}
table{border-collapse:collapse;width:100%;font-size:12px}
td,th{border-bottom:1px solid #2c3235;text-align:left;padding:2px}
.bar{height:14px;display:inline-block}</style>"""


def shown(value: float, unit: str) -> str:
    """A number as Grafana would show it, nearly."""
    if unit == "percentunit":
        return f"{value * 100:.3g}%"
    if unit != "s":
        return f"{value:g}" if value == int(value) else f"{value:.2f}"
    for size, name in ((86400, "days"), (3600, "hours"), (60, "mins"), (1, "s")):
        if abs(value) >= size:
            return f"{value / size:.3g} {name}"
    return f"{value * 1000:.0f} ms"


def page(dashboard: Mapping[str, Any], asked: Asked) -> str:
    """The whole dashboard."""
    parts = []
    for panel in dashboard["panels"]:
        title = html.escape(panel["title"])
        if panel["type"] == "row":
            parts.append(f"<h2>{title}</h2>")
            continue
        place = panel["gridPos"]
        style = f"grid-column:span {place['w']};grid-row:span {place['h']}"
        parts.append(f'<section style="{style}"><h3>{title}</h3>{_DRAW[panel["type"]](panel, asked)}</section>')
    return f"<!doctype html><meta charset=utf-8>{_STYLE}<main>{''.join(parts)}</main>"


def _legend(target: Mapping[str, Any], labels: Mapping[str, str]) -> str:
    form = target.get("legendFormat", "")
    if form in ("", "__auto"):
        return ", ".join(f"{key}={value}" for key, value in labels.items()) or "value"
    return re.sub(r"\{\{(\w+)\}\}", lambda found: labels.get(found[1], ""), form).strip()


def _unit(panel: Mapping[str, Any]) -> str:
    return str(panel["fieldConfig"]["defaults"].get("unit", "none"))


def _colour(panel: Mapping[str, Any], value: float) -> str:
    name = "green"
    for step in panel["fieldConfig"]["defaults"]["thresholds"]["steps"]:
        if step.get("value") is None or value >= step["value"]:
            name = step["color"]
    return NAMED.get(name, name)


def _stat(panel: Mapping[str, Any], asked: Asked) -> str:
    (found,) = asked.ask(panel["targets"][0]["expr"], False)
    value = float(found["value"][1])
    style = f"background:{_colour(panel, value)};margin:0 -8px;height:100%"
    return f'<div class=big style="{style}">{shown(value, _unit(panel))}</div>'


def _series(panel: Mapping[str, Any], asked: Asked) -> list[tuple[str, list[tuple[float, float]]]]:
    found = []
    for target in panel["targets"]:
        for one in asked.ask(target["expr"], True):
            points = [(float(at), float(value)) for at, value in one["values"] if not math.isnan(float(value))]
            found.append((_legend(target, one["metric"]), points))
    return [one for one in found if one[1]]


def _timeseries(panel: Mapping[str, Any], asked: Asked) -> str:
    series = _series(panel, asked)
    if not series:
        return "<div class=big>No data</div>"
    bars = panel["fieldConfig"]["defaults"]["custom"].get("drawStyle") == "bars"
    stacked = panel["fieldConfig"]["defaults"]["custom"].get("stacking", {}).get("mode") == "normal"
    below: dict[float, float] = {}
    top = max(value for _, points in series for _, value in points) or 1.0
    if stacked:
        for _, points in series:
            for at, value in points:
                below[at] = below.get(at, 0.0) + value
        top, below = max(below.values()) or 1.0, {}
    marks = []
    for number, (_, points) in enumerate(series):
        colour, line = COLOURS[number % len(COLOURS)], []
        for at, value in points:
            base = below.get(at, 0.0) if stacked else 0.0
            below[at] = base + value
            x, y = asked.x(at), 200 - 195 * (base + value) / top
            if bars:
                marks.append(
                    f'<rect x="{x:.1f}" y="{y:.1f}" width="5" height="{195 * value / top:.1f}" fill="{colour}"/>'
                )
            line.append(f"{x:.1f},{y:.1f}")
        if not bars:
            marks.append(f'<polyline points="{" ".join(line)}" fill="none" stroke="{colour}" stroke-width="3"/>')
    names = " ".join(
        f'<span style="color:{COLOURS[n % len(COLOURS)]}">&#9644; {html.escape(name)}</span>'
        for n, (name, _) in enumerate(series)
    )
    height = (panel["gridPos"]["h"]) * PIXELS - 70
    drawn = _svg("0 0 1000 205", height, marks)
    return f"<div class=legend>max {shown(top, _unit(panel))}</div>{drawn}<div class=legend>{names}</div>"


def _heatmap(panel: Mapping[str, Any], asked: Asked) -> str:
    rows = sorted(asked.ask(panel["targets"][0]["expr"], True), key=lambda one: float(one["metric"]["le"]))
    cells: list[str] = []
    before: dict[float, float] = {}
    for number, row in enumerate(rows):
        values = {float(at): float(value) for at, value in row["values"]}
        y = 280 - 20 * number
        for at, value in values.items():
            grown = value - before.get(at, 0.0)
            if grown > 0.01:
                x = asked.x(at)
                look = f'fill="#ff780a" opacity="{min(1, 0.3 + grown / 8):.2f}"'
                cells.append(f'<rect x="{x:.1f}" y="{y}" width="8" height="19" {look}/>')
        cells.append(f'<text x="-48" y="{y + 14}" fill="#ccccdc" font-size="11">{row["metric"]["le"]} s</text>')
        before = values
    return _svg("-50 0 1060 300", 330, cells)


def _svg(box: str, height: int, marks: Sequence[str]) -> str:
    return f'<svg viewBox="{box}" preserveAspectRatio=none width="100%" height="{height}">{"".join(marks)}</svg>'


def _bargauge(panel: Mapping[str, Any], asked: Asked) -> str:
    rows = [
        (_legend(t, one["metric"]), float(one["value"][1]))
        for t in panel["targets"]
        for one in asked.ask(t["expr"], False)
    ]
    top = max((value for _, value in rows if not math.isnan(value)), default=1.0)
    return (
        "<table>"
        + "".join(
            f'<tr><td>{html.escape(name)}<td width="50%"><span class=bar style="width:{100 * value / top:.0f}%;'
            f'background:{_colour(panel, value)}"></span><td>{shown(value, _unit(panel))}'
            for name, value in rows
        )
        + "</table>"
    )


def _table(panel: Mapping[str, Any], asked: Asked) -> str:
    """The queries' rows, merged by their labels, as the transformations say."""
    hidden: set[str] = set()
    renamed: dict[str, str] = {}
    for step in panel.get("transformations", ()):
        hidden |= {name for name, gone in step["options"].get("excludeByName", {}).items() if gone}
        renamed |= step["options"].get("renameByName", {})
    columns: list[str] = []
    rows: list[dict[str, str]] = []
    for target in panel["targets"]:
        name = f"Value #{target['refId']}" if len(panel["targets"]) > 1 else "Value"
        for one in asked.ask(target["expr"], False):
            row = dict(one["metric"]) | {name: shown(float(one["value"][1]), "s" if name in renamed else "none")}
            same = (other for other in rows if all(row[key] == value for key, value in other.items() if key in row))
            merged = next(same, None)
            if merged is None:
                rows.append(row)
            else:
                merged.update(row)
            columns += [column for column in row if column not in columns and column not in hidden]
    head = "".join(f"<th>{html.escape(renamed.get(column, column))}" for column in columns)
    body = "".join("<tr>" + "".join(f"<td>{html.escape(row.get(c, ''))}" for c in columns) for row in rows)
    return f"<table><tr>{head}{body}</table>"


def _statetimeline(panel: Mapping[str, Any], asked: Asked) -> str:
    lines = []
    series = _series(panel, asked)
    for name, points in series:
        cells = "".join(
            f'<rect x="{asked.x(at):.1f}" y="0" width="8" height="16" fill="{COLOURS[0] if value else "#444"}"/>'
            for at, value in points
        )
        lines.append(f'<tr><td width="30%">{html.escape(name)}<td>{_svg("0 0 1008 16", 16, [cells])}')
    return f"<table>{''.join(lines)}</table>"


_DRAW: dict[str, Callable[[Mapping[str, Any], Asked], str]] = {
    "stat": _stat,
    "timeseries": _timeseries,
    "heatmap": _heatmap,
    "bargauge": _bargauge,
    "table": _table,
    "state-timeline": _statetimeline,
}
