"""``safe-snapshot check``: the examination of one guest, and nothing else."""

from __future__ import annotations

import os

import click

from snapshot.cli.line import Session, common, pass_session, vmid_argument
from snapshot.commands import folder
from snapshot.config.settings import DEFAULT_PATH
from snapshot.errors import GuestUnfitError, NotConsistentError, SafeSnapshotError
from snapshot.journal import silences
from snapshot.model import Guest, GuestKind, Health, Vmid
from snapshot.preflight.preflight import Preflight, Wish, found_frozen, with_windows
from snapshot.report import text


@click.command(short_help="Can guest VMID be frozen, and what is missing?")
@vmid_argument()
@common()
@pass_session
def check(session: Session, vmid: Vmid) -> None:
    """Look at guest VMID: can it be frozen, and what is missing? Changes nothing.

    Exit code 0: ready, or a container, or shut down. 6: it cannot be frozen. 4: it cannot be snapshotted at all. 13: it
    is frozen right now.
    """
    access = session.access()

    def wish(guest: Guest) -> Wish:
        return Wish(ignore_freeze_option=access.settings_for(guest).ignore_freeze_option)

    health = with_windows(Preflight(access).examine(vmid, details=True, wish=wish), access, session.me)
    session.warnings += silences.folder_lines(access.config)
    session.warnings += silences.config_lines(access.config, session.config_path)
    session.warnings += folder.refused_lines(session.config_path or DEFAULT_PATH, os.geteuid())
    lines = text.health_lines(health)
    called = folder.called_line(session.config_path or DEFAULT_PATH, os.geteuid())
    lines[-1:] = [*([f"  {called}"] if called else []), *lines[-1:]]
    session.finish(
        lines[-1:] if session.is_quiet else lines,
        {"guest": health.guest, "checks": health.checks, "facts": health.facts, "frozen": health.frozen},
        error=_error_of(health),
    )


def _error_of(health: Health) -> SafeSnapshotError | None:
    """What keeps the guest from being frozen; a container never is, and needs no freeze."""
    if health.failure is not None:
        return GuestUnfitError(health.failure.message, remedy=health.failure.remedy)
    if health.frozen:
        return found_frozen(health)
    is_container = health.guest is not None and health.guest.kind is GuestKind.LXC
    if health.obstacle is not None and not is_container:
        return NotConsistentError(health.obstacle.message, remedy=health.obstacle.remedy)
    return None
