"""How a run with many guests went: the closing table, a line a guest for a log collector, and the keys of its JSON."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from snapshot.base import logfmt, streams
from snapshot.base.clock import duration
from snapshot.base.streams import Line
from snapshot.base.text import clean, counted
from snapshot.config.choice import LeftOut
from snapshot.errors import Failure
from snapshot.fleet.moment import Apart
from snapshot.fleet.outcome import GuestOutcome
from snapshot.model import VerdictKind
from snapshot.report.many import error_of_all

HEAD = ("VMID", "NAME", "VERDICT", "FROZEN")
NAME_WIDTH = 24
NOT_DONE, DRY = "NOT DONE", "would be done"


class GroupTold(NamedTuple):
    """What is said of a group."""

    id: str
    name: str
    policy: str
    vmids: tuple[int, ...]
    """In the order in which they were frozen."""
    is_kept: bool
    """Whether the snapshots were kept; where one could not follow they may have been removed."""
    is_one_point_in_time: bool
    words: str
    spans: tuple[Apart, ...] = ()
    """When each was frozen, and when its point in time was; without those that do not know."""
    left: tuple[str, ...] = ()
    """Snapshots that should not be there, and may be."""

    @property
    def lines(self) -> list[str]:
        """For a person."""
        return [*(f"warning: {line}" for line in self.left), f"group {self.name}: {self.words}"]


class FleetResult(NamedTuple):
    """A run that has ended."""

    outcomes: Sequence[GuestOutcome]
    left_out: Sequence[LeftOut]
    is_dry: bool = False
    group: GroupTold | None = None
    """Where the guests were taken together."""

    @property
    def error(self) -> Failure | None:
        """None when every guest was done; else with the exit code of the worst."""
        found = [(one.guest.vmid, one.error.failure if one.error else None) for one in self.outcomes]
        return error_of_all(found)


def word_of(outcome: GuestOutcome) -> str:
    """What the table says in its column VERDICT."""
    if outcome.verdict is not None and outcome.snapshot_exists is not False:
        return outcome.verdict
    if outcome.plan and outcome.error is None:
        return DRY
    return NOT_DONE


def closing_lines(result: FleetResult, *, width: int | None, is_quiet: bool) -> list[str]:
    """The table and what stands below it. ``width``: of the terminal; None: no line is broken. ``is_quiet``: only what
    needs somebody, and the closing line.
    """
    shown = [one for one in result.outcomes if not is_quiet or one.error is not None]
    lines = _table(shown, width) if shown else []
    if not is_quiet:
        lines += _left_out_lines(result, width)
        lines += _warning_lines(result.outcomes, width)
    return [*lines, *_group_lines(result, width), summary(result)]


def _group_lines(result: FleetResult, width: int | None) -> list[str]:
    told = result.group.lines if result.group is not None else []
    return [line for text in told for line in _wrapped(text, width, "")]


def _table(outcomes: Sequence[GuestOutcome], width: int | None) -> list[str]:
    rows = [
        (
            str(one.guest.vmid),
            clean(one.guest.name, NAME_WIDTH),
            word_of(one),
            duration(one.frozen_seconds) if one.frozen_seconds is not None else "-",
        )
        for one in outcomes
    ]
    widths = [max(len(row[column]) for row in (HEAD, *rows)) for column in range(len(HEAD))]
    lines = [_row(HEAD, widths)]
    for one, row in zip(outcomes, rows, strict=True):
        lines.append(_row(row, widths))
        lines += _wrapped(_below(one), width)
    return lines


def _row(cells: Sequence[str], widths: Sequence[int]) -> str:
    vmid, *rest = cells
    return "  ".join([vmid.rjust(widths[0]), *(c.ljust(w) for c, w in zip(rest, widths[1:], strict=True))]).rstrip()


def _below(outcome: GuestOutcome) -> str:
    """What happened and what to do, where that is more than the verdict says."""
    if outcome.error is not None:
        return str(outcome.error)
    if outcome.verdict is not None and not VerdictKind(outcome.verdict).is_of_a_freeze:
        return outcome.reason
    goes = f"; then {', '.join(outcome.would_remove)} would be removed" if outcome.would_remove else ""
    return outcome.plan + goes


def _wrapped(text: str, width: int | None, indent: str = "    ") -> list[str]:
    if not text:
        return []
    if width is None:
        return [f"{indent}{text}"]
    return textwrap.wrap(
        text, max(40, width), initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False
    ) or [indent + text]


def _left_out_lines(result: FleetResult, width: int | None) -> list[str]:
    """Each guest in a dry run, else those that the line names; what is excluded on purpose is no news."""
    shown = [one for one in result.left_out if result.is_dry or one.named]
    texts = (f"{one.guest.vmid} {clean(one.guest.name, NAME_WIDTH)} is left out: {one.reason}" for one in shown)
    return [line for text in texts for line in _wrapped(text, width, "")]


def _warning_lines(outcomes: Iterable[GuestOutcome], width: int | None) -> list[str]:
    """Each warning once, with the guests that it is about."""
    whose: dict[str, list[int]] = {}
    for one in outcomes:
        for warning in one.warnings:
            whose.setdefault(warning, []).append(one.guest.vmid)
    lines: list[str] = []
    for warning, vmids in whose.items():
        named = ", ".join(map(str, vmids[:6])) + (f" and {len(vmids) - 6} more" if len(vmids) > 6 else "")
        lines += _wrapped(f"warning: guest {named}: {warning}", width, "")
    return lines


def summary(result: FleetResult) -> str:
    """The closing line."""
    words = Counter(map(word_of, result.outcomes))
    done = ", ".join(f"{count} {word}" for word, count in words.items() if word != NOT_DONE)
    missed = f"{words[NOT_DONE]} {NOT_DONE}" if words[NOT_DONE] else ""
    out = f"{len(result.left_out)} left out" if result.left_out else ""
    removed = sum(len(one.removed) for one in result.outcomes)
    gone = f"{counted(removed, 'older snapshot')} removed" if removed else ""
    would = sum(len(one.would_remove) for one in result.outcomes)
    gone = f"{counted(would, 'older snapshot')} would be removed" if would else gone
    return f"{counted(len(result.outcomes), 'guest')}: {', '.join(part for part in (done, missed, out, gone) if part)}"


def logfmt_of(outcome: GuestOutcome) -> Line:
    """The line of one guest: that of a run of it alone, where its worker could send one."""
    if outcome.logfmt is not None:
        return Line(*outcome.logfmt)
    line = logfmt.line(
        "snapshot",
        vmid=outcome.guest.vmid,
        node=outcome.guest.node,
        snapshot=outcome.snapshot,
        exists={True: "yes", False: "no", None: "unknown"}[outcome.snapshot_exists],
        error=str(outcome.error) if outcome.error else None,
        exit_code=outcome.exit_code,
    )
    return Line(line, streams.ERROR if outcome.error else streams.NOTICE)


def logfmt_summary(result: FleetResult) -> Line:
    """The closing line for a log collector."""
    error = result.error
    words = Counter(map(word_of, result.outcomes))
    line = logfmt.line(
        "snapshots",
        guests=len(result.outcomes),
        done=len(result.outcomes) - words[NOT_DONE],
        not_done=words[NOT_DONE],
        left_out=len(result.left_out),
        error=str(error) if error else None,
        exit_code=error.exit_code if error else 0,
    )
    return Line(line, streams.ERROR if error else streams.NOTICE)


def fleet_data(result: FleetResult) -> dict[str, object]:
    """The own keys of `take` with several guests."""
    words = Counter(map(word_of, result.outcomes))
    return {
        "guests": [outcome_data(one) for one in result.outcomes],
        "left_out": result.left_out,
        "counts": {
            "guests": len(result.outcomes),
            "done": len(result.outcomes) - words[NOT_DONE],
            "not_done": words[NOT_DONE],
            "left_out": len(result.left_out),
        },
        "group": result.group,
    }


def outcome_data(outcome: GuestOutcome) -> dict[str, object]:
    """One guest of it."""
    return {
        "vmid": outcome.guest.vmid,
        "node": outcome.guest.node,
        "name": outcome.guest.name,
        "snapshot": outcome.snapshot,
        "snapshot_exists": outcome.snapshot_exists,
        "verdict": outcome.verdict,
        "reason": outcome.reason,
        "plan": outcome.plan or None,
        "removed": outcome.removed,
        "would_remove": outcome.would_remove,
        "frozen_seconds": outcome.frozen_seconds,
        "tries": outcome.tries,
        "waited_seconds": outcome.waited_seconds,
        "warnings": outcome.warnings,
        "error": outcome.error,
        "exit_code": outcome.exit_code,
        "result": outcome.result,
    }
