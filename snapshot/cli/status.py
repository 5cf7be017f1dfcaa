"""``safe-snapshot status``: what is open, frozen, not known or silent. Changes nothing."""

from __future__ import annotations

import os
from collections.abc import Callable

import click

from snapshot.cli.guests import guests_options, resolve
from snapshot.cli.line import Session, common, end_at_once, pass_session
from snapshot.commands import folder
from snapshot.config.choice import EVERY
from snapshot.config.selection import Selection
from snapshot.config.settings import DEFAULT_PATH
from snapshot.errors import GuestUnfitError
from snapshot.journal import silences
from snapshot.pve.access import Access
from snapshot.recovery.survey import Survey, survey
from snapshot.report import text


@click.command(short_help="List open windows and frozen guests.")
@guests_options()
@common()
@pass_session
def status(session: Session, selection: Selection) -> None:
    """List open windows, guests that are frozen right now, ours or foreign, and guests that nobody could ask; of each
    GUEST, or of all.

    Exit code 8: a guest needs help. One of which nobody knows whether it is frozen is named; alone it is no error.
    """
    end_at_once()
    access = session.rescue_access()
    found = survey(access, session.me)
    if not selection.is_empty:
        found = found.of(_meant(session, access, selection, found))
    session.warnings += silences.config_lines(access.config, session.config_path)
    session.warnings += folder.refused_lines(session.config_path or DEFAULT_PATH, os.geteuid())
    now = session.clock.time()
    silent = silences.told_by(access.config.journal.path, access.config, now)
    session.finish(
        [*text.survey_lines(found, now), *(f"warning: {line}" for line in silent)],
        {
            "windows": found.windows,
            "frozen": found.frozen,
            "unknown": found.round.unknown,
            "lost_windows": found.lost,
            "silences": silent,
        },
        warnings=found.warnings,
        error=found.error,
    )


def _meant(session: Session, access: Access, selection: Selection, found: Survey) -> Callable[[int], bool]:
    """Whom the line means. PVE is asked once more only where vmids do not tell. GuestUnfitError for what names nobody:
    that nobody is frozen who is not there says nothing.
    """
    if not selection.is_numbers:
        vmids = frozenset(resolve(session, access, selection, EVERY).vmids)
        return vmids.__contains__
    known = {*found.round.listed, *(window.vmid for window in found.windows)}
    nobody = [str(term) for term in selection.guests if not any(term.holds(vmid) for vmid in known)]
    if nobody and found.round.problem is None:
        raise GuestUnfitError(
            f"no guest {', '.join(nobody)} in this cluster", remedy="check the vmid: `qm list`, `pct list`"
        )
    return selection.holds
