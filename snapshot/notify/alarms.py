"""What is wrong right now: the alarms that the journal and the minute's recovery know already, each under a key.

Nothing is decided here that is not decided elsewhere: who needs help is what `recover` found, a bad run is the one
whose failure the metrics show (families.LAST_FAILURE), the rest are the silences of `status`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from snapshot.base.procfs import process_lives
from snapshot.config.settings import Config
from snapshot.journal import families
from snapshot.journal.record import WindowRecord, has_ended
from snapshot.journal.series import Series, labels_of
from snapshot.journal.silences import Silence, found_silent
from snapshot.journal.store import Journal
from snapshot.model import Upid, VerdictKind
from snapshot.recovery.strangers import Recovered
from snapshot.words import Word

BAD, WORSE, FROZEN = 1, 2, 3
"""Levels: something is not as it should be; there is no backup at all; a guest stands still."""

_RUNBOOKS = {"guard": "guard-not-armed", "thaw": "thaw-failed", "snapshot": "not-consistent-since"}
_RUNBOOK = "freeze-failed"
_WITHOUT = ("preflight", "snapshot")
"""The stages at which a run of unknown worth came to nothing."""

_HEADS: Mapping[str, str] = {
    "config-broken": "the configuration cannot be used as it is",
    "journal-begun-anew": "a broken journal was begun anew",
    "backup-without-hook": "a backup job ran without vzdump-hook",
    "look-old": "nobody looks at the guests any more",
    "last-run-old": "no guarded backup for too long",
    "never-guarded": "never had a guarded backup",
    "guest-not-known": "nobody knows whether it is frozen",
}
_RUNS = {"vzdump": "backup"}
_NEWEST = 50
"""Of a guest's windows: its newest run is among them."""


class Alarm(NamedTuple):
    """Something that is wrong."""

    key: str
    level: int
    head: str
    """A few words, for a mail's subject."""
    text: str
    """What happened."""
    todo: str
    """What to do about it."""
    since_at: float
    guest: Mapping[str, object] | None = None
    """``vmid``, ``name`` and ``node``, where it is one's."""
    has_end: bool = True
    """An event is told once, and its end is none."""


class Alarms(NamedTuple):
    """One look: the alarms, the worst first, and what became of those that were told before and are none any more."""

    alarms: tuple[Alarm, ...]
    ended: Mapping[str, str]
    """Of an alarm that was told: what is so now. One that is neither here nor in ``open`` has ended without a word: its
    guest is gone, or nothing is known of it any more."""
    open: frozenset[str]
    """Of those that were told: nobody can say yet."""


def look(journal: Journal, config: Config, recovered: Sequence[Recovered], told: Sequence[str], now: float) -> Alarms:
    """What is wrong. ``told``: the keys of what was told and lasts. JournalError."""
    found = [*_frozen(journal, recovered, now), *_silent(journal, config, now)]
    runs = _Runs(journal)
    found += runs.alarms(now)
    known = {alarm.key for alarm in found}
    ended = {key: how for key in told if key not in known and (how := _how_ended(key, runs)) is not None}
    still = frozenset(key for key in told if key not in known and runs.is_open(key))
    found.sort(key=lambda alarm: (-alarm.level, alarm.since_at))
    return Alarms(tuple(found), {key: how for key, how in ended.items() if key not in still}, still)


def named(vmid: int, name: str) -> str:
    """A guest, for a person."""
    return f"guest {vmid} ({name})" if name else f"guest {vmid}"


def _frozen(journal: Journal, recovered: Sequence[Recovered], now: float) -> Iterator[Alarm]:
    """Guests that `recover` could not help: what its exit code 8 is about."""
    windows = {window.id: window for window in journal.open_windows()}
    for found in recovered:
        if found.ok:
            continue
        window = windows.get(found.window_id or "")
        name, since_at = (window.guest_name, window.frozen_at or window.intent_at) if window else ("", now)
        node = found.node
        yield Alarm(
            f"frozen:{found.vmid}",
            FROZEN,
            f"{named(found.vmid, name)} MAY STILL BE FROZEN",
            f"{named(found.vmid, name)} on {node}: {found.detail}",
            f"`safe-snapshot thaw {found.vmid}` on {node}, now; then the runbook guest-still-frozen",
            since_at,
            {"vmid": found.vmid, "name": name, "node": node},
        )


def _silent(journal: Journal, config: Config, now: float) -> Iterator[Alarm]:
    for silence in found_silent(journal, config, now):
        head = _HEADS.get(silence.runbook)
        if head is not None:
            yield _of_silence(silence, head, now)


def _of_silence(silence: Silence, head: str, now: float) -> Alarm:
    look = silence.look
    return Alarm(
        silence.key,
        BAD,
        f"{named(look.vmid, look.name)}: {head}" if look else head,
        silence.line,
        f"the runbook {silence.runbook}",
        now if silence.since_at is None else silence.since_at,
        {"vmid": look.vmid, "name": look.name, "node": look.node} if look else None,
        silence.has_end,
    )


class _Runs:
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

    def alarms(self, now: float) -> Iterator[Alarm]:
        """The runs that failed; those of a job that still runs come with its end, all in one letter."""
        for key, row in self._failures.items():
            window = self._window(key)
            if window is not None and is_of_living_job(window):
                continue
            yield self._alarm(key, row, window, now)

    def _alarm(self, key: str, row: Series, window: WindowRecord | None, now: float) -> Alarm:
        labels = labels_of(row.labels)
        name = window.guest_name if window is not None else ""
        verdict, stage = self._verdicts.get(key, VerdictKind.UNKNOWN.value), labels["stage"]
        what = _RUNS.get(row.source, row.source)
        is_unknown = verdict == VerdictKind.UNKNOWN.value
        is_none = is_unknown and stage in _WITHOUT
        worth = "failed" if is_none else "is not proven consistent" if is_unknown else f"is {verdict} only"
        why = (window.reason if window is not None else "") or _sentence(labels["reason"])
        check = f"`safe-snapshot check {row.vmid}` on {row.node} says what is missing"
        return Alarm(
            key,
            WORSE if is_none else BAD,
            f"{named(row.vmid, name)}: {what} {worth}",
            f"{named(row.vmid, name)} on {row.node}: its last {what} {worth}: {why}",
            f"{check}; the runbook {_RUNBOOKS.get(stage, _RUNBOOK)}",
            _ended_at(window, now),
            {"vmid": row.vmid, "name": name, "node": row.node},
        )

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


def _how_ended(key: str, runs: _Runs) -> str | None:
    if key.startswith("run:"):
        return runs.how_ended(key)
    return "it is not frozen any more" if key.startswith("frozen:") else "it is over"


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
