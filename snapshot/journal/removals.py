"""The removals: what retention takes away, the intent before the request and the outcome after, one row a snapshot."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from snapshot.base.clock import Clock
from snapshot.journal.file import patiently
from snapshot.journal.record import INSTANT_MAX, printable
from snapshot.journal.schema import REMOVALS
from snapshot.journal.store import Journal
from snapshot.model import Guest

REMOVED, FAILED, NOT_BEGUN = "removed", "failed", "not-begun"
"""How a removal ends: PVE has it done; PVE could not; PVE was never asked, or has not taken it up."""


class Removal(NamedTuple):
    """One row. Open until ``ended_at`` is set: then nobody knows yet what became of it."""

    number: int
    id: str
    """The guest's, e.g. ``qemu/100``."""
    name: str
    run: str
    """The id of the window that took the snapshot."""
    taken_at: int
    """PVE's date of it: one that somebody else takes later under the same name is another."""
    intent_at: float
    upid: str | None = None
    outcome: str | None = None
    detail: str = ""
    ended_at: float | None = None


KEPT_SECONDS = 400 * 86400.0
"""How long a removal that has ended is remembered."""


class Removals:
    """The table of an open journal. Every method raises JournalError; one that writes waits for its turn."""

    def __init__(self, journal: Journal, clock: Clock) -> None:
        self._journal, self._clock = journal, clock

    def begin(self, guest: Guest, name: str, run: str, taken_at: int) -> int:
        """Commit the intent; the row's number."""
        now = self._clock.time()

        def work() -> int:
            with self._journal.transaction("written") as db:
                db.execute("DELETE FROM removals WHERE ended_at < ?", (now - KEPT_SECONDS,))
                row = db.execute(
                    "INSERT INTO removals (id, name, run, taken_at, intent_at, detail) VALUES (?, ?, ?, ?, ?, '')",
                    (guest.id, name, run, taken_at, now),
                )
                return int(row.lastrowid or 0)

        return patiently(work, self._clock)

    def asked(self, number: int, upid: str) -> None:
        """PVE has begun the task ``upid``."""
        self._set("upid = ?", (upid, number))

    def end(self, number: int, outcome: str, detail: str = "") -> None:
        """Commit the outcome."""
        self._set(
            "outcome = ?, detail = ?, ended_at = ?", (outcome, printable(detail)[:500], self._clock.time(), number)
        )

    def open(self, guest: Guest) -> list[Removal]:
        """Those of this guest of which nobody knows what became, oldest first."""
        rows = self._journal.query(
            f"SELECT {REMOVALS} FROM removals WHERE id = ? AND ended_at IS NULL ORDER BY number",  # noqa: S608 - constants
            (guest.id,),
        )
        return [removal for removal in (_checked(tuple(row)) for row in rows) if removal is not None]

    def began(self, guest: Guest, name: str, run: str) -> bool:
        """Whether the removal of this snapshot was begun by us and has failed: PVE may have left it half removed."""
        rows = self._journal.query(
            f"SELECT {REMOVALS} FROM removals WHERE id = ? AND name = ? AND run = ? ORDER BY number DESC LIMIT 1",  # noqa: S608 - constants
            (guest.id, name, run),
        )
        found = _checked(tuple(rows[0])) if rows else None
        return found is not None and found.outcome == FAILED

    def _set(self, what: str, values: Sequence[object]) -> None:
        def work() -> None:
            with self._journal.transaction("written") as db:
                db.execute(f"UPDATE removals SET {what} WHERE number = ?", values)  # noqa: S608 - constants

        patiently(work, self._clock)


def _checked(row: tuple[object, ...]) -> Removal | None:
    """A row whose values are of the types that they say; None for an odd one, by which nothing is done."""
    number, guest, name, run, taken_at, intent_at, upid, outcome, detail, ended_at = row
    texts = (guest, name, run, detail)
    if type(number) is not int or type(taken_at) is not int or not all(isinstance(text, str) for text in texts):
        return None
    if not all(value is None or isinstance(value, str) for value in (upid, outcome)):
        return None
    if not all(value is None or _is_instant(value) for value in (intent_at, ended_at)):
        return None
    return Removal(*row)  # type: ignore[arg-type]


def _is_instant(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= INSTANT_MAX
