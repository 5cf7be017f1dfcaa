"""From the configuration and the journal to how a window is thawed and watched."""

from __future__ import annotations

from snapshot.base.clock import Clock
from snapshot.base.procfs import process_lives
from snapshot.base.retry import Pace
from snapshot.config.settings import Config
from snapshot.journal.store import WindowRecord
from snapshot.model import FreezeOutcome, Owner, ThawReport
from snapshot.states import State
from snapshot.thaw.thawer import Thawing


def thawing_of(config: Config) -> Thawing:
    """How the configuration wants the thaw retried."""
    thaw = config.thaw
    return Thawing(
        pace=Pace(first_seconds=thaw.first_retry_seconds, slowest_seconds=thaw.slowest_retry_seconds),
        attempt_seconds=thaw.attempt_timeout_seconds,
    )


def late_seconds(record: WindowRecord, config: Config, clock: Clock, thawed: ThawReport | None = None) -> float:
    """How long a late freeze is still possible for a window from the journal: when in doubt, it is.

    ``thawed``: by a thaw of which the journal does not know yet.
    """
    if record.freeze_outcome is not None and record.freeze_outcome != FreezeOutcome.UNKNOWN.value:
        return 0.0
    if record.state == State.THAWED.value:
        return 0.0  # its owner knew more: the guest went off
    if record.filesystems_thawed or (thawed is not None and thawed.confirmed and thawed.filesystems):
        return 0.0  # its one freeze was carried out, and undone
    if record.owner == Owner.VZDUMP.value and not process_lives(record.owner_pid, record.owner_pid_start):
        return 0.0  # whatever a dead vzdump has sent stands in the agent's channel before our thaw
    return max(0.0, record.intent_at + config.freeze.late_freeze_seconds - clock.time())


def was_never_armed(record: WindowRecord) -> bool:
    """Whether no freeze of ours can have been sent: the journal knows of the armed guard before one is."""
    return record.state == State.IDLE.value and record.owner in (Owner.SNAPSHOT.value, Owner.HOOK.value)
