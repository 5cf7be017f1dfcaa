"""What is said of a long wait for PVE, now and then: silence looks like a program that hangs."""

from __future__ import annotations

from collections.abc import Callable

from snapshot.take.request import Tools
from snapshot.thaw.telling import AGAIN_SECONDS


class Waiting:
    """A wait for ``what`` until ``ends_at`` (monotonic), in which a signal may come through; called at each look."""

    def __init__(self, tools: Tools, what: str, ends_at: float) -> None:
        self._tools = tools
        self._what = what
        self._ends_at = ends_at
        self._began = self._said_at = tools.clock.monotonic()

    def __call__(self, alive: Callable[[], None] = lambda: None) -> None:
        """Say it if it is time. PVE may have frozen the guest: nobody waits here for who reads it."""
        alive()
        now = self._tools.clock.monotonic()
        if now - self._said_at < AGAIN_SECONDS:
            return
        self._said_at = now
        most = max(0.0, self._ends_at - self._began)
        self._tools.tell(
            f"waiting for {self._what}, {now - self._began:.0f} s so far, at most {most:.0f} s; "
            "Ctrl-C ends only the waiting"
        )
