"""Windows past their deadline: whether one needs help, who stands still and is ended, what is said of it."""

from __future__ import annotations

from snapshot.base.hardening import end_if_it_stands_still
from snapshot.base.procfs import ProcessIdentity
from snapshot.config.settings import Config
from snapshot.journal.living import ALIVE_MARGIN_SECONDS, is_in_hand
from snapshot.journal.record import WindowRecord, was_never_armed
from snapshot.recovery import foreign
from snapshot.states import State


def needs_help(window: WindowRecord, config: Config, now: float, me: ProcessIdentity) -> bool:
    """Whether an open window is somebody's to look at: nobody sees to it, or who does has not thawed its guest in time.

    A guest that may be frozen past its deadline is told at once: whoever lives goes on, but it may not get there.
    """
    if window.is_foreign:
        return now >= window.deadline_at
    return not is_in_hand(window, config, now, me)


def end_who_stands_still(window: WindowRecord, now: float, me: ProcessIdentity, *, may_be_frozen: bool = False) -> bool:
    """End a process of ours that was stopped and is past its window's deadline; True when one has ended.

    It may hold the agent's socket, and as long as it does no later run gets through to the agent. Who holds a backup's
    window may be paused with vzdump while its guest is thawed, but not when it ``may_be_frozen``.
    """
    if window.is_foreign or window.boot_id != me.boot_id or was_never_armed(window):
        return False
    if now < window.deadline_at + ALIVE_MARGIN_SECONDS:
        return False
    has_ended = end_if_it_stands_still(window.guard_pid, window.guard_pid_start)
    if window.source == "snapshot" or may_be_frozen:
        has_ended |= end_if_it_stands_still(window.owner_pid, window.owner_pid_start)
    return has_ended


def in_vain(window: WindowRecord, now: float) -> str:
    """Who tries to thaw the guest of a window that needs help, though somebody lives who sees to it."""
    if window.state == State.STUCK.value:
        return "nobody can thaw it, its guard goes on trying"
    late = foreign.span(now - window.deadline_at)
    return f"{late} past its deadline no thaw is confirmed; its owner or its guard is alive and goes on trying"
