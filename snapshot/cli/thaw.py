"""``safe-snapshot thaw``: the rescue of one guest. How it is done stands in snapshot/recovery/byhand.py."""

from __future__ import annotations

import click

from snapshot.base.text import counted
from snapshot.cli.line import Session, common, end_at_once, pass_session, vmid_argument
from snapshot.model import Vmid
from snapshot.recovery.byhand import rescue


@click.command(short_help="The rescue: thaw guest VMID now.")
@vmid_argument()
@common()
@pass_session
def thaw(session: Session, vmid: Vmid) -> None:
    """Thaw guest VMID now, over every route, until its agent confirms it. Safe to run on a thawed guest.

    On the guest's own node it works with the whole API down.
    """
    end_at_once()
    access = session.rescue_access()
    report, warnings = rescue(access, vmid, session.me, session.launcher(access.config).adopt)
    number = report.filesystems
    count = "its agent gave no count" if number is None else f"{counted(number, 'filesystem')} thawed"
    how = report.how if report.guest_gone or report.from_inside else f"{count}, {report.how}"
    session.finish(
        [
            *(f"warning: {warning}" for warning in warnings),
            f"guest {vmid} is thawed: {how} ({counted(report.attempts, 'attempt')})",
        ],
        {"vmid": vmid, "thaw": report},
        warnings=warnings,
    )
