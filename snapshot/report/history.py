"""The windows of the past, newest first: read in small steps, shown as lines or CSV. Nothing is decided here.

The journal is read in batches, each a short read of its own: a reader that held the file for seconds would keep a
backup from writing its intent, and without the intent no guest is frozen.
"""

from __future__ import annotations

import csv
import io
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from snapshot.base.clock import iso
from snapshot.journal.reader import JournalReader
from snapshot.journal.record import COLUMNS, WindowRecord
from snapshot.model import Guest, GuestKind, Node, Vmid
from snapshot.report.folded import folded

BATCH = 2000

_INTERNAL = frozenset({"owner_pid", "owner_pid_start", "guard_pid", "guard_pid_start", "boot_id"})
FIELDS = ("time", *(name for name in COLUMNS if name not in _INTERNAL))
"""The keys of JSON and the columns of CSV: ``time`` is the intent's instant as ISO 8601, the rest is the journal's."""

_SPAN = re.compile(r"(\d{1,6})([mhdwy])\Z")
_UNITS = {"m": 60.0, "h": 3600.0, "d": 86400.0, "w": 7 * 86400.0, "y": 365 * 86400.0}
_DATES = ("%Y-%m-%d", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M", "%Y-%m-%d %H:%M:%S")

_OFFSET_DATES = ("%Y-%m-%dT%H:%M:%S%z", "%Y-%m-%dT%H:%M%z")
"""As ``lines`` and JSON have them."""

_FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""What a spreadsheet takes for the beginning of a formula."""

_LINE = "{:<24} {:<14} {:<8} {:>8}  {}"
_HEAD = _LINE.format("TIME", "GUEST", "SOURCE", "WINDOW", "VERDICT")
_BELOW = "    "


_ASKED = ("failure_stage", "vmid", "kind", "node", "guest_name")
"""Columns that Question.holds looks at."""


class Question(NamedTuple):
    """Which windows: of one guest, of some or of all, begun at or after an instant, only failed ones."""

    vmid: int | None = None
    since_at: float | None = None
    failed: bool = False
    means: Callable[[Guest], bool] | None = None
    """Whether a guest's windows are wanted; the guest is known by vmid, name and node."""

    def holds(self, row: Mapping[str, Any]) -> bool:
        """Whether a row that was read is wanted: what is not asked in SQL."""
        if self.failed and not row["failure_stage"]:
            return False
        if self.means is None:
            return True
        kind = GuestKind.LXC if row["kind"] == GuestKind.LXC.value else GuestKind.QEMU
        return self.means(Guest(Vmid(row["vmid"]), Node(row["node"] or ""), kind, row["guest_name"] or ""))


def parse_since(text: str, now: float) -> float:
    """``7d``, ``36h``, ``2w``, ``1y`` back from ``now``, or a date or time: local, unless it has an offset.

    ValueError fit for the operator.
    """
    span = _SPAN.match(text)
    if span is not None:
        return now - int(span[1]) * _UNITS[span[2]]
    for form in _DATES:
        try:
            return time.mktime(time.strptime(text, form))
        except (ValueError, OverflowError):
            continue
    for form in _OFFSET_DATES:
        try:
            return datetime.strptime(text, form).timestamp()
        except (ValueError, OverflowError):
            continue
    raise ValueError(f"{text!r} is neither a span (36h, 7d, 2w, 1y) nor a date (2026-01-31, 2026-01-31T03:00)")


def read(path: Path, question: Question, columns: Sequence[str] = COLUMNS) -> Iterator[dict[str, Any]]:
    """The windows' ``columns``, newest first; none before there is a journal. JournalError when it cannot be read."""
    where, values = _condition(question)
    chosen = ", ".join(dict.fromkeys((*columns, "intent_at", "id", *_ASKED)))
    sql = f"""SELECT {chosen} FROM windows WHERE {where} AND (intent_at < ? OR (intent_at = ? AND id < ?))
        AND intent_at <= ? ORDER BY intent_at DESC, id DESC LIMIT {BATCH}"""  # noqa: S608 - names and marks of our own
    # The last condition repeats the first two in a form that SQLite's index by time can use.
    odd = f"SELECT {chosen} FROM windows WHERE {where} AND intent_at >= ''"  # noqa: S608 - a text, which is no instant
    instant, window = float("inf"), "\U0010ffff"
    with closing(JournalReader(path)) as journal:
        yield from journal.checked(journal.query(odd, values))
        while True:
            rows = journal.query(sql, (*values, instant, instant, window, instant))
            # Here and not in SQL: with few failures one batch would otherwise read the whole file.
            yield from (row for row in journal.checked(rows) if question.holds(row))
            if len(rows) < BATCH:
                return
            instant, window = rows[-1]["intent_at"], rows[-1]["id"]


def windows(path: Path, question: Question) -> Iterator[WindowRecord]:
    """The windows as records, newest first. JournalError as for ``read``."""
    return (WindowRecord(**{name: row[name] for name in COLUMNS}) for row in read(path, question))


def open_windows(path: Path, question: Question) -> list[WindowRecord]:
    """Windows that were never closed, whenever they began, whether they failed or not."""
    any_of_them = question._replace(failed=False)
    with closing(JournalReader(path)) as journal:
        found = journal.open_windows(question.vmid)
    return [window for window in found if any_of_them.holds(window._asdict())]


def lines(found: Iterable[WindowRecord]) -> Iterator[str]:
    """A window's line under a head, for a person; below it whose it is, which snapshot, and why it came out so."""
    head = True
    for window in found:
        if head:
            yield _HEAD
            head = False
        yield _LINE.format(
            iso(window.intent_at),
            f"{window.kind}/{window.vmid}",
            window.source,
            seconds(window.window_seconds),
            window.verdict or f"({window.state})",
        ).rstrip()
        yield from folded(plain(_below(window)), _BELOW)


def flat(window: WindowRecord) -> dict[str, object]:
    """The FIELDS of a window."""
    values = {"time": iso(window.intent_at), **window._asdict()}
    return {name: values[name] for name in FIELDS}


def csv_chunks(found: Iterable[WindowRecord]) -> Iterator[str]:
    """CSV with a head, in pieces. A text that a spreadsheet would run as a formula gets a ``'`` in front."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, FIELDS, lineterminator="\n")
    writer.writeheader()
    for window in found:
        writer.writerow({name: _cell(value) for name, value in flat(window).items()})
        yield buffer.getvalue()
        buffer.seek(0)
        buffer.truncate()
    yield buffer.getvalue()


def _cell(value: object) -> object:
    """Some of it was said by a guest's agent: it must not become a formula on an operator's desk."""
    return f"'{value}" if isinstance(value, str) and value.lstrip().startswith(_FORMULA) else value


def seconds(value: float | None) -> str:
    """A duration for a person: three digits that matter."""
    if value is None:
        return "-"
    if value < 1:
        return f"{value * 1000:.0f} ms"
    return f"{value:.2f} s" if value < 10 and value != round(value) else f"{value:.0f} s"


def plain(text: str) -> str:
    """``text`` on one line without control characters: a guest's agent may send anything."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def _condition(question: Question) -> tuple[str, tuple[object, ...]]:
    terms: list[tuple[str, object]] = []
    if question.vmid is not None:
        terms.append(("vmid = ?", question.vmid))
    if question.since_at is not None:
        terms.append(("intent_at >= ?", question.since_at))
    return " AND ".join(term for term, _ in terms) or "1", tuple(value for _, value in terms)


def _below(window: WindowRecord) -> str:
    where = f"{window.guest_name} on {window.node}".strip()
    name = f", snapshot {window.snapshot_name}" if window.snapshot_name else ""
    return f"{where}{name}: {_why(window)}".removesuffix(": ")


def _why(window: WindowRecord) -> str:
    failure = f"[{window.failure_stage}: {window.failure_reason or 'unspecified'}] " if window.failure_stage else ""
    group = f" (group {window.group_id})" if window.group_id else ""
    disk = f" (disk: {window.disk_word})" if window.disk_word else ""
    return f"{failure}{window.reason or _guards_work(window)}{group}{disk}".strip()


def _guards_work(window: WindowRecord) -> str:
    if window.guard_cause is None or window.thawed_at is None:
        return ""
    return f"its guard thawed the guest ({window.guard_cause}); `safe-snapshot recover` closes the window"
