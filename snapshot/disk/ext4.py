"""ext2, ext3 and ext4: was it at rest? Two witnesses, the superblock's flag and the journal's own superblock.

A freeze empties the journal (its superblock's ``s_start`` is 0 then), and clears ``needs_recovery`` (fs/ext4/super.c,
ext4_freeze); a mount for writing and a thaw set the flag again. An unmount and a mount read-only leave the same marks
as a freeze. Layout: Documentation/filesystems/ext4/super.rst and journal.rst of the kernel.
"""

from __future__ import annotations

import struct

from snapshot.base.crc32c import crc32c
from snapshot.disk.blocks import Blocks, CannotTellError
from snapshot.model import AtRest

AT, LENGTH = 1024, 1024
"""Where the superblock stands."""
MAGIC = b"\x53\xef"

_HAS_JOURNAL = 0x4
_NEEDS_RECOVERY, _IS_JOURNAL, _EXTENTS, _64BIT = 0x4, 0x8, 0x40, 0x80
_METADATA_CSUM = 0x400
_KNOWN_INCOMPAT = 0x3F7DF
"""All that Linux 6.12 knows (fs/ext4/ext4.h)."""
_ERRORS = 0x2
_JBD2 = 0xC03B3998
_JBD2_CSUM = 0x8 | 0x10


def is_ext(blocks: Blocks) -> bool:
    """Whether ext's magic number stands where it should."""
    return blocks.size >= AT + LENGTH and blocks.read(AT + 0x38, 2) == MAGIC


def kind_of(blocks: Blocks) -> str:
    """``ext4``, ``ext3`` or ``ext2``, by its features."""
    compat, incompat, ro_compat = struct.unpack_from("<III", blocks.read(AT + 0x5C, 12))
    if incompat & ~0x16 or ro_compat & ~0x7:
        return "ext4"
    return "ext3" if compat & _HAS_JOURNAL else "ext2"


def judge(blocks: Blocks) -> tuple[AtRest, str]:
    """Its word and why. CannotTellError."""
    superblock = blocks.read(AT, LENGTH)
    compat, incompat, ro_compat = struct.unpack_from("<III", superblock, 0x5C)
    has_checksum = bool(ro_compat & _METADATA_CSUM)
    _check(superblock, incompat, blocks.size, has_checksum=has_checksum)
    if not compat & _HAS_JOURNAL:
        raise CannotTellError("it has no journal, and nothing else tells")
    needs_recovery = bool(incompat & _NEEDS_RECOVERY)
    journal_is_empty = _journal_is_empty(blocks, superblock)
    if needs_recovery:
        if not has_checksum and journal_is_empty is not False:
            raise CannotTellError("it is marked as in use, its journal is empty, and no checksum tells which is right")
        return AtRest.NOT_CLEAN, "it was in use: its journal needs recovery"
    if journal_is_empty is None and not has_checksum:
        raise CannotTellError("it is marked as at rest, but neither a checksum nor its journal bears that out")
    if journal_is_empty is False:
        raise CannotTellError("it is marked as at rest, but its journal is not empty")
    errors = "; it is marked as damaged: run e2fsck" if struct.unpack_from("<H", superblock, 0x3A)[0] & _ERRORS else ""
    why = "its journal is empty" if journal_is_empty else "its superblock says so, under its checksum"
    return AtRest.CLEAN, f"it was at rest: {why}{errors}"


def _check(superblock: bytes, incompat: int, size: int, *, has_checksum: bool) -> None:
    """CannotTellError for a superblock that makes no sense, or is a spare one: those do not follow the flag."""
    checksum = struct.unpack_from("<I", superblock, 0x3FC)[0]
    if has_checksum and (superblock[0x175] != 1 or crc32c(superblock[:0x3FC]) != checksum):
        raise CannotTellError("its superblock does not fit its checksum")
    if incompat & ~_KNOWN_INCOMPAT or incompat & _IS_JOURNAL:
        raise CannotTellError("it has features that are not known here")
    log_size, inode_size = struct.unpack_from("<I", superblock, 0x18)[0], struct.unpack_from("<H", superblock, 0x58)[0]
    revision, group = struct.unpack_from("<I", superblock, 0x4C)[0], struct.unpack_from("<H", superblock, 0x5A)[0]
    if revision != 1 or group or log_size > 6 or inode_size & (inode_size - 1) or not 128 <= inode_size <= 65536:
        raise CannotTellError("its superblock makes no sense")
    low, high = struct.unpack_from("<I", superblock, 4)[0], struct.unpack_from("<I", superblock, 0x150)[0]
    blocks = low | (high << 32 if incompat & _64BIT else 0)
    if not 0 < blocks * (1024 << log_size) <= size:
        raise CannotTellError("it is larger than the place it lies in")


def _journal_is_empty(blocks: Blocks, superblock: bytes) -> bool | None:
    """What the journal's own superblock says; None where it is not to be found that way.

    The main superblock keeps a copy of the journal's inode (s_jnl_blocks), whose first extent begins with it.
    """
    at = _journal_at(superblock)
    if at is None:
        return None
    journal = blocks.read(at, 1024)
    magic, kind = struct.unpack_from(">II", journal)
    if magic != _JBD2 or kind not in (3, 4):
        # The superblock of another filesystem, in a place where it does not belong, say.
        raise CannotTellError("its journal is not where its superblock says")
    has_checksum = kind == 4 and struct.unpack_from(">I", journal, 0x28)[0] & _JBD2_CSUM
    if (
        has_checksum
        and crc32c(journal[:0xFC] + bytes(4) + journal[0x100:]) != struct.unpack_from(">I", journal, 0xFC)[0]
    ):
        raise CannotTellError("its journal does not fit its checksum")
    return bool(struct.unpack_from(">I", journal, 0x1C)[0] == 0)


def _journal_at(superblock: bytes) -> int | None:
    number = struct.unpack_from("<I", superblock, 0xE0)[0]
    if number != 8 or superblock[0xFD] != 1:
        return None  # an external journal, or no copy of its inode
    block_size = 1024 << struct.unpack_from("<I", superblock, 0x18)[0]
    magic, entries, _, depth = struct.unpack_from("<HHHH", superblock, 0x10C)
    if magic == 0xF30A:
        if depth or not entries:
            return None
        first, length, high, low = struct.unpack_from("<IHHI", superblock, 0x10C + 12)
        return (high << 32 | low) * block_size if first == 0 and length else None
    block = struct.unpack_from("<I", superblock, 0x10C)[0]
    return block * block_size if block else None
