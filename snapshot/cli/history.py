"""``safe-snapshot history``: the windows of the past, as lines, JSON or CSV."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import click

from snapshot.cli.guests import guests_options, past_of
from snapshot.cli.line import Session, common, pass_session, since_option
from snapshot.config.selection import Selection
from snapshot.journal.record import WindowRecord
from snapshot.report import console
from snapshot.report import history as past

DEFAULT_LINES = 50


@click.command(short_help="List freeze windows, newest first.")
@guests_options()
@since_option(None)
@click.option("--failed", is_flag=True, help="Only windows that failed.")
@click.option(
    "--limit", "-n", type=click.IntRange(min=0), metavar="N", help=f"So many; 0: all [default: {DEFAULT_LINES}]."
)
@click.option("--csv", "as_csv", is_flag=True, help="CSV on stdout, with a head.")
@common()
@pass_session
def history(
    session: Session, *, selection: Selection, since: float | None, failed: bool, limit: int | None, as_csv: bool
) -> None:
    """List freeze windows, newest first; of each GUEST or of all. Each with the name of its snapshot, and its verdict.

    Guests are known by the journal's own vmids, names and nodes; PVE is asked for --tag, --pool and labels alone.
    """
    if session.as_json and as_csv:
        raise click.UsageError("--json and --csv exclude each other")
    path = session.config().journal.path
    question = past_of(session, selection)._replace(since_at=since, failed=failed)
    found = past.windows(path, question)
    if session.as_json or as_csv:
        chosen = _first(found, limit or 0)
        if session.as_json:
            session.stream("windows", map(past.flat, chosen))
        _write(past.csv_chunks(chosen))
        return
    shown = DEFAULT_LINES if limit is None else limit
    first = next(found, None)
    if first is None:
        console.err(_nothing(path, question))
        return
    found = itertools.chain([first], found)
    _write(f"{line}\n" for line in past.lines(_first(found, shown)))
    if shown and next(found, None) is not None:
        click.echo(f"there are more: these are the newest {shown}; --limit 0 shows all", err=True)


def _nothing(path: Path, question: past.Question) -> str:
    """That there is nothing to be shown, in a line beside the list; a list that is read by a program stays empty."""
    if question == past.Question() or next(past.windows(path, past.Question()), None) is None:
        return f"no freeze window yet: the journal {path} begins with the first snapshot or backup"
    return "no freeze window is like that: `safe-snapshot history` lists all that there are"


def _first(found: Iterator[WindowRecord], most: int) -> Iterator[WindowRecord]:
    """So many of them, however large a number somebody asks for; 0: all."""
    return itertools.islice(found, min(most, sys.maxsize) or None)


def _write(pieces: Iterable[str]) -> None:
    for piece in pieces:
        sys.stdout.write(piece)
    sys.stdout.flush()
