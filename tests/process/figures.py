"""The bounds as measured: checked where they are promised, printed at the end of the run."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from statistics import median

from tests.process.timeline import Timeline

MEASURED: dict[str, list[float]] = defaultdict(list)


def thawed_within(bound: float, timeline: Timeline, since: float, name: str) -> None:
    """Wait until the guest is thawed, note how long after ``since`` it was frozen, and hold it against ``bound``."""
    timeline.wait_until_thawed_for(0.7)
    seconds = timeline.frozen_after(since)
    note(bound, seconds, name)
    assert seconds <= bound, f"{name}: frozen for {seconds:.2f} s after {since:.2f}: {timeline.freezes()}"


def note(bound: float, seconds: float, name: str) -> None:
    """For the end of the run."""
    MEASURED[f"{name} (bound {bound:g} s)"].append(seconds)


def summary(measured: Mapping[str, list[float]]) -> list[str]:
    """A line a bound."""
    return [
        f"{name:70} n={len(seconds):3}  median {median(seconds):5.2f} s  worst {max(seconds):5.2f} s"
        for name, seconds in sorted(measured.items())
    ]
