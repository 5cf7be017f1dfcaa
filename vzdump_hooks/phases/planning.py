"""Makes the plan for a guest's backup: the preflight, and the thaw of a guest that an earlier run left frozen.

It imports all that speaks to PVE: only a phase that has to make a plan loads it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from snapshot.base.clock import SystemClock
from snapshot.base.procfs import ProcessIdentity
from snapshot.config.settings import Config, ForeignFreeze, GuestSettings
from snapshot.errors import ApiError, ForeignFreezeError, StillFrozenError
from snapshot.journal.book import JournalBook
from snapshot.model import Check, CheckResult, Guest, GuestKind, Policy, Vmid
from snapshot.preflight.preflight import Preflight, Wish
from snapshot.pve.access import Access, open_access
from vzdump_hooks.call import Mode
from vzdump_hooks.phases.plan import NEVER, Plan
from vzdump_hooks.settings import open_journal

PENDING = "agent-pending"
"""A freeze option that waits for the guest's next start. The freeze that it will switch off goes on until then, by PVE
alone: its operator wants none."""

CHOSEN = frozenset({PENDING, "mode"})
"""Obstacles that the operator has chosen."""


class Found(NamedTuple):
    """The plan, and what stands in the way of a freeze with its remedy."""

    plan: Plan
    obstacle: Check | None


def examine(config: Config, vmid: int, mode: Mode | None, say: Callable[[str], None]) -> Found:
    """Examine the guest, and thaw it when it was left frozen by us. Raises ApiError, ConfigError."""
    access = open_access(config, SystemClock(), say)

    def settings_of(guest: Guest | None) -> GuestSettings:
        return access.settings_for(guest) if guest is not None else config.for_guest(vmid)

    health = Preflight(access).examine(
        Vmid(vmid),
        for_snapshot=False,
        wish=lambda guest: Wish(ignore_freeze_option=settings_of(guest).ignore_freeze_option),
    )
    settings = settings_of(health.guest)
    policy = settings.policy
    if policy is not Policy.NEVER:  # nobody needs the agent of such a guest
        JournalBook(lambda: open_journal(config)).agent_seen(health, access.clock)
    obstacle = health.obstacle
    if health.frozen and health.guest is not None and health.guest.kind is GuestKind.QEMU:
        obstacle = _heal(health.guest, access, settings, say) or obstacle
    if mode is Mode.SUSPEND and (obstacle is None or obstacle.name != "thawed"):
        obstacle = Check("mode", CheckResult.NO_FREEZE, "mode suspend pauses the guest", "use mode snapshot")
    if obstacle is None and policy is Policy.PREFER and not settings.ignore_freeze_option:
        obstacle = next((check for check in health.checks if check.name == PENDING), None)
    is_off = health.freeze_disabled_by_option and not settings.ignore_freeze_option
    plan = Plan(
        policy=policy,
        owner=settings.owner,
        freeze_timeout_seconds=settings.freeze_timeout_seconds,
        max_window_seconds=settings.max_window_seconds,
        obstacle=NEVER if policy is Policy.NEVER else obstacle.message if obstacle else "",
        obstacle_name=obstacle.name if obstacle and policy is not Policy.NEVER else "",
        chosen=policy is Policy.NEVER or (obstacle is not None and (is_off or obstacle.name in CHOSEN)),
        left_alone=is_off or any(c.name == "agent-option" and c.result is CheckResult.NO_FREEZE for c in health.checks),
        found_frozen=obstacle is not None and obstacle.name == "thawed",
        at_the_knock=settings.at_the_knock and policy is not Policy.REQUIRE and not health.freeze_disabled_by_option,
    )
    return Found(plan, obstacle)


def _heal(guest: Guest, access: Access, settings: GuestSettings, say: Callable[[str], None]) -> Check | None:
    """Thaw what is ours (vzdump would skip a frozen guest silently, for ever); an obstacle when it stays frozen."""
    # 7 ms more than this phase needs for the many guests that are not frozen
    from snapshot.recovery.heal import Healed, heal  # noqa: PLC0415

    config = access.config
    book = JournalBook(lambda: open_journal(config))
    try:
        thaw_foreign = settings.foreign is ForeignFreeze.THAW
        healed = heal(guest, access, book, ProcessIdentity.own(), thaw_foreign=thaw_foreign, is_locked=True)
    except (StillFrozenError, ForeignFreezeError, ApiError) as error:
        return Check("thawed", CheckResult.NO_FREEZE, error.message, error.remedy)
    if healed is Healed.LEFT_ALONE:
        return Check(
            "thawed",
            CheckResult.NO_FREEZE,
            "the guest is frozen, and not by us",
            f'`safe-snapshot thaw {guest.vmid}` thaws it; [freeze] foreign = "thaw" does so every time',
        )
    say(f"guest {guest.vmid} was frozen by {healed.value}: thawed")
    return None
