"""Every path of an alarm is used once at a drill's end, marked as a drill: metrics, mail, webhook."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from snapshot.base.clock import Clock
from snapshot.base.files import open_regular
from snapshot.base.text import named
from snapshot.config.settings import Config
from snapshot.drill.rounds import DrillRound
from snapshot.errors import JournalError
from snapshot.journal import families
from snapshot.journal.drills import note_drill
from snapshot.journal.record import new_id
from snapshot.journal.series import local_name
from snapshot.journal.store import Journal
from snapshot.metrics.publish import publish
from snapshot.model import Guest
from snapshot.notify import letter, tell
from snapshot.notify.sending import Tried

METRICS = "metrics"
MOST_BYTES = 64 << 20


def fire(config: Config, clock: Clock, guest: Guest, rounds: Sequence[DrillRound], unheard: str) -> list[Tried]:
    """Use each path that is configured; what came of it. ``unheard``: why nobody would see the metrics."""
    is_kept = all(found.is_kept for found in rounds)
    lines = [
        f"THIS IS A DRILL. Guest {named(guest.vmid, guest.name)} on {guest.node} was frozen on purpose, to see that",
        "everything thaws it that should.",
        "",
        *(line for found in rounds for line in found.lines),
        "",
        "Nothing is to be done about this message, but to see that it came.",
    ]
    came_of_it = "every bound kept" if is_kept else "NOT every bound kept"
    title = f"DRILL: {guest.node}: guest {guest.vmid} was frozen on purpose, {came_of_it}"
    body = letter.drill_body(new_id(), local_name(), clock.time(), title, "\n".join(lines))
    return [*_metrics(config, clock, unheard, is_kept=is_kept), *tell.send_each(config, body, clock)]


def _metrics(config: Config, clock: Clock, unheard: str, *, is_kept: bool) -> list[Tried]:
    """A series of the drill's own, for the alert ``Drill``: no series of a run moves."""
    gateway, path = config.metrics.pushgateway, config.metrics.textfile
    place = str(path) if path is not None else gateway.url if gateway is not None else ""
    now = clock.time()
    try:
        with closing(Journal(config.journal.path)) as journal:
            note_drill(journal, is_kept, now)
            problems = publish(config, journal, clock)
    except JournalError as error:
        return [Tried(METRICS, place, False, error.message)]
    if unheard or problems:
        return [Tried(METRICS, place, False, unheard or "; ".join(problems))]
    if not place:
        return []  # as the operator wants it
    if path is not None and path.parent.is_dir() and not _has(path, now):
        return [Tried(METRICS, place, False, "the file was written, and does not show the drill")]
    return [Tried(METRICS, place, True, "written; the alert VzdumpHooksDrill fires for a quarter of an hour")]


def _has(path: Path, at: float) -> bool:
    """Whether the file has this drill's instant, as node_exporter would read it."""
    name = families.LAST_DRILL.name.encode()
    try:
        with open_regular(path) as file:
            lines = file.read(MOST_BYTES).splitlines()
    except OSError:
        return False
    values = [line.rpartition(b" ")[2] for line in lines if line.startswith(name)]
    return any(abs(float(value) - at) < 1.0 for value in values)
