"""What is wrong right now: the alarms that the journal and the minute's recovery know already, each under a key.

Nothing is decided here that is not decided elsewhere: who needs help is what `recover` found, which runs are bad is
runs.py's, the rest are the silences of `status`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from snapshot.config.settings import Config
from snapshot.journal.series import local_name
from snapshot.journal.silence import Silence
from snapshot.journal.silences import found_silent
from snapshot.journal.store import Journal
from snapshot.notify.alarm import BAD, FROZEN, Alarm, named
from snapshot.notify.runs import LOOKED_NOTE, SETTLED_SECONDS, Runs
from snapshot.recovery.strangers import Recovered

HEADS: Mapping[str, str] = {
    "config-broken": "the configuration cannot be used as it is",
    "journal-begun-anew": "a broken journal was begun anew",
    "backup-without-hook": "a backup job ran without vzdump-hook",
    "look-old": "nobody looks at the guests any more",
    "guest-not-known": "nobody knows whether it is frozen",
    "last-run-old": "no guarded backup for too long",
    "never-guarded": "never had a guarded backup",
    "label-missed": "no snapshot of a label for too long",
    "label-left-out": "left out by the last run of a label",
}

_NOT_FROZEN = "it is not frozen any more"

TODO: Mapping[str, str] = {
    "config-broken": "`safe-snapshot check` on {node} names each line that is wrong",
    "journal-begun-anew": "nothing, unless `safe-snapshot status` on {node} names a guest",
    "backup-without-hook": "`grep script /etc/vzdump.conf /etc/pve/jobs.cfg` on {node} shows which hook is called",
    "look-old": "`systemctl status safe-snapshot-recover.timer` on {node}",
    "last-run-old": "`safe-snapshot history {vmid}` on {node}: is the guest in a backup job, and does that run?",
    "never-guarded": "put it into a backup job; `safe-snapshot check {vmid}` on {node} says whether all is ready",
    "guest-not-known": "`safe-snapshot check {vmid}` on {node} asks its agent",
    "label-missed": "`systemctl list-timers 'safe-snapshot*'` on {node}, or on the node that is to take it of {vmid}",
    "label-left-out": "`safe-snapshot list {vmid}` on {node}: take it once what kept it away is over",
}


class Alarms(NamedTuple):
    """One look: the alarms, the worst first, and what became of those that were told before and are none any more."""

    alarms: tuple[Alarm, ...]
    ended: Mapping[str, str]
    """Of an alarm that was told: what is so now. One that is neither here nor in ``open`` has ended without a word: its
    guest is gone, or nothing is known of it any more."""
    open: frozenset[str]
    """Of those that were told: nobody can say yet."""
    passed: Sequence[tuple[Alarm, str]]
    """What began and ended since the last look: an alarm that nobody was told of, and what is so now."""
    until: float
    """Until when that was looked for."""


def look(journal: Journal, config: Config, recovered: Sequence[Recovered], told: Sequence[str], now: float) -> Alarms:
    """What is wrong. ``told``: the keys of what was told and lasts. JournalError."""
    found = [*_frozen(journal, recovered, now), *_silent(journal, config, now)]
    runs = Runs(journal)
    found += runs.alarms(now, told)
    known = {alarm.key for alarm in found}
    ended = {key: how for key in told if key not in known and (how := _how_ended(key, runs)) is not None}
    still = frozenset(key for key in told if key not in known and runs.is_open(key))
    found.sort(key=lambda alarm: (-alarm.level, alarm.since_at))
    until = now - SETTLED_SECONDS
    passed = [pair for pair in runs.passed(journal.note(LOOKED_NOTE), until) if pair[0].key not in (*told, *known)]
    return Alarms(tuple(found), {key: how for key, how in ended.items() if key not in still}, still, passed, until)


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
            over=f"{named(found.vmid, name)}: {_NOT_FROZEN}",
        )


def _silent(journal: Journal, config: Config, now: float) -> Iterator[Alarm]:
    for silence in found_silent(journal, config, now):
        head = HEADS.get(silence.runbook)
        if head is not None:
            yield _of_silence(silence, head, now)


def _of_silence(silence: Silence, head: str, now: float) -> Alarm:
    look = silence.look
    todo = TODO[silence.runbook].format(vmid=look.vmid if look else "", node=look.node if look else local_name())
    return Alarm(
        silence.key,
        BAD,
        f"{named(look.vmid, look.name)}: {head}" if look else head,
        silence.line,
        f"{todo}; the runbook {silence.runbook}",
        now if silence.since_at is None else silence.since_at,
        {"vmid": look.vmid, "name": look.name, "node": look.node} if look else None,
        silence.has_end,
    )


def _how_ended(key: str, runs: Runs) -> str | None:
    if key.startswith("run:"):
        return runs.how_ended(key)
    return _NOT_FROZEN if key.startswith("frozen:") else "it is over"
