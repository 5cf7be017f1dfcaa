"""What post-restart orders of the holder, and what the holder reports back: two JSON lines, and nothing else passes."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from snapshot.model import Owner


class HoldOrder(NamedTuple):
    """One guest's backup. Durations in seconds."""

    vmid: int
    freezes_itself: bool
    """The holder freezes (owner ``hook``); else vzdump does, and its freeze is watched."""
    node: str
    upid: str
    """The vzdump task, "" when it could not be found."""
    job: str
    """What the journal knows the job by: the task, else a name for its worker (Worker.job)."""
    log: str
    """Its log file, "" likewise."""
    worker_pid: int
    worker_start: int
    freeze_timeout_seconds: float
    max_window_seconds: float
    guest_name: str = ""
    required: bool = False
    """Policy ``require``: without a freeze of ours there will be no backup, so there is nothing else to watch."""
    not_ours_because: str = ""
    """Why the holder does not freeze though it should, "" when it does: vzdump's own freeze is watched instead."""
    chosen: bool = False
    """The operator wants no freeze of ours: what comes of vzdump's is told, and only a guest at risk is a failure."""
    found_frozen: bool = False
    """Somebody else's freeze was found, and is not ours to end."""
    at_the_knock: bool = False
    """The holder may freeze only when vzdump asks for the agent."""
    source: str = Owner.VZDUMP.value
    """What the journal calls this backup's source (Worker.source)."""
    unclear: bool = False
    """An earlier holder of this backup may have frozen: a freeze that is found is ours, and is thawed."""

    def to_json(self) -> str:
        """One line."""
        return json.dumps(self._asdict())

    @classmethod
    def from_json(cls, text: str | bytes) -> HoldOrder:
        """The inverse. ValueError or TypeError for anything else."""
        return cls(**_object(text))


class HoldReport(NamedTuple):
    """What became of the freeze, as the hook prints it.

    ``held``: as ordered, frozen by us or vzdump's freeze is watched. ``watched``: vzdump's own freeze is watched.
    """

    held: bool
    message: str
    watched: bool = False

    def to_json(self) -> str:
        """One line."""
        return json.dumps(self._asdict())

    @classmethod
    def from_json(cls, text: str | bytes) -> HoldReport:
        """The inverse. ValueError or TypeError for anything else."""
        return cls(**_object(text))


def _object(text: str | bytes) -> dict[str, Any]:
    values = json.loads(text)
    if not isinstance(values, dict):
        raise ValueError("not a JSON object")
    return values
