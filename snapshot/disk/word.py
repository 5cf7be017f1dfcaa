"""The disk's words, and how those of several filesystems become one. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum
from typing import NamedTuple


class Word(Enum):
    """What a filesystem in a snapshot says of the moment it was taken in."""

    CLEAN = "clean"
    """It was at rest, as a freeze or a clean unmount leaves it."""
    NOT_CLEAN = "not-clean"
    """It was in use: mounting it replays its journal."""
    CANNOT_TELL = "cannot-tell"


class FilesystemWord(NamedTuple):
    """One filesystem of one disk. ``where`` names it: ``scsi0``, ``scsi0 partition 3 vg/root``."""

    where: str
    kind: str
    """``ext4``, ``xfs``, ``ntfs``, ...; empty when it was not recognised."""
    word: Word
    reason: str
    is_set_aside: bool = False
    """Nothing in it could be at rest or not: swap, an empty stretch, what a machine boots from."""

    def __str__(self) -> str:
        kind = f" ({self.kind})" if self.kind else ""
        return f"{self.where}{kind}: {self.word.value}: {self.reason}"


class DiskWord(NamedTuple):
    """The word of a whole snapshot."""

    word: Word
    reason: str


def together(words: Iterable[FilesystemWord]) -> DiskWord:
    """The word of all: one that was in use decides; only where each could tell, and all were at rest, is it clean."""
    counted = [one for one in words if not one.is_set_aside]
    for kind in (Word.NOT_CLEAN, Word.CANNOT_TELL):
        first = next((one for one in counted if one.word is kind), None)
        if first is not None:
            return DiskWord(kind, f"{first.where}: {first.reason}")
    if not counted:
        return DiskWord(Word.CANNOT_TELL, "no filesystem was found")
    what = "the filesystem was" if len(counted) == 1 else f"all {len(counted)} filesystems were"
    return DiskWord(Word.CLEAN, f"{what} at rest")
