"""``safe-snapshot recover``: closes windows that were left open; run each minute by the units, or by hand."""

from __future__ import annotations

import sys
from contextlib import closing

import click

from snapshot.base.aloud import Aloud
from snapshot.cli.line import Session, common, end_at_once, logfmt_option, pass_session
from snapshot.commands import folder
from snapshot.config.settings import DEFAULT_PATH, Config
from snapshot.errors import SafeSnapshotError, StillFrozenError
from snapshot.journal import silences
from snapshot.journal.store import Journal
from snapshot.metrics.publish import publish
from snapshot.notify.tell import after_recovery
from snapshot.notify.ways import Own
from snapshot.recovery import recover as recovery
from snapshot.recovery.strangers import Recovered
from snapshot.report import text


@click.command(short_help="Close windows that were left open.")
@logfmt_option
@common()
@pass_session
def recover(session: Session) -> None:
    """Close every window that was left open, and look at the guests: thaw what is ours, report what is not.

    For boot, a timer each minute, or by hand. Guests that write are not asked; see docs/safe-snapshot.md for the rest.
    """
    end_at_once()
    access = session.rescue_access()
    config = access.config
    is_watched = sys.stderr.isatty() and not session.as_logfmt  # a timer's journal gets the outcome alone
    try:
        with Aloud(session.say, session.clock) as aloud:
            found = recovery.recover(
                access,
                session.me,
                lambda: Journal(config.journal.path),
                aloud,
                session.launcher(config).adopt,
                tell=aloud if is_watched else lambda line, at=None: None,
            )
    except SafeSnapshotError:
        session.warnings += _tell(session, config, None)
        raise
    try:
        with closing(Journal(config.journal.path)) as journal:
            problems = silences.keep_watch(journal, config, session.warnings, session.clock.time())
            problems += publish(config, journal, session.clock)
    except SafeSnapshotError as error:
        problems = [str(error)]
    problems += _tell(session, config, found)  # last: a receiver that does not answer keeps no guest waiting
    lines = text.recovered_logfmt(found, problems) if session.as_logfmt else text.recovered_lines(found, problems)
    session.finish(lines, {"windows": found}, warnings=problems, error=_error_of(found))


def _tell(session: Session, config: Config, found: list[Recovered] | None) -> list[str]:
    """See snapshot/notify/tell.py."""
    own = Own(folder.beside(session.config_path or DEFAULT_PATH), session.say)
    if not config.notify.is_wanted and not own.are_there:
        return []
    return after_recovery(config, lambda: Journal(config.journal.path), found, session.clock, own)


def _error_of(found: list[Recovered]) -> StillFrozenError | None:
    bad = ", ".join(str(r.vmid) for r in found if not r.ok)
    remedy = "its line (in JSON its `detail`) says what is left to do"
    return StillFrozenError(f"these guests need you: {bad}", remedy=remedy) if bad else None
