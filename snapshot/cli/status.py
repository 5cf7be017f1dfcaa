"""``safe-snapshot status``: what is open, frozen, not known or silent. Changes nothing."""

from __future__ import annotations

import os

import click

from snapshot.cli.line import Session, common, end_at_once, pass_session
from snapshot.commands import folder
from snapshot.config.settings import DEFAULT_PATH
from snapshot.journal import silences
from snapshot.recovery.survey import survey
from snapshot.report import text


@click.command(short_help="List open windows and frozen guests.")
@common()
@pass_session
def status(session: Session) -> None:
    """List open windows, guests that are frozen right now, ours or foreign, and guests that nobody could ask.

    Exit code 8: a guest needs help. One of which nobody knows whether it is frozen is named; alone it is no error.
    """
    end_at_once()
    access = session.rescue_access()
    found = survey(access, session.me)
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
