"""``safe-snapshot report``: one page about the windows of the past."""

from __future__ import annotations

import os
from pathlib import Path

import click

from snapshot.base import files
from snapshot.base.text import counted
from snapshot.cli.guests import guests_options, past_of
from snapshot.cli.line import Session, common, pass_session, since_option
from snapshot.config.selection import Selection
from snapshot.errors import UsageError


@click.command(short_help="One HTML page about the windows of a year.")
@click.option(
    "--html", "file", type=click.Path(dir_okay=False, path_type=Path), help="Where to; - for stdout. It must be given."
)
@since_option("1y")
@guests_options()
@common(has_json=False)
@pass_session
def report(session: Session, *, file: Path | None, since: float, selection: Selection) -> None:
    """Write one self-contained HTML page about all windows of a year, or of each GUEST (as in `history`)."""
    if file is None:
        raise click.UsageError("Missing option '--html': `safe-snapshot report --html report.html`")
    from snapshot.report.digest import digest  # noqa: PLC0415 - 4 ms, which only this command needs
    from snapshot.report.html import page  # noqa: PLC0415 - 6 ms, as above
    from snapshot.report.standing import standing  # noqa: PLC0415 - as above

    config, now = session.config(), session.clock.time()
    question = past_of(session, selection)._replace(since_at=since)
    found = digest(config.journal.path, question, now)
    text = page(found, standing(config, question, session.me, now))
    if str(file) == "-":
        click.echo(text, nl=False)
        return
    _write(file, text)
    session.say(f"wrote {file}: {counted(found.windows, 'run')} of {counted(len(found.guests), 'guest')}")


def _write(file: Path, text: str) -> None:
    """A page is written whole or not at all."""
    try:
        files.put(file, text.encode(), 0o666 & ~_umask())
    except OSError as error:
        raise UsageError(f"{file} cannot be written ({error.strerror})", remedy="choose another --html") from error


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
