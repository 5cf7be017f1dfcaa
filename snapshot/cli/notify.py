"""``safe-snapshot notify``: tries the ways of [notify], or sends what waits."""

from __future__ import annotations

from contextlib import closing

import click

from snapshot.cli.line import Session, common, pass_session
from snapshot.errors import ConfigError, SafeSnapshotError
from snapshot.journal.file import is_absent
from snapshot.journal.store import Journal
from snapshot.notify import sending, tell


@click.command(short_help="Try the ways on which you are told of alarms.")
@click.option("--test", "is_test", is_flag=True, help="Send one message on each way, and say what came of it.")
@common()
@pass_session
def notify(session: Session, *, is_test: bool) -> None:
    """Send now what waits to be sent. With --test: one message on each way of [notify].

    Without it `recover` does that each minute; a way that failed is tried less and less often. See docs/notify.md.
    """
    config = session.config()
    if not config.notify.is_wanted:
        raise ConfigError(
            "[notify] sets no way: there is nothing to try or to send",
            remedy='`mail_to = "root"` is the shortest: docs/notify.md (own commands are called by `recover` alone)',
        )
    if is_test:
        found = tell.test(config, session.clock)
    elif is_absent(config.journal.path):
        found = []
    else:
        with closing(Journal(config.journal.path)) as journal:
            found = sending.send_due(journal, config, session.clock, at_once=True)
    lines = [f"{done.way} to {done.place}: {'' if done.ok else 'FAILED: '}{done.detail}" for done in found]
    bad = ", ".join(done.way for done in found if not done.ok)
    error = SafeSnapshotError(f"not sent by {bad}", remedy="the lines above say why") if bad else None
    session.finish(lines or ["nothing waits to be sent"], {"ways": found}, error=error)
