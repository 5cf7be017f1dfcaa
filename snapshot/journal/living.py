"""Whether somebody alive has a window of the journal in hand, and for how long its freeze may still come.

Only here a row is held against the processes that run. What a row says by itself is record.py's.
"""

from __future__ import annotations

from snapshot.base.clock import Clock
from snapshot.base.procfs import TICKS, ProcessIdentity, process_lives
from snapshot.config.settings import Config
from snapshot.journal.record import WindowRecord, is_plain, may_be_frozen, was_never_armed
from snapshot.model import FreezeOutcome, Owner, ThawReport
from snapshot.states import State

ALIVE_MARGIN_SECONDS = 10.0
"""How long past the deadline in the journal a living owner is believed to be thawing in good time: a freeze may follow
that record by some seconds (READY_SECONDS in window/ownrow.py), and a thaw takes a moment. After that its guest is an
alarm, and the owner may still try for its own limit ([thaw] owner_limit_seconds)."""


def is_manned(record: WindowRecord, me: ProcessIdentity) -> bool:
    """Whether a living process sees to this window's freeze, or to its late freeze.

    A plain snapshot has no freeze. Once the owner has recorded its verdict only the guard counts: it does the rest.
    """
    if record.boot_id != me.boot_id or is_plain(record):
        return False
    if record.verdict is None and process_lives(record.owner_pid, record.owner_pid_start):
        return True
    return process_lives(record.guard_pid, record.guard_pid_start)


def is_in_progress(window: WindowRecord, config: Config, now: float, me: ProcessIdentity) -> bool:
    """Whether somebody of ours lives who sees to this window.

    An owner is trusted for as long as PVE takes where nothing is frozen: a plain snapshot, a window that is thawed.
    """
    if window.is_foreign or window.boot_id != me.boot_id:
        return False
    if _lives(window.owner_pid, window.owner_pid_start, me) and (
        was_never_armed(window) or window.thawed_at is not None or not _is_overdue(window, config, now)
    ):
        return True
    return _lives(window.guard_pid, window.guard_pid_start, me)


def is_in_hand(window: WindowRecord, config: Config, now: float, me: ProcessIdentity) -> bool:
    """Whether somebody of ours sees to this window, and in good time: it is not stuck, and its guest not frozen past
    its deadline.
    """
    if window.state == State.STUCK.value or not is_in_progress(window, config, now, me):
        return False
    return not may_be_frozen(window) or now < window.deadline_at + ALIVE_MARGIN_SECONDS


def explains_freeze(window: WindowRecord, config: Config, now: float, me: ProcessIdentity) -> bool:
    """Whether a guest that is found frozen is so by this window of ours, or by its late freeze, and is going to be
    thawed by whoever has it in hand.
    """
    may_freeze = may_be_frozen(window) or (window.quiet_until_at or 0.0) > now
    return may_freeze and is_in_hand(window, config, now, me)


def late_seconds(
    record: WindowRecord, config: Config, clock: Clock, me: ProcessIdentity, thawed: ThawReport | None = None
) -> float:
    """How long a late freeze is still possible for a window from the journal: when in doubt, it is.

    By the wall clock, which may have been set forward, and within one boot by the time since it, which nobody sets: the
    owner was started before its freeze was sent, and we, who ask, just now. The longer one counts.
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
    limit = config.freeze.late_freeze_seconds
    by_clock = record.intent_at + limit - clock.time()
    if not me.start or record.boot_id != me.boot_id:
        return max(0.0, by_clock)
    return max(0.0, by_clock, limit - max(0, me.start - record.owner_pid_start) / TICKS)


def _is_overdue(window: WindowRecord, config: Config, now: float) -> bool:
    return now >= window.deadline_at + config.thaw.owner_limit_seconds + ALIVE_MARGIN_SECONDS


def _lives(pid: int | None, start: int | None, me: ProcessIdentity) -> bool:
    return pid != me.pid and process_lives(pid, start)
