"""Backups, and snapshots, each as numbers and pictures: over time, by length, the slowest guests."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from snapshot.report import charts
from snapshot.report.digested import BACKUP, Digest, GuestRow, Half
from snapshot.report.htmlwords import count, day, minute, percent, seconds, width
from snapshot.report.lengths import DAY_SECONDS, Spread, Step

SLOWEST = 10
FEW = 8
"""A part with fewer measured windows is not drawn: its newest runs say more, one by one."""
FOR_95 = 20
"""Of fewer windows 95 of 100 are all of them."""

NOUNS = {BACKUP: "backup"}


def noun(source: str) -> str:
    """``backup`` or ``snapshot``."""
    return NOUNS.get(source, "snapshot")


def cards(parts: Iterable[Half]) -> str:
    """The most important numbers of each part."""
    return f'<div class="pair">{"".join(map(_card, parts))}</div>'


def _card(part: Half) -> str:
    facts = [
        ("Consistent", f"{part.consistent:,} of {part.judged:,} judged"),
        ("Failed", f"{part.failed:,} ({percent(part.failed, part.windows)})"),
    ]
    if part.spread is None:
        facts.append(("Windows", "none measured: nothing was frozen"))
    else:
        facts.append(("Median window", seconds(part.spread.median)))
        if part.spread.count >= FOR_95:
            facts.append(("95 of 100 within", seconds(part.spread.p95)))
        facts.append(("Longest window", seconds(part.spread.longest)))
    items = "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in facts)
    well = ' class="good"' if part.judged and part.consistent == part.judged else ""
    return (
        f"<section><h2>{noun(part.source).capitalize()}s</h2><p><b{well}>{percent(part.consistent, part.judged)}</b> "
        f"consistent</p><p>{count(part.windows, noun(part.source))} of {count(part.guests, 'guest')}</p>"
        f"<dl>{items}</dl></section>"
    )


def pictures(found: Digest, part: Half) -> str:
    """How long the windows of a part were; a line where there are too few to draw."""
    if part.spread is None:
        return ""
    of = f"{noun(part.source)}s"
    if part.spread.count < FEW:
        few = count(part.spread.count, "window")
        return (
            f'<section><h2>Windows of {of}</h2><p class="soft">{few} measured so far; with {FEW} there are pictures '
            "here: how long guests are frozen, over time and guest by guest.</p></section>"
        )
    return (
        f"<section><h2>Windows of {of} over time</h2>{_over_time(found, part)}</section>"
        f"<section><h2>How long windows of {of} are</h2>{_distribution(part)}</section>{_slowest(found, part)}"
    )


def _over_time(found: Digest, part: Half) -> str:
    assert part.spread is not None
    wide, steps = width(found.step_seconds), part.steps
    summary = (
        f"Lengths of windows over time, one column {wide}. Over all: median {seconds(part.spread.median)}, "
        f"longest {seconds(part.spread.longest)}. The table below has the numbers."
    )
    marks = [steps[0], steps[len(steps) // 3], steps[2 * len(steps) // 3], steps[-1]] if len(steps) > 3 else steps
    middle = (1, 2) if len(marks) > 3 else ()
    times = "".join(
        f"<span{' class=mid' if number in middle else ''}>{instant(step, found.step_seconds)}</span>"
        for number, step in enumerate(marks)
    )
    rows = "".join(
        f"<tr><th>{instant(step, found.step_seconds)}</th><td>{step.runs:,}</td><td>{step.failures:,}</td>"
        f"{_spread_cells(step.spread)}</tr>"
        for step in steps
        if step.runs
    )
    failed = '<li><i class="f"></i>failed (lower strip)</li>' if part.failed else ""
    return f"""<figure>
{charts.over_time(steps, lambda step: _label(step, found.step_seconds), summary)}
<div class="times">{times}</div>
<figcaption>One column {wide}, on a logarithmic scale of time.
<ul class="key"><li><i class="dot m"></i>median</li><li><i class="b"></i>median to 95 of 100</li>
<li><i class="dot l"></i>longest</li>{failed}</ul></figcaption>
</figure>
<details><summary>The same as a table</summary><div class="wide"><table class="n"><thead><tr><th>From</th>
<th>Runs</th><th>Failed</th><th>Median</th><th>95 of 100</th>
<th>Longest</th></tr></thead><tbody>{rows}</tbody></table></div></details>"""


def _distribution(part: Half) -> str:
    return f"""<figure><div class="wide">{charts.distribution(part.distribution, "Windows by their length")}</div>
<figcaption>From the freeze request to the confirmed thaw; each window stands in one row.</figcaption></figure>"""


def _slowest(found: Digest, part: Half) -> str:
    measured = [
        (guest, guest.parts[part.source].spread)
        for guest in found.guests
        if part.source in guest.parts and guest.parts[part.source].spread is not None
    ]
    if len(measured) < 2:
        return ""
    ranked: Sequence[tuple[GuestRow, Spread]] = sorted(
        ((guest, spread) for guest, spread in measured if spread is not None),
        key=lambda pair: (-pair[1].p95, -pair[1].longest, pair[0].vmid),
    )
    scale = charts.LogScale(min(s.median for _, s in ranked), max(s.longest for _, s in ranked))
    rows = "".join(
        f"<tr><th>{name(guest)}</th>{_spread_cells(spread)}<td>{charts.spread(spread, scale)}</td></tr>"
        for guest, spread in ranked[:SLOWEST]
    )
    return f"""<section><h2>Slowest guests in {noun(part.source)}s</h2>
<p class="soft">By the length that 95 of 100 of their windows keep within<span class="hide">; the picture is
logarithmic, from {seconds(scale.low)} to {seconds(scale.high)}</span>.</p>
<div class="wide"><table class="n pic"><thead><tr><th>Guest</th><th>Median</th><th>95 of 100</th><th>Longest</th>
<th><span class="unseen">Picture</span></th></tr></thead><tbody>{rows}</tbody></table></div></section>"""


def _spread_cells(spread: Spread | None) -> str:
    values = ("-",) * 3 if spread is None else map(seconds, (spread.median, spread.p95, spread.longest))
    return "".join(f"<td>{value}</td>" for value in values)


def name(guest: GuestRow) -> str:
    """A guest's id, and its name."""
    called = f" <small>{escape(guest.name)}</small>" if guest.name else ""
    return f"<span>{escape(guest.id)}</span>{called}"


def _label(step: Step, step_seconds: float) -> str:
    spread = step.spread
    words = f"median {seconds(spread.median)}, longest {seconds(spread.longest)}" if spread else "none measured"
    return f"{instant(step, step_seconds)}: {count(step.runs, 'window')}, {step.failures} failed, {words}"


def instant(step: Step, step_seconds: float) -> str:
    """When a step begins, as exactly as its width wants it."""
    return minute(step.begins_at) if step_seconds < DAY_SECONDS else day(step.begins_at)
