"""One disk: every filesystem on it, and the word of each. What is recognised and has no word is named all the same."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from snapshot.disk import ext4, xfs
from snapshot.disk.blocks import Blocks, CannotTellError
from snapshot.disk.layout import RAID_MAGIC, Stretch, stretches
from snapshot.disk.word import FilesystemWord
from snapshot.model import AtRest

BLANK_BYTES = 128 << 10
"""A stretch that begins with so many zeros has nothing on it: every filesystem named here would have shown."""


class _Signature(NamedTuple):
    kind: str
    at: int
    magic: bytes
    is_set_aside: bool = False


_OTHERS = (
    _Signature("NTFS", 3, b"NTFS    "),
    _Signature("BitLocker", 3, b"-FVE-FS-"),
    _Signature("exFAT", 3, b"EXFAT   "),
    _Signature("LUKS", 0, b"LUKS\xba\xbe"),
    _Signature("ReFS", 3, b"ReFS\0\0\0\0"),
    _Signature("Btrfs", 0x10040, b"_BHRfS_M"),
    _Signature("bcachefs", 4096 + 24, bytes.fromhex("c68573f6661addc23feadb9b8b6e0b1b")[:8]),
    _Signature("F2FS", 1024, b"\x10\x20\xf5\xf2"),
    _Signature("a RAID member", 4096, RAID_MAGIC),
    _Signature("UFS", 65536 + 1372, b"\x19\x01\x54\x19"),
    _Signature("FAT", 82, b"FAT32   "),
    _Signature("FAT", 54, b"FAT16   "),
    _Signature("FAT", 54, b"FAT12   "),
    _Signature("swap", 4086, b"SWAPSPACE2", is_set_aside=True),
)


def words_of(blocks: Blocks, where: str) -> Iterator[FilesystemWord]:
    """The words of the disk ``where``, in its order. Never raises CannotTellError; OSError when it cannot be read."""
    for stretch in stretches(blocks, where):
        yield _word_of(stretch)


def _word_of(stretch: Stretch) -> FilesystemWord:
    blocks = stretch.blocks
    if blocks is None:
        return FilesystemWord(stretch.where, "", AtRest.CANNOT_TELL, stretch.why_not, stretch.is_for_boot)
    try:
        is_xfs, is_ext = xfs.is_xfs(blocks), ext4.is_ext(blocks)
        head = blocks.read(0, min(blocks.size, BLANK_BYTES))
        other = next((one for one in _OTHERS if head[one.at : one.at + len(one.magic)] == one.magic), None)
        if is_xfs + is_ext + (other is not None) > 1:
            # A superblock may be left of what was there before: mdadm, for one, wipes nothing.
            return FilesystemWord(stretch.where, "", AtRest.CANNOT_TELL, "it has the marks of two filesystems")
        if is_xfs:
            return _judged(stretch, blocks, "xfs", xfs.judge)
        if is_ext:
            return _judged(stretch, blocks, ext4.kind_of(blocks), ext4.judge)
        return _other(stretch, head, other)
    except CannotTellError as error:
        return FilesystemWord(stretch.where, "", AtRest.CANNOT_TELL, str(error), stretch.is_for_boot)


def _judged(
    stretch: Stretch, blocks: Blocks, kind: str, judge: Callable[[Blocks], tuple[AtRest, str]]
) -> FilesystemWord:
    try:
        word, reason = judge(blocks)
    except CannotTellError as error:
        word, reason = AtRest.CANNOT_TELL, str(error)
    return FilesystemWord(stretch.where, kind, word, reason)


def _other(stretch: Stretch, head: bytes, other: _Signature | None) -> FilesystemWord:
    if other is not None:
        aside = other.is_set_aside or stretch.is_for_boot
        reason = "nothing in it has to be at rest" if aside else "nothing on such a disk tells"
        return FilesystemWord(stretch.where, other.kind, AtRest.CANNOT_TELL, reason, aside)
    if not any(head):
        return FilesystemWord(stretch.where, "", AtRest.CANNOT_TELL, "it is empty", is_set_aside=True)
    aside = stretch.is_for_boot
    return FilesystemWord(stretch.where, "", AtRest.CANNOT_TELL, "what lies on it was not recognised", aside)
