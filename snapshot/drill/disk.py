"""How long a guest stood still, as its disks show it: QEMU's block statistics, not our own word.

A guest whose file systems are frozen writes nothing; at its thaw ext4 writes its superblock (ext4_unfreeze), and a
guest at work goes on. One on XFS that has nothing to write shows its freeze and not its thaw: that is said, never
guessed.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import NamedTuple

from snapshot.base.clock import Clock
from snapshot.errors import SafeSnapshotError

PAUSE_SECONDS = 0.1
"""Between two readings, or as long as the last one took: each costs PVE a moment of one of its three workers, and a
guard that is started meanwhile wants the processor.
"""


class Reading(NamedTuple):
    """One look at the counter. It was read at some instant (monotonic) between the question and the answer."""

    asked_at: float
    answered_at: float
    operations: int


class Span(NamedTuple):
    """A time in seconds that lies between two."""

    least: float
    most: float

    def __str__(self) -> str:
        return f"{self.least:.1f} to {self.most:.1f} s"


class Stillness(NamedTuple):
    """What the disks showed around a freeze that was acknowledged at one instant and should end behind another."""

    stood: Span | None = None
    """From the last write before the acknowledgement to the first one behind it; None while there was none."""
    after: Span | None = None
    """From ``end_at`` to that write."""
    wrote_frozen: bool = False
    """Whether there were writes between the two instants, though the guest should have been frozen."""


def stillness(readings: Sequence[Reading], frozen_at: float, end_at: float) -> Stillness:
    """What ``readings`` show of a freeze that was acknowledged at ``frozen_at``, and thawed not before ``end_at``."""
    base = next((number for number, r in enumerate(readings) if r.asked_at >= frozen_at), None)
    if base is None or readings[base].asked_at > end_at:
        return Stillness()  # nobody looked while it was frozen: the first write may have come before the first look
    counted = readings[base].operations
    changed = next((n for n in range(base + 1, len(readings)) if readings[n].operations != counted), None)
    if changed is None:
        return Stillness()
    first = readings[changed - 1].asked_at, readings[changed].answered_at
    if first[1] <= end_at:
        return Stillness(wrote_frozen=True)
    before = [(a.asked_at, b.answered_at) for a, b in pairwise(readings[: base + 1]) if a.operations != b.operations]
    last = before[-1] if before else (readings[0].asked_at, readings[base].answered_at)
    last = last[0], min(last[1], frozen_at)
    return Stillness(
        stood=Span(max(0.0, first[0] - last[1]), first[1] - last[0]),
        after=Span(max(0.0, first[0] - end_at), first[1] - end_at),
    )


class DiskWatch:
    """Reads a guest's counter again and again, in a thread, until it is left.

    ``read`` answers with the counter, None where it is not known, and may raise SafeSnapshotError: what is missing is
    not made up.
    """

    def __init__(self, read: Callable[[], int | None], clock: Clock) -> None:
        self._read = read
        self._clock = clock
        self._readings: list[Reading] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="disk", daemon=True)
        self.problem = ""
        """Why the last reading failed; "" when it did not."""

    def __enter__(self) -> DiskWatch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    @property
    def readings(self) -> Sequence[Reading]:
        """Those so far, in order."""
        return tuple(self._readings)

    def _run(self) -> None:
        while not self._stop.is_set():
            asked_at = self._clock.monotonic()
            try:
                operations = self._read()
            except SafeSnapshotError as error:
                operations, self.problem = None, error.message
            else:
                self.problem = "" if operations is not None else "PVE tells no block statistics of this guest"
            if operations is not None:
                self._readings.append(Reading(asked_at, self._clock.monotonic(), operations))
            self._stop.wait(max(PAUSE_SECONDS, self._clock.monotonic() - asked_at))
