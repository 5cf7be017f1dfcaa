"""The guests of the page, each with what is wrong with it: the ones that need a look first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import NamedTuple

from snapshot.journal.families import CONSISTENT_VERDICTS
from snapshot.report import charts
from snapshot.report.digested import BACKUP, SNAPSHOT, Digest, GuestPart, GuestRow
from snapshot.report.htmlparts import name, noun
from snapshot.report.htmlwords import ago, count, minute
from snapshot.report.standing import KnownGuest, Standing

FOLD_ABOVE = 25
"""Guests beyond so many are folded away behind one click: the ones that need a look come first."""

KINDS = {
    "application-consistent": "best",
    "filesystem-consistent": "ok",
    "memory": "memory",
    "offline": "offline",
    "crash-consistent": "crash",
    "unknown": "unknown",
}
"""Verdict -> CSS class, in the order of the bars."""


class _Flagged(NamedTuple):
    row: GuestRow
    rank: int
    """What needs a look comes first."""
    flag: str
    """In HTML; empty: nothing is wrong with it."""


def guests(found: Digest, now: Standing) -> str:
    """Every guest: those of the windows, and those that no run ever came to."""
    flagged = sorted(_all(found, now), key=lambda one: (one.rank, _share(one.row), -one.row.failures, one.row.vmid))
    if not flagged:
        return ""
    sources = [source for source in (BACKUP, SNAPSHOT) if any(source in one.row.parts for one in flagged)]
    first, rest = flagged[:FOLD_ABOVE], flagged[FOLD_ABOVE:]
    others = f'<div class="wide">{_table(rest, sources, has_pictures=False)}</div>'
    folded = f"<details><summary>{count(len(rest), 'more guest')}</summary>{others}</details>" if rest else ""
    verdicts = {verdict: sum(part.verdicts.get(verdict, 0) for part in found.parts) for verdict in KINDS}
    key = "".join(f'<li><i class="{KINDS[v]}"></i>{v} ({number:,})</li>' for v, number in verdicts.items() if number)
    head = ", as the last look found them"
    if sources:
        head = ", what needs a look first, then the least consistent" if len(flagged) > 1 else ""
    return (
        f'<section><h2>Guests</h2><p class="soft">{count(len(flagged), "guest")}{head}.</p>'
        f'<ul class="key">{key}</ul><div class="wide">{_table(first, sources)}</div>{folded}</section>'
    )


def _all(found: Digest, now: Standing) -> list[_Flagged]:
    rows = {row.id: row for row in found.guests}
    for key, known in now.known.items():
        look = known.look
        rows.setdefault(key, GuestRow(key, look.vmid, look.name, look.node, {}))
    frozen = frozenset(stuck.guest for stuck in now.stuck)
    silent = {missing.runbook: frozenset(look.id for look in missing.guests) for missing in now.missing}
    return [_flagged(row, now.known.get(row.id), frozen, silent, found.made_at) for row in rows.values()]


def _flagged(
    row: GuestRow, known: KnownGuest | None, frozen: frozenset[str], silent: Mapping[str, frozenset[str]], at: float
) -> _Flagged:
    if row.id in frozen:
        return _Flagged(row, 0, _flag("MAY BE FROZEN"))
    kinds = [(rank, kind) for rank, kind in enumerate(silent, 1) if row.id in silent[kind]]
    if kinds:
        since = f", {ago(at - known.last_run_at)}" if known is not None and known.last_run_at is not None else ""
        words = (_FLAGS.get(kind, kind) + (since if kind == "last-run-old" else "") for _, kind in kinds)
        return _Flagged(row, kinds[0][0], _flag("; ".join(words)))
    last = [part.last_verdict for part in row.parts.values() if part.last_verdict]
    rank = len(silent) + (1 if any(verdict not in CONSISTENT_VERDICTS for verdict in last) else 2)
    if row.parts or known is None:
        return _Flagged(row, rank, "")
    if known.last_run_at is not None:
        return _Flagged(row, rank, f"<small>· last run {minute(known.last_run_at)}, before this page begins</small>")
    what = "off, no run yet" if not known.look.running else "no run yet" if known.limit_seconds else "no run expected"
    return _Flagged(row, rank, f"<small>· {what}</small>")


_FLAGS = {
    "guest-not-known": "frozen? not known",
    "never-guarded": "never guarded",
    "last-run-old": "stale",
    "label-missed": "a label is late",
    "label-left-out": "left out by a label",
}


def _flag(words: str) -> str:
    return f"<em>{escape(words)}</em>"


def _table(some: Sequence[_Flagged], sources: Sequence[str], *, has_pictures: bool = True) -> str:
    """Without pictures it takes a third of the room: at 500 guests most of the page's."""
    heads = "".join(f"<th>Last {noun(source)}</th>" for source in sources)
    picture = '<th class="hide"><span class="unseen">Picture</span></th>' if has_pictures else ""
    numbers = f"{picture}<th>Consistent</th><th>Failed</th>" if sources else ""
    head = f'<thead><tr><th>Guest</th><th class="hide">Node</th>{heads}{numbers}</tr></thead>'
    rows = "".join(_row(one, sources, has_picture=has_pictures) for one in some)
    return f'<table class="g">{head}<tbody>{rows}</tbody></table>'


def _row(one: _Flagged, sources: Sequence[str], *, has_picture: bool) -> str:
    row = one.row
    cells = "".join(_last(row.parts.get(source)) for source in sources)
    if sources:
        numbers = f"{row.consistent:,} of {row.runs:,}" if row.runs else "-"
        cells += f"{_picture(row) if has_picture else ''}<td>{numbers}</td><td>{row.failures:,}</td>"
    flag = f" {one.flag}" if one.flag else ""
    return f'<tr><th>{name(row)}{flag}</th><td class="hide">{escape(row.node)}</td>{cells}</tr>'


def _picture(row: GuestRow) -> str:
    counts = ((kind, verdict) for verdict, kind in KINDS.items())
    parts = [(kind, sum(part.verdicts.get(verdict, 0) for part in row.parts.values())) for kind, verdict in counts]
    return f'<td class="hide">{charts.stacked(parts)}</td>'


def _last(part: GuestPart | None) -> str:
    """The last backup or snapshot: what it was judged, and when it began."""
    if part is None:
        return "<td>none</td>"
    bad = "" if part.last_verdict in CONSISTENT_VERDICTS or not part.last_verdict else ' class="bad"'
    return f"<td{bad}>{escape(part.last_verdict) or 'not judged yet'} <small>{minute(part.last_at)}</small></td>"


def _share(row: GuestRow) -> float:
    return row.consistent / row.runs if row.runs else 1.0
