"""The interfaces that core.py uses: what wakes a guard (Inbox) and where it reports (Recorder).

What stands behind them in the real process is in inbox.py, recorder.py and background.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from types import MappingProxyType
from typing import NamedTuple, Protocol

from snapshot.guard.link import Op
from snapshot.journal.record import Cause
from snapshot.model import ThawReport


class Happening(Enum):
    """What an inbox may bring besides the owner's messages."""

    OWNER_GONE = "owner gone"
    WATCHED_DIED = "watched process died"
    SIGNAL = "signal"


class Message(NamedTuple):
    """One thing that happened."""

    what: Op | Happening
    values: Mapping[str, float] = MappingProxyType({})


class Inbox(Protocol):
    """Everything that can wake a guard."""

    def wait(self, seconds: float | None) -> Message | None:
        """The next message, or None after ``seconds`` (None: for ever)."""
        ...

    def close(self) -> None:
        """Hang up: the owner sees that nobody listens any more."""
        ...


class Recorder(Protocol):
    """Where a guard reports. Nothing here raises or blocks for long."""

    def intervened(self, cause: Cause, report: ThawReport) -> None:
        """The first thaw request of an intervention has been made."""
        ...

    def stuck(self, cause: Cause, report: ThawReport) -> None:
        """Retries have reached their slowest pace: raise the alert."""
        ...

    def thawed(self, cause: Cause, report: ThawReport, *, watching_seconds: float) -> None:
        """The guest is thawed; ``watching_seconds`` above 0: late freezes are still possible for so long."""
        ...

    def late_freeze(self) -> None:
        """A freeze was executed after everybody had given up waiting for it."""
        ...

    def left_open(self) -> None:
        """A signal ends the guard while a late freeze is still possible: `recover` takes over."""
        ...

    def closed(self, *, by_owner: bool) -> None:
        """The window is over. ``by_owner``: its owner lives, or disarmed us, and records the outcome itself."""
        ...
