"""The looks: what was last seen of each guest, one row a guest, in the journal's file.

The minute's recovery writes them; `status`, the metrics and the next recovery read them.

Three answers, never two: a guest is ``frozen``, ``thawed``, or not known, and then ``why`` says why. The table holds
what this machine looks at and nothing older: a guest that is not listed any more has no row.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from enum import Enum
from typing import NamedTuple

from snapshot.journal.record import INSTANT_MAX, printable


class Why(Enum):
    """Why it is not known whether a guest is frozen: a fixed word, for metrics and messages."""

    NOT_ASKED = "not-asked"
    """Its turn to be asked has not come: it stands still since a moment ago, or this look's time was used up."""
    AGENT_SILENT = "agent-silent"
    """The agent did not answer, or is busy with somebody else."""
    AGENT_OFF = "agent-off"
    """The guest has no agent to ask: the option is off, or the guest was not restarted since it was set."""
    REFUSED = "refused"
    """The agent answers, but not this question: the command is blocked in the guest."""
    DENIED = "denied"
    """PVE does not let this token ask."""
    NODE_OFFLINE = "node-offline"
    """The guest's node is not online, or tells nobody how its guests are."""
    OUR_WINDOW = "our-window"
    """It is in a freeze window of ours, whose owner and guard see to it."""


class GuestLook(NamedTuple):
    """One guest as last seen. Instants are Unix times."""

    id: str
    """E.g. ``qemu/100``."""
    vmid: int
    node: str
    name: str
    running: bool
    """As PVE lists it. Of a guest on a node that is offline nobody knows: False, and ``why`` says ``node-offline``."""
    seen_at: float
    """When it was last listed."""
    diskwrite: int | None = None
    """Bytes written since the guest was started, as QEMU counts them, without the agent."""
    still_since_at: float | None = None
    """Since when at least ``diskwrite`` stands still; None while the guest writes."""
    asked_at: float | None = None
    """When its agent was last asked, answered or not."""
    state: str = ""
    """``frozen``, ``thawed``, or empty: not known. A guest that was thawed and has written since is ``thawed``."""
    why: str = ""
    """Where the state is not known: the reason, a fixed word; else empty."""
    frozen_since_at: float | None = None
    """Since when at least it is frozen, where it is."""
    silent: int = 0
    """Questions in a row that were not answered."""
    run_limit_seconds: float | None = None
    """How old its last guarded run may get, as its rules say; None where nobody who knows its tags has said."""
    first_seen_at: float | None = None
    """Since when it is listed here; the journal remembers it."""

    @property
    def is_well(self) -> bool:
        """Whether this is known: not frozen."""
        return self.state == "thawed"


COLUMNS = GuestLook._fields

_NUMBER = frozenset({int, float})
_KINDS = {
    **dict.fromkeys(("id", "node", "name", "state", "why"), frozenset({str})),
    **dict.fromkeys(("vmid", "running", "silent"), frozenset({int})),
    "seen_at": _NUMBER,
    "diskwrite": frozenset({int, type(None)}),
    **dict.fromkeys(
        ("still_since_at", "asked_at", "frozen_since_at", "run_limit_seconds", "first_seen_at"), _NUMBER | {type(None)}
    ),
}


def _is_odd(look: GuestLook) -> bool:
    """Whether a column holds what it cannot: it is not known what was seen of this guest, then."""
    return any(
        type(value) not in _KINDS[column] or (column.endswith("_at") and not 0 <= (value or 0) <= INSTANT_MAX)
        for column, value in look._asdict().items()
    )


def read(db: sqlite3.Connection) -> dict[str, GuestLook]:
    """Every look, by the guest's id; an odd one is left out: the next look takes its place. Raises sqlite3.Error."""
    rows = db.execute(f"SELECT {', '.join(COLUMNS)} FROM looks ORDER BY vmid, id")  # noqa: S608 - our own fields
    found = (GuestLook(*row) for row in rows)
    return {
        look.id: look._replace(running=bool(look.running), name=printable(look.name), node=printable(look.node))
        for look in found
        if not _is_odd(look)
    }


def write(db: sqlite3.Connection, found: Iterable[GuestLook]) -> None:
    """Replace them all inside a transaction: a journal is one machine's, and so is its look at the guests."""
    known = {look.id: look.first_seen_at for look in read(db).values()}
    db.execute("DELETE FROM looks")
    db.executemany(
        f"INSERT OR REPLACE INTO looks ({', '.join(COLUMNS)}) VALUES ({', '.join('?' * len(COLUMNS))})",  # noqa: S608
        [look._replace(first_seen_at=look.first_seen_at or known.get(look.id) or look.seen_at) for look in found],
    )
