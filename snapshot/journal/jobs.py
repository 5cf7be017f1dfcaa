"""How backup jobs and runs of `safe-snapshot` ended: each leaves a ping in the outbox, which the next recovery sends.

Nothing is sent here, and whoever writes it holds no guest. A job's note says how it ended, so that it leaves one ping,
however often it is said; one that was killed says nothing, and is found by the recovery.
"""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import NamedTuple

from snapshot.base.procfs import process_lives
from snapshot.config.settings import Config
from snapshot.journal import outbox
from snapshot.journal.silences import BEGUN, JOB_NOTE
from snapshot.journal.store import Journal

WELL, FAILED = "well", "failed"
"""What a job's note says once it has ended."""


def pings_file(config: Config) -> Path | None:
    """Where it is told how a job ended: a place of its own, else where the recovery's heartbeat goes; None: nowhere."""
    return config.notify.job_heartbeat_file or config.notify.heartbeat_file


class WorkersJob(NamedTuple):
    """A vzdump worker, and what the journal calls its job."""

    pid: int
    start: int
    id: str

    @property
    def note(self) -> str:
        """The name of its note."""
        return f"{JOB_NOTE}{self.pid}:{self.start}"


def job_ended(db: sqlite3.Connection, job: WorkersJob, at: float, *, is_well: bool, is_wanted: bool) -> None:
    """Inside a transaction: a backup job has ended. One that failed after it had ended well has failed.

    ``is_wanted``: somebody is to be told.
    """
    found = db.execute("SELECT value FROM notes WHERE key = ?", (job.note,)).fetchone()
    word = WELL if is_well else FAILED
    if found is not None and found[0] in (word, FAILED):
        return
    db.execute("INSERT OR REPLACE INTO notes VALUES (?, ?, ?)", (job.note, word, at))
    if is_wanted:
        db.execute("DELETE FROM outbox WHERE id = ? AND way = ? AND attempts = 0", (job.id, outbox.JOBS))
        _put(db, job.id, at, is_well=is_well)


def run_ended(journal: Journal, run_id: str, at: float, *, is_well: bool) -> None:
    """A run of `safe-snapshot` has ended. JournalError."""
    with journal.transaction("written") as db:
        _put(db, run_id, at, is_well=is_well)


def find_killed(journal: Journal, now: float, *, is_wanted: bool) -> None:
    """Jobs that have begun and are gone without a word have failed. JournalError.

    Of one that another has followed since nobody is told: that one's end says how things are.
    """
    found = journal.query("SELECT key, value, at FROM notes WHERE key GLOB ?", (f"{JOB_NOTE}*",))
    ended_at = max((row["at"] for row in found if row["value"] in (WELL, FAILED)), default=0.0)
    killed = [(row["key"], row["at"]) for row in found if row["value"] == BEGUN and _is_gone(row["key"])]
    if not killed:
        return
    with journal.transaction("written") as db:
        for key, at in killed:
            mark = "UPDATE notes SET value = ?, at = ? WHERE key = ? AND value = ?"
            is_first = db.execute(mark, (FAILED, now, key, BEGUN)).rowcount > 0
            if is_first and is_wanted and at >= ended_at:
                _put(db, str(key), now, is_well=False)


def _is_gone(key: str) -> bool:
    try:
        pid, start = map(int, key.removeprefix(JOB_NOTE).split(":"))
    except ValueError:
        return False
    return start > 0 and not process_lives(pid, start)  # 0: whose it is was not found


def _put(db: sqlite3.Connection, name: str, at: float, *, is_well: bool) -> None:
    outbox.put(db, name, (outbox.JOBS,), json.dumps({"is_well": is_well}), at)
