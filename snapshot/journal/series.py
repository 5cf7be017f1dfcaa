"""From a change of one window in the journal to the metric series, inside the journal's own transaction.

Standard library only: hook phases import this through the journal. The ``series`` table holds what is exported in
O(guests), so metrics never read the history. Counters only grow. What a window has contributed is remembered with the
window itself (column ``counted``), so that no rewriting of a row, by whoever and however often, counts twice.

The journal calls ``apply`` after it wrote a row, in the same transaction, with the record before and after.
"""

from __future__ import annotations

import functools
import json
import math
import os
import sqlite3
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple, cast

from snapshot.journal import families
from snapshot.journal.families import BUCKETS_SECONDS, CONSISTENT_VERDICTS, HOOK_PHASES, word
from snapshot.journal.family import GUEST_LABELS
from snapshot.journal.newcounters import NEW
from snapshot.journal.record import OPEN, WindowRecord, has_ended, is_drill, measured_seconds, printable, was_sent
from snapshot.model import VerdictKind

if TYPE_CHECKING:
    from snapshot.model import Guest

INTENT = "_last_intent"
"""Not exported: the instant of the newest intent, so that an old window's late news do not replace a newer run's."""

BUCKET = families.WINDOW.name + "_bucket"
SUM = families.WINDOW.name + "_sum"
COUNT = families.WINDOW.name + "_count"


class Series(NamedTuple):
    """One row of the table ``series``."""

    name: str
    id: str
    vmid: int
    node: str
    source: str
    labels: str
    """What there is beside the guest's own labels: a JSON object, or "" for none."""
    value: float
    seen_at: float


_LABELS = {
    BUCKET: frozenset({"le"}),
    **{family.name: frozenset(family.labels) - frozenset(GUEST_LABELS) for family in families.FAMILIES},
}
"""What a row's labels must be, by its name."""


@functools.lru_cache(maxsize=4096)
def labels_of(text: str) -> Mapping[str, str]:
    """A row's own labels. ValueError for anything but a JSON object of texts."""
    found = json.loads(text) if text else {}
    if not isinstance(found, dict) or not all(isinstance(value, str) for value in found.values()):
        raise ValueError(f"labels cannot be {text[:60]!r}")
    return found


def series_of(row: Sequence[object]) -> Series:
    """A row of the table, checked. ValueError that says what is odd."""
    for value, kind, column in zip(row, (str, str, int, str, str, str), Series._fields, strict=False):
        if type(value) is not kind:
            raise ValueError(f"{column} cannot be {printable(repr(value))[:60]}")
    for value, column in zip(row[6:], Series._fields[6:], strict=True):
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise ValueError(f"{column} cannot be {printable(repr(value))[:60]}")
    found = Series(*cast("tuple[str, str, int, str, str, str, float, float]", row))
    labels = frozenset(labels_of(found.labels))
    if labels != _LABELS.get(found.name, labels):
        raise ValueError(f"labels cannot be {printable(found.labels)[:60]!r}")
    return found._replace(id=printable(found.id), node=printable(found.node), source=printable(found.source))


OF_THE_LAST_RUN = (
    families.LAST_WINDOW.name,
    families.LAST_FREEZE.name,
    families.LAST_THAW.name,
    families.WINDOW_LIMIT.name,
    families.LAST_RUN.name,
    families.LAST_SUCCESS.name,
    families.LAST_CONSISTENT.name,
    families.LAST_VERDICT.name,
    families.LAST_DISK_WORD.name,
    families.LAST_FAILURE.name,
    families.FILESYSTEMS.name,
    families.GUEST_INFO.name,
)
"""Gauges that move with a guest to another node; counters stay where they were counted."""


_WITHOUT_AGENT = frozenset({"offline", "crash-consistent"})
"""Verdicts of runs without a failure in which no agent had a part."""


def apply(db: sqlite3.Connection, before: WindowRecord | None, after: WindowRecord) -> None:
    """Bring the series up to date with one window's change. Raises sqlite3.Error only; counts nothing twice."""
    if after.is_foreign or is_drill(after):
        return  # no run of ours, and no failure of one: what it is shows while it is open
    row = db.execute("SELECT counted FROM windows WHERE id = ?", (after.id,)).fetchone()
    old = (row[0] if row is not None else None) or "{}"
    marks: dict[str, float] = json.loads(old)
    at = _instant(after)
    series = _Series(db, (_id(after), after.vmid, after.node, after.source), at)
    newest = _newest_intent(db, after)
    # A window that begins now is the newest, whatever a clock that was wrong at the time said of the one before.
    if before is None or newest is None or after.intent_at >= newest:
        if before is None or before.node != after.node:
            _move_here(db, after)
        series.put(INTENT, after.intent_at)
        _gauges(series, after, marks)
    else:
        series.put(INTENT, newest)  # still seen
    if has_ended(after) and _needed_no_agent(after):
        # It may never be asked again: an older "down" would stay, and its alert.
        db.execute("DELETE FROM series WHERE name = ? AND id = ? AND value = 0", (families.AGENT_UP.name, _id(after)))
    _counters(series, after, marks)
    new = json.dumps(marks, separators=(",", ":"))
    if new != old:
        db.execute("UPDATE windows SET counted = ? WHERE id = ?", (new, after.id))


def hook_error(db: sqlite3.Connection, phase: str, node: str = "") -> None:
    """Count one hook phase that ended with an error of ours; on this machine unless ``node`` says otherwise."""
    node = node or local_name()
    labels = json.dumps({"phase": phase if phase in HOOK_PHASES else "other"})
    _Series(db, ("", 0, node, ""), 0.0).add(families.HOOK_ERRORS.name, 1, labels)


def agent_seen(db: sqlite3.Connection, guest: Guest, up: bool, at: float) -> None:
    """Record whether the guest's agent answered at the instant ``at``; what other nodes' rows said is forgotten."""
    name = families.AGENT_UP.name
    db.execute("DELETE FROM series WHERE name = ? AND id = ? AND node <> ?", (name, guest.id, guest.node))
    _Series(db, (guest.id, guest.vmid, guest.node, ""), at).put(name, float(up))


def forget(db: sqlite3.Connection, before_at: float) -> None:
    """Drop the series of guests without news since ``before_at``, as a whole; not hook errors, nor open windows'."""
    db.execute(
        f"""DELETE FROM series WHERE id <> '' AND (id, node, source) IN
             (SELECT id, node, source FROM series GROUP BY id, node, source HAVING max(seen_at) < ?
              EXCEPT SELECT kind || '/' || vmid, node, source FROM windows WHERE {OPEN})""",  # noqa: S608 - a constant
        (before_at,),
    )


def drop_odd(db: sqlite3.Connection) -> None:
    """Take rows away that make no sense."""
    for row in db.execute("SELECT * FROM series").fetchall():
        try:
            series_of(tuple(row))
        except ValueError:
            db.execute(
                "DELETE FROM series WHERE name = ? AND id = ? AND node = ? AND source = ? AND labels = ?",
                [row[column] for column in ("name", "id", "node", "source", "labels")],
            )


def edge_label(seconds: float) -> str:
    """A bucket's ``le`` as Go writes it: node_exporter and Pushgateway would change ``1.0``, and make other series."""
    return "+Inf" if math.isinf(seconds) else f"{seconds:g}"


def local_name() -> str:
    """This machine's node name: PVE's is the host name without its domain."""
    return os.uname().nodename.partition(".")[0]


def _upsert(new_value: str) -> str:
    return f"""INSERT INTO series (name, id, vmid, node, source, labels, value, seen_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?)
        ON CONFLICT (name, id, node, source, labels) DO UPDATE
        SET value = {new_value}, vmid = excluded.vmid, seen_at = max(series.seen_at, excluded.seen_at)"""  # noqa: S608 - three constants


_REPLACE = _upsert("excluded.value")
_ADD = _upsert("series.value + excluded.value")
_MAX = _upsert("max(series.value, excluded.value)")


class _Series:
    """The rows of one guest on one node from one source."""

    def __init__(self, db: sqlite3.Connection, row: tuple[str, int, str, str], at: float) -> None:
        guest, _, node, source = row
        self._db = db
        self._key = (guest, node, source)
        self._row = row
        self._at = at

    def get(self, name: str, labels: str = "") -> float | None:
        found = self._db.execute(
            "SELECT value FROM series WHERE name = ? AND id = ? AND node = ? AND source = ? AND labels = ?",
            (name, *self._key, labels),
        ).fetchone()
        return None if found is None else float(found[0])

    def put(self, name: str, value: float, labels: str = "") -> None:
        self._write(name, value, labels, _REPLACE)

    def add(self, name: str, value: float, labels: str = "") -> None:
        self._write(name, value, labels, _ADD)

    def add_one(self, name: str, labels: str) -> None:
        """Count one of a counter that has a series only for what was met."""
        if self.get(name, labels) is None:
            self.put(NEW + name, 0, labels)
        self.add(name, 1, labels)

    def put_max(self, name: str, value: float) -> None:
        self._write(name, value, "", _MAX)

    def drop(self, name: str) -> None:
        self._db.execute("DELETE FROM series WHERE name = ? AND id = ? AND node = ? AND source = ?", (name, *self._key))

    def _write(self, name: str, value: float, labels: str, statement: str) -> None:
        self._db.execute(statement, (name, *self._row, labels, value, self._at))


def _counters(series: _Series, record: WindowRecord, marks: dict[str, float]) -> None:
    if was_sent(record) and not marks.get("attempt"):
        marks["attempt"] = 1
        series.add(families.ATTEMPTS.name, 1)
    if record.failure_stage is not None and not marks.get("failure"):
        marks["failure"] = 1
        series.add_one(families.FAILURES_TOTAL.name, _failure(record))
    if record.guard_cause is not None and not marks.get("guard"):
        marks["guard"] = 1
        series.add_one(families.GUARD_THAWS.name, json.dumps({"cause": word(record.guard_cause)}))
    _add_growth(series, families.THAW_RETRIES.name, marks, "retries", (record.thaw_attempts or 1) - 1)
    _add_growth(series, families.LATE_FREEZES.name, marks, "late", record.late_freezes)
    seconds = measured_seconds(record)
    if seconds is not None and not marks.get("window"):
        marks["window"] = 1
        edge = next((bucket for bucket in BUCKETS_SECONDS if seconds <= bucket), math.inf)
        series.add(BUCKET, 1, json.dumps({"le": edge_label(edge)}))
        series.add(SUM, seconds)
        series.add(COUNT, 1)
        series.put_max(families.MAX_WINDOW.name, seconds)


def _add_growth(series: _Series, name: str, marks: dict[str, float], mark: str, value: int) -> None:
    counted = marks.get(mark, 0)
    if value > counted:
        marks[mark] = value
        series.add(name, value - counted)


def _gauges(series: _Series, record: WindowRecord, marks: dict[str, float]) -> None:
    if record.guest_name:
        series.drop(families.GUEST_INFO.name)
        series.put(families.GUEST_INFO.name, 1, json.dumps({"name": record.guest_name}))
    seconds = measured_seconds(record)
    if seconds is not None:
        series.put(families.LAST_WINDOW.name, seconds)
    if record.freezing_seconds is not None:
        series.put(families.LAST_FREEZE.name, record.freezing_seconds)
    if record.thawing_seconds is not None:
        series.put(families.LAST_THAW.name, record.thawing_seconds)
    if record.filesystems_frozen is not None:
        series.put(families.FILESYSTEMS.name, record.filesystems_frozen)
    if record.deadline_at > record.intent_at:
        series.put(families.WINDOW_LIMIT.name, record.deadline_at - record.intent_at)
    if record.failure_stage is not None or has_ended(record):
        series.drop(families.LAST_FAILURE.name)
    if record.failure_stage is not None:
        series.put(families.LAST_FAILURE.name, 1, _failure(record))
    if record.verdict is not None:
        series.drop(families.LAST_VERDICT.name)
        series.put(families.LAST_VERDICT.name, 1, json.dumps({"verdict": word(record.verdict)}))
    if has_ended(record):
        series.drop(families.LAST_DISK_WORD.name)
        if record.disk_word is not None:
            series.put(families.LAST_DISK_WORD.name, 1, json.dumps({"word": word(record.disk_word)}))
        ended_at = marks.setdefault("ended", _instant(record))
        series.put(families.LAST_RUN.name, ended_at)
        # One that was taken again has neither failed nor come to anything.
        succeeded = record.failure_stage is None and record.verdict != VerdictKind.UNKNOWN.value
        _reached(series, families.LAST_SUCCESS.name, marks, "success", succeeded)
        _reached(series, families.LAST_CONSISTENT.name, marks, "consistent", record.verdict in CONSISTENT_VERDICTS)


def _reached(series: _Series, name: str, marks: dict[str, float], mark: str, reached: bool) -> None:
    """Advance a "last time that" to this run, and take it back when the run is judged again and worse."""
    earlier = marks.get(mark)
    if reached and earlier is None:
        marks[mark] = series.get(name) or 0.0
        series.put(name, marks["ended"])
    elif not reached:
        series.put(name, marks.pop(mark) if earlier is not None else series.get(name) or 0.0)


def _newest_intent(db: sqlite3.Connection, record: WindowRecord) -> float | None:
    """The newest intent for this guest from this source, on whichever node the guest was."""
    (newest,) = db.execute(
        "SELECT max(value) FROM series WHERE name = ? AND id = ? AND source = ?", (INTENT, _id(record), record.source)
    ).fetchone()
    return None if newest is None else float(newest)


def _move_here(db: sqlite3.Connection, record: WindowRecord) -> None:
    """A guest that has moved takes its gauges along: none stays behind on the node where this journal saw it last."""
    names = ", ".join("?" * len(OF_THE_LAST_RUN))
    guest = (_id(record), record.source, record.node)
    db.execute(
        f"UPDATE OR REPLACE series SET node = ? WHERE name IN ({names}) AND id = ? AND source = ? AND node <> ?",  # noqa: S608 - marks
        (record.node, *OF_THE_LAST_RUN, *guest),
    )
    db.execute(
        "UPDATE series SET value = ? WHERE name = ? AND id = ? AND source = ? AND node <> ?",
        (record.intent_at, INTENT, *guest),
    )


def _needed_no_agent(record: WindowRecord) -> bool:
    """Whether the run went as it should without the guest's agent: shut down, or not to be frozen."""
    return record.failure_stage is None and record.verdict in _WITHOUT_AGENT


def _id(record: WindowRecord) -> str:
    return f"{record.kind}/{record.vmid}"


def _failure(record: WindowRecord) -> str:
    return json.dumps({"stage": word(record.failure_stage), "reason": word(record.failure_reason)})


def _instant(record: WindowRecord) -> float:
    """The newest instant the record knows: what is counted from the journal has no clock of its own."""
    known = (record.intent_at, record.frozen_at, record.thawed_at, record.closed_at)
    return max(instant for instant in known if instant is not None)
