"""The drill, from the first look to its report. One round: play.py; what it was worth: rounds.py."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from snapshot.base.clock import Clock
from snapshot.base.procfs import ProcessIdentity
from snapshot.base.signals import Gate
from snapshot.base.text import named
from snapshot.config.settings import Config
from snapshot.doctor.facts import Look
from snapshot.drill import cut, firing, ready
from snapshot.drill.play import PlayTools, play
from snapshot.drill.rounds import KINDS, Breakage, DrillRound, judged
from snapshot.errors import GuestUnfitError, InterruptedBySignalError, SafeSnapshotError
from snapshot.guard.launcher import uses_systemd
from snapshot.guard.link import GuardSpec
from snapshot.model import Check, CheckResult, Guest, GuestKind, Health, Say, Vmid
from snapshot.notify.sending import Tried
from snapshot.preflight.preflight import Preflight, Wish, found_frozen, with_windows
from snapshot.pve import locks
from snapshot.pve.access import Access
from snapshot.pve.atwork import at_work
from snapshot.pve.blockstat import write_operations
from snapshot.pve.guests import GuestApi

READ_SECONDS = 5.0
"""How long one look at the disk may take."""

CLOCK_SECONDS = 1.0
"""How far the clock may be from the time that passed: an alert's time, and a window's, go by it."""


def _elsewhere(guest: Guest) -> GuestUnfitError:
    text = f"guest {guest.vmid} is on {guest.node}: run it there"
    return GuestUnfitError(text, remedy="a drill is held on the guest's own node")


def _no_agent() -> GuestUnfitError:
    text = "a container has no guest agent, and is never frozen by us: there is nothing to drill"
    return GuestUnfitError(text, remedy="a drill needs a virtual machine")


class DrillTools(NamedTuple):
    """What a drill works with."""

    config: Config
    config_path: Path | None
    access: Access
    disk_access: Access
    """Another one: the disk is read in a thread of its own, and a connection serves one."""
    clock: Clock
    me: ProcessIdentity
    gate: Gate
    say: Say
    max_window_seconds: float
    adopt: Callable[[GuardSpec], None]
    """Starts a guard for the window of a guest that the drill could not thaw."""


class DrillReport(NamedTuple):
    """Everything that was found."""

    guest: Guest | None = None
    checks: tuple[Check, ...] = ()
    rounds: tuple[DrillRound, ...] = ()
    alarms: tuple[Tried, ...] = ()
    not_played: tuple[Breakage, ...] = ()
    """Rounds that cannot be played here: what they would show is not known."""
    error: SafeSnapshotError | InterruptedBySignalError | None = None


def examined(vmid: Vmid, access: Access, me: ProcessIdentity, looks: Sequence[Look]) -> DrillReport:
    """The parts and the guest, before anything is frozen. What is in the way is the report's ``error``. ``looks``: what
    the doctor found.
    """
    with contextlib.suppress(SafeSnapshotError):  # else the parts say what is broken
        listed = GuestApi(access.main).find(vmid)
        if listed.kind is not GuestKind.QEMU:
            return DrillReport(error=_no_agent())
        if access.local_node and not access.is_local(listed):
            return DrillReport(error=_elsewhere(listed))
    checks = ready.parts(access, vmid, looks)
    broken = [check for check in checks if check.result is CheckResult.FAILED]
    if broken:
        return DrillReport(None, checks, error=_failed([check.name for check in broken], "nothing was frozen"))

    def wish(guest: Guest) -> Wish:
        return Wish(ignore_freeze_option=True)  # that option is about backups, and who asks for a drill wants one

    try:
        health = with_windows(Preflight(access).examine(vmid, wish=wish, for_snapshot=False), access, me)
        _refuse(health, access)
    except SafeSnapshotError as error:
        return DrillReport(None, checks, error=error)
    return DrillReport(health.guest, (*checks, *health.checks))


def _refuse(health: Health, access: Access) -> None:
    guest = health.guest
    if health.frozen:
        raise found_frozen(health)
    if health.obstacle is not None:
        raise GuestUnfitError(health.obstacle.message, remedy=health.obstacle.remedy)
    if guest is None or guest.kind is not GuestKind.QEMU:
        raise _no_agent()
    if not guest.running:
        raise GuestUnfitError("the guest is shut down", remedy="a drill needs one that runs")
    if not access.is_local(guest):
        raise _elsewhere(guest)
    lock = locks.check_of(guest)
    if lock.result is not CheckResult.OK:
        raise GuestUnfitError(lock.message, remedy=lock.remedy)
    work = at_work(access, guest)
    if work:
        raise GuestUnfitError(f"PVE is at work on the guest ({work})", remedy="wait for its end")


def held(report: DrillReport, tools: DrillTools) -> DrillReport:
    """Play the rounds with the guest of an examined ``report``, and use the alarms' paths. Raises nothing of ours."""
    guest = report.guest
    assert guest is not None
    report = report._replace(not_played=tuple(kind for kind in KINDS if kind not in _kinds(tools.config)))
    cut.sweep(tools.config)
    rounds: list[DrillRound] = []
    wall, began = tools.clock.time(), tools.clock.monotonic()
    try:
        for kind in _kinds(tools.config):
            rounds.append(_round(kind, guest, tools))
            tools.gate.check()
            if rounds[-1].is_kept is False:
                break  # what is broken is known: the guest need not stand still for it again
    except (SafeSnapshotError, InterruptedBySignalError) as error:
        return report._replace(rounds=tuple(rounds), error=error)
    drift = (tools.clock.time() - wall) - (tools.clock.monotonic() - began)
    tools.say("the alarms' paths: metrics, mail, webhook")
    alarms = tuple(firing.fire(tools.config, tools.clock, guest, rounds, ready.unheard(report.checks, tools.config)))
    broken = [found.part for found in rounds if found.part]
    broken += ["clock"] if abs(drift) > CLOCK_SECONDS else []
    broken += [tried.way for tried in alarms if not tried.ok]
    failed = _failed(broken, "the lines above say how") if broken else None
    return report._replace(rounds=tuple(rounds), alarms=alarms, error=failed)


def _kinds(config: Config) -> list[Breakage]:
    return [kind for kind in KINDS if uses_systemd(config) or not kind.kills_guard]


def _round(kind: Breakage, guest: Guest, tools: DrillTools) -> DrillRound:
    _refuse_work(guest, tools.access)
    tools.say(f"{kind.name}: {kind.what}")
    disk = GuestApi(tools.disk_access.main)
    seen = play(
        kind,
        guest,
        PlayTools(
            config=tools.config,
            config_path=tools.config_path,
            access=tools.access,
            read_disk=lambda: write_operations(disk, guest, timeout_seconds=READ_SECONDS),
            clock=tools.clock,
            me=tools.me,
            gate=tools.gate,
            max_window_seconds=tools.max_window_seconds,
            adopt=tools.adopt,
        ),
    )
    found = judged(seen)
    tools.say(found.lines[0])
    return found


def _refuse_work(guest: Guest, access: Access) -> None:
    """A backup may have begun since the last round: it shall not find the guest frozen."""
    work = at_work(access, guest)
    if work:
        raise GuestUnfitError(f"PVE is at work on the guest by now ({work})", remedy="hold the drill again afterwards")


def _failed(parts: list[str], what: str) -> SafeSnapshotError:
    return SafeSnapshotError(f"the drill failed: {', '.join(dict.fromkeys(parts))}", remedy=what)


def question(guest: Guest, config: Config, max_window_seconds: float) -> str:
    """What the operator is asked."""
    number = {2: "two", 3: "three"}.get(len(_kinds(config)), "some")
    who = named(guest.vmid, guest.name)
    return f"freeze guest {who} {number} times on purpose, for {max_window_seconds:g} s each at most?"
