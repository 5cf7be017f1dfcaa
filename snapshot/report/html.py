"""The digest as one HTML page: no script, no network, light and dark, for a phone, a screen and paper."""

from __future__ import annotations

import time
from collections.abc import Sequence
from html import escape

from snapshot.journal.families import CONSISTENT_VERDICTS, VERDICTS
from snapshot.report import charts
from snapshot.report.digest import DAY_SECONDS, Digest, GuestRow, Spread, Step
from snapshot.report.history import plain, seconds
from snapshot.report.style import STYLE

SLOWEST = 15
FOLD_ABOVE = 25
"""Guests beyond so many are folded away behind one click: the ones that need a look come first."""

_KINDS = {
    "filesystem-consistent": "ok",
    "memory": "memory",
    "offline": "offline",
    "crash-consistent": "crash",
    "unknown": "unknown",
}
"""Verdict -> CSS class, in the order of the bars."""

_GUESTS_HEAD = (
    '<thead><tr><th scope="col">Guest</th><th scope="col" class="hide">Node</th>'
    '<th scope="col"><span class="unseen">Picture</span></th><th scope="col" class="number">Consistent</th>'
    '<th scope="col" class="number">Failed</th><th scope="col">Last verdict</th>'
    '<th scope="col" class="hide">Last run</th></tr></thead>'
)


def page(found: Digest) -> str:
    """The whole page."""
    body = _sections(found) if found.windows else _nothing(found)
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="color-scheme" content="light dark">
<title>Freeze windows {_day(found.since_at)} to {_day(found.made_at)}</title>
<style>{STYLE}</style>
</head>
<body>
<header>
<h1>Freeze windows</h1>
<p class="soft">{_day(found.since_at)} to {_minute(found.made_at)}: {_count(found.windows, "window")} of
{_count(len(found.guests), "guest")}</p>
</header>
<main>
{_frozen(found)}{body}
</main>
<footer>Written by <code>safe-snapshot report</code> from the journal of this machine. Times are local.</footer>
</body>
</html>
"""


def _nothing(found: Digest) -> str:
    return (
        f'<p class="none">No window has been recorded since {_day(found.since_at)}. The first one appears with the '
        "next snapshot by <code>safe-snapshot</code> or backup with <code>vzdump-hook</code>.</p>"
    )


def _sections(found: Digest) -> str:
    return "\n".join(
        (_figures(found), _over_time(found), _distribution(found), _guests(found), _failures(found), _slowest(found))
    )


def _frozen(found: Digest) -> str:
    if not found.frozen_now:
        return ""
    items = "".join(
        f"<li>{escape(guest)} on {escape(node)}, since {_minute(since)}</li>" for guest, node, since in found.frozen_now
    )
    return (
        '<section class="alarm"><h2>Frozen when this page was made</h2><p>These guests were in an open window, or '
        f"may have been left frozen: <code>safe-snapshot status</code> says what they are now.</p>"
        f"<ul>{items}</ul></section>"
    )


def _figures(found: Digest) -> str:
    consistent = sum(count for verdict, count in found.verdicts.items() if verdict in CONSISTENT_VERDICTS)
    failed = sum(guest.failures for guest in found.guests)
    never = sum(1 for guest in found.guests if not _consistent(guest) and guest.runs)
    figures = [
        ("Consistent", _percent(consistent, found.judged), f"{consistent:,} of {found.judged:,} judged"),
        ("Failed", f"{failed:,}", _percent(failed, found.windows) + " of all windows"),
        ("Guests never consistent", f"{never:,}", f"of {len(found.guests):,}"),
    ]
    if found.spread is not None:
        figures += [
            ("Median window", seconds(found.spread.median), f"of {found.spread.count:,} measured"),
            ("95 of 100 within", seconds(found.spread.p95), ""),
            ("Longest window", seconds(found.spread.longest), ""),
        ]
    items = "".join(
        f"<div><dt>{escape(name)}</dt><dd>{value}<small>{note}</small></dd></div>" for name, value, note in figures
    )
    return f'<dl class="figures">{items}</dl>'


def _over_time(found: Digest) -> str:
    width = _width(found.step_seconds)
    if found.spread is None:
        summary = "No window was measured."
    else:
        summary = (
            f"Lengths of windows over time, one column {width}. Over all: median {seconds(found.spread.median)}, "
            f"longest {seconds(found.spread.longest)}. The table below has the numbers."
        )
    steps = found.steps
    marks = [steps[0], steps[len(steps) // 3], steps[2 * len(steps) // 3], steps[-1]] if len(steps) > 3 else steps
    middle = (1, 2) if len(marks) > 3 else ()
    times = "".join(
        f"<span{' class=mid' if number in middle else ''}>{_instant(step, found.step_seconds)}</span>"
        for number, step in enumerate(marks)
    )
    rows = "".join(
        f'<tr><th scope="row" class="nowrap">{_instant(step, found.step_seconds)}</th>'
        f'<td class="number">{step.runs:,}</td><td class="number">{step.failures:,}</td>'
        f"{_spread_cells(step.spread)}</tr>"
        for step in steps
        if step.runs
    )
    return f"""<section><h2>Windows over time</h2>
<figure>
{charts.over_time(steps, lambda step: _label(step, found.step_seconds), summary)}
<div class="times">{times}</div>
<figcaption>One column {width}, on a logarithmic scale of time.
<ul class="key"><li><i class="dot m"></i>median</li><li><i class="b"></i>median to 95 of 100</li>
<li><i class="dot l"></i>longest</li><li><i class="f"></i>failed windows (lower strip)</li></ul></figcaption>
</figure>
<details><summary>The same as a table</summary><div class="wide"><table><thead><tr><th scope="col">From</th>
<th scope="col" class="number">Windows</th><th scope="col" class="number">Failed</th>
<th scope="col" class="number">Median</th><th scope="col" class="number">95 of 100</th>
<th scope="col" class="number">Longest</th></tr></thead><tbody>{rows}</tbody></table></div></details></section>"""


def _distribution(found: Digest) -> str:
    summary = "Windows by their length"
    return f"""<section><h2>How long windows are</h2>
<figure><div class="wide">{charts.distribution(found.distribution, summary)}</div>
<figcaption>From the freeze request to the confirmed thaw; each window stands in one row.</figcaption></figure>
</section>"""


def _guests(found: Digest) -> str:
    worst_first = sorted(found.guests, key=lambda g: (_share_consistent(g), -g.failures, g.vmid))
    key = "".join(
        f'<li><i class="{kind}"></i>{verdict} ({found.verdicts.get(verdict, 0):,})</li>'
        for verdict, kind in _KINDS.items()
    )
    first, rest = worst_first[:FOLD_ABOVE], worst_first[FOLD_ABOVE:]
    folded = (
        f'<details><summary>{_count(len(rest), "more guest")}</summary><div class="wide">{_guest_table(rest)}</div>'
        "</details>"
        if rest
        else ""
    )
    return f"""<section><h2>Verdicts a guest</h2>
<p class="soft">The least consistent guests first.</p><ul class="key">{key}</ul>
<div class="wide">{_guest_table(first)}</div>{folded}</section>"""


def _guest_table(guests: Sequence[GuestRow]) -> str:
    return f"<table>{_GUESTS_HEAD}<tbody>{''.join(map(_guest, guests))}</tbody></table>"


def _guest(guest: GuestRow) -> str:
    parts = [(kind, guest.verdicts.get(verdict, 0)) for verdict, kind in _KINDS.items()]
    bad = "" if guest.last_verdict in CONSISTENT_VERDICTS or not guest.last_verdict else ' class="bad"'
    return (
        f'<tr><th scope="row">{_name(guest)}</th><td class="hide">{escape(guest.node)}</td>'
        f'<td class="picture">{charts.stacked(parts)}</td>'
        f'<td class="number">{_consistent(guest):,} of {guest.runs:,}</td><td class="number">{guest.failures:,}</td>'
        f"<td{bad}>{escape(guest.last_verdict) or 'none yet'}</td>"
        f'<td class="hide nowrap">{_minute(guest.last_at)}</td></tr>'
    )


def _failures(found: Digest) -> str:
    if not found.failures:
        return '<section><h2>Failures by reason</h2><p class="none">No window failed.</p></section>'
    most = found.failures[0][2]
    rows = "".join(
        f'<tr><th scope="row">{escape(plain(stage))}: {escape(plain(reason))}</th><td class="number">{windows:,}</td>'
        f'<td class="number">{guests:,}</td><td>{charts.bar(windows / most, "failed")}</td></tr>'
        for stage, reason, windows, guests in found.failures
    )
    return f"""<section><h2>Failures by reason</h2>
<div class="wide"><table class="bars"><thead><tr><th scope="col">Stage and reason</th>
<th scope="col" class="number">Windows</th><th scope="col" class="number">Guests</th>
<th scope="col"><span class="unseen">Picture</span></th></tr></thead><tbody>{rows}</tbody></table></div></section>"""


def _slowest(found: Digest) -> str:
    measured = [(guest, guest.spread) for guest in found.guests if guest.spread is not None]
    if not measured:
        return ""
    measured.sort(key=lambda pair: (-pair[1].p95, -pair[1].longest, pair[0].vmid))
    scale = charts.LogScale(min(s.median for _, s in measured), max(s.longest for _, s in measured))
    shown = measured[:SLOWEST]
    rows = "".join(
        f'<tr><th scope="row">{_name(guest)}</th>{_spread_cells(spread)}'
        f'<td class="picture">{charts.spread(spread, scale)}</td></tr>'
        for guest, spread in shown
    )
    return f"""<section><h2>Slowest guests</h2>
<p class="soft">By the length that 95 of 100 of their windows keep within; the picture is logarithmic, from
{seconds(scale.low)} to {seconds(scale.high)}.</p>
<div class="wide"><table><thead><tr><th scope="col">Guest</th><th scope="col" class="number">Median</th>
<th scope="col" class="number">95 of 100</th><th scope="col" class="number">Longest</th>
<th scope="col"><span class="unseen">Picture</span></th></tr></thead><tbody>{rows}</tbody></table></div></section>"""


def _spread_cells(spread: Spread | None) -> str:
    values = ("-",) * 3 if spread is None else map(seconds, (spread.median, spread.p95, spread.longest))
    return "".join(f'<td class="number">{value}</td>' for value in values)


def _name(guest: GuestRow) -> str:
    name = f' <span class="soft">{escape(guest.name)}</span>' if guest.name else ""
    return f'<span class="nowrap">{escape(guest.id)}</span>{name}'


def _consistent(guest: GuestRow) -> int:
    return sum(guest.verdicts.get(verdict, 0) for verdict in VERDICTS if verdict in CONSISTENT_VERDICTS)


def _share_consistent(guest: GuestRow) -> float:
    return _consistent(guest) / guest.runs if guest.runs else 1.0


def _label(step: Step, step_seconds: float) -> str:
    lengths = step.spread
    words = f"median {seconds(lengths.median)}, longest {seconds(lengths.longest)}" if lengths else "none measured"
    return f"{_instant(step, step_seconds)}: {_count(step.runs, 'window')}, {step.failures} failed, {words}"


def _percent(part: int, whole: int) -> str:
    """Never 100 % unless it is all of them."""
    if not whole:
        return "-"
    share = 100 * part / whole
    return f"{share:.0f} %" if part in (0, whole) else f"{min(max(share, 0.1), 99.9):.1f} %"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'s' if number != 1 else ''}"


def _width(step_seconds: float) -> str:
    if step_seconds < DAY_SECONDS:
        hours = round(step_seconds / 3600)
        return "an hour" if hours == 1 else f"every {hours} hours"
    days = round(step_seconds / DAY_SECONDS)
    return {1: "a day", 7: "a week"}.get(days, f"every {days} days")


def _instant(step: Step, step_seconds: float) -> str:
    return _minute(step.begins_at) if step_seconds < DAY_SECONDS else _day(step.begins_at)


def _day(instant: float) -> str:
    return time.strftime("%Y-%m-%d", time.localtime(instant))


def _minute(instant: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(instant))
