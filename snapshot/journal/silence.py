"""What should have happened and did not, as data; who finds it stands in silences.py and labelruns.py."""

from __future__ import annotations

from typing import NamedTuple

from snapshot.journal.looks import GuestLook


class Silence(NamedTuple):
    """What should have happened and did not. ``key`` begins with the name of its runbook, and stays while it lasts."""

    key: str
    line: str
    since_at: float | None = None
    look: GuestLook | None = None
    """The guest that it is about, where it is one's."""
    has_end: bool = True
    """An event has none: it is shown for EVENT_SECONDS."""

    @property
    def runbook(self) -> str:
        """Its page in docs/runbooks, without .md; ``metrics`` has none."""
        return self.key.partition(":")[0]
