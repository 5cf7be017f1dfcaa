"""Sends what waits in the outbox: each way in its own order, again when it could not be, and never for long.

Only a process that holds no guest sends: `recover`, or an operator's command. The next recovery is due within a minute:
so a round gives each way one letter, and more only while it is young. A letter that cannot be sent is tried for a day.
"""

from __future__ import annotations

import json
from collections import Counter
from typing import NamedTuple

from snapshot.base.clock import Clock
from snapshot.base.retry import Pace
from snapshot.base.text import counted
from snapshot.config.settings import Config
from snapshot.journal import outbox
from snapshot.journal.outbox import Letter
from snapshot.journal.store import Journal
from snapshot.notify import ways
from snapshot.notify.ways import Own
from snapshot.pve.https_post import NotSentError

PACE = Pace(first_seconds=60.0, slowest_seconds=900.0)
"""Between two attempts on one way. The first interval is longer than an attempt may take: a letter that is claimed is
nobody else's until then."""

GIVE_UP_SECONDS = 86400.0
"""How long a letter is tried."""

ROUND_SECONDS = 30.0
"""By when the second and later letters of a way must have had all of their time. The first of each has it in any case:
however slow all receivers are, a round ends after the sum of the ways' limits."""


class Tried(NamedTuple):
    """What was tried on one way, and what came of it."""

    way: str
    place: str
    """Where it leads, as far as that is no secret."""
    ok: bool
    detail: str


def send_due(
    journal: Journal, config: Config, clock: Clock, own: Own | None = None, *, at_once: bool = False
) -> list[Tried]:
    """Send what waits and is due (``at_once``: or not). What was tried. JournalError."""
    return Sending(journal, config, clock, own, at_once=at_once).run()


class Sending:
    """What is sent at one time. ``is_well``: whether the recovery found all well; None where there was none."""

    def __init__(
        self,
        journal: Journal,
        config: Config,
        clock: Clock,
        own: Own | None,
        *,
        at_once: bool = False,
        is_well: bool | None = None,
    ) -> None:
        self._journal, self._config, self._clock, self._own = journal, config, clock, own
        self._at_once, self._is_well = at_once, is_well
        self.has_told_failure = False
        """Whether the last ping of a job said that it had failed."""
        self._sent = Counter[str]()
        self._failed: list[Tried] = []

    def run(self) -> list[Tried]:
        """One letter of each way, and so on as long as there is time."""
        ends_at = self._clock.monotonic() + ROUND_SECONDS
        going = list(ways.all_ways(self._config, self._own))
        if ways.is_shared(self._config) and self._is_well is None and ways.JOBS in going:
            going.remove(ways.JOBS)  # the next recovery knows whether all is well
        is_first = True
        while going:
            for way in tuple(going):
                has_time = is_first or self._clock.monotonic() + ways.SECONDS_OF[way]() <= ends_at
                if not (has_time and self._send_next(way)):
                    going.remove(way)
            is_first = False
        return [*self._failed, *(self._tried(way, f"{counted(n, 'message')} sent") for way, n in self._sent.items())]

    def _send_next(self, way: str) -> bool:
        """Send the letter whose turn it is; False when there is none, another process has it, or it was not taken."""
        now = self._clock.time()
        found = self._next(way, now)
        if found is None or not outbox.claim(self._journal, found, now + PACE.interval(found.attempts + 1)):
            return False
        if way == ways.COMMANDS and self._own is not None:
            said = ways.call_commands(self._own, self._config, found.body)
            self._failed += [self._tried(way, line, ok=False) for line in said]
            outbox.sent(self._journal, found)
            return True
        if way == ways.JOBS and self._is_not_to_be_said(found):
            outbox.sent(self._journal, found)
            return True
        try:
            ways.send_letter(way, self._config, found.body, self._clock)
        except NotSentError as error:
            self._note_failure(found, error)
            return False
        outbox.sent(self._journal, found)
        self._sent[way] += 1
        if way == ways.JOBS:
            self.has_told_failure = not _is_well(found)
        return True

    def _is_not_to_be_said(self, found: Letter) -> bool:
        """A job ended well, but where it is told the recovery tells in a moment that all is not."""
        return ways.is_shared(self._config) and not self._is_well and _is_well(found)

    def _next(self, way: str, now: float) -> Letter | None:
        """The letter whose turn has come. Those that are too old are given up."""
        while (found := outbox.first(self._journal, way)) is not None and now - found.at > GIVE_UP_SECONDS:
            outbox.give_up(self._journal, found, now)
        if found is None:
            return None
        is_early = now < found.next_at <= now + PACE.slowest_seconds  # later still: the clock was set back
        return None if is_early and not self._at_once else found

    def _note_failure(self, found: Letter, error: NotSentError) -> None:
        now = self._clock.time()
        wait = PACE.interval(found.attempts + 1)
        if error.wait_seconds > wait:  # what the receiver asks for
            wait = min(error.wait_seconds, PACE.slowest_seconds)
            outbox.put_off(self._journal, found, now + wait)
        outbox.note_failing(self._journal, found.way, str(error), now)
        self._failed.append(self._tried(found.way, f"{error}; tried again in {wait:.0f} s", ok=False))

    def _tried(self, way: str, detail: str, *, ok: bool = True) -> Tried:
        own = self._own
        place = str(own.folder) if way == ways.COMMANDS and own is not None else ways.place(way, self._config)
        return Tried(way, place, ok, detail)


def _is_well(ping: Letter) -> bool:
    found: bool = json.loads(ping.body)["is_well"]
    return found
