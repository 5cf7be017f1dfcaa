"""The alarms of runs: a backup or a snapshot that is worth less than it should be, until the next good one.

A bad run is the one whose failure the metrics show (families.LAST_FAILURE).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import NamedTuple

from snapshot.base.procfs import process_lives
from snapshot.journal import families
from snapshot.journal.record import INSTANT_MAX, WindowRecord, has_ended, measured_seconds
from snapshot.journal.series import Series, labels_of
from snapshot.journal.store import Journal
from snapshot.model import Upid, VerdictKind
from snapshot.notify.alarm import BAD, WORSE, Alarm, named
from snapshot.words import Word

HELD_BACK_SECONDS = 12 * 3600.0
"""How long a failure may wait for the end of its job, for all of them to come in one letter."""

LOOKED_NOTE = "told-until"
"""Until when the journal was looked through for what began and ended between two looks."""

SETTLED_SECONDS = 10.0
"""How long a window that was closed may take to stand in the journal."""

_BEFORE_SECONDS = 2 * 86400.0
"""How long before its end a run may have begun to be found."""

_NEWEST = 50
"""Of a guest's windows: its newest run is among them."""

_RUNBOOKS = {
    "guard": "guard-not-armed",
    "thaw": "thaw-failed",
    "snapshot": "not-consistent-since",
    "disk": "disk-contradicts",
}
_RUNBOOK = "freeze-failed"
_WITHOUT = ("preflight", "snapshot")
"""The stages at which a run of unknown worth came to nothing."""
_RUNS = {"vzdump": "backup"}


class _Bad(NamedTuple):
    """A run that failed."""

    key: str
    vmid: int
    node: str
    source: str
    verdict: str
    stage: str
    why: str
    which: str = "its last"


class Runs:
    """The last run of each guest from each source, as the metrics have it."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._here = set(journal.looks())
        self._failures: dict[str, Series] = {}
        self._verdicts: dict[str, str] = {}
        self._newest: dict[str, WindowRecord | None] = {}
        for row in journal.series():
            key = f"run:{row.id}:{row.source}"
            if self._here and row.id not in self._here:
                continue  # removed, or on another node, whose journal has its next run
            if row.name == families.LAST_FAILURE.name and row.value:
                self._failures[key] = row
            elif row.name == families.LAST_VERDICT.name and row.value:
                self._verdicts[key] = labels_of(row.labels)["verdict"]

    def alarms(self, now: float, told: Collection[str]) -> Iterator[Alarm]:
        """The runs that failed; those of a job that still runs come with its end, all in one letter."""
        waiting: dict[str, list[Alarm]] = {}
        for key, row in self._failures.items():
            window = self._window(key)
            labels = labels_of(row.labels)
            why = (window.reason if window is not None else "") or _sentence(labels["reason"])
            verdict = self._verdicts.get(key, VerdictKind.UNKNOWN.value)
            bad = _Bad(key, row.vmid, row.node, row.source, verdict, labels["stage"], why)
            alarm = _alarm(bad, window, now)
            if window is not None and is_of_living_job(window):
                waiting.setdefault(window.upid or "", []).append(alarm)
            else:
                yield alarm
        for alarms in waiting.values():
            if any(now - alarm.since_at > HELD_BACK_SECONDS for alarm in alarms if alarm.key not in told):
                yield from alarms

    def passed(self, note: str | None, until: float) -> Iterator[tuple[Alarm, str]]:
        """Of each run that is good now the newest failure since the look that left ``note``, and what is so now.

        One that is the newest run itself is no matter of the past.
        """
        since = _instant(note)
        if since is None or since > until:  # the first look, or a clock that went back
            return
        seen: set[str] = set()
        for window in self._journal.history(since_at=since - _BEFORE_SECONDS, failed=True):
            key = f"run:{window.kind}/{window.vmid}:{window.source}"
            how = self.how_ended(key)
            newest = self._window(key) if how is not None and key not in self._failures else None
            # One that waited for a late freeze was judged, and told, before it was closed.
            is_new = window.closed_at is not None and since < window.closed_at <= until and not window.quiet_until_at
            if how is None or newest is None or newest.id == window.id or key in seen or not is_new:
                continue
            seen.add(key)
            verdict = window.verdict or VerdictKind.UNKNOWN.value
            bad = _Bad(
                key,
                window.vmid,
                window.node,
                window.source,
                verdict,
                window.failure_stage or "",
                window.reason or _sentence(window.failure_reason or ""),
                "an earlier",
            )
            if verdict not in families.CONSISTENT_VERDICTS:
                yield _alarm(bad, window, until), how

    def is_open(self, key: str) -> bool:
        """Whether an alarm that was told is about a guest whose next run belongs to a job that still runs."""
        if key not in self._verdicts:
            return False
        window = self._window(key)
        return window is not None and is_of_living_job(window)

    def how_ended(self, key: str) -> str | None:
        """What the run that was told is followed by; None where nothing is known of the guest any more."""
        verdict = self._verdicts.get(key)
        if verdict is None:
            return None
        window = self._window(key)
        why = f": {window.reason}" if window is not None and window.reason else ""
        return f"good again: its last {_RUNS.get(key.rpartition(':')[2], 'snapshot')} is {verdict}{why}"

    def _window(self, key: str) -> WindowRecord | None:
        """The newest run that has ended."""
        if key not in self._newest:
            _, guest, source = key.split(":", 2)
            vmid = int(guest.partition("/")[2])
            windows = self._journal.history(vmid=vmid, limit=_NEWEST)
            self._newest[key] = next((w for w in windows if w.source == source and has_ended(w)), None)
        return self._newest[key]


def _alarm(bad: _Bad, window: WindowRecord | None, now: float) -> Alarm:
    name = window.guest_name if window is not None else ""
    what = _RUNS.get(bad.source, bad.source)
    is_unknown = bad.verdict == VerdictKind.UNKNOWN.value
    is_none = is_unknown and bad.stage in _WITHOUT
    worth = "failed" if is_none else "is not proven consistent" if is_unknown else f"is {bad.verdict} only"
    todo = f"`safe-snapshot check {bad.vmid}` on {bad.node} says what is missing"
    if bad.stage == "snapshot":
        todo = f"`safe-snapshot history {bad.vmid}` on {bad.node}, and PVE's log of that task, say why"
    if bad.stage == "disk":
        todo = f"`safe-snapshot verify {bad.vmid} <snapshot>` on {bad.node} says which filesystem was in use"
    return Alarm(
        bad.key,
        WORSE if is_none else BAD,
        f"{named(bad.vmid, name)}: {what} {worth}",
        f"{named(bad.vmid, name)} on {bad.node}: {bad.which} {what} {worth}: {bad.why}{_frozen_for(window)}",
        f"{todo}; the runbook {_RUNBOOKS.get(bad.stage, _RUNBOOK)}",
        _ended_at(window, now),
        {"vmid": bad.vmid, "name": name, "node": bad.node},
        over=f"{named(bad.vmid, name)}: {what} is good again",
    )


def _frozen_for(window: WindowRecord | None) -> str:
    """That a guest stood still for longer than it may, though it does not any more."""
    seconds = measured_seconds(window) if window is not None else None
    if window is None or seconds is None or not 0 < window.deadline_at - window.intent_at < seconds:
        return ""
    long = f"{seconds / 60:.0f} min" if seconds >= 120 else f"{seconds:.0f} s"
    return f"; it was frozen for {long}"


def is_of_living_job(window: WindowRecord) -> bool:
    """Whether the vzdump worker runs in whose job this window is (Worker.job in vzdump_hooks/tasklog/worker.py)."""
    if window.source != "vzdump" or not window.upid:
        return False
    try:
        if window.upid.startswith("worker:"):
            pid, start = map(int, window.upid.split(":")[1:])
        else:
            upid = Upid.parse(window.upid)
            pid, start = upid.pid, upid.pstart
    except ValueError:
        return False
    return process_lives(pid, start)


def _ended_at(window: WindowRecord | None, now: float) -> float:
    if window is None:
        return now
    return window.closed_at or window.thawed_at or window.intent_at


def _sentence(reason: str) -> str:
    return next((word.sentence for word in Word if word.value == reason), reason)


def _instant(note: str | None) -> float | None:
    try:
        found = float(note or "")
    except ValueError:
        return None
    return found if 0 <= found <= INSTANT_MAX else None
