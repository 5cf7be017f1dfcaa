"""One guest: its row of the table, and its findings. Pure; who is asked what stands in rounds.py."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import NamedTuple

from snapshot.base.text import clean
from snapshot.config.labels import labels_of
from snapshot.config.settings import GuestSettings
from snapshot.doctor import worth
from snapshot.doctor.findings import NOT_EXAMINED, Finding, Severity, finding, of_check, worst_first
from snapshot.doctor.worth import Best, HookState, Worth
from snapshot.errors import SafeSnapshotError
from snapshot.model import Check, CheckResult, Guest, GuestKind, Health, Policy
from snapshot.preflight.answers import INSTALL_COMMANDS
from snapshot.pve.guests import AgentOption
from snapshot.pve.locks import tool

_DISK = re.compile(r"(?:ide|sata|scsi|virtio)[0-9]+\Z")
_FILE = re.compile(r"\.(?:qcow2|vmdk)(?:,|\Z)")
_OF_THE_NODE = frozenset({"pve-thaws-early", "node-offline"})
"""Codes that are told once for the node, not with each of its guests."""
_OF_A_FREEZE = frozenset(
    {
        *("agent-off", "agent-pending", "agent-silent", "agent-broken", "agent-too-old", "freeze-blocked"),
        *("commands-not-known", "filesystems-not-known", "freeze-off", "nothing-to-freeze", "loop-mount", "virtfs"),
    }
)
"""Codes that are no matter where nobody wants a freeze (policy never)."""


class Diagnosis(NamedTuple):
    """One guest, examined or not."""

    vmid: int
    name: str
    node: str
    kind: str
    running: bool | None
    agent: str
    """Its version, or ``off``, ``silent``, ``-`` (no agent's matter), ``?``."""
    freeze: str
    """``yes``, ``no``, ``off`` (its own option), ``never`` (policy), ``-``, ``?``."""
    snapshot: Worth
    backup: Worth
    last_run_at: float | None
    """When its last guarded backup or snapshot ended, as this machine's journal knows."""
    findings: tuple[Finding, ...]
    checks: tuple[Check, ...] = ()
    """The preflight's, as `check` shows them."""
    facts: Mapping[str, object] = MappingProxyType({})
    """What its agent told of it."""


class Examined(NamedTuple):
    """What is known of a guest beforehand, and what its examination said: None where it could not be, and then why."""

    guest: Guest
    settings: GuestSettings
    health: Health | None = None
    why_not: str = ""
    error: SafeSnapshotError | None = None
    """What kept it from being examined, where something failed."""


class About(NamedTuple):
    """What the cluster and the journal know of one guest."""

    version: str = ""
    hook: HookState = HookState(None, None)
    schedule: str = ""
    """How often PVE replicates it; empty: not, or not known."""
    last_run_at: float | None = None
    silences: tuple[Finding, ...] = ()
    folds_tags: Callable[[], bool] = lambda: True


def row(examined: Examined, about: About) -> Diagnosis:
    """The guest as the table shows it, worst findings first in its list."""
    guest, health = examined.guest, examined.health
    loses = ",".join(key for key, _ in cache_unsafe(health.config)) if health is not None else ""
    found = [*_findings(examined, about), *_labels(guest, about), *about.silences]
    return Diagnosis(
        vmid=guest.vmid,
        name=guest.name,
        node=guest.node,
        kind=guest.kind.value,
        running=health.guest.running if _is_answered(health) and health is not None and health.guest else None,
        agent=_agent(guest, health),
        freeze=_freeze(examined),
        snapshot=worth.of_snapshot(health, examined.settings, about.version, loses),
        backup=worth.of_backup(health, examined.settings, about.version, about.hook),
        last_run_at=about.last_run_at,
        findings=tuple(sorted(found, key=worst_first)),
        checks=health.checks if health is not None else (),
        facts=health.facts if health is not None else {},
    )


def _findings(examined: Examined, about: About) -> Iterator[Finding]:
    guest, health = examined.guest, examined.health
    subject = f"guest {guest.vmid}"
    if health is None:
        again = f"`safe-snapshot doctor {guest.vmid}`"
        yield finding(NOT_EXAMINED, subject, f"not examined: {examined.why_not}", again, guest.vmid)
        return
    is_never = examined.settings.policy is Policy.NEVER
    for check in health.checks:
        code = check.code
        if (
            code in _OF_THE_NODE
            or (is_never and code in _OF_A_FREEZE)
            or (code == "agent-off" and check.name == "agent")
        ):
            continue
        if code == "processors-stand-still" and check.name == "agent":
            continue
        found = of_check(check, guest.vmid)
        if found is not None:
            yield _in_context(found, guest, health)
    yield from _require(examined)
    yield from _disks(guest, health.config)
    if about.schedule:
        text = f"PVE replicates its disks ({about.schedule}) and freezes it for that by itself"
        yield finding("replicated", subject, text, vmid=guest.vmid)
    if about.hook.jobs is not None and not about.hook.jobs and not guest.template:
        text = "no backup job that is switched on holds it"
        yield finding("not-in-a-job", subject, text, "`pvesh get /cluster/backup` lists the jobs", guest.vmid)


def _labels(guest: Guest, about: About) -> Iterator[Finding]:
    for odd in labels_of(guest.tags, about.folds_tags).odd:
        what, _, mend = odd.why.partition("; ")
        remedy = mend or f"change the guest's tags: `{tool(guest)} config {guest.vmid}` shows them"
        yield finding("label-odd", f"guest {guest.vmid}", f"tag {odd.tag!r}: {what}", remedy, guest.vmid)


def _in_context(found: Finding, guest: Guest, health: Health) -> Finding:
    """A check's word by what else is known of the guest."""
    if found.code == "agent-silent":
        return found._replace(remedy=_to_install(health.config.get("ostype")))
    if found.code == "thaw-blocked":
        if health.freeze_disabled_by_option:
            return found._replace(severity=Severity.WARNING)
        text = f"{found.text}: once PVE freezes the guest, as in each backup, nobody can thaw it from outside"
        off = AgentOption.parse(health.config.get("agent")).without_freeze()
        until = f"until then `qm set {guest.vmid} --agent {off}`, and a full stop and start of the guest"
        return found._replace(text=text, remedy=f"{found.remedy}; {until}")
    return found


def _to_install(ostype: object) -> str:
    """The commands of the guest's kind of system: its configuration knows Windows from the rest."""
    is_windows = str(ostype).startswith("w")
    if is_windows:
        return f"inside the guest: {INSTALL_COMMANDS['Windows']}"
    wanted = (f"{family}: `{how}`" for family, how in INSTALL_COMMANDS.items() if family != "Windows")
    return f"inside the guest: {'; '.join(wanted)}"


def _require(examined: Examined) -> Iterator[Finding]:
    """Policy ``require``, and no freeze: no backup, no snapshot."""
    health, guest = examined.health, examined.guest
    if health is None or examined.settings.policy is not Policy.REQUIRE or health.guest is None:
        return
    obstacle = worth.obstacle_of(health)
    if obstacle is None or not health.guest.running:
        return
    remedy = f"{obstacle.remedy}; or another policy for vmid {guest.vmid} in a [[guest]] table"
    text = f"policy require, and it cannot be frozen, so it has no backup and no snapshot: {obstacle.message}"
    yield finding("require-not-met", f"guest {guest.vmid}", text, remedy.removeprefix("; or "), guest.vmid)


def _disks(guest: Guest, config: Mapping[str, object]) -> Iterator[Finding]:
    subject = f"guest {guest.vmid}"
    for key, value in cache_unsafe(config):
        safe = re.sub(r"cache=unsafe", "cache=none", value)
        yield finding(
            "cache-unsafe",
            subject,
            f"{key} has cache=unsafe: QEMU drops what the guest flushes, so a snapshot below QEMU may lack it",
            f"with the guest off, `{tool(guest)} set {guest.vmid} --{key} {safe}`",
            guest.vmid,
        )
    for key, value in _volumes(guest, config):
        if "backup=0" in value.split(",") or (key.startswith("mp") and "backup=1" not in value.split(",")):
            text = f"{key} ({clean(value.split(',')[0], 80)}) is in no backup"
            remedy = f"if that was not meant: backup=1 in `{tool(guest)} config {guest.vmid}`'s {key}"
            yield finding("disk-not-in-backup", subject, text, remedy, guest.vmid)


def cache_unsafe(config: Mapping[str, object]) -> list[tuple[str, str]]:
    """The disks whose flushes QEMU drops, and whose snapshots are taken below QEMU: a qcow2 file's are QEMU's own."""
    return [
        (key, str(value))
        for key, value in sorted(config.items())
        if _DISK.match(key) and "cache=unsafe" in str(value).split(",") and not _FILE.search(str(value))
    ]


def _volumes(guest: Guest, config: Mapping[str, object]) -> list[tuple[str, str]]:
    pattern = re.compile(r"mp[0-9]+\Z") if guest.kind is GuestKind.LXC else _DISK
    return [
        (key, str(value))
        for key, value in sorted(config.items())
        if pattern.match(key) and "media=cdrom" not in str(value) and not str(value).startswith(("none", "cdrom"))
    ]


def _agent(guest: Guest, health: Health | None) -> str:
    if health is None or health.guest is None or not _is_answered(health):
        return "?"
    if guest.kind is GuestKind.LXC or not health.guest.running:
        return "-"
    codes = {check.code for check in health.checks}
    if not AgentOption.parse(health.config.get("agent")).enabled:
        return "off"
    version = health.facts.get("agent_version")
    if version:
        return clean(str(version), 12)
    return "silent" if "agent-silent" in codes else "?"


def _freeze(examined: Examined) -> str:
    health = examined.health
    if health is None or health.guest is None or not _is_answered(health):
        return "?"
    if health.guest.kind is GuestKind.LXC or not health.guest.running:
        return "-"
    if examined.settings.policy is Policy.NEVER:
        return "never"
    if health.frozen:
        return "FROZEN"
    obstacle = worth.obstacle_of(health)
    if obstacle is None:
        asked = any(c.name == "freeze-commands" and c.result is CheckResult.OK for c in health.checks)
        return "yes" if asked else "?"
    if obstacle.code == "freeze-off":
        return "off"
    return "?" if obstacle.code == "agent-not-asked" else "no"


def _is_answered(health: Health | None) -> bool:
    return health is not None and not worth.is_unanswered(health)


def is_consistent(found: Worth) -> bool:
    """Whether a restore needs no journal replay."""
    return found.best in (Best.FILESYSTEM_CONSISTENT, Best.OFFLINE)
