"""What a command found of several guests: a line each, a closing line, one error for all. Nothing is decided here."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from snapshot.base.text import clean, counted
from snapshot.config.choice import Choice, LeftOut
from snapshot.errors import Failure, SafeSnapshotError, worst_of
from snapshot.model import Guest

LONGEST_NAME, LONGEST_NODE = 24, 16
MOST_NAMED = 5
"""So many guests that are well but left out get a line each without --verbose; those that the line names always do."""


class GuestLine(NamedTuple):
    """One guest, and what is said of it."""

    guest: Guest
    text: str


def table(rows: Sequence[GuestLine]) -> list[str]:
    """A line a guest under a head, by vmid."""
    if not rows:
        return []
    names = [clean(row.guest.name, LONGEST_NAME) for row in rows]
    widths = (
        max(5, *(len(str(row.guest.vmid)) for row in rows)),
        max(4, *(len(name) for name in names)),
        max(4, *(min(len(row.guest.node), LONGEST_NODE) for row in rows)),
    )

    def line(vmid: object, name: str, node: str, text: str) -> str:
        return f"{vmid!s:>{widths[0]}}  {name:<{widths[1]}}  {clean(node, LONGEST_NODE):<{widths[2]}}  {text}".rstrip()

    lines = [line(row.guest.vmid, name, row.guest.node, row.text) for row, name in zip(rows, names, strict=True)]
    return [line("VMID", "NAME", "NODE", "RESULT"), *lines]


def left_out_rows(left_out: Sequence[LeftOut], *, verbose: bool) -> list[GuestLine]:
    """Those left out that are worth a line: all of a few, else those that the line names."""
    shown = left_out if verbose or len(left_out) <= MOST_NAMED else [out for out in left_out if out.named]
    return [GuestLine(out.guest, f"left out: {out.reason}") for out in shown]


def all_rows(rows: Iterable[GuestLine], choice: Choice, *, verbose: bool) -> list[GuestLine]:
    """``rows`` and those that were left out of ``choice``, by vmid."""
    return sorted([*rows, *left_out_rows(choice.left_out, verbose=verbose)], key=lambda row: row.guest.vmid)


def closing(counts: Iterable[tuple[int, str]], choice: Choice) -> str:
    """``5 guests: 3 ready, 2 cannot be frozen; 1 left out``."""
    said = ", ".join(f"{number} {what}" for number, what in counts if number)
    out = f"; {len(choice.left_out)} left out" if choice.left_out else ""
    return f"{counted(len(choice.guests), 'guest')}: {said}{out}"


def error_of_all(found: Sequence[tuple[int, Failure | None]]) -> SafeSnapshotError | None:
    """One error for several guests, by vmid: with the exit code and the word of the worst, and that guest's remedy."""
    bad = [(vmid, failure) for vmid, failure in found if failure is not None]
    worst = worst_of(failure for _, failure in bad)
    if worst is None:
        return None
    vmid = next(vmid for vmid, failure in bad if failure is worst)
    count = f"{len(bad)} of {counted(len(found), 'guest')}: " if len(found) > 1 else ""
    error = SafeSnapshotError(f"{count}guest {vmid}: {worst.message}", remedy=worst.remedy)
    error.code, error.exit_code = worst.code, worst.exit_code
    return error
