"""What one phase leaves for a later one of the same guest and job, in the journal's notes."""

from __future__ import annotations

import json
from contextlib import closing
from typing import NamedTuple

from snapshot.clock import SystemClock
from snapshot.config import Config, FreezeOwner
from snapshot.errors import JournalError
from snapshot.journal import Journal, WindowRecord, patiently
from snapshot.model import Policy
from vzdump_hooks.worker import Worker

STALE_SECONDS = 7 * 86400.0
"""A plan that is older was left by a job that was killed."""

CLOCK_SECONDS = 86400.0
"""How far the clock may have gone back since the job began: a window is told by its UPID, this only finds it fast."""


class Plan(NamedTuple):
    """backup-start's decision about a guest. ``obstacle``: why we will not freeze it, "" when we will."""

    policy: Policy
    owner: FreezeOwner
    freeze_timeout_seconds: float
    max_window_seconds: float
    obstacle: str = ""
    obstacle_name: str = ""
    """The check that found the obstacle, as a word for the journal; "" for a policy, and without one."""
    watch: bool = False
    """Despite the obstacle vzdump may come to freeze by itself: its freeze is watched."""
    left_alone: bool = False
    """The guest's own PVE option turns freezing off: nobody freezes, and policy require does not mind."""
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
        obstacle="policy never" if settings.policy is Policy.NEVER else "",
    )


def key(worker: Worker, vmid: int) -> str:
    """A job is known by its worker: two jobs may be in job-init at once, and pids are reused."""
    return f"plan:{worker.pid}:{worker.start}:{vmid}"


def leave(config: Config, worker: Worker, vmid: int, plan: Plan) -> None:
    """Leave the plan for post-restart. JournalError when that cannot be written."""
    text = json.dumps({**plan._asdict(), "policy": plan.policy.value, "owner": plan.owner.value})

    def write() -> None:
        with closing(Journal(config.journal.path)) as journal:
            journal.set_note(key(worker, vmid), text, plan.at)

    patiently(write, SystemClock())


def find(config: Config, worker: Worker, vmid: int) -> Plan | None:
    """The plan that backup-start left; None when there is none, or none that can be read."""
    try:
        with closing(Journal(config.journal.path, read_only=True)) as journal:
            text = journal.note(key(worker, vmid))
        values = json.loads(text or "")
        return Plan(**{**values, "policy": Policy(values["policy"]), "owner": FreezeOwner(values["owner"])})
    except (JournalError, ValueError, KeyError, TypeError):
        return None


def forget(journal: Journal, worker: Worker, vmid: int, now: float) -> None:
    """Take the plan away, and those of jobs that were killed. JournalError when that cannot be written."""
    with journal.transaction("written") as db:
        db.execute(
            "DELETE FROM notes WHERE key = ? OR (key GLOB 'plan:*' AND at < ?)",
            (key(worker, vmid), now - STALE_SECONDS),
        )


def windows_of_job(journal: Journal, worker: Worker, vmid: int | None = None) -> list[WindowRecord]:
    """This job's windows, newest first; none where the job's task could not be found."""
    upid = worker.upid
    if upid is None:
        return []
    found = journal.history(vmid=vmid, since_at=upid.started_at - CLOCK_SECONDS, limit=5000)
    return [window for window in found if window.source == "vzdump" and window.upid == upid.text]
