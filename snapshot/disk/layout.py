"""What lies where on a disk: partition tables (MBR with logical ones, GPT) and, inside of them, LVM. Read-only.

A disk without a table is one stretch. Tables are followed one level deep, LVM inside of a partition or of a disk; a
volume is not looked into for further tables.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import NamedTuple

from snapshot.disk import ext4, lvm
from snapshot.disk.blocks import Blocks, CannotTellError, Part, Pieces

SECTOR = 512
MOST_PARTITIONS = 128
"""Of one table; GPT's own usual number."""
MOST_VOLUMES = 128

ESP = bytes.fromhex("28732ac11ff8d211ba4b00a0c93ec93b")
"""GPT's type of an EFI system partition (UEFI specification, 5.3.3), as it lies on the disk."""
BIOS_BOOT = bytes.fromhex("4861682149646f6e744e656564454649")
_MBR_ESP, _MBR_GPT, _MBR_EXTENDED = 0xEF, 0xEE, (0x05, 0x0F, 0x85)
_GPT_SIGNATURE = b"EFI PART"
RAID_MAGIC = b"\xfc\x4e\x2b\xa9"
"""Of md (include/uapi/linux/raid/md_p.h of the kernel), as it lies on the disk."""


class Stretch(NamedTuple):
    """A place where a filesystem may be; ``blocks`` is None where it cannot be read, and ``why_not`` says why."""

    where: str
    blocks: Blocks | None
    why_not: str = ""
    is_for_boot: bool = False
    """An EFI system partition, or a BIOS boot partition."""


def stretches(blocks: Blocks, where: str) -> Iterator[Stretch]:
    """Every place on the disk ``where``. Never raises CannotTellError: what it would say stands in a stretch."""
    try:
        _check_raid(blocks)
        parts = list(_partitions(blocks))
        if parts and ext4.is_ext(blocks):
            raise CannotTellError("it has a partition table and the mark of a filesystem")
    except CannotTellError as error:
        yield Stretch(where, None, str(error))
        return
    if not parts:
        yield from _inside(blocks, where)
        return
    for number, start, size, is_for_boot in parts:
        name = f"{where} partition {number}"
        try:
            part = Part(blocks, start, size)
        except CannotTellError as error:
            yield Stretch(name, None, str(error))
            continue
        if is_for_boot:
            yield Stretch(name, part, is_for_boot=True)
        else:
            yield from _inside(part, name)


def _inside(blocks: Blocks, where: str) -> Iterator[Stretch]:
    """The place itself, or the volumes of the group that it belongs to."""
    try:
        _check_raid(blocks)
        found = lvm.volumes(blocks) if lvm.is_physical_volume(blocks) else None
    except CannotTellError as error:
        yield Stretch(where, None, str(error))
        return
    if found is None:
        yield Stretch(where, blocks)
        return
    for volume in found[:MOST_VOLUMES]:
        yield _volume(blocks, f"{where} {volume.name}", volume)
    if len(found) > MOST_VOLUMES:
        yield Stretch(where, None, "there are more volumes than are looked at")


def _check_raid(blocks: Blocks) -> None:
    """CannotTellError for a member of a RAID whose mark lies at its end (md's formats 0.90 and 1.0): it looks like a
    filesystem, and may be a half that was left behind. The mark of the other formats lies in front (examine.py).
    """
    for at in ((blocks.size & ~0xFFFF) - 0x10000, (blocks.size // SECTOR - 16 & ~7) * SECTOR):
        if at >= 0 and blocks.read(at, 4) == RAID_MAGIC:
            raise CannotTellError("it is a member of a RAID, and nothing on one of them tells")


def _volume(blocks: Blocks, where: str, volume: lvm.Volume) -> Stretch:
    if volume.why_not:
        return Stretch(where, None, volume.why_not)
    try:
        return Stretch(where, Pieces(blocks, volume.pieces))
    except CannotTellError as error:
        return Stretch(where, None, str(error))


_Found = tuple[int, int, int, bool]
"""A partition's number, start and size in bytes, and whether a machine boots from it."""


def _partitions(blocks: Blocks) -> Iterator[_Found]:
    if blocks.size < 2 * SECTOR:
        return
    head = blocks.read(0, 2 * SECTOR)
    if head[510:512] != b"\x55\xaa":
        if head[SECTOR : SECTOR + 8] == _GPT_SIGNATURE:
            raise CannotTellError("a partition table without its first half")
        return
    entries = list(_entries(head))
    if any(kind == _MBR_GPT for _, kind, _, _ in entries):
        yield from _gpt(blocks, head[SECTOR:])
        return
    if not _is_table(head, entries, blocks.size):
        return
    for number, kind, start, size in entries:
        if kind in _MBR_EXTENDED:
            yield from _logical(blocks, start)
        else:
            yield number, start * SECTOR, size * SECTOR, kind == _MBR_ESP


def _entries(sector: bytes) -> Iterator[tuple[int, int, int, int]]:
    for number in range(4):
        at = 446 + 16 * number
        kind = sector[at + 4]
        start, size = struct.unpack_from("<II", sector, at + 8)
        if kind and size:
            yield number + 1, kind, start, size


def _is_table(head: bytes, entries: list[tuple[int, int, int, int]], size: int) -> bool:
    """Whether it is a table: the boot sectors of FAT and NTFS end with the same two bytes."""
    if not entries or any(head[446 + 16 * n] not in (0, 0x80) for n in range(4)):
        return False
    return all(start > 0 and start * SECTOR < size for _, _, start, _ in entries)


def _logical(blocks: Blocks, extended: int) -> Iterator[_Found]:
    """The chain of logical partitions: each link names one, and the next link, which lies further on."""
    link, number = extended, 5
    while number < 5 + MOST_PARTITIONS:
        sector = blocks.read(link * SECTOR, SECTOR)
        if sector[510:512] != b"\x55\xaa":
            raise CannotTellError("the chain of logical partitions is broken")
        following = None
        for _, kind, start, size in _entries(sector):
            if kind in _MBR_EXTENDED:
                following = extended + start
            else:
                yield number, (link + start) * SECTOR, size * SECTOR, False
                number += 1
        if following is None:
            return
        if following <= link:
            raise CannotTellError("the chain of logical partitions runs in a circle")
        link = following
    raise CannotTellError("too many logical partitions")


def _gpt(blocks: Blocks, header: bytes) -> Iterator[_Found]:
    length, checksum = struct.unpack_from("<II", header, 12)
    own, table, count, entry, entries_checksum = (
        *struct.unpack_from("<Q", header, 24),
        *struct.unpack_from("<QIII", header, 72),
    )
    if header[:8] != _GPT_SIGNATURE or own != 1 or not 92 <= length <= SECTOR:
        raise CannotTellError("a GPT partition table that makes no sense")
    if zlib.crc32(header[:16] + bytes(4) + header[20:length]) != checksum:
        raise CannotTellError("the GPT partition table does not fit its checksum")
    if not 0 < count <= MOST_PARTITIONS or entry != 128:
        raise CannotTellError("a GPT partition table of a kind that is not read here")
    entries = blocks.read(table * SECTOR, count * entry)
    if zlib.crc32(entries) != entries_checksum:
        raise CannotTellError("the GPT partition table does not fit its checksum")
    for number in range(count):
        at = number * entry
        kind = entries[at : at + 16]
        first, last = struct.unpack_from("<QQ", entries, at + 32)
        if any(kind):
            if last < first:
                raise CannotTellError("a GPT partition that ends before it begins")
            yield number + 1, first * SECTOR, (last - first + 1) * SECTOR, kind in (ESP, BIOS_BOOT)
