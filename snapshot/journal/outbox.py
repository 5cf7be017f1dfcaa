"""What the administrator was told, and the letters that wait to be sent to him: two tables of the journal.

A letter is written in the transaction that marks its alarms as told, so each is written once, whoever dies when. A
sender claims a letter before it sends it, with its next turn: one that is killed in between leaves it for that turn,
under the same id, by which a receiver knows it again. The letters of one way go in the order in which they were
written: none overtakes one that could not be sent. What is told, and how, is the room snapshot/notify/'s.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from snapshot.base.clock import iso
from snapshot.base.text import counted
from snapshot.journal.record import INSTANT_MAX, printable
from snapshot.journal.store import Journal

FAILING_NOTE = "notify-fails:"
"""Before the name of a way: since when it fails, and why."""
LOST_NOTE = "notify-lost:"
"""Before the name of a way: how many letters were given up, and when the last one was."""

JOBS = "job-heartbeat"
"""The way of those rows that are no letters: a ping that says how a job ended (jobs.py)."""

LETTER_KEYS = ("id", "node", "title", "message", "text")
"""What each letter has, whatever it tells."""

SHOWN_SECONDS = 86400.0
"""How long letters that were given up stay a line in `status`."""


class Letter(NamedTuple):
    """One message on one way."""

    number: int
    id: str
    """The same on each way, and for each attempt."""
    way: str
    at: float
    body: str
    """JSON."""
    attempts: int
    next_at: float


def told(journal: Journal) -> dict[str, str]:
    """What lasts and was told: its key, and the JSON that was kept with it. JournalError."""
    return {str(row["key"]): str(row["body"]) for row in journal.query("SELECT key, body FROM told ORDER BY at, key")}


def keep_told(db: sqlite3.Connection, before: Mapping[str, str], found: Mapping[str, str], at: float) -> None:
    """Inside a transaction: what was told is no more what it was ``before``, but this."""
    db.executemany("DELETE FROM told WHERE key = ?", [(key,) for key in before if key not in found])
    changed = [(key, body, at) for key, body in found.items() if before.get(key) != body]
    db.executemany("INSERT OR REPLACE INTO told VALUES (?, ?, ?)", changed)


def put(db: sqlite3.Connection, letter_id: str, ways: Iterable[str], body: str, at: float) -> None:
    """Inside a transaction: one letter, to be sent on each of ``ways`` now."""
    rows = [(letter_id, way, at, body, 0, at) for way in ways]
    db.executemany("INSERT INTO outbox (id, way, at, body, attempts, next_at) VALUES (?, ?, ?, ?, ?, ?)", rows)


def forget_other_ways(journal: Journal, ways: Sequence[str], notes: Sequence[str]) -> None:
    """What waits for a way that is not configured any more is waited for by nobody. JournalError."""
    waiting = {row["way"] for row in journal.query("SELECT DISTINCT way FROM outbox")}
    noted = {row["key"] for row in journal.query("SELECT key FROM notes WHERE key GLOB 'notify-*'")}
    kept = {f"{note}{way}" for note in (FAILING_NOTE, LOST_NOTE) for way in (*ways, *notes)}
    if waiting <= set(ways) and noted <= kept:
        return
    with journal.transaction("written") as db:
        db.executemany("DELETE FROM outbox WHERE way = ?", [(way,) for way in waiting - set(ways)])
        db.executemany("DELETE FROM notes WHERE key = ?", [(key,) for key in noted - kept])


def first(journal: Journal, way: str) -> Letter | None:
    """The letter whose turn it is on this way. One whose row makes no sense is taken away. JournalError."""
    while True:
        rows = journal.query("SELECT * FROM outbox WHERE way = ? ORDER BY number LIMIT 1", (way,))
        if not rows:
            return None
        letter = Letter(*rows[0])
        times = (letter.at, letter.next_at)
        if all(isinstance(at, int | float) and 0 <= at <= INSTANT_MAX for at in times) and _is_whole(way, letter.body):
            return letter
        give_up(journal, letter, 0.0)


def claim(journal: Journal, letter: Letter, next_at: float) -> bool:
    """Take a letter in hand until ``next_at``; False when another process was first. JournalError."""
    with journal.transaction("written") as db:
        done = db.execute(
            "UPDATE outbox SET attempts = attempts + 1, next_at = ? WHERE number = ? AND id = ? AND attempts = ?",
            (next_at, letter.number, letter.id, letter.attempts),
        )
        return done.rowcount > 0


def put_off(journal: Journal, letter: Letter, next_at: float) -> None:
    """The receiver asks for more time than a claim has. JournalError."""
    with journal.transaction("written") as db:
        db.execute("UPDATE outbox SET next_at = ? WHERE number = ? AND id = ?", (next_at, letter.number, letter.id))


def sent(journal: Journal, letter: Letter) -> None:
    """The receiver has it. JournalError."""
    with journal.transaction("written") as db:
        db.execute("DELETE FROM outbox WHERE number = ? AND id = ?", (letter.number, letter.id))
        db.execute("DELETE FROM notes WHERE key = ?", (FAILING_NOTE + letter.way,))


def give_up(journal: Journal, letter: Letter, now: float) -> None:
    """It could not be sent for too long: `status` says so. JournalError."""
    count = int((_noted(journal, LOST_NOTE + letter.way) or (0, 0))[0]) + 1
    with journal.transaction("written") as db:
        db.execute("DELETE FROM outbox WHERE number = ?", (letter.number,))
        note = json.dumps([count, now])
        db.execute("INSERT OR REPLACE INTO notes VALUES (?, ?, ?)", (LOST_NOTE + letter.way, note, now))


def note_failing(journal: Journal, way: str, why: str, now: float) -> None:
    """A way fails, since now or longer. JournalError."""
    since = (_noted(journal, FAILING_NOTE + way) or (now,))[0]
    journal.set_note(FAILING_NOTE + way, json.dumps([since, why]), now)


def note_works(journal: Journal, way: str) -> None:
    """A way that has no letters works. JournalError."""
    if journal.note(FAILING_NOTE + way) is not None:
        journal.drop_notes(FAILING_NOTE + way)


def lines(journal: Journal, now: float) -> list[str]:
    """A line for each way on which the administrator could not be told, for a person. JournalError."""
    found = []
    for row in journal.query("SELECT key FROM notes WHERE key GLOB 'notify-*' ORDER BY key"):
        note, _, way = str(row["key"]).partition(":")
        values = _noted(journal, row["key"])
        if values is None or len(values) != 2:
            continue
        if f"{note}:" == FAILING_NOTE:
            since, why = float(values[0]), printable(str(values[1]))[:300]
            waiting = len(journal.query("SELECT 1 FROM outbox WHERE way = ?", (way,)))
            what = f" ({counted(waiting, 'message')} waiting)" if waiting else ""
            remedy = "`safe-snapshot notify --test` tries it"
            found.append(f"[notify] nobody is told by {way} since {iso(since)}{what}: {why}; {remedy}")
        elif now - float(values[1]) < SHOWN_SECONDS:
            found.append(
                f"[notify] {counted(int(values[0]), 'message')} could not be sent by {way} for a day and given up, the "
                f"last at {iso(float(values[1]))}: `safe-snapshot history` has what became of the guests"
            )
    return found


def _noted(journal: Journal, key: str) -> list[float] | None:
    """A note's values: the first a number, the second whatever it is; None where there is none that makes sense."""
    try:
        found = json.loads(journal.note(key) or "")
        ok = isinstance(found, list) and isinstance(found[0], int | float) and 0 <= found[0] <= INSTANT_MAX
    except (ValueError, IndexError, RecursionError):
        return None
    return found if ok else None


def _is_whole(way: str, body: object) -> bool:
    """Whether it is a letter that can be sent on every way, or a ping."""
    try:
        found = json.loads(body) if isinstance(body, str) else None
    except (ValueError, RecursionError):
        return False
    if not isinstance(found, dict):
        return False
    if way == JOBS:
        return isinstance(found.get("is_well"), bool)
    return all(isinstance(found.get(key), str) for key in LETTER_KEYS)
