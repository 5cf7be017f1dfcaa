"""A filesystem as it is, put behind a partition table or into LVM without copying it: only the tables are made."""

from __future__ import annotations

from snapshot.disk.blocks import Blocks
from tests.disk.kit import LINUX, MIB, edited_lvm_header, gpt_of, mbr_of

BIG_EXTENT = 64 * MIB


class Placed:
    """``head`` in front, and pieces of ``inner`` behind it: (where on this disk, from where in ``inner``, length)."""

    def __init__(self, head: bytes, inner: Blocks, pieces: list[tuple[int, int, int]], size: int) -> None:
        self._head = head
        self._inner = inner
        self._pieces = pieces
        self.size = size

    def read(self, offset: int, length: int) -> bytes:
        """See snapshot.disk.blocks.Blocks."""
        found = bytearray(length)
        self._put(found, offset, 0, self._head[offset : offset + length])
        for at, source, size in self._pieces:
            begin, end = max(offset, at), min(offset + length, at + size)
            if begin < end:
                self._put(found, offset, begin, self._inner.read(source + begin - at, end - begin))
        return bytes(found)

    @staticmethod
    def _put(found: bytearray, offset: int, begin: int, data: bytes) -> None:
        at = max(begin - offset, 0)
        found[at : at + len(data)] = data


def in_mbr(inner: Blocks) -> Blocks:
    """Its first partition."""
    return Placed(mbr_of([(0x83, inner.size)]), inner, [(MIB, 0, inner.size)], inner.size + 2 * MIB)


def in_gpt(inner: Blocks) -> Blocks:
    """Its first partition."""
    size = inner.size + 4 * MIB
    return Placed(gpt_of([(LINUX, inner.size)], size), inner, [(MIB, 0, inner.size)], size)


def in_lvm(inner: Blocks) -> Blocks:
    """The volume root, in two pieces. ``inner`` may have 384 MiB."""
    header = edited_lvm_header(b"extent_size = 8192", b"extent_size = 131072")
    first = min(inner.size, 4 * BIG_EXTENT)
    pieces = [(MIB, 0, first)]
    if inner.size > first:
        pieces.append((MIB + 6 * BIG_EXTENT, first, inner.size - first))
    return Placed(header, inner, pieces, MIB + 8 * BIG_EXTENT)


def in_lvm_in_gpt(inner: Blocks) -> Blocks:
    """A physical volume in a partition."""
    return in_gpt(in_lvm(inner))
