"""The disk's words, and how those of several filesystems become one. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from snapshot.model import AtRest, DiskWord


class FilesystemWord(NamedTuple):
    """One filesystem of one disk. ``where`` names it: ``scsi0``, ``scsi0 partition 3 vg/root``."""

    where: str
    kind: str
    """``ext4``, ``xfs``, ``ntfs``, ...; empty when it was not recognised."""
    word: AtRest
    reason: str
    is_set_aside: bool = False
    """Nothing in it could be at rest or not: swap, an empty stretch, what a machine boots from."""

    def __str__(self) -> str:
        kind = f" ({self.kind})" if self.kind else ""
        return f"{self.where}{kind}: {self.word.value}: {self.reason}"


def together(words: Iterable[FilesystemWord]) -> DiskWord:
    """The word of all: one that was in use decides; only where each could tell, and all were at rest, is it clean."""
    counted = [one for one in words if not one.is_set_aside]
    for kind in (AtRest.NOT_CLEAN, AtRest.CANNOT_TELL):
        first = next((one for one in counted if one.word is kind), None)
        if first is not None:
            return DiskWord(kind, f"{first.where}: {first.reason}")
    if not counted:
        return DiskWord(AtRest.CANNOT_TELL, "no filesystem was found")
    what = "the filesystem was" if len(counted) == 1 else f"all {len(counted)} filesystems were"
    return DiskWord(AtRest.CLEAN, f"{what} at rest")
