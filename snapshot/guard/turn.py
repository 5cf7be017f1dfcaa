"""What a guard knows of its owner, from its messages and as a process, and whether it waits for the owner's thaw.

Up to its deadline the owner thaws first, and the guard waits. An owner that stands still past its deadline is killed,
since it may hold the agent's socket.
"""

from __future__ import annotations

from typing import Protocol

from snapshot.base.clock import Clock
from snapshot.guard.link import Op
from snapshot.guard.seams import Inbox, Message
from snapshot.thaw.thawer import Thawer

DEADLINE_MARGIN_SECONDS = 2.0
"""How long after the owner's own deadline the guard steps in: the owner, when it lives, does it first."""

STILL_LOOK_SECONDS = 1.0
"""How often a guard that stays back for an owner past its deadline looks whether that one was stopped."""


class OwnerLife(Protocol):
    """The owner as a process, for what its messages cannot say. Nothing here raises."""

    def is_gone(self) -> bool:
        """Whether it has ended."""
        ...

    def end_if_it_stands_still(self, *, is_silent: bool) -> bool:
        """Kill it if it was stopped, or if it ``is_silent`` and lives; True when that has ended it."""
        ...


class Unseen:
    """An owner of which only the messages are known."""

    def is_gone(self) -> bool:
        """See OwnerLife."""
        return True

    def end_if_it_stands_still(self, *, is_silent: bool) -> bool:
        """See OwnerLife."""
        return False


class OwnersTurn:
    """One window's owner, as its guard knows it."""

    def __init__(self, life: OwnerLife | None, thawer: Thawer, clock: Clock) -> None:
        self._life = life or Unseen()
        self._thawer = thawer
        self._clock = clock
        self.due = float("inf")
        """From when on an owner that stands still has lost its turn."""
        self.has_disarmed = False
        self.is_gone = False
        """Whether it says nothing any more: it has hung up, given up, or was ended."""
        self._heard_at = float("-inf")
        self._may_sit = False
        self._keeps_seat = False
        """From before its freeze to behind its thaw."""

    def has_ended(self) -> bool:
        """Whether its process has."""
        return self._life.is_gone()

    def starts(self, now: float, deadline_seconds: float) -> None:
        """A freeze is sent ``now``: up to its deadline, and a margin, the owner thaws first."""
        self.due = now + deadline_seconds + DEADLINE_MARGIN_SECONDS

    def heard(self, message: Message | None) -> None:
        """What the inbox brought, or None. A message of the owner's shows that it does not stand still."""
        if message is not None and isinstance(message.what, Op):
            self._heard_at = self._clock.monotonic()
            if message.what is Op.FREEZING:
                self._keeps_seat = message.values.get("sits", 0.0) > 0
            self._may_sit = self._keeps_seat or message.what in (Op.ASKING, Op.THAWING)

    def first_word(self, inbox: Inbox, deadline_seconds: float) -> Message:
        """The next message while nothing is at risk. An owner that keeps the agent's seat meanwhile (ASKING), over a
        freeze of others, loses it when it stands still past that deadline.
        """
        while True:
            message = inbox.wait(None if self.due == float("inf") else STILL_LOOK_SECONDS)
            if message is None:
                self.clear_the_way()
            elif message.what is Op.ASKING:
                self.heard(message)
                self.starts(self._clock.monotonic(), deadline_seconds)
            else:
                return message

    def thaws_until(self) -> float:
        """How long to stay back for an owner that thaws: two callers would only be in each other's way."""
        return self._clock.monotonic() + self._thawer.longest_silence_seconds + DEADLINE_MARGIN_SECONDS

    def clear_the_way(self, *, in_vain: bool = False, or_hangs: bool = False) -> bool:
        """Kill an owner that stands still past its deadline; True when one was killed.

        It may hold the agent's socket, and then nobody else gets through. That is assumed when it said so with its
        freeze, when its last message said that it asks or thaws, or when a request of ours was ``in_vain``. A stopped
        process shows in /proc. With ``or_hangs`` one that has been silent for too long is killed, too: an owner that
        works sends a message before each request.
        """
        now = self._clock.monotonic()
        if now < self.due or self.has_disarmed or not (self._may_sit or in_vain):
            return False
        silence = now - max(self._heard_at, self.due)
        is_silent = or_hangs and not self.is_gone and silence > self._thawer.longest_silence_seconds
        if not self._life.end_if_it_stands_still(is_silent=is_silent):
            return False
        self.is_gone = True
        return True
