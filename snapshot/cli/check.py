"""``safe-snapshot check``: the examination of one guest, and nothing else."""

from __future__ import annotations

import click

from snapshot.cli.line import Session, common, pass_session, vmid_argument
from snapshot.errors import ForeignFreezeError, GuestUnfitError, NotConsistentError
from snapshot.journal import silences
from snapshot.model import CheckResult, Guest, GuestKind, Health, Vmid
from snapshot.preflight.preflight import Preflight, Wish, with_windows
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

    health = with_windows(Preflight(access).examine(vmid, details=True, wish=wish), access.config, session.me)
    exit_code = _exit_code_of(health)
    lines = text.health_lines(health)
    session.warnings += silences.folder_lines(access.config)
    as_json = text.health_json(health, exit_code, session.warnings)
    session.finish(lines[-1:] if session.is_quiet else lines, as_json, exit_code)


def _exit_code_of(health: Health) -> int:
    if health.worst(CheckResult.FAILED):
        return GuestUnfitError.exit_code
    if health.frozen:
        return ForeignFreezeError.exit_code
    is_container = health.guest is not None and health.guest.kind is GuestKind.LXC
    return NotConsistentError.exit_code if health.obstacle and not is_container else 0
