"""What the minute's recovery does at its end: write down what is to be told, and send what waits.

An alarm is told once, and so is its end: in one letter, where it began and ended between two looks. How it is sent:
sending.py.
"""

from __future__ import annotations

import functools
import itertools
import json
from collections.abc import Callable, Sequence
from contextlib import closing

from snapshot.base.clock import Clock
from snapshot.commands.document import ALARM, ALARM_OVER
from snapshot.config.settings import Config
from snapshot.errors import SafeSnapshotError
from snapshot.journal import jobs, outbox
from snapshot.journal.record import new_id
from snapshot.journal.series import local_name
from snapshot.journal.store import Journal
from snapshot.notify import alarms, letter, ways
from snapshot.notify.alarm import Alarm
from snapshot.notify.alarms import Alarms
from snapshot.notify.letter import Change
from snapshot.notify.runs import LOOKED_NOTE
from snapshot.notify.sending import Sending, Tried
from snapshot.notify.ways import Own
from snapshot.pve.https_post import NotSentError
from snapshot.recovery.strangers import Recovered

ATTEMPTS = 3
"""At writing down what another recovery writes down too."""


def after_recovery(
    config: Config,
    open_journal: Callable[[], Journal],
    recovered: Sequence[Recovered] | None,
    clock: Clock,
    own: Own | None = None,
) -> list[str]:
    """Tell what the recovery has found (None: it could not look) and what is written in the journal.

    Lines about what could not be done. Never raises.
    """
    problems: list[str] = []
    is_well = False
    try:
        with closing(open_journal()) as journal:
            beats = (ways.HEARTBEAT,) if config.notify.heartbeat_file else ()
            letter_ways = ways.letter_ways(config, own)
            outbox.forget_other_ways(journal, ways.all_ways(config, own), beats)
            jobs.find_killed(journal, clock.time(), is_wanted=jobs.pings_file(config) is not None)
            if recovered is not None:
                is_well = not write_down(journal, config, recovered, clock.time(), letter_ways)
            sending = Sending(journal, config, clock, own, is_well=is_well)
            problems += [f"notify: {done.way}: {done.detail}" for done in sending.run() if not done.ok]
            if not (ways.is_shared(config) and sending.has_told_failure):  # else a job's failure is over at once
                problems += _beat(journal, config, is_well=is_well, clock=clock)
    except SafeSnapshotError as error:
        problems.append(f"notify: {error}")
        problems += _beat(None, config, is_well=False, clock=clock)
    except Exception as error:  # noqa: BLE001 - whatever it is, no guest depends on it, and its text may hold a secret
        problems.append(f"notify: internal error ({type(error).__name__})")
    return problems


def write_down(
    journal: Journal, config: Config, recovered: Sequence[Recovered], now: float, letter_ways: Sequence[str]
) -> tuple[Alarm, ...]:
    """Write the letter about what has begun or ended since the last one; the alarms that there are. JournalError.

    In one transaction with the mark that it is told: whoever dies when, there is one letter. The journal is not held
    while it is looked at, for a backup may want to write its intent; where another was faster it is looked at again.
    """
    for _ in range(ATTEMPTS):
        before, looked = outbox.told(journal), journal.note(LOOKED_NOTE)
        told = {key: alarm for key, body in before.items() if (alarm := _read(body)) is not None}
        found = alarms.look(journal, config, recovered, tuple(told), now)
        events = list(_events(found, told))
        kept = {alarm.key: alarm for alarm in found.alarms}
        kept |= {key: told[key] for key in found.open if key not in kept}
        letter_id = new_id()
        body = letter.body(letter_id, local_name(), events, now) if events else ""
        with journal.transaction("written") as db:
            if outbox.told(journal) != before or journal.note(LOOKED_NOTE) != looked:
                continue
            db.execute("INSERT OR REPLACE INTO notes VALUES (?, ?, ?)", (LOOKED_NOTE, repr(found.until), now))
            outbox.keep_told(db, before, {key: json.dumps(alarm) for key, alarm in kept.items()}, now)
            if events and letter_ways:
                outbox.put(db, letter_id, letter_ways, body, now)
        break
    return found.alarms


def _events(found: Alarms, told: dict[str, Alarm]) -> list[Change]:
    """What is new, or worse than it was, the worst first; then what has begun and ended, and what has ended."""
    began = [a for a in found.alarms if a.key not in told or a.level > told[a.key].level]
    ended = [Change(ALARM_OVER, told[key], how) for key, how in found.ended.items() if told[key].has_end]
    passed = [(Change(ALARM, alarm), Change(ALARM_OVER, alarm, how)) for alarm, how in found.passed]
    return [*(Change(ALARM, alarm) for alarm in began), *itertools.chain(*passed), *ended]


def _read(body: str) -> Alarm | None:
    """An alarm as it was kept; None for one that makes no sense, which is told anew if it lasts."""
    try:
        alarm = Alarm(*json.loads(body))
    except (ValueError, TypeError, RecursionError):
        return None
    is_whole = isinstance(alarm.level, int) and isinstance(alarm.since_at, int | float)
    return alarm if is_whole and all(isinstance(text, str) for text in (alarm.key, alarm.head, alarm.text)) else None


def _beat(journal: Journal | None, config: Config, *, is_well: bool, clock: Clock) -> list[str]:
    if config.notify.heartbeat_file is None:
        return []
    try:
        ways.beat(config, is_well=is_well, clock=clock)
    except NotSentError as error:
        if journal is not None:
            outbox.note_failing(journal, ways.HEARTBEAT, str(error), clock.time())
        return [f"notify: heartbeat: {error}"]
    if journal is not None:
        outbox.note_works(journal, ways.HEARTBEAT)
    return []


def test(config: Config, clock: Clock) -> list[Tried]:
    """Send one message on each way that is configured, past the outbox."""
    done = send_each(config, letter.test_body(new_id(), local_name(), clock.time()), clock)
    if config.notify.job_heartbeat_file is not None:
        ping = json.dumps({"is_well": True})
        attempt = functools.partial(ways.send_letter, ways.JOBS, config, ping, clock)
        done.append(_tried(ways.JOBS, ways.place(ways.JOBS, config), attempt))
    if config.notify.heartbeat_file is not None:
        beat = functools.partial(ways.beat, config, is_well=True, clock=clock)
        done.append(_tried(ways.HEARTBEAT, ways.place(ways.HEARTBEAT, config), beat))
    return done


def send_each(config: Config, body: str, clock: Clock) -> list[Tried]:
    """Send ``body`` once on each way that takes letters, past the outbox."""
    return [
        _tried(way, ways.place(way, config), functools.partial(ways.send_letter, way, config, body, clock))
        for way in ways.letter_ways(config)
    ]


def _tried(way: str, place: str, attempt: Callable[[], None]) -> Tried:
    try:
        attempt()
    except NotSentError as error:
        return Tried(way, place, False, str(error))
    return Tried(way, place, True, "taken")
