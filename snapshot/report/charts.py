"""Pictures as inline SVG, without a library and without a script.

A plot is stretched to its container, so it fits a phone and a sheet of paper; strokes keep their width
(``vector-effect``) and all text is HTML beside the plot, so it keeps its size. Colours are CSS classes: style.py has
both themes. Every picture has a text of its own for those who cannot see it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from html import escape

from snapshot.journal.families import BUCKETS_SECONDS
from snapshot.report.history import seconds
from snapshot.report.lengths import Spread, Step

HEIGHT = 100.0
"""The height of a plot in its own units."""

_DECADES = (0.01, 0.1, 1.0, 10.0, 100.0, 1000.0, 10000.0)


class LogScale:
    """Seconds to a height, logarithmic: windows of 50 ms and of 5 min both can be seen."""

    def __init__(self, shortest: float, longest: float) -> None:
        floor = max(shortest, 0.001)
        self.low = 10.0 ** math.floor(math.log10(floor))
        self.high = 10.0 ** math.ceil(math.log10(max(longest, floor * 1.001)))
        if self.high <= self.low:
            self.high = self.low * 10

    def share(self, value: float) -> float:
        """Where ``value`` lies between 0 and 1."""
        clamped = min(max(value, self.low), self.high)
        return (math.log10(clamped) - math.log10(self.low)) / (math.log10(self.high) - math.log10(self.low))

    @property
    def ticks(self) -> list[float]:
        """The powers of ten within the scale."""
        return [tick for tick in _DECADES if self.low * 0.999 <= tick <= self.high * 1.001]


def over_time(steps: Sequence[Step], label: Callable[[Step], str], summary: str) -> str:
    """Median to 95th percentile as a bar and the longest as a dot, a column a step; failures as bars below."""
    measured = [step.spread for step in steps if step.spread is not None]
    if not measured:
        return '<p class="none">No window of this period was measured: nothing was frozen.</p>'
    scale = LogScale(min(spread.median for spread in measured), max(spread.longest for spread in measured))
    columns, failures = [], []
    most = max(step.failures for step in steps)
    for number, step in enumerate(steps):
        title = f"<title>{escape(label(step))}</title>"
        x = number + 0.5
        if step.spread is not None:
            low, high, top = (
                HEIGHT * (1 - scale.share(v)) for v in (step.spread.median, step.spread.p95, step.spread.longest)
            )
            # The median lies on top: of a single window that is what there is to see.
            columns.append(
                f'<g>{title}<path class="bar" d="M{x:g} {low:.2f}V{high:.2f}"/>'
                f'<path class="longest" d="M{x:g} {top:.2f}h0"/><path class="median" d="M{x:g} {low:.2f}h0"/></g>'
            )
        if step.failures:
            height = max(8.0, HEIGHT * step.failures / most)
            failures.append(
                f'<rect class="failed" x="{number + 0.1:g}" y="{HEIGHT - height:.2f}" width="0.8" '
                f'height="{height:.2f}">{title}</rect>'
            )
    grid = "".join(f'<path class="grid" d="M0 {HEIGHT * (1 - scale.share(t)):.2f}H{len(steps)}"/>' for t in scale.ticks)
    axis = "".join(
        f'<span style="bottom:{100 * scale.share(tick):.2f}%">{seconds(tick)}</span>' for tick in scale.ticks
    )
    below = (
        f'<div class="axis"><span style="bottom:100%">{most}</span><span style="bottom:0">0</span></div>'
        f"{_svg(len(steps), ''.join(failures), 'strip', 'Failed windows a step, at most ' + str(most) + '.')}"
        if most
        else ""
    )
    return (
        f'<div class="plot"><div class="axis tall">{axis}</div>'
        f"{_svg(len(steps), grid + ''.join(columns), 'tall', summary)}{below}</div>"
    )


def distribution(counts: Sequence[int], summary: str) -> str:
    """Windows a bucket as horizontal bars, with their numbers."""
    most = max(counts) or 1
    names = [f"up to {seconds(edge)}" for edge in BUCKETS_SECONDS] + [f"over {seconds(BUCKETS_SECONDS[-1])}"]
    used = [number for number, count in enumerate(counts) if count]
    if not used:
        return '<p class="none">No window was measured.</p>'
    rows = "".join(
        f"<tr><th>{names[number]}</th><td>{counts[number]:,}</td><td>{bar(counts[number] / most, 'ok')}</td></tr>"
        for number in range(used[0], used[-1] + 1)
    )
    return (
        f'<table class="bars"><caption class="unseen">{escape(summary)}</caption><thead><tr><th>Length</th>'
        f'<th>Windows</th><th><span class="unseen">Picture</span></th></tr>'
        f"</thead><tbody>{rows}</tbody></table>"
    )


def bar(share: float, kind: str) -> str:
    """One bar; the number stands beside it, so it needs no text."""
    width = max(share * HEIGHT, 0.5 if share > 0 else 0)
    return (
        f'<svg class="meter" viewBox="0 0 {HEIGHT:g} 1" preserveAspectRatio="none" aria-hidden="true">'
        f'<rect class="{kind}" width="{width:.2f}" height="1"/></svg>'
    )


def stacked(parts: Sequence[tuple[str, int]]) -> str:
    """Shares of a whole as one bar: (class, count); the numbers stand beside it."""
    whole = sum(count for _, count in parts)
    if not whole:
        return ""
    at, rects = 0.0, []
    for kind, count in parts:
        width = HEIGHT * count / whole
        if count:
            rects.append(f'<rect class="{kind}" x="{at:.2f}" width="{max(width, 0.8):.2f}" height="1"/>')
        at += width
    return (
        f'<svg class="meter" viewBox="0 0 {HEIGHT:g} 1" preserveAspectRatio="none" aria-hidden="true">'
        f"{''.join(rects)}</svg>"
    )


def spread(value: Spread, scale: LogScale) -> str:
    """Median to longest of one guest on a shared scale."""
    low, high, top = (HEIGHT * scale.share(v) for v in (value.median, value.p95, value.longest))
    return (
        f'<svg class="meter" viewBox="0 0 {HEIGHT:g} 1" preserveAspectRatio="none" aria-hidden="true">'
        f'<path class="bar" d="M{low:.2f} .5H{high:.2f}"/><path class="longest" d="M{top:.2f} .5h0"/>'
        f'<path class="median" d="M{low:.2f} .5h0"/></svg>'
    )


def _svg(width: int, content: str, kind: str, summary: str) -> str:
    return (
        f'<svg class="{kind}" viewBox="0 0 {width} {HEIGHT:g}" preserveAspectRatio="none" role="img" '
        f'aria-label="{escape(summary)}">{content}</svg>'
    )
