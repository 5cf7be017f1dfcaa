"""Disks made for the parsers, byte by byte, without tools: ext4, XFS with a log of our choice, tables, LVM."""

from __future__ import annotations

import dataclasses
import lzma
import struct
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from snapshot.base.crc32c import crc32c
from snapshot.disk.blocks import Bounded, Budget
from snapshot.disk.examine import words_of
from snapshot.disk.lvm import crc as lvm_crc
from snapshot.disk.word import FilesystemWord, together
from snapshot.model import DiskWord
from tests.unit.kit import VirtualClock

SECTOR = 512
MIB = 1 << 20
_ENTRY = "<BBBBBBBBII"
UUID = bytes(range(16))


class Memory:
    """A disk in memory: its bytes, and zeros behind them up to ``size``. Counts what is read of it."""

    def __init__(self, data: bytes, size: int = 0) -> None:
        self.data = bytearray(data)
        self.size = size or len(data)
        self.bytes_read = 0
        self.reads = 0

    def read(self, offset: int, length: int) -> bytes:
        """See snapshot.disk.blocks.Blocks."""
        assert 0 <= offset <= offset + length <= self.size, (offset, length, self.size)
        self.reads += 1
        self.bytes_read += length
        return bytes(self.data[offset : offset + length]).ljust(length, b"\0")


def words(disk: Memory, budget: Budget | None = None) -> list[FilesystemWord]:
    """What stands on the disk ``scsi0``, within the bounds that always hold."""
    return list(words_of(Bounded(disk, budget or Budget(VirtualClock())), "scsi0"))


def word(disk: Memory) -> DiskWord:
    """The one word of it all."""
    return together(words(disk))


# -- ext4 -------------------------------------------------------------------------------------------------------------

EXT4_SIZE = 2 * MIB
JOURNAL_BLOCK = 64


def ext4(
    *,
    needs_recovery: bool,
    journal_start: int | None = None,
    checksum: bool = True,
    has_journal: bool = True,
    group: int = 0,
    state: int = 1,
) -> bytes:
    """An ext4 of 2 MiB with blocks of 1 KiB: its superblock and its journal's. ``journal_start`` 0: it is empty."""
    start = (1 if needs_recovery else 0) if journal_start is None else journal_start
    image = bytearray(EXT4_SIZE)
    sb = bytearray(1024)
    struct.pack_into("<IIIII", sb, 0, 256, EXT4_SIZE // 1024, 0, 1000, 200)
    struct.pack_into("<II", sb, 0x14, 1, 0)
    struct.pack_into("<HHH", sb, 0x38, 0xEF53, state, 1)
    struct.pack_into("<I", sb, 0x4C, 1)
    struct.pack_into("<HH", sb, 0x58, 256, group)
    incompat = 0x42 | (0x4 if needs_recovery else 0)
    struct.pack_into("<III", sb, 0x5C, 0x4 if has_journal else 0, incompat, 0x400 if checksum else 0)
    struct.pack_into("<I", sb, 0xE0, 8 if has_journal else 0)
    sb[0xFD] = 1
    struct.pack_into("<HHHHI", sb, 0x10C, 0xF30A, 1, 4, 0, 0)
    struct.pack_into("<IHHI", sb, 0x10C + 12, 0, 1024, 0, JOURNAL_BLOCK)
    sb[0x175] = 1
    image[1024:2048] = sealed_ext4(sb) if checksum else sb
    journal = bytearray(1024)
    struct.pack_into(">IIIIIIII", journal, 0, 0xC03B3998, 4, 0, 1024, 1024, 1, 7, start)
    struct.pack_into(">III", journal, 0x24, 0, 0x10 if checksum else 0, 0)
    journal[0x50] = 4
    if checksum:
        struct.pack_into(">I", journal, 0xFC, crc32c(bytes(journal)))
    image[JOURNAL_BLOCK * 1024 : (JOURNAL_BLOCK + 1) * 1024] = journal
    return bytes(image)


def sealed_ext4(superblock: bytearray) -> bytes:
    """A superblock with the checksum that fits it."""
    struct.pack_into("<I", superblock, 0x3FC, crc32c(bytes(superblock[:0x3FC])))
    return bytes(superblock)


# -- XFS --------------------------------------------------------------------------------------------------------------

XFS_SIZE = 8 * MIB
LOG_START_BLOCK = 1024
LOG_SECTORS = 4096 * 2
LOG_AT = LOG_START_BLOCK * 4096


@dataclasses.dataclass
class Logged:
    """A record to be logged. ``tail``: the lsn of the record so many back (0: its own); ``sectors``: its length."""

    kind: str  # sb, inode, unmount, torn
    tail_back: int = 1
    sectors: int = 1


def xfs(
    records: Sequence[Logged], *, first_at: int = 0, cycle: int = 1, sectors: int = 1024, written_back: bool = True
) -> bytes:
    """An XFS of 8 MiB whose log of ``sectors`` holds these records, from ``first_at`` on in this round; the superblock
    was ``written_back`` after it was logged last.
    """
    image = bytearray(XFS_SIZE)
    sb = bytearray(512)
    sb[0:4] = b"XFSB"
    struct.pack_into(">IQQQ", sb, 4, 4096, XFS_SIZE // 4096, 0, 0)
    sb[32:48] = UUID
    struct.pack_into(">Q", sb, 48, LOG_START_BLOCK)
    struct.pack_into(">IIIIHHHH", sb, 84, XFS_SIZE // 4096, 1, 0, sectors // 8, 0xB4A5, 512, 512, 8)
    sb[120], sb[121], sb[122], sb[123], sb[124] = 12, 9, 9, 3, 11
    log = bytearray(sectors * SECTOR)
    for sector in range(sectors):  # the round before, and what of this one lies in front
        struct.pack_into(">I", log, sector * SECTOR, cycle if sector < first_at else cycle - 1)
    lsns = _fill(log, records, first_at, cycle, sectors)
    logged = [lsn for lsn, record in zip(lsns, records, strict=True) if record.kind == "sb" and written_back]
    struct.pack_into(">Q", sb, 240, max(logged, default=0))
    struct.pack_into("<I", sb, 224, crc32c(bytes(sb)) ^ 0xFFFFFFFF)
    image[:512] = sb
    image[LOG_AT : LOG_AT + len(log)] = log
    return bytes(image)


def _fill(log: bytearray, records: Sequence[Logged], at: int, cycle: int, sectors: int) -> list[int]:
    lsns: list[int] = []
    for record in records:
        lsn = cycle << 32 | at
        lsns.append(lsn)
        back = lsns[-1 - record.tail_back] if record.tail_back < len(lsns) else lsn
        previous = lsns[-2] & 0xFFFFFFFF if len(lsns) > 1 else 0xFFFFFFFF
        data = record_of(record, lsn, back, previous, sectors - at)
        for number in range(len(data) // SECTOR):
            place = (at + number) % sectors * SECTOR
            log[place : place + SECTOR] = data[number * SECTOR : (number + 1) * SECTOR]
        at += len(data) // SECTOR
        if at >= sectors:
            at, cycle = at - sectors, cycle + 1
    return lsns


def record_of(record: Logged, lsn: int, tail: int, previous: int, room: int = 1 << 30) -> bytes:
    """A record with its header and checksum; behind ``room`` sectors the round goes up by one."""
    count, operations = operations_of(record.kind)
    body = bytearray(operations.ljust(record.sectors * SECTOR, b"\0"))
    cycle = lsn >> 32
    header = bytearray(SECTOR)
    struct.pack_into(">IIIIQQ", header, 0, 0xFEEDBABE, cycle, 2, len(body), lsn, tail)
    struct.pack_into(">II", header, 36, previous, count)
    for number in range(len(body) // SECTOR):
        header[44 + 4 * number : 48 + 4 * number] = body[number * SECTOR : number * SECTOR + 4]
        struct.pack_into(">I", body, number * SECTOR, cycle if number + 1 < room else cycle + 1)
    struct.pack_into(">I", header, 300, 1)
    header[304:320] = UUID
    struct.pack_into(">I", header, 320, 32768)
    checksum = crc32c(bytes(body), crc32c(bytes(header[:328]))) ^ 0xFFFFFFFF
    struct.pack_into("<I", header, 32, checksum)
    return bytes(header + body)


def operations_of(kind: str) -> tuple[int, bytes]:
    """The operations of a record: how many, and their bytes."""
    if kind == "unmount":
        operation = bytearray(_operation(struct.pack("<HHI", 0x556E, 0, 0), 0x20, 0xAA))
        operation[4:8] = bytes(4)  # as kernel 6.1 writes it
        return 1, bytes(operation)
    begin = [_operation(b"", 1), _operation(struct.pack("<IIII", 0x5452414E, 0x2A, 1, 1), 0)]
    if kind == "sb":
        item = [struct.pack("<HHHHqII", 0x123C, 2, 0x9000, 1, 0, 1, 7), bytes(128)]
    elif kind == "agf":
        item = [struct.pack("<HHHHqII", 0x123C, 2, 0x9000, 1, 1, 1, 7), bytes(128)]
    else:
        item = [struct.pack("<HH", 0x123B, 2) + bytes(52), bytes(176)]
    operations = [*begin, *(_operation(region, 0) for region in item)]
    if kind != "torn":
        operations.append(_operation(b"", 2))
    return len(operations), b"".join(operations)


def _operation(region: bytes, flags: int, client: int = 0x69) -> bytes:
    return struct.pack(">IIBBH", 1, len(region), client, flags, 0) + region


# -- tables -----------------------------------------------------------------------------------------------------------


def mbr(parts: Sequence[tuple[int, bytes]], size: int) -> bytes:
    """A disk with primary partitions: their type and content, one behind the other from the first MiB on."""
    return _with(mbr_of([(kind, len(content)) for kind, content in parts]), [content for _, content in parts], size)


def mbr_of(parts: Sequence[tuple[int, int]]) -> bytes:
    """The table alone: types and sizes."""
    sector, start = bytearray(SECTOR), MIB // SECTOR
    for number, (kind, length) in enumerate(parts):
        struct.pack_into(_ENTRY, sector, 446 + 16 * number, 0, 0, 0, 0, kind, 0, 0, 0, start, length // SECTOR)
        start += length // SECTOR
    sector[510:512] = b"\x55\xaa"
    return bytes(sector)


def _with(tables: bytes, contents: Sequence[bytes], size: int) -> bytes:
    image, at = bytearray(tables.ljust(size, b"\0")), MIB
    for content in contents:
        image[at : at + len(content)] = content
        at += len(content)
    return bytes(image)


def extended(contents: Sequence[bytes], size: int) -> bytes:
    """A disk with one extended partition and a logical one in it for each of ``contents``."""
    image = bytearray(size)
    first = 2048
    struct.pack_into(_ENTRY, image, 446, 0, 0, 0, 0, 5, 0, 0, 0, first, size // SECTOR - first)
    image[510:512] = b"\x55\xaa"
    link = first
    for number, content in enumerate(contents):
        at, sectors = link * SECTOR, len(content) // SECTOR
        struct.pack_into(_ENTRY, image, at + 446, 0, 0, 0, 0, 0x83, 0, 0, 0, 64, sectors)
        image[at + 510 : at + 512] = b"\x55\xaa"
        image[at + 64 * SECTOR : at + 64 * SECTOR + len(content)] = content
        if number + 1 < len(contents):
            next_link = link + 64 + sectors
            struct.pack_into(_ENTRY, image, at + 462, 0, 0, 0, 0, 5, 0, 0, 0, next_link - first, 64 + sectors)
            link = next_link
    return bytes(image)


LINUX = bytes.fromhex("af3dc60f838472478e793d69d8477de4")


def gpt(parts: Sequence[tuple[bytes, bytes]], size: int) -> bytes:
    """A disk with a GPT: types and contents of its partitions, from the first MiB on."""
    tables = gpt_of([(kind, len(content)) for kind, content in parts], size)
    return _with(tables, [content for _, content in parts], size)


def gpt_of(parts: Sequence[tuple[bytes, int]], size: int) -> bytes:
    """The tables alone, of a disk of ``size``: types and sizes."""
    image = bytearray(1024 + 128 * 128)
    struct.pack_into(_ENTRY, image, 446, 0, 0, 0, 0, 0xEE, 0, 0, 0, 1, size // SECTOR - 1)
    image[510:512] = b"\x55\xaa"
    start = MIB // SECTOR
    for number, (kind, length) in enumerate(parts):
        at = 1024 + 128 * number
        image[at : at + 32] = kind + UUID
        struct.pack_into("<QQ", image, at + 32, start, start + length // SECTOR - 1)
        start += length // SECTOR
    header = bytearray(92)
    struct.pack_into("<8sIIII", header, 0, b"EFI PART", 0x10000, 92, 0, 0)
    struct.pack_into("<QQQQ", header, 24, 1, size // SECTOR - 1, 34, size // SECTOR - 34)
    header[56:72] = UUID
    struct.pack_into("<QIII", header, 72, 2, 128, 128, zlib.crc32(bytes(image[1024:])))
    struct.pack_into("<I", header, 16, zlib.crc32(bytes(header)))
    image[512:604] = header
    return bytes(image)


def lvm_header() -> bytes:
    """The first MiB of a physical volume as LVM 2.03 wrote it. Its group vg0 has root (extents 0 to 3, 6 and 7) and
    wide (4 and 5), of 4 MiB each, behind that MiB.
    """
    return lzma.decompress((Path(__file__).parent / "data" / "lvm2.xz").read_bytes())


def edited_lvm_header(old: bytes, new: bytes) -> bytes:
    """The same with its metadata changed, and checksums that fit again: a guest can write those too."""
    image = bytearray(lvm_header())
    offset, length = struct.unpack_from("<QQ", image, 4096 + 40)
    text = bytes(image[4096 + offset : 4096 + offset + length])
    assert old in text
    text = text.replace(old, new)
    image[4096 + offset : 4096 + offset + len(text)] = text
    struct.pack_into("<QI", image, 4096 + 48, len(text), lvm_crc(text))
    struct.pack_into("<I", image, 4096, lvm_crc(bytes(image[4100 : 4096 + SECTOR])))
    return bytes(image)


EXTENT = 4 * MIB


def lvm(volumes: Mapping[str, bytes], header: bytes = b"") -> bytes:
    """A physical volume of 64 MiB with these contents in the volumes of ``lvm_header``."""
    image = bytearray((header or lvm_header()).ljust(64 * MIB, b"\0"))
    extents = {"root": (0, 1, 2, 3, 6, 7), "wide": (4, 5)}
    for name, content in volumes.items():
        for number, extent in enumerate(extents[name]):
            piece = content[number * EXTENT : (number + 1) * EXTENT]
            at = MIB + extent * EXTENT
            image[at : at + len(piece)] = piece
    return bytes(image)
