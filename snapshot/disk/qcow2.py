"""An internal snapshot of a qcow2 file, read as it lies on the disk: its table of snapshots, its L1 and L2 tables.

The file may be in use: the clusters of a snapshot do not change while it exists. ``qemu-img convert -l`` would copy all
of it. The layout is QEMU's ``docs/interop/qcow2.txt``. Encrypted images, external data, extended L2 entries, compressed
clusters and what lies in a base image: CannotTellError.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from snapshot.disk.blocks import Blocks, CannotTellError

MOST_SNAPSHOTS = 1024
MOST_L1 = 1 << 20
"""Entries: 512 TiB with clusters of 64 KiB."""

MOST_TABLE_BYTES = 1 << 20
"""Of the table of snapshots: PVE's names have 40 characters at most."""

_MAGIC = 0x514649FB
_EXTERNAL_DATA, _EXTENDED_L2, _KNOWN_FEATURES = 1 << 2, 1 << 4, 0b11111
_OFFSET = 0x00FFFFFFFFFFFE00
_COMPRESSED, _ZERO = 1 << 62, 1


class _Header(NamedTuple):
    cluster_bits: int
    size: int
    snapshots: int
    snapshots_at: int
    has_base: bool


class Qcow2Snapshot:
    """The disk as the internal snapshot ``name`` holds it. ``file`` is the image's file, paid for or not.

    CannotTellError from all of it, for what is not understood as for a file that makes no sense.
    """

    def __init__(self, file: Blocks, name: str) -> None:
        self._file = file
        self._header = _header(file)
        self._l1_at, self._l1_size, self.size = _find(file, self._header, name)
        if not 0 < self._l1_size <= MOST_L1:
            raise CannotTellError("the snapshot's table in the qcow2 file makes no sense")

    def read(self, offset: int, length: int) -> bytes:
        """See Blocks."""
        if offset < 0 or length < 0 or offset + length > self.size:
            raise CannotTellError("it names a place beyond the end of the disk")
        cluster = 1 << self._header.cluster_bits
        found = bytearray()
        while len(found) < length:
            within = offset % cluster
            chunk = min(length - len(found), cluster - within)
            found += self._cluster(offset, within, chunk)
            offset += chunk
        return bytes(found)

    def _cluster(self, offset: int, within: int, length: int) -> bytes:
        entry = self._entry(offset >> self._header.cluster_bits)
        if entry & _COMPRESSED:
            raise CannotTellError("the qcow2 file has compressed clusters where it matters")
        at = entry & _OFFSET
        if entry & _ZERO:
            return bytes(length)
        if not at:
            if self._header.has_base:
                raise CannotTellError("what matters lies in the base image of a linked clone")
            return bytes(length)
        if at % (1 << self._header.cluster_bits):
            raise CannotTellError("a table of the qcow2 file makes no sense")
        return self._file.read(at + within, length)

    def _entry(self, cluster: int) -> int:
        per_table = 1 << (self._header.cluster_bits - 3)
        first, second = divmod(cluster, per_table)
        if first >= self._l1_size:
            raise CannotTellError("the snapshot's table in the qcow2 file is too short")
        table = _number(self._file, self._l1_at + 8 * first) & _OFFSET
        return _number(self._file, table + 8 * second) if table else 0


def _header(file: Blocks) -> _Header:
    data = file.read(0, min(file.size, 104))
    if len(data) < 72 or struct.unpack_from(">I", data)[0] != _MAGIC:
        raise CannotTellError("the file is no qcow2 image")
    version, base_at, base_length, cluster_bits, size, crypt = struct.unpack_from(">IQIIQI", data, 4)
    snapshots, snapshots_at = struct.unpack_from(">IQ", data, 60)
    features = struct.unpack_from(">Q", data, 72)[0] if version == 3 and len(data) >= 80 else 0
    if version not in (2, 3) or not 9 <= cluster_bits <= 21:
        raise CannotTellError("the qcow2 image is of a kind that is not known here")
    if crypt:
        raise CannotTellError("the qcow2 image is encrypted")
    if features & (_EXTERNAL_DATA | _EXTENDED_L2 | ~_KNOWN_FEATURES):
        raise CannotTellError("the qcow2 image has features that are not read here")
    return _Header(cluster_bits, size, snapshots, snapshots_at, bool(base_at or base_length))


def _find(file: Blocks, header: _Header, name: str) -> tuple[int, int, int]:
    """Where the snapshot's L1 table stands, its entries, and the disk's size in it."""
    if header.snapshots > MOST_SNAPSHOTS:
        raise CannotTellError("the qcow2 image has too many snapshots")
    at, end = header.snapshots_at, header.snapshots_at + MOST_TABLE_BYTES
    for _ in range(header.snapshots):
        l1_at, l1_size, id_length, name_length = struct.unpack(">QIHH", file.read(at, 16))
        extra_length = struct.unpack(">I", file.read(at + 36, 4))[0]
        names_at = at + 40 + extra_length
        next_at = (names_at + id_length + name_length + 7) & ~7
        if next_at > end:
            break
        if name_length == len(name.encode()) and file.read(names_at + id_length, name_length) == name.encode():
            size = _number(file, at + 48) if extra_length >= 16 else header.size
            return l1_at, l1_size, size
        at = next_at
    raise CannotTellError("the qcow2 file has no snapshot of that name")


def _number(file: Blocks, at: int) -> int:
    return int(struct.unpack(">Q", file.read(at, 8))[0])
