"""Getting the metrics out after the journal changed. Never raises: a metrics failure changes no backup.

prometheus_client is imported inside, when there is something to publish: the guard and the hook import this module.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from snapshot.base.clock import Clock
from snapshot.config.settings import Config, MetricsConfig, Pushgateway
from snapshot.errors import JournalError
from snapshot.journal import newcounters, series
from snapshot.journal.record import printable
from snapshot.journal.store import Journal
from snapshot.metrics import textfile

TURN_SECONDS = 15.0
"""How long to wait for another writer: on a node that is busy with many runs each takes its time. No guest is frozen
then, and a guard publishes beside its thaw (guard/background.py)."""
PUSH_SECONDS = 3.0


def publish(config: Config, journal: Journal, clock: Clock) -> list[str]:
    """Write the textfile and push, as configured. The problems as lines for the operator; empty when all is well."""
    problems = []
    try:
        rows = list(journal.series())
        _forget(rows, config, journal, clock)
        _note_new(rows, config, journal, clock)
        path = _textfile(config)
        if path is not None:
            problems += _write(path, config, journal, clock)
        if config.metrics.pushgateway is not None:
            problems += _push(config, config.metrics.pushgateway, journal, clock)
    except JournalError as error:
        problems.append(f"metrics were not written: {error}")
    except Exception as error:  # noqa: BLE001 - whatever it is, the backup goes on; the line names it
        problems.append(f"metrics were not written: internal error ({type(error).__name__}: {error})")
    return problems


def lock_of(config: Config) -> Path:
    """Whose turn it is to publish: a file beside the journal, in a folder that is ours."""
    return config.journal.path.with_name(f"{config.journal.path.name}.publish-lock")


def _textfile(config: Config) -> Path | None:
    path = config.metrics.textfile
    if path is not None and path == MetricsConfig().textfile and not path.parent.is_dir():
        return None  # the default, on a machine without node_exporter: nobody asked for it
    return path


def _forget(rows: list[series.Series], config: Config, journal: Journal, clock: Clock) -> None:
    """Drop removed guests' rows once it is worth a transaction; what is exported does not depend on it."""
    before_at = clock.time() - config.metrics.forget_guest_after_days * 86400
    seen: dict[tuple[str, str, str], float] = {}
    for row in rows:
        key = (row.id, row.node, row.source)
        seen[key] = max(seen.get(key, 0.0), row.seen_at)
    if journal.has_odd_series:
        journal.drop_odd_series()
    kept = {(window.guest.id, window.node, window.source) for window in journal.open_windows()}
    if any(at < before_at and key[0] and key not in kept for key, at in seen.items()):
        with journal.transaction("written") as db:
            series.forget(db, before_at)


def _note_new(rows: list[series.Series], config: Config, journal: Journal, clock: Clock) -> None:
    """Note when a new series was first published (newcounters.py); nothing is written without one."""
    seconds = config.metrics.scrape_interval_seconds
    stamps = (row.value for row in rows if row.name.startswith(newcounters.NEW))
    if newcounters.has_news(stamps, clock.time(), seconds):
        with suppress(JournalError), journal.transaction("written") as db:  # it is published as it is then
            newcounters.note_published(db, clock.time(), seconds)


def _write(path: Path, config: Config, journal: Journal, clock: Clock) -> list[str]:
    from snapshot.metrics import exposition  # noqa: PLC0415 - 42 ms: see the module's docstring

    try:
        textfile.write(
            path, lambda: exposition.render(journal, config, clock.time()), TURN_SECONDS, clock, lock_of(config)
        )
    except OSError as error:
        return [f"the metrics file {path} was not written ({error.strerror or error}); {_remedy(path, error)}"]
    return []


def _push(config: Config, gateway: Pushgateway, journal: Journal, clock: Clock) -> list[str]:
    import http.client  # noqa: PLC0415 - 14 of the 42 ms of prometheus_client, which imports it

    from snapshot.metrics import exposition  # noqa: PLC0415 - 42 ms: see the module's docstring

    try:
        # One after the other, and rendered within the turn, or an older push could arrive after a newer one.
        with textfile.turn(lock_of(config), TURN_SECONDS, clock):
            exposition.push(journal, config, clock.time(), PUSH_SECONDS)
    except (OSError, ValueError, http.client.HTTPException) as error:
        reason = printable(str(getattr(error, "reason", None) or getattr(error, "strerror", None) or error))[:200]
        if gateway.password:
            reason = reason.replace(gateway.password, "***")  # a gateway may echo what it was sent
        return [f"the metrics were not pushed to {gateway.url} ({reason}); see [metrics] pushgateway"]
    return []


def _remedy(path: Path, error: OSError) -> str:
    if isinstance(error, FileNotFoundError):
        return f"create the folder {path.parent}, or set [metrics] textfile (an empty string: no file)"
    if isinstance(error, PermissionError):
        return f"this user may not write to {path.parent}: see [metrics] textfile"
    if isinstance(error, textfile.WaitedTooLongError):
        return "look for a hung process: `fuser -v` on that file"
    return "the file there is as old as its date says"
