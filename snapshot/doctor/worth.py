"""What a snapshot and a backup of a guest can be worth at best, and why. Pure.

A word is given for what is known alone: where a question had no answer, the worth is not known. What passes by itself
(a lock, a window) does not count.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import NamedTuple

from snapshot.config.settings import FreezeOwner, GuestSettings
from snapshot.model import Check, CheckResult, GuestKind, Health, Policy, VerdictKind
from snapshot.preflight.answers import can_be_proven
from snapshot.pve.estate import BackupJob
from snapshot.pve.guests import AgentOption


class Best(Enum):
    """A verdict, or that there can be none."""

    FILESYSTEM_CONSISTENT = VerdictKind.FILESYSTEM_CONSISTENT.value
    OFFLINE = VerdictKind.OFFLINE.value
    CRASH_CONSISTENT = VerdictKind.CRASH_CONSISTENT.value
    UNKNOWN = VerdictKind.UNKNOWN.value
    NONE = "none"
    """It cannot be taken at all, or policy ``require`` refuses it."""
    NOT_KNOWN = "not-known"
    """What it can be was not found out."""


class Worth(NamedTuple):
    """The best that can be had, and why it is no more, or what it rests on."""

    best: Best
    why: str


class HookState(NamedTuple):
    """Whether vzdump calls our hook on the guest's node, and in which jobs."""

    by_node: bool | None
    """In a job that names no script; None: not known."""
    jobs: Sequence[BackupJob] | None
    """Those that hold the guest and are switched on; None: not known which there are."""


PASSING = frozenset({"guest-locked", "in-a-window", "name-taken", "template"})
"""Codes of what ends by itself, or is no matter of a freeze: no word on what can be had at best."""
UNANSWERED = frozenset({"node-offline", "guest-not-found"})
"""Codes of a guest about which nothing can be asked, not even whether it runs."""

_NO_EXAMINATION = Worth(Best.NOT_KNOWN, "it was not examined")


def of_snapshot(health: Health | None, settings: GuestSettings, version: str, storages_lose: str = "") -> Worth:
    """Of a snapshot by safe-snapshot. ``version``: of qemu-server on its node. ``storages_lose``: a disk whose storage
    may not hold what the guest has flushed.
    """
    if health is None or health.guest is None:
        return _NO_EXAMINATION
    if is_unanswered(health):
        return Worth(Best.NOT_KNOWN, "nothing can be asked about it now")
    stops = [c for c in health.checks if c.result is CheckResult.FAILED and c.code not in PASSING | {"hibernated"}]
    if stops:
        return Worth(Best.NONE, stops[0].message)
    frozen = _frozen(health, settings)
    if frozen is not None:
        return frozen
    if any(c.code == "storage-not-known" for c in health.checks):
        return Worth(Best.NOT_KNOWN, "PVE does not say whether its disks can be snapshotted")
    if storages_lose:
        return Worth(Best.UNKNOWN, f"{storages_lose} has cache=unsafe: QEMU drops what the guest flushes")
    proven = can_be_proven(_option(health), version)
    if proven is None:
        return Worth(Best.NOT_KNOWN, "which qemu-server runs is not known (it takes Sys.Audit)")
    if not proven:
        return Worth(Best.UNKNOWN, f"qemu-server {version} thaws the guest inside its own snapshot task")
    return Worth(Best.FILESYSTEM_CONSISTENT, "frozen, asked after the point in time, and thawed")


def of_backup(health: Health | None, settings: GuestSettings, version: str, hook: HookState) -> Worth:
    """Of a backup by vzdump: of the worst of the jobs that hold the guest, else of one by hand."""
    if health is None or health.guest is None:
        return _NO_EXAMINATION
    if is_unanswered(health):
        return Worth(Best.NOT_KNOWN, "nothing can be asked about it now")
    jobs: Sequence[BackupJob | None] = hook.jobs or (None,)
    found = [_in_job(health, settings, version, hook, job) for job in jobs]
    return max(found, key=lambda worth: list(Best).index(worth.best))


def _in_job(health: Health, settings: GuestSettings, version: str, hook: HookState, job: BackupJob | None) -> Worth:
    guest = health.guest
    named = f"job {job.id}: " if job is not None else ""
    calls_us = hook.by_node if job is None or not job.script else _is_hook(job.script)
    if calls_us is False:
        return Worth(Best.UNKNOWN, f"{named}vzdump does not call vzdump-hook: nothing proves a freeze")
    if calls_us is None:
        return Worth(Best.NOT_KNOWN, f"{named}whether vzdump calls vzdump-hook is not known")
    mode = job.mode if job is not None else ""
    is_off = guest is not None and not guest.running
    if mode == "stop" or is_off:
        return Worth(
            Best.OFFLINE, f"{named}mode stop: the guest is shut down" if mode == "stop" else "the guest is off"
        )
    if mode == "suspend":
        return Worth(Best.CRASH_CONSISTENT, f"{named}mode suspend: paused, not frozen")
    frozen = _frozen(health, settings)
    if frozen is not None:
        return frozen
    by_status = settings.owner is FreezeOwner.HOOK and can_be_proven(_option(health), version)
    if by_status:
        return Worth(Best.FILESYSTEM_CONSISTENT, f"{named}frozen, asked after the point in time, and thawed")
    return Worth(
        Best.FILESYSTEM_CONSISTENT,
        f"{named}by vzdump's log and the agent's word: a thaw from inside the guest would not show",
    )


def _frozen(health: Health, settings: GuestSettings) -> Worth | None:
    """What the guest comes to where it is not frozen; None where it can be."""
    guest = health.guest
    if guest is not None and not guest.running:
        hibernated = any(c.code == "hibernated" for c in health.checks)
        if hibernated:
            return Worth(Best.CRASH_CONSISTENT, "hibernated: its filesystems are as mounted as they were")
        return Worth(Best.OFFLINE, "the guest is off: its disks are at rest")
    if guest is not None and guest.kind is GuestKind.LXC:
        return _refused_or(settings, "a container: PVE stops its processes and syncs, nothing proves more")
    if settings.policy is Policy.NEVER:
        return Worth(Best.CRASH_CONSISTENT, "policy never: nothing is frozen by us")
    if health.frozen:
        return Worth(Best.NOT_KNOWN, "it is frozen right now, so not everything could be asked")
    if health.freeze_disabled_by_option and not settings.ignore_freeze_option:
        return _refused_or(settings, "the guest's own PVE option turns freezing off")
    obstacle = obstacle_of(health)
    if obstacle is None:
        return None
    if obstacle.code == "agent-not-asked":
        return Worth(Best.NOT_KNOWN, obstacle.message)
    return _refused_or(settings, obstacle.message)


def is_unanswered(health: Health) -> bool:
    """Whether nothing could be asked about the guest, or was not: one in a window of ours is left alone."""
    return not health.config or any(check.code in UNANSWERED for check in health.checks)


def obstacle_of(health: Health) -> Check | None:
    """What stands in the way of a freeze, and does not pass by itself."""
    found = (c for c in health.checks if c.result is CheckResult.NO_FREEZE and c.code not in PASSING)
    return next(found, None)


def _refused_or(settings: GuestSettings, why: str) -> Worth:
    if settings.policy is Policy.REQUIRE:
        return Worth(Best.NONE, f"policy require, and it cannot be frozen: {why}")
    return Worth(Best.CRASH_CONSISTENT, why)


def _option(health: Health) -> AgentOption:
    return AgentOption.parse(health.config.get("agent"))


def _is_hook(script: str) -> bool:
    return script.rpartition("/")[2] == "vzdump-hook"
