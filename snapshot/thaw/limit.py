"""How long a thaw may be tried by whoever has a limit: an owner, whose guard goes on when that is over."""

from __future__ import annotations

from snapshot.base.clock import Clock


class OutOfTimeError(Exception):
    """The limit has passed. Internal."""


class TimeLimit:
    """``seconds`` from now on; None: for ever."""

    def __init__(self, clock: Clock, seconds: float | None, overtime_seconds: float) -> None:
        self._clock = clock
        self._ends_at = None if seconds is None else clock.monotonic() + seconds
        self._overtime: float | None = overtime_seconds

    def check(self, *, is_unasked: bool) -> None:
        """Raise OutOfTimeError when it has passed.

        Whoever finds it over in its first round, with no thaw sent (``is_unasked``), stood still meanwhile (SIGSTOP,
        swap). It has its overtime yet, once, rather than call a guest stuck that it never asked to thaw.
        """
        if self._ends_at is None or (now := self._clock.monotonic()) < self._ends_at:
            return  # who has no limit needs no clock, which may be what is broken
        if not is_unasked or self._overtime is None:
            raise OutOfTimeError
        self._ends_at, self._overtime = now + self._overtime, None
