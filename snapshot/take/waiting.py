"""What is said of a long wait for PVE, or for a thaw, now and then: silence looks like a program that hangs."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from snapshot.model import Vmid
from snapshot.take.request import Tools
from snapshot.thaw.telling import AGAIN_SECONDS, in_words


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
        so_far = f"{now - self._began:.0f} s so far, at most {most:.0f} s"
        with suppress(Exception):  # what cannot be said breaks no window
            self._tools.tell(f"waiting for {self._what}, {so_far}; Ctrl-C ends only the waiting")


class ThawNews:
    """A thaw in a window: each way's answer that did not do is told once, then the last ones now and then."""

    def __init__(self, vmid: Vmid, tools: Tools) -> None:
        self._vmid = vmid
        self._tools = tools
        self._last: dict[str, str] = {}
        self._said_at = tools.clock.monotonic()

    def heard(self, name: str, answer: str) -> None:
        """The way ``name`` has not thawed the guest."""
        is_new = name not in self._last
        self._last[name] = answer
        now = self._tools.clock.monotonic()
        if is_new or now - self._said_at >= AGAIN_SECONDS:
            self._said_at = now
            answers = in_words({name: answer} if is_new else self._last)
            self._tools.tell(f"guest {self._vmid}: no thaw confirmed yet, Ctrl-C does not end the trying: {answers}")
