"""The labels' runs: when each guest last got a snapshot of a label, whether it is expected, and who was left out.

Expected is what the guest's tag in PVE says (``snap-daily-7``); the minute's look writes that down, the runs the rest.
A label's period is its name: of ``daily`` one is due each day. Of a word that is no period nothing is expected.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import NamedTuple

from snapshot.base.clock import iso
from snapshot.base.text import named
from snapshot.journal.looks import GuestLook
from snapshot.journal.record import INSTANT_MAX, printable
from snapshot.journal.schema import LABEL_RUNS
from snapshot.journal.silence import Silence
from snapshot.journal.store import Journal
from snapshot.model import Guest

PERIOD_SECONDS: Mapping[str, float] = {
    "hourly": 3600.0,
    "daily": 86400.0,
    "weekly": 7 * 86400.0,
    "monthly": 31 * 86400.0,
    "yearly": 366 * 86400.0,
}

SLACK = 0.25
"""How much later than its period a label may come before it is an alarm, as a part of it: a run waits for its turn and
for locked guests, and a timer has its spread."""

LEAST_SLACK_SECONDS = 1800.0


LEFT_OUT_SECONDS = 40 * 86400.0
"""How long a guest is told that was left out and that no run of the label has come to since."""


class LabelRun(NamedTuple):
    """One label of one guest. Instants are Unix times."""

    label: str
    id: str
    """The guest's, e.g. ``qemu/100``."""
    vmid: int
    node: str
    expected_since_at: float | None = None
    """Since when the guest is known to ask for it; None: no tag of a running guest here does."""
    last_at: float | None = None
    """When the last snapshot with the label was taken, by us or, as PVE lists it, by another node."""
    left_out_at: float | None = None
    """When a run of the label left the guest out; None since one that did not."""
    left_out_why: str = ""

    @property
    def newest_at(self) -> float:
        """When anything was last known of it."""
        return max(self.expected_since_at or 0.0, self.last_at or 0.0, self.left_out_at or 0.0)


def limit_seconds(label: str) -> float:
    """How old a label's last snapshot of a guest may get; 0: nothing is expected of a label of this name."""
    period = PERIOD_SECONDS.get(label, 0.0)
    return period + max(LEAST_SLACK_SECONDS, SLACK * period) if period else 0.0


def overdue_since(run: LabelRun, now: float) -> float | None:
    """The instant since when nothing came of a label that is expected, where that is too long ago; else None."""
    limit = limit_seconds(run.label)
    if run.expected_since_at is None or not limit:
        return None
    since = max(run.expected_since_at, run.last_at or 0.0)
    return since if now - since > limit else None


def label_runs(journal: Journal) -> list[LabelRun]:
    """All of them, odd rows left out. JournalError."""
    rows = journal.query(f"SELECT {LABEL_RUNS} FROM label_runs ORDER BY label, vmid, id")  # noqa: S608 - a constant
    found = (tuple(row) for row in rows)
    return [LabelRun(*row) for row in found if _is_sane(row)]


def label_silences(journal: Journal, looks: Mapping[str, GuestLook], now: float) -> Iterator[Silence]:
    """Labels that did not come, and guests that the last run of one left out. JournalError."""
    for run in label_runs(journal):
        look = looks.get(run.id)
        guest = f"guest {named(run.vmid, look.name if look else '')} on {run.node}"
        since = overdue_since(run, now)
        if since is not None and look is not None:
            what = f"its last {run.label} snapshot is of {iso(run.last_at)}" if run.last_at else "it has none yet"
            line = f"{guest}: its tag asks for {run.label} snapshots, and {what}; does the label's timer run?"
            yield Silence(f"label-missed:{run.id}:{run.label}", line, since, look)
        if run.left_out_at is not None and now - run.left_out_at < LEFT_OUT_SECONDS:
            line = f"{guest}: the {run.label} run at {iso(run.left_out_at)} left it out: {run.left_out_why}"
            about = look or GuestLook(run.id, run.vmid, run.node, "", running=False, seen_at=run.left_out_at)
            yield Silence(f"label-left-out:{run.id}:{run.label}", line, run.left_out_at, about)


def note_run(
    journal: Journal, label: str, at: float, taken: Iterable[Guest], left_out: Iterable[tuple[Guest, str]]
) -> None:
    """A run of ``label`` has ended: who got a snapshot, and who was left out and why. JournalError."""
    with journal.transaction("written") as db:
        for guest in taken:
            db.execute(
                f"""INSERT INTO label_runs ({LABEL_RUNS}) VALUES (?, ?, ?, ?, NULL, ?, NULL, '')
                ON CONFLICT (label, id) DO UPDATE SET node = excluded.node, last_at = excluded.last_at,
                left_out_at = NULL, left_out_why = ''""",  # noqa: S608 - a constant
                (label, guest.id, guest.vmid, guest.node, at),
            )
        for guest, why in left_out:
            db.execute(
                f"""INSERT INTO label_runs ({LABEL_RUNS}) VALUES (?, ?, ?, ?, NULL, NULL, ?, ?)
                ON CONFLICT (label, id) DO UPDATE SET node = excluded.node, left_out_at = excluded.left_out_at,
                left_out_why = excluded.left_out_why""",  # noqa: S608 - a constant
                (label, guest.id, guest.vmid, guest.node, at, printable(why)[:200]),
            )


def note_seen(journal: Journal, label: str, guest: Guest, at: float) -> None:
    """PVE lists a snapshot of the label that was taken then, by whomever of us. JournalError."""
    with journal.transaction("written") as db:
        db.execute(
            "UPDATE label_runs SET last_at = max(coalesce(last_at, 0), ?) WHERE label = ? AND id = ?",
            (at, label, guest.id),
        )


def note_expected(journal: Journal, wanted: Collection[tuple[Guest, str]], now: float, forget_before_at: float) -> None:
    """What the tags of the guests that run here ask for, each a guest and a label. JournalError.

    Nothing is written where nothing has changed: this is asked each minute. What is not asked for any more is expected
    no longer, and is forgotten when nothing came of it since ``forget_before_at``.
    """
    known = {(run.id, run.label): run for run in label_runs(journal)}
    asked = {(guest.id, label): guest for guest, label in wanted}
    new = [(key, guest) for key, guest in asked.items() if _is_new(known.get(key), guest)]
    gone = [key for key, run in known.items() if run.expected_since_at is not None and key not in asked]
    old = [key for key, run in known.items() if key not in asked and run.newest_at < forget_before_at]
    if not (new or gone or old):
        return
    with journal.transaction("written") as db:
        for (name, label), guest in new:
            db.execute(
                f"""INSERT INTO label_runs ({LABEL_RUNS}) VALUES (?, ?, ?, ?, ?, NULL, NULL, '')
                ON CONFLICT (label, id) DO UPDATE SET node = excluded.node,
                expected_since_at = coalesce(label_runs.expected_since_at, excluded.expected_since_at)""",  # noqa: S608 - a constant
                (label, name, guest.vmid, guest.node, now),
            )
        for name, label in gone:
            db.execute("UPDATE label_runs SET expected_since_at = NULL WHERE label = ? AND id = ?", (label, name))
        for name, label in old:
            db.execute("DELETE FROM label_runs WHERE label = ? AND id = ?", (label, name))


def _is_new(run: LabelRun | None, guest: Guest) -> bool:
    return run is None or run.expected_since_at is None or run.node != guest.node


def _is_sane(row: tuple[object, ...]) -> bool:
    label, guest, vmid, node, *instants, why = row
    return (
        all(isinstance(text, str) for text in (label, guest, node, why))
        and type(vmid) is int
        and all(at is None or (type(at) in (int, float) and 0 <= at <= INSTANT_MAX) for at in instants)  # type: ignore[operator]
    )
