"""What retention found and did, as lines for a person and for a log collector, and as JSON. Nothing is decided here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from snapshot.base import logfmt, streams
from snapshot.base.clock import iso
from snapshot.base.streams import Line
from snapshot.base.text import clean, counted, named
from snapshot.recovery.foreign import span
from snapshot.retention.ours import Left
from snapshot.retention.plan import Outlook
from snapshot.retention.prune import Pruned, Rules


class Retained(NamedTuple):
    """One guest's share: the rules that hold for it, and what came of them."""

    rules: Rules
    pruned: Pruned


def list_lines(found: Sequence[Retained], now: float, *, heads: bool = False) -> list[str]:
    """What `list` shows: a block for each guest. ``heads``: the columns have some."""
    is_any = any(pruned.rows for _, pruned in found)
    lines = [_columns("snapshot", "label", "age", "verdict", "what a prune does")] if heads and is_any else []
    for rules, pruned in found:
        guest = pruned.guest
        shown = "; ".join(f"{label or 'without a label'}: {rule}" for label, rule in sorted(rules.items()))
        lines.append(f"guest {named(guest.vmid, guest.name)} on {guest.node}: {shown or 'no rule'}")
        if pruned.error is not None:
            lines.append(f"ERROR: guest {guest.vmid}: {pruned.error}")
        elif not pruned.rows:
            lines.append("  no snapshots")
        lines += [_list_line(row, now) for row in pruned.rows]
    return lines


def _list_line(row: Outlook, now: float) -> str:
    one = row.found
    age = _age(max(0.0, now - one.snapshot.taken_at))
    worth = f"{one.verdict.value}{' with RAM' if one.snapshot.holds_ram else ''}" if one.is_known else "-"
    return _columns(clean(row.name, 40), one.label or "-", age, worth, _fate(row))


def _columns(name: str, label: str, age: str, worth: str, fate: str) -> str:
    return f"  {name:<34} {label:<8} {age:>7}  {worth:<22} {fate}"


def _age(seconds: float) -> str:
    return f"{seconds / 86400:.0f} d" if seconds >= 2 * 86400 else span(seconds)


def _fate(row: Outlook) -> str:
    if row.left is not None:
        return f"left: {_why(row)}"
    return f"{'kept' if row.keeps else 'GOES'}: {row.why}"


def _why(row: Outlook) -> str:
    return f"{row.why}; {row.remedy}" if row.remedy else row.why


def prune_lines(found: Sequence[Retained], *, dry_run: bool) -> list[str]:
    """What `prune` shows: what it removed, or would, and what it left; then one line in all."""
    lines: list[str] = []
    for _, pruned in found:
        guest = f"guest {pruned.guest.vmid}"
        gone = pruned.pending if dry_run else pruned.removed
        lines += [f"{guest}: {'would remove' if dry_run else 'removed'} {row.name} ({row.why})" for row in gone]
        lines += _left_lines(guest, pruned)
        lines += [f"warning: {guest}: {warning}" for warning in pruned.warnings]
        if pruned.error is not None:
            lines.append(f"ERROR: {guest}: {pruned.error}")
    return [*lines, _in_all(found, dry_run=dry_run)]


def _left_lines(guest: str, pruned: Pruned) -> list[str]:
    """Those that are not ours, in a line a reason; those that should have gone, each with what to do."""
    others: dict[str, list[str]] = {}
    lines = [
        f"{guest}: {clean(row.name, 40)} should have gone and is left: {_why(row)}"
        for row in pruned.rows
        if row.left is not None and row.found.left is None
    ]
    for row in pruned.rows:
        if row.left is not None and row.found.left is not None:
            others.setdefault(row.left.sentence, []).append(clean(row.name, 40))
    return [*lines, *(f"{guest}: left alone: {', '.join(names)}: {why}" for why, names in others.items())]


def _in_all(found: Sequence[Retained], *, dry_run: bool) -> str:
    gone = sum(len(pruned.pending if dry_run else pruned.removed) for _, pruned in found)
    rows = [row for _, pruned in found for row in pruned.rows if row.keeps]
    left = sum(1 for row in rows if row.left is not None)
    what = "would be removed" if dry_run else "removed"
    return (
        f"{counted(gone, 'snapshot')} {what}, {len(rows) - left} kept, {left} left alone, of "
        f"{counted(len(found), 'guest')}"
    )


def logfmt_lines(found: Sequence[Retained], *, dry_run: bool) -> list[Line]:
    """The same for a log collector: a line for each snapshot that went or should have, and one for each guest."""
    lines: list[Line] = []
    for _, pruned in found:
        guest = {"vmid": pruned.guest.vmid, "node": pruned.guest.node}
        for row in pruned.pending if dry_run else pruned.removed:
            lines.append(_line("would-remove" if dry_run else "removed", guest, row, streams.NOTICE))
        for row in pruned.rows:
            if row.left is not None:
                level = streams.INFO if row.found.left is not None else streams.ERROR
                lines.append(_line("left", guest, row, level))
        kept = sum(1 for row in pruned.rows if row.keeps)
        error = str(pruned.error) if pruned.error else None
        text = logfmt.line(
            "pruned",
            **guest,
            removed=0 if dry_run else len(pruned.removed),
            kept=kept,
            warnings="; ".join(pruned.warnings),
            error=error,
        )
        lines.append(Line(text, streams.ERROR if error else streams.INFO))
    return lines


def _line(event: str, guest: dict[str, object], row: Outlook, level: int) -> Line:
    left = row.left.value if row.left else None
    text = logfmt.line(event, **guest, snapshot=row.name, label=row.found.label, why=row.why, reason=left)
    return Line(text, level)


def retained_data(found: Sequence[Retained], now: float) -> list[dict[str, object]]:
    """The guests of `list` and `prune` in JSON."""
    return [
        {
            "vmid": pruned.guest.vmid,
            "node": pruned.guest.node,
            "kind": pruned.guest.kind,
            "name": pruned.guest.name,
            "rules": {label: str(rule) for label, rule in rules.items()},
            "snapshots": [_row_data(row, now) for row in pruned.rows],
            "removed": [_row_data(row, now) for row in pruned.removed],
            "error": str(pruned.error) if pruned.error else None,
        }
        for rules, pruned in found
    ]


def _row_data(row: Outlook, now: float) -> dict[str, object]:
    one = row.found
    return {
        "snapshot": row.name,
        "label": one.label or None,
        "run": one.run or None,
        "taken_at": one.snapshot.taken_at,
        "taken": iso(one.snapshot.taken_at),
        "age_seconds": max(0.0, now - one.snapshot.taken_at),
        "verdict": one.verdict if one.is_known else None,
        "consistent": one.verdict.is_consistent if one.is_known else None,
        "holds_ram": one.snapshot.holds_ram,
        "ours": one.left in (None, Left.NOT_WHOLE, Left.AT_WORK),
        "keeps": row.keeps,
        "why": row.why,
        "left": row.left,
        "remedy": row.remedy or None,
    }
