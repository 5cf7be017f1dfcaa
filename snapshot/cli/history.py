"""The commands that look back and out: ``history``, ``report``, and ``metrics serve`` and ``print``. click only.

main.py adds COMMANDS to its group. What the group shares with its commands is asked for by what it must be able to do
(Shared): main.py imports this module, so this one cannot import main.py.
"""

from __future__ import annotations

import itertools
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import click

from snapshot.base import files
from snapshot.base.clock import Clock
from snapshot.config.settings import Config
from snapshot.errors import UsageError
from snapshot.journal.store import Journal, WindowRecord
from snapshot.model import parse_vmid
from snapshot.report import history as past
from snapshot.report.history import Question

DEFAULT_LINES = 50


@runtime_checkable
class Shared(Protocol):
    """What cli.State offers."""

    as_json: bool
    clock: Clock

    def config(self) -> Config:
        """The configuration."""
        ...

    def say(self, line: str) -> None:
        """A progress line."""
        ...


def _vmid(_ctx: click.Context, _param: click.Parameter, value: str | None) -> int | None:
    try:
        return None if value is None else parse_vmid(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


def _since(ctx: click.Context, _param: click.Parameter, value: str | None) -> float | None:
    try:
        return None if value is None else past.parse_since(value, ctx.obj.clock.time())
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


def _json(command: Callable[..., Any]) -> Callable[..., Any]:
    return click.option("--json", "as_json", is_flag=True, help="One versioned JSON object on stdout.")(command)


def _since_option(help_text: str, default: str | None) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    return click.option("--since", callback=_since, default=default, metavar="WHEN", help=help_text)


@click.command()
@click.argument("vmid", callback=_vmid, required=False)
@_since_option("Only windows since: 36h, 7d, 2w, 1y, or a date.", None)
@click.option("--failed", is_flag=True, help="Only windows that failed.")
@click.option("--limit", "-n", type=click.IntRange(min=0), help=f"So many; 0: all [default: {DEFAULT_LINES} lines].")
@_json
@click.option("--csv", "as_csv", is_flag=True, help="CSV on stdout, with a head.")
@click.pass_obj
def history(
    state: Shared,
    *,
    vmid: int | None,
    since: float | None,
    failed: bool,
    limit: int | None,
    as_json: bool,
    as_csv: bool,
) -> None:
    """List freeze windows, newest first; of guest VMID or of all."""
    as_json = as_json or state.as_json
    if as_json and as_csv:
        raise click.UsageError("--json and --csv exclude each other")
    found = past.windows(state.config().journal.path, Question(vmid, since, failed))
    if as_json or as_csv:
        chosen = _first(found, limit or 0)
        _stream(past.json_chunks(chosen) if as_json else past.csv_chunks(chosen))
        return
    shown = DEFAULT_LINES if limit is None else limit
    _stream(f"{line}\n" for line in past.lines(_first(found, shown)))
    if shown and next(found, None) is not None:
        click.echo(f"there are more: these are the newest {shown}; --limit 0 shows all", err=True)


@click.command()
@click.option(
    "--html", "file", required=True, type=click.Path(dir_okay=False, path_type=Path), help="Where to; - for stdout."
)
@_since_option("Only windows since: 36h, 7d, 2w, 1y, or a date.", "1y")
@click.argument("vmid", callback=_vmid, required=False)
@click.pass_obj
def report(state: Shared, *, file: Path, since: float, vmid: int | None) -> None:
    """Write one self-contained HTML page about all windows of a year, or of guest VMID."""
    from snapshot.report.digest import digest  # noqa: PLC0415 - only this command draws
    from snapshot.report.html import page  # noqa: PLC0415 - as above

    config = state.config()
    found = digest(config.journal.path, Question(vmid, since), state.clock.time())
    text = page(found)
    if str(file) == "-":
        click.echo(text, nl=False)
        return
    _write(file, text)
    state.say(f"wrote {file}: {found.windows} windows of {len(found.guests)} guests")


@click.group()
def metrics() -> None:
    """The metrics: serve them over HTTP, or print them."""


@metrics.command(name="print")
@click.pass_obj
def print_metrics(state: Shared) -> None:
    """Print the metrics as Prometheus reads them."""
    from snapshot.metrics import exposition  # noqa: PLC0415 - the import of prometheus_client costs

    config = state.config()
    with closing(Journal(config.journal.path, read_only=True)) as journal:
        click.echo(exposition.render(journal, config, state.clock.time()), nl=False)


@metrics.command()
@click.option("--address", default="127.0.0.1", show_default=True, help="An IP address of this machine.")
@click.option("--port", type=click.IntRange(0, 65535), default=9836, show_default=True, help="0: any that is free.")
@click.pass_obj
def serve(state: Shared, *, address: str, port: int) -> None:
    """Serve the metrics over HTTP until a signal ends it."""
    from snapshot.metrics.exporter import Exporter  # noqa: PLC0415 - as above

    with Exporter(address, port, state.config(), state.clock) as exporter:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            # shutdown() waits for the loop that this handler interrupts: it needs a thread of its own.
            signal.signal(number, lambda *_: threading.Thread(target=exporter.shutdown).start())
        click.echo(f"metrics on {exporter.url}", err=True)
        if exporter.is_public:
            click.echo("warning: other machines can read the names and states of all guests there", err=True)
        exporter.serve_forever()


COMMANDS: tuple[click.Command, ...] = (history, report, metrics)


def _first(found: Iterator[WindowRecord], most: int) -> Iterator[WindowRecord]:
    """So many of them, however large a number somebody asks for; 0: all."""
    return itertools.islice(found, min(most, sys.maxsize) or None)


def _stream(pieces: Iterable[str]) -> None:
    for piece in pieces:
        sys.stdout.write(piece)
    sys.stdout.flush()


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
