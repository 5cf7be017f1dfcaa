"""The plan that backup-start leaves for the later phases of a guest's backup, and which windows are this backup's.

Both stand in the journal: the plan in its notes, and with it where the job's earlier backup of the guest ended.
"""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from itertools import takewhile
from typing import NamedTuple

from snapshot.base.clock import SystemClock
from snapshot.config.settings import Config, FreezeOwner
from snapshot.errors import JournalError
from snapshot.journal.file import patiently
from snapshot.journal.record import WindowRecord
from snapshot.journal.store import Journal
from snapshot.model import Policy
from vzdump_hooks.settings import open_journal
from vzdump_hooks.tasklog.worker import Worker

STALE_SECONDS = 7 * 86400.0
"""A plan that is older was left by a job that was killed."""

CLOCK_SECONDS = 86400.0
"""How far the clock may have gone back since the job began: a window is told by its UPID, this only finds it fast."""

NEVER = "policy never"


class Plan(NamedTuple):
    """backup-start's decision about a guest. ``obstacle``: why we will not freeze it, "" when we will."""

    policy: Policy
    owner: FreezeOwner
    freeze_timeout_seconds: float
    max_window_seconds: float
    obstacle: str = ""
    obstacle_name: str = ""
    """The check that found the obstacle, as a word for the journal; "" for a policy, and without one."""
    chosen: bool = False
    """The obstacle is the operator's own choice: nothing to warn of."""
    left_alone: bool = False
    """The options that PVE goes by now keep it from freezing, too: nobody freezes, so nobody has to watch."""
    found_frozen: bool = False
    """Somebody else has frozen the guest, and it is left so."""
    at_the_knock: bool = False
    """We freeze only when vzdump asks for the agent, where the guest's freezes are short."""
    unclear: bool = False
    """The holder ended without a word in post-restart: a freeze of its may still come."""
    at: float = 0.0


def plan_without_preflight(config: Config, vmid: int) -> Plan:
    """The plan where backup-start could not make one. Rules by tag and pool need PVE's word and are not known here."""
    settings = config.for_guest(vmid)
    return Plan(
        policy=settings.policy,
        owner=settings.owner,
        freeze_timeout_seconds=settings.freeze_timeout_seconds,
        max_window_seconds=settings.max_window_seconds,
        obstacle=NEVER if settings.policy is Policy.NEVER else "",
        chosen=settings.policy is Policy.NEVER,
    )


def _key(what: str, worker: Worker, vmid: int) -> str:
    """A job is known by its worker: two jobs may be in job-init at once, and pids are reused."""
    return f"{what}:{worker.pid}:{worker.start}:{vmid}"


def leave_plan(config: Config, worker: Worker, vmid: int, plan: Plan) -> None:
    """Leave the plan for post-restart. JournalError when that cannot be written."""
    text = json.dumps({**plan._asdict(), "policy": plan.policy.value, "owner": plan.owner.value})

    def write() -> None:
        with closing(open_journal(config)) as journal:
            journal.set_note(_key("plan", worker, vmid), text, plan.at)

    patiently(write, SystemClock())


def find_plan(config: Config, worker: Worker, vmid: int) -> Plan | None:
    """The plan that backup-start left; None when there is none, or none that can be read."""
    try:
        with closing(open_journal(config, read_only=True)) as journal:
            text = journal.note(_key("plan", worker, vmid))
        values = json.loads(text or "")
        return Plan(**{**values, "policy": Policy(values["policy"]), "owner": FreezeOwner(values["owner"])})
    except (JournalError, ValueError, KeyError, TypeError):
        return None


def windows_of_job(journal: Journal, worker: Worker, vmid: int | None = None) -> list[WindowRecord]:
    """This job's windows, newest first."""
    since_at = worker.upid.started_at - CLOCK_SECONDS if worker.upid else None
    found = journal.history(vmid=vmid, since_at=since_at, limit=5000)
    return [window for window in found if window.source == worker.source and window.upid == worker.job]


def windows_of_backup(journal: Journal, worker: Worker, vmid: int) -> list[WindowRecord]:
    """This backup's windows, newest first: those behind the last one of an earlier backup of the guest in this job."""
    windows = windows_of_job(journal, worker, vmid)
    last = journal.note(_key("done", worker, vmid))
    return list(takewhile(lambda window: window.id != last, windows))


def end_backup(journal: Journal, worker: Worker, vmid: int, window: WindowRecord | None, at: float) -> None:
    """The backup has ended: take its plan away, with those of jobs that were killed, and remember its window.

    A guest may be backed up twice in one job. JournalError when that cannot be written.
    """
    with journal.transaction("written") as db:
        db.execute(
            "DELETE FROM notes WHERE key = ? OR "
            "((key GLOB 'plan:*' OR key GLOB 'done:*' OR key GLOB 'failed:*') AND at < ?)",
            (_key("plan", worker, vmid), at - STALE_SECONDS),
        )
        if window is not None:
            db.execute("INSERT OR REPLACE INTO notes VALUES (?, ?, ?)", (_key("done", worker, vmid), window.id, at))


def note_failed(journal: Journal, worker: Worker, vmid: int, at: float) -> None:
    """The guest's backup failed, whatever of it is ours. JournalError when that cannot be written."""
    journal.set_note(_key("failed", worker, vmid), "1", at)


def has_failed(journal: Journal, worker: Worker) -> bool:
    """Whether the backup of any guest of the job failed. JournalError."""
    pattern = f"failed:{worker.pid}:{worker.start}:*"
    return bool(journal.query("SELECT 1 FROM notes WHERE key GLOB ? LIMIT 1", (pattern,)))


def forget_job(db: sqlite3.Connection, worker: Worker) -> None:
    """Inside a transaction: the job has ended; forget its guests' windows."""
    for what in ("done", "failed"):
        db.execute("DELETE FROM notes WHERE key GLOB ?", (f"{what}:{worker.pid}:{worker.start}:*",))
