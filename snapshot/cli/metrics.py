"""``safe-snapshot metrics``: the series printed, or served over HTTP."""

from __future__ import annotations

import os
import signal
from contextlib import closing

import click

from snapshot.base.signals import SIGNALS
from snapshot.cli.line import Session, common, end_at_once, pass_session
from snapshot.journal.reader import JournalReader
from snapshot.report import console

PORT = 14638
"""Of our own: the exporters' range, 9100 to 9999, is allocated as a whole in Prometheus' list (its wiki, Default port
allocations); IANA has assigned this one to nobody, and no machine gives it to a connection that it opens.
"""


@click.group(invoke_without_command=True, short_help="Print the metrics, or serve them over HTTP.")
@common(has_json=False)
@click.pass_context
def metrics(ctx: click.Context) -> None:
    """Print the metrics as Prometheus reads them; or serve them over HTTP."""
    if ctx.invoked_subcommand is None:
        ctx.invoke(print_metrics)


@metrics.command(name="print")
@common(has_json=False)
@pass_session
def print_metrics(session: Session) -> None:
    """Print the metrics as Prometheus reads them; the word `print` may be left out."""
    from snapshot.metrics import exposition  # noqa: PLC0415 - prometheus_client: 13 ms, which only this one needs

    config = session.config()
    with closing(JournalReader(config.journal.path)) as journal:
        click.echo(exposition.render(journal, config, session.clock.time()), nl=False)


@metrics.command()
@click.option("--address", default="127.0.0.1", show_default=True, help="An IP address of this machine.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    metavar="PORT",
    default=PORT,
    show_default=True,
    help="0: any that is free.",
)
@common(has_json=False)
@pass_session
def serve(session: Session, *, address: str, port: int) -> None:
    """Serve the metrics over HTTP until a signal ends it."""
    end_at_once("nothing was served yet")
    from snapshot.metrics.exporter import Exporter  # noqa: PLC0415 - 14 ms, as above

    with Exporter(address, port, session.config(), session.clock) as exporter:
        for number in SIGNALS:
            # Nothing is left to be done. shutdown() would need a thread of its own, and to start one in a handler may
            # be to wait for a lock of the very code that was interrupted: for ever.
            signal.signal(number, lambda *_: os._exit(0))
        click.echo(f"metrics on {exporter.url}", err=True)
        if exporter.is_public:
            console.err("warning: other machines can read the names and states of all guests there")
        exporter.serve_forever()
