"""The knock: PVE's ping waits behind us for the agent. Whoever sends a freeze now is in front of it.

PVE's worker, the one of a snapshot as vzdump's, prepares for a while before it asks whether the agent is there
(PVE::QemuServer::Agent, qga_check_running). Since we hold the agent's seat its ping waits, for 3 s. The freeze goes in
front of it over that very connection, and then it is let pass: the guest is not frozen while PVE prepares.
"""

from __future__ import annotations

from typing import NamedTuple

from snapshot.errors import JournalError
from snapshot.journal.book import JournalBook
from snapshot.model import FreezeOutcome, FreezeReply, Owner
from snapshot.pve.agent import AgentChannel

PING_WAITS_SECONDS = 2.5
"""How long PVE's ping waits by its clock, counted from an instant before it came: half a second less than PVE says.

A TERM to PVE's worker ends it sooner, and the worker goes on as without an agent: its log decides (asked_in_vain)."""

COMES_SECONDS = 6.0
"""How long the knock is waited for: a task may have to wait for a lock first."""

FREEZES = 3
SHORT_SECONDS = 1.0
"""The last freezes of a guest, all of them acknowledged, each within this: it can be frozen at the knock."""


class Knock(NamedTuple):
    """Somebody waits behind the seat that is held."""

    seat: AgentChannel
    until: float
    """The instant (monotonic) until which a ping waits if nobody ends it. An answer to the freeze that comes later
    proves nothing: PVE may have given up its ping, and taken its point in time."""

    def answered(self, reply: FreezeReply, at: float) -> FreezeReply:
        """What is left of the freeze's answer that was read at the instant ``at``. In time, PVE's ping is let pass.

        It may have lain there for long: whoever was stopped (SIGSTOP, swap) reads it after its own time limit.
        """
        if reply.outcome is FreezeOutcome.ACKNOWLEDGED and at > self.until:
            return FreezeReply(FreezeOutcome.UNKNOWN, detail="answered when PVE may have gone on without the agent")
        if reply.outcome is FreezeOutcome.ACKNOWLEDGED:
            self.seat.sit()
        return reply


def knocked(seat: AgentChannel, seconds: float) -> Knock | None:
    """The knock, if it comes within ``seconds``."""
    at = seat.knock(seconds)
    return None if at is None else Knock(seat, at + PING_WAITS_SECONDS)


def freezes_quickly(book: JournalBook, vmid: int) -> bool:
    """Whether the journal knows the guest's last freezes of ours, and all of them were short."""
    try:
        windows = book.journal.history(vmid=vmid, limit=8 * FREEZES)
    except JournalError:
        return False
    ours = [one for one in windows if one.owner in (Owner.SNAPSHOT.value, Owner.HOOK.value) and one.freeze_outcome]
    quick = [
        one
        for one in ours[:FREEZES]
        if one.freeze_outcome == FreezeOutcome.ACKNOWLEDGED.value
        and one.freezing_seconds is not None
        and one.freezing_seconds < SHORT_SECONDS
    ]
    return len(quick) == FREEZES
