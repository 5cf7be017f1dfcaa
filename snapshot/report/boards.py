"""How a run with many guests is shown while it goes: a live line a guest on a terminal, plain lines in a log.

Plain ANSI and no more: a line is taken back with CR and erase-line, the cursor goes up with CUU (ECMA-48). What is done
scrolls away above the live lines. Nothing here raises: a terminal that goes away costs no guest anything.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass

from snapshot.base import logfmt, streams, terminal
from snapshot.base.clock import Clock, duration
from snapshot.base.terminal import GREEN, PLAIN, RED, YELLOW
from snapshot.base.text import clean
from snapshot.fleet.link import Stage
from snapshot.fleet.outcome import GuestOutcome
from snapshot.model import Guest, VerdictKind
from snapshot.report.console import lines_of
from snapshot.report.fleet import NOT_DONE, logfmt_of, word_of

PACE_SECONDS = 0.5
"""How often live lines are drawn anew while nothing happens: their seconds go on."""

QUICKEST_SECONDS = 0.05
"""Many words at once are drawn at once."""

ERASE, UP = "\r\x1b[2K", "\x1b[1A"


_NAMED = 28
"""Columns of the longest guest: a vmid of three digits, and a name that was cut."""


def named(guest: Guest) -> str:
    """``100 web1``."""
    return f"{guest.vmid} {clean(guest.name, 24)}".rstrip()


def ended(outcome: GuestOutcome) -> str:
    """What came of it, in a few words."""
    word = word_of(outcome)
    if word == NOT_DONE and outcome.error is not None:
        return f"{NOT_DONE}: {outcome.error.message}"
    span = f", frozen for {duration(outcome.frozen_seconds)}" if outcome.frozen_seconds is not None else ""
    return f"{word}{span}"


class SilentBoard:
    """Shows nothing: --json and --quiet."""

    pace_seconds: float | None = None

    def begins(self, guest: Guest) -> None:
        """See Board."""

    def says(self, guest: Guest, line: str, at: float) -> None:
        """See Board."""

    def stands(self, guest: Guest, stage: Stage) -> None:
        """See Board."""

    def waits(self, guest: Guest, why: str, seconds: float) -> None:
        """See Board."""

    def ends(self, outcome: GuestOutcome) -> None:
        """See Board."""

    def note(self, line: str) -> None:
        """See Board."""

    def draw(self) -> None:
        """See Board."""


class PlainBoard(SilentBoard):
    """A line for the beginning and the end of each guest; all that its worker says where that ``is_verbose``."""

    def __init__(self, say: Callable[[str], None], *, is_verbose: bool) -> None:
        self._say = say
        self._is_verbose = is_verbose

    def begins(self, guest: Guest) -> None:
        """See Board."""
        self._say(f"{named(guest)}: begun")

    def says(self, guest: Guest, line: str, at: float) -> None:
        """See Board."""
        if self._is_verbose:
            self._say(f"{named(guest)}: {line}")

    def waits(self, guest: Guest, why: str, seconds: float) -> None:
        """See Board."""
        self._say(f"{named(guest)}: {why}; tried again in {seconds:.0f} s")

    def ends(self, outcome: GuestOutcome) -> None:
        """See Board."""
        self._say(f"{named(outcome.guest)}: {ended(outcome)}")

    def note(self, line: str) -> None:
        """See Board."""
        self._say(line)


class LogfmtBoard(SilentBoard):
    """Lines for a log collector: a step for each word of a worker, and the line of each guest's end."""

    def __init__(self, clock: Clock, *, is_quiet: bool) -> None:
        self._clock = clock
        self._started = clock.monotonic()
        self._is_quiet = is_quiet

    def says(self, guest: Guest, line: str, at: float) -> None:
        """See Board."""
        self._step(guest.vmid, line, at)

    def waits(self, guest: Guest, why: str, seconds: float) -> None:
        """See Board."""
        self._step(guest.vmid, f"{why}; tried again in {seconds:.0f} s", self._clock.monotonic())

    def ends(self, outcome: GuestOutcome) -> None:
        """See Board."""
        streams.out(*logfmt_of(outcome))

    def note(self, line: str) -> None:
        """See Board."""
        self._step(None, line, self._clock.monotonic())

    def _step(self, vmid: int | None, line: str, at: float) -> None:
        if not self._is_quiet:
            streams.out(logfmt.line("step", vmid=vmid, at_seconds=at - self._started, message=line))


@dataclass
class _Live:
    guest: Guest
    what: str
    since: float
    waits_until: float | None = None


class LiveBoard(SilentBoard):
    """Live lines on a terminal's standard error."""

    pace_seconds: float | None = PACE_SECONDS

    def __init__(self, clock: Clock, *, in_colour: bool, total: int) -> None:
        self._clock = clock
        self._in_colour = in_colour
        self._total = total
        self._done = 0
        self._live: dict[int, _Live] = {}
        self._drawn = 0
        """How many live lines stand on the screen."""
        self._waited: set[int] = set()
        self._drawn_at = float("-inf")
        self._above: list[str] = []
        """What is to be written above them."""

    def begins(self, guest: Guest) -> None:
        """See Board."""
        self._live[guest.vmid] = _Live(guest, Stage.LOOKING.value, self._clock.monotonic())

    def says(self, guest: Guest, line: str, at: float) -> None:
        """See Board."""

    def stands(self, guest: Guest, stage: Stage) -> None:
        """See Board."""
        if guest.vmid in self._live:
            self._live[guest.vmid].what = stage.value

    def waits(self, guest: Guest, why: str, seconds: float) -> None:
        """See Board."""
        now = self._clock.monotonic()
        if guest.vmid not in self._waited:  # whole, once: its live line is cut to the screen's width
            self._waited.add(guest.vmid)
            self._above += lines_of(f"{named(guest)}: {why}; tried again for as long as --wait says", sys.stderr)
        self._live[guest.vmid] = _Live(guest, why, now, now + seconds)

    def ends(self, outcome: GuestOutcome) -> None:
        """See Board."""
        self._live.pop(outcome.guest.vmid, None)
        self._done += 1
        pieces = lines_of(f"{named(outcome.guest):<{_NAMED}}  {ended(outcome)}", sys.stderr)
        self._above += [self._coloured(piece, outcome) for piece in pieces]
        if self._done == self._total:
            self._draw_now()

    def note(self, line: str) -> None:
        """See Board."""
        self._above += lines_of(line, sys.stderr)
        self._draw_now()

    def draw(self) -> None:
        """See Board."""
        if self._clock.monotonic() - self._drawn_at >= QUICKEST_SECONDS:
            self._draw_now()

    def _draw_now(self) -> None:
        self._drawn_at = self._clock.monotonic()
        columns, rows = terminal.size(sys.stderr)
        live = self._lines(columns, rows)
        text = (ERASE + UP) * self._drawn + ERASE
        text += "".join(f"{line}\n" for line in self._above)
        text += "".join(f"{line}\n" for line in live)
        text += "\x1b[J"
        self._above.clear()
        self._drawn = len(live)
        try:
            sys.stderr.write(text)
            sys.stderr.flush()
        except (OSError, ValueError):
            streams.give_up()

    def _lines(self, columns: int, rows: int) -> list[str]:
        """As many as the screen has room for, those that are at work first."""
        now = self._clock.monotonic()
        ordered = sorted(self._live.values(), key=lambda one: (one.waits_until is not None, one.guest.vmid))
        room = max(1, rows - 3)
        lines = [self._line(one, now)[: columns - 1] for one in ordered[:room]]
        if self._done == self._total:
            return lines
        hidden = f", {len(ordered) - room} more in work" if len(ordered) > room else ""
        return [*lines, f"{self._done} of {self._total} done{hidden}"[: columns - 1]]

    def _line(self, one: _Live, now: float) -> str:
        if one.waits_until is not None:
            return f"{named(one.guest):<{_NAMED}}  waits {max(0.0, one.waits_until - now):3.0f} s: {one.what}"
        return f"{named(one.guest):<{_NAMED}}  {one.what:<21}  {now - one.since:5.1f} s"

    def _coloured(self, line: str, outcome: GuestOutcome) -> str:
        if not self._in_colour:
            return line
        consistent = outcome.verdict is not None and VerdictKind(outcome.verdict).is_consistent
        colour = RED if outcome.error is not None else GREEN if consistent else YELLOW
        return f"{colour}{line}{PLAIN}"
