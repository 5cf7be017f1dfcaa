"""What is said of a thaw that takes long: what each way has answered, and for how long it goes on. A thaw that works at
the first try says nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress

from snapshot.base.clock import Clock
from snapshot.model import Say

AGAIN_SECONDS = 20.0
"""How often it is said that it goes on."""


class Answers:
    """What each way to a guest's agent has answered last, by its name, that did not do. ``heard`` must not block."""

    def __init__(self, heard: Callable[[str, str], None] = lambda name, answer: None) -> None:
        self.last: dict[str, str] = {}
        self._heard = heard

    def note(self, name: str, answer: str) -> None:
        """One more answer."""
        self.last[name] = answer
        with suppress(Exception):  # who listens keeps no thaw from going on
            self._heard(name, answer)


def in_words(answers: Mapping[str, str]) -> str:
    """What the ways have answered; those with the same answer together."""
    names: dict[str, list[str]] = {}
    for name, answer in answers.items():
        names.setdefault(answer.removeprefix(name).lstrip(": "), []).append(name)
    return "; ".join(f"{', '.join(some)}: {answer}" for answer, some in names.items())


class News:
    """For who waits for one guest, until ``ends_at`` (monotonic)."""

    def __init__(self, vmid: int, ends_at: float, clock: Clock, say: Say) -> None:
        self._vmid = vmid
        self._ends_at = ends_at
        self._clock = clock
        self._say = say
        self._told: dict[str, str] = {}
        self._news: dict[str, str] = {}
        self._said_at = 0.0

    def heard(self, name: str, answer: str) -> None:
        """The way ``name`` has not thawed it: what it answered. Each is told once, and what is new now and then."""
        now = self._clock.monotonic()
        yet = f"{max(0.0, self._ends_at - now):.0f} s"
        if not self._told:
            self._tell(f"not thawed yet, every way is tried for another {yet}; Ctrl-C ends only the trying", now)
        if self._told.get(name) != answer:
            self._news[name] = answer
        if name not in self._told:
            self._tell(in_words({name: answer}), now)
        elif now - self._said_at >= AGAIN_SECONDS:
            news = in_words(self._news) or "the same answers"
            self._tell(f"still not thawed, tried for another {yet}: {news}", now)
        else:
            return
        self._told |= self._news | {name: answer}
        self._news = {}

    def _tell(self, words: str, now: float) -> None:
        self._said_at = now
        self._say(f"guest {self._vmid}: {words}")
