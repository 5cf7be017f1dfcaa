"""Time as an argument: the only place where the process's clocks are read and where it sleeps."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """What the engine needs of time. Tests and campaigns bring their own."""

    def monotonic(self) -> float:
        """Seconds from an arbitrary start; never goes back."""
        ...

    def time(self) -> float:
        """Unix time in seconds; may jump."""
        ...

    def sleep(self, seconds: float) -> None:
        """Wait; returns at once for zero or less."""
        ...


class SystemClock:
    """The machine's clocks."""

    def monotonic(self) -> float:
        """See Clock."""
        return time.monotonic()

    def time(self) -> float:
        """See Clock."""
        return time.time()

    def sleep(self, seconds: float) -> None:
        """See Clock."""
        if seconds > 0:
            time.sleep(seconds)


def local_time(instant: float) -> time.struct_time:
    """A Unix time in this machine's own zone."""
    return time.localtime(instant)


def iso(instant: float) -> str:
    """A Unix time as local ISO 8601 with seconds and offset, for people and journals."""
    return time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(instant))


def compact(instant: float) -> str:
    """A Unix time as ``20260131-030005`` in local time, for snapshot names."""
    return time.strftime("%Y%m%d-%H%M%S", time.localtime(instant))


def duration(seconds: float | None) -> str:
    """Seconds for a person: milliseconds below one second."""
    if seconds is None:
        return "-"
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.2f} s"
