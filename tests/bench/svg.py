"""Pictures of a run as SVG files of their own: no library, no script, both themes, a text for who cannot see.

The pictures of the report page (snapshot/report/charts.py) are parts of a page and take their text and colours from it;
these stand alone, so that a document can show them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from tests.bench.table import Row, Table

WIDTH = 960
LABEL_WIDTH = 310
PLOT_WIDTH = WIDTH - LABEL_WIDTH - 100
"""Room for figures at the right end of a bar."""

_NAMES = ("page", "ink", "soft", "grid", "ours", "api", "worker", "guest")
_LIGHT = ("#fff", "#1c2430", "#5b6675", "#d5dbe3", "#0f766e", "#4f63c8", "#c96a05", "#b42318")
_DARK = ("#12161d", "#e6eaf0", "#a3afbf", "#364152", "#2bbfae", "#8fa2ff", "#f2a33c", "#ff8a7a")
"""The colours of the report page (snapshot/report/style.py), written out: not every viewer knows CSS variables."""

_COLOURS = """.page{{fill:{page}}}.bar{{stroke:{page}}}text{{fill:{ink}}}text.in{{fill:{page}}}text.soft{{fill:{soft}}}
.ours{{fill:{ours}}}.api{{fill:{api}}}.worker{{fill:{worker}}}.guest,.window{{fill:{guest}}}
.grid{{stroke:{grid}}}.median{{stroke:{ink}}}"""
_STYLE = f"""
text{{font:12px system-ui,"Segoe UI",Roboto,"DejaVu Sans",sans-serif}}text.title{{font-weight:600;font-size:13px}}
text.in{{font-size:10px}}.end{{text-anchor:end}}.mid{{text-anchor:middle}}.median{{stroke-width:3}}
.bar{{stroke-width:.7}}.waits{{fill-opacity:.3}}.window{{fill-opacity:.08}}
{_COLOURS.format(**dict(zip(_NAMES, _LIGHT, strict=True)))}
@media (prefers-color-scheme:dark){{{_COLOURS.format(**dict(zip(_NAMES, _DARK, strict=True)))}}}
"""


def drawing(height: float, content: str, summary: str) -> str:
    """The file: ``content`` on a page of WIDTH by ``height``. ``summary`` says what is to be seen."""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:g}" width="{WIDTH}" '
        f'height="{height:g}" role="img"><title>{escape(summary)}</title><style>{_STYLE}</style>\n'
        f'<rect class="page" width="{WIDTH}" height="{height:g}"/>\n{content}\n</svg>\n'
    )


def text(x: float, y: float, words: str, classes: str = "") -> str:
    """One line of text; ``y`` is its foot."""
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{classes}">{escape(words)}</text>'


def box(x: float, y: float, width: float, height: float, classes: str, title: str = "") -> str:
    """A rectangle, wide enough to be seen."""
    inner = f"<title>{escape(title)}</title>" if title else ""
    return (
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(width, 1.5):.1f}" height="{height:.1f}" class="{classes}">'
        f"{inner}</rect>"
    )


def line(x1: float, y1: float, x2: float, y2: float, classes: str) -> str:
    """A straight stroke."""
    return f'<path d="M{x1:.1f} {y1:.1f}L{x2:.1f} {y2:.1f}" class="{classes}"/>'


def step(span: float, most: int = 10) -> float:
    """A round distance between the ticks of an axis over ``span``, ``most`` of them at most."""
    if span <= 0:
        return 1.0
    size = 10.0 ** math.floor(math.log10(span / most))
    return next(size * factor for factor in (1, 2, 5, 10) if span / (size * factor) <= most)


def spreads(tables: Sequence[Table], heading: str) -> str:
    """Each table as bars from least to most with a stroke at the median, on an axis of its own from 0."""
    parts, y = [text(10, 22, heading, "title")], 40.0
    for table in tables:
        measured = [row for row in table.rows if row.values]
        if not measured:
            continue
        longest = max(row.spread[2] for row in measured) or 1.0
        parts.append(text(10, y + 14, f"{table.title}, {table.unit}", "title"))
        top, y = y + 24, y + 24
        for row in measured:
            parts.append(_spread(row, y, longest))
            y += 20
        distance = step(longest)
        for number in range(int(longest / distance) + 1):
            x = LABEL_WIDTH + PLOT_WIDTH * number * distance / longest
            parts.insert(0, line(x, top, x, y, "grid"))
            parts.append(text(x, y + 14, f"{number * distance:g}", "soft mid"))
        y += 34
    return drawing(y, "\n".join(parts), f"{heading}: least, median and most of each kind.")


def _spread(row: Row, y: float, longest: float) -> str:
    low, middle, high = (LABEL_WIDTH + PLOT_WIDTH * value / longest for value in row.spread)
    ratio = f" ({row.ratio:.2f})" if row.ratio is not None else ""
    return (
        text(LABEL_WIDTH - 8, y + 14, row.name, "end")
        + box(low, y + 4, high - low, 12, "ours waits", row.name)
        + line(middle, y + 2, middle, y + 18, "median")
        + text(high + 6, y + 14, f"{row.spread[1]:.1f}{ratio}", "soft")
    )
