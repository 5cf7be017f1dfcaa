"""XFS's log as a ring of records: where its head is, and the records in front of it. Every record is checked by its
checksum, and that it ends where the next one, or the head, begins. What does not fit: CannotTellError, never a guess.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from snapshot.base.crc32c import crc32c
from snapshot.disk.blocks import Blocks, CannotTellError

SECTOR = 512
MAGIC = 0xFEEDBABE
MOST_LOG = 1 << 22
"""Sectors: XFS's own limit is 2 GiB."""

SCAN = 8 * (256 << 10) // SECTOR
"""Sectors on each side of the head that must be of one round: eight buffers of 256 KiB may be on their way at once, in
any order (fs/xfs/xfs_log_recover.c, xlog_find_head)."""

LARGEST_RECORD = 256 << 10
CYCLE_DATA = 64
"""Sectors whose first words a header keeps: 32 KiB of a record."""

_CYCLE = struct.Struct(">II")
_NONE = 0xFFFFFFFF
_LINUX_LE = 1
_V5 = 5
_V4_CRC_FLAG, _LOGV2 = 0x8000, 0x0400
_HEADER_SIZES = (328, 324)
"""Of a header under its checksum, on 64-bit and 32-bit machines: nobody meant them to differ."""


class LogRecord(NamedTuple):
    """One record: where its header stands, and what it says. Lengths in bytes, places in sectors."""

    at: int
    cycle: int
    tail: int
    length: int
    headers: int
    operations: int
    previous: int
    header: bytes

    @property
    def is_first(self) -> bool:
        """Whether nothing was logged before it."""
        return self.previous == _NONE

    @property
    def lsn(self) -> int:
        """Its number: round and place."""
        return self.cycle << 32 | self.at

    @property
    def sectors(self) -> int:
        """With its headers."""
        return self.headers + self.length // SECTOR


class Ring:
    """The log of one filesystem."""

    def __init__(self, blocks: Blocks, start: int, sectors: int, uuid: bytes, superblock_lsn: int) -> None:
        self._blocks = blocks
        self._start = start
        self.sectors = sectors
        self.uuid = uuid
        self.superblock_lsn = superblock_lsn
        """The record that the superblock was logged in last when it was written back."""

    def read(self, at: int, count: int) -> bytes:
        """``count`` sectors from ``at`` on, around the ring's end where it comes to that."""
        at %= self.sectors
        first = min(count, self.sectors - at)
        data = self._blocks.read(self._start + at * SECTOR, first * SECTOR)
        return data + self._blocks.read(self._start, (count - first) * SECTOR) if count > first else data

    def cycles(self, at: int, count: int) -> list[int]:
        """The rounds of ``count`` sectors."""
        data = self.read(at, count)
        pairs = (_CYCLE.unpack_from(data, place) for place in range(0, len(data), SECTOR))
        return [second if first == MAGIC else first for first, second in pairs]

    def cycle(self, at: int) -> int:
        """The round of one sector."""
        return self.cycles(at, 1)[0]


def open_ring(blocks: Blocks) -> Ring:
    """The log that the superblock describes. CannotTellError for one elsewhere, and for what makes no sense."""
    sb = blocks.read(0, 512)
    block_size, size, _ = struct.unpack_from(">IQQ", sb, 4)
    log_start, ag_blocks, ag_count = *struct.unpack_from(">Q", sb, 48), *struct.unpack_from(">II", sb, 84)
    log_blocks, version, sector = struct.unpack_from(">IHH", sb, 96)
    block_log, ag_log = sb[120], sb[124]
    if not 9 <= block_log <= 16 or block_size != 1 << block_log or not 512 <= sector <= 32768 or ag_log > 31:
        raise CannotTellError("its superblock makes no sense")
    _check_version(blocks, sb, version, sector)
    if not 0 < size * block_size <= blocks.size:
        raise CannotTellError("it is larger than the place it lies in")
    if log_start == 0:
        raise CannotTellError("its log lies on another disk")
    group, block = log_start >> ag_log, log_start & ((1 << ag_log) - 1)
    start, sectors = (group * ag_blocks + block) * block_size, log_blocks * block_size // SECTOR
    if group >= ag_count or block >= ag_blocks or not 512 <= sectors <= MOST_LOG:
        raise CannotTellError("its superblock makes no sense")
    if start + sectors * SECTOR > blocks.size:
        raise CannotTellError("its log reaches beyond its end")
    return Ring(blocks, start, sectors, sb[32:48], struct.unpack_from(">Q", sb, 240)[0])


def _check_version(blocks: Blocks, sb: bytes, version: int, sector: int) -> None:
    number = version & 0xF
    if number == _V5:
        whole = blocks.read(0, sector)
        if crc32c(whole[:224] + bytes(4) + whole[228:]) ^ 0xFFFFFFFF != struct.unpack_from("<I", sb, 224)[0]:
            raise CannotTellError("its superblock does not fit its checksum")
    else:
        raise CannotTellError(f"an XFS of version {number}, whose log has no checksums")
    if sb[126]:
        raise CannotTellError("it is just being made by mkfs")


class Log:
    """The records of a ring, from the newest backwards."""

    def __init__(self, ring: Ring) -> None:
        self._ring = ring
        self._head, self._cycle = self._find_head()

    def newest(self) -> LogRecord:
        """The record that ends at the head."""
        longest = (LARGEST_RECORD + LARGEST_RECORD // 64) // SECTOR
        back = min(longest, self._ring.sectors)
        data = self._ring.read(self._head - back, back)
        for distance in range(1, back + 1):
            offset = (back - distance) * SECTOR
            if struct.unpack_from(">I", data, offset)[0] == MAGIC:
                return self._record(self._head - distance, self._head)
        raise CannotTellError("its log has no record where it ends")

    def before(self, record: LogRecord) -> LogRecord:
        """The one in front of ``record``."""
        if record.previous >= self._ring.sectors:
            raise CannotTellError("its log names a record that cannot be")
        found = self._record(record.previous, record.at)
        if found.lsn >= record.lsn:
            raise CannotTellError("the records of its log are not in order")
        return found

    def _record(self, at: int, end: int) -> LogRecord:
        """The record at ``at``, whole and sound, which ends at ``end``."""
        at %= self._ring.sectors
        header = self._ring.read(at, 1)
        magic, cycle, version, length, lsn, tail = struct.unpack_from(">IIIIQQ", header)
        previous, operations = struct.unpack_from(">II", header, 36)
        form, size = struct.unpack_from(">I", header, 300)[0], struct.unpack_from(">I", header, 320)[0]
        if magic != MAGIC or version != 2 or form != _LINUX_LE or header[304:320] != self._ring.uuid:
            raise CannotTellError("its log has a record that makes no sense")
        if not 0 < length <= LARGEST_RECORD or length % SECTOR or size > LARGEST_RECORD or length > max(size, 32768):
            raise CannotTellError("its log has a record that makes no sense")
        headers = max(1, -(-size // 32768))
        record = LogRecord(at, cycle, tail, length, headers, operations, previous, header)
        if lsn != record.lsn or (at + record.sectors) % self._ring.sectors != end % self._ring.sectors:
            raise CannotTellError("its log has a record that does not end where the next begins")
        if cycle != (self._cycle if at < self._head else self._cycle - 1):
            raise CannotTellError("its log has a record of another round")
        self._verify(record)
        return record

    def _verify(self, record: LogRecord) -> None:
        rest = self._ring.read(record.at + 1, record.sectors - 1)
        extra, body = rest[: (record.headers - 1) * SECTOR], rest[(record.headers - 1) * SECTOR :]
        said = struct.unpack_from("<I", record.header, 32)[0]
        for size in _HEADER_SIZES:
            register = crc32c(record.header[:32] + bytes(4) + record.header[36:size])
            for number in range(record.headers - 1):
                register = crc32c(extra[number * SECTOR : number * SECTOR + 260], register)
            if crc32c(body, register) ^ 0xFFFFFFFF == said:
                return
        raise CannotTellError("its log has a record that does not fit its checksum")

    def _find_head(self) -> tuple[int, int]:
        """The sector that is written next, and the round of the one in front of it."""
        ring = self._ring
        first, last = ring.cycle(0), ring.cycle(ring.sectors - 1)
        if not first or (last and first - last not in (0, 1)) or (not last and first != 1):
            raise CannotTellError("the rounds of its log make no sense")
        low, high = 0, ring.sectors  # [0, head) is of the round `first`
        while first != last and high - low > 1:
            middle = (low + high) // 2
            if ring.cycle(middle) == first:
                low = middle
            else:
                high = middle
        head = high
        self._check_rounds(head, first)
        return head, first

    def _check_rounds(self, head: int, cycle: int) -> None:
        """Around the head every sector must be of the round that it should be: else writes were on their way."""
        ring = self._ring
        before, after = min(SCAN, head), min(SCAN, ring.sectors - head)
        if any(found != cycle for found in ring.cycles(head - before, before)):
            raise CannotTellError("its log was just being written")
        if after and any(found != cycle - 1 for found in ring.cycles(head, after)):
            raise CannotTellError("its log was just being written")
        left = min(SCAN - before, ring.sectors - head - after)
        if before < SCAN and left > 0 and any(c != cycle - 1 for c in ring.cycles(ring.sectors - left, left)):
            raise CannotTellError("its log was just being written")
