"""The one seam to a disk's bytes: ``read(offset, length)``, within hard bounds. Nothing here writes.

What a guest wrote decides where is read next, so every reading of one snapshot shares a ``Budget``: bytes in all,
readings in all, seconds in all.
"""

from __future__ import annotations

from typing import Protocol

from snapshot.base.clock import Clock

MOST_BYTES = 128 << 20
"""Of one disk in one snapshot. The most that a filesystem needs is some 4.5 MiB of XFS's log: a hardened server has a
dozen of them on one disk.
"""

MOST_READS = 16384
"""In a qcow2 file three for each of its clusters."""

MOST_SECONDS = 60.0


class CannotTellError(Exception):
    """The disk does not say; the message says why, in words for the operator. Never taken for a word of its own."""


class Blocks(Protocol):
    """A disk, a partition or a volume."""

    @property
    def size(self) -> int:
        """Bytes."""
        ...

    def read(self, offset: int, length: int) -> bytes:
        """Exactly ``length`` bytes. CannotTellError when they are not there, or a bound is reached; OSError."""
        ...


class Budget:
    """What all readings of one disk together may cost."""

    def __init__(
        self, clock: Clock, *, byte_limit: int = MOST_BYTES, reads: int = MOST_READS, seconds: float = MOST_SECONDS
    ) -> None:
        self._clock = clock
        self._until = clock.monotonic() + seconds
        self.bytes_left = byte_limit
        self.reads_left = reads

    @property
    def seconds_left(self) -> float:
        """Until the last reading must have ended."""
        return self._until - self._clock.monotonic()

    def spend(self, length: int) -> None:
        """Before a reading. CannotTellError when it would be too much."""
        self.bytes_left -= length
        self.reads_left -= 1
        if self.bytes_left < 0 or self.reads_left < 0:
            raise CannotTellError("it would take reading too much of the disk")
        if self.seconds_left <= 0:
            raise CannotTellError("reading the disk took too long")


class Bounded:
    """A disk whose readings are paid for; every other view of it stands on this one."""

    def __init__(self, blocks: Blocks, budget: Budget) -> None:
        self._blocks = blocks
        self._budget = budget

    @property
    def size(self) -> int:
        """See Blocks."""
        return self._blocks.size

    def read(self, offset: int, length: int) -> bytes:
        """See Blocks."""
        _check(offset, length, self.size)
        self._budget.spend(length)
        data = self._blocks.read(offset, length)
        if len(data) != length:
            raise CannotTellError("the disk is shorter than it says")
        return data


class Part:
    """A stretch of a disk, from ``start`` for ``size`` bytes. CannotTellError where the disk does not reach so far."""

    def __init__(self, blocks: Blocks, start: int, size: int) -> None:
        if start < 0 or size <= 0 or start + size > blocks.size:
            raise CannotTellError("a partition or volume reaches beyond the end of its disk")
        self._blocks = blocks
        self._start = start
        self.size = size

    def read(self, offset: int, length: int) -> bytes:
        """See Blocks."""
        _check(offset, length, self.size)
        return self._blocks.read(self._start + offset, length)


class Pieces:
    """Stretches of a disk one behind the other: a logical volume. ``pieces`` are starts and sizes in bytes."""

    def __init__(self, blocks: Blocks, pieces: tuple[tuple[int, int], ...]) -> None:
        self._parts = tuple(Part(blocks, start, size) for start, size in pieces)
        self.size = sum(part.size for part in self._parts)

    def read(self, offset: int, length: int) -> bytes:
        """See Blocks."""
        _check(offset, length, self.size)
        found = bytearray()
        for part in self._parts:
            if offset < part.size and len(found) < length:
                chunk = part.read(offset, min(length - len(found), part.size - offset))
                found += chunk
                offset += len(chunk)
            offset -= part.size
        return bytes(found)


def _check(offset: int, length: int, size: int) -> None:
    if offset < 0 or length < 0 or offset + length > size:
        raise CannotTellError("it names a place beyond the end of the disk")
