"""``safe-snapshot metrics``: the series printed, or served over HTTP."""

from __future__ import annotations

import signal
import threading
from contextlib import closing

import click

from snapshot.cli.line import Session, common, pass_session
from snapshot.journal.store import Journal

PORT = 14638
"""Of our own: the exporters' range, 9100 to 9999, is allocated as a whole in Prometheus' list (its wiki, Default port
allocations); IANA has assigned this one to nobody, and no machine gives it to a connection that it opens.
"""


@click.group()
@common(has_json=False)
def metrics() -> None:
    """The metrics: serve them over HTTP, or print them."""


@metrics.command(name="print")
@common(has_json=False)
@pass_session
def print_metrics(session: Session) -> None:
    """Print the metrics as Prometheus reads them."""
    from snapshot.metrics import exposition  # noqa: PLC0415 - prometheus_client: 13 ms, which only this one needs

    config = session.config()
    with closing(Journal(config.journal.path, read_only=True)) as journal:
        click.echo(exposition.render(journal, config, session.clock.time()), nl=False)


@metrics.command()
@click.option("--address", default="127.0.0.1", show_default=True, help="An IP address of this machine.")
@click.option("--port", type=click.IntRange(0, 65535), default=PORT, show_default=True, help="0: any that is free.")
@common(has_json=False)
@pass_session
def serve(session: Session, *, address: str, port: int) -> None:
    """Serve the metrics over HTTP until a signal ends it."""
    from snapshot.metrics.exporter import Exporter  # noqa: PLC0415 - 14 ms, as above

    with Exporter(address, port, session.config(), session.clock) as exporter:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            # shutdown() waits for the loop that this handler interrupts: it needs a thread of its own.
            signal.signal(number, lambda *_: threading.Thread(target=exporter.shutdown).start())
        click.echo(f"metrics on {exporter.url}", err=True)
        if exporter.is_public:
            click.echo("warning: other machines can read the names and states of all guests there", err=True)
        exporter.serve_forever()
