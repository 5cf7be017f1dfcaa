"""LVM2 physical volumes, as text metadata describes them: linear volumes that lie wholly on this one disk. Read-only.

Layout: lib/format_text/layout.h and lib/label/label.h of LVM2. Striped, mirrored, thin, cached volumes and snapshots,
and what lies on another disk: CANNOT_TELL with the reason, never a guess.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from typing import NamedTuple

from snapshot.base.text import clean
from snapshot.disk.blocks import Blocks, CannotTellError

SECTOR = 512
MOST_METADATA = 1 << 20
"""Bytes of one text; LVM's own default area has the same size."""
MOST_TOKENS = 60_000
MOST_DEPTH = 8
MOST_SEGMENTS = 256

_LABEL_SECTORS = 4
_CRC_START = 0xF597A6CF
_CRC_NIBBLES = (
    *(0x00000000, 0x1DB71064, 0x3B6E20C8, 0x26D930AC, 0x76DC4190, 0x6B6B51F4, 0x4DB26158, 0x5005713C),
    *(0xEDB88320, 0xF00F9344, 0xD6D6A3E8, 0xCB61B38C, 0x9B64C2B0, 0x86D3D2D4, 0xA00AE278, 0xBDBDF21C),
)
_TOKEN = re.compile(rb'#[^\n]*|"(?:[^"\\]++|\\.)*+"|[A-Za-z0-9_.+/:-]+|[{}\[\]=,]|\S')
_Value = object


class Volume(NamedTuple):
    """A logical volume. ``pieces`` are starts and sizes in bytes on this disk; ``why_not``: it cannot be read, so."""

    name: str
    pieces: tuple[tuple[int, int], ...] = ()
    why_not: str = ""


def is_physical_volume(blocks: Blocks) -> bool:
    """Whether LVM's label stands in one of the first sectors."""
    return _label_at(blocks) is not None


def volumes(blocks: Blocks) -> list[Volume]:
    """The logical volumes of the group that this physical volume belongs to. CannotTellError."""
    at = _label_at(blocks)
    if at is None:
        raise CannotTellError("it has no LVM label")
    label = blocks.read(at, SECTOR)
    checksum, header_at = struct.unpack_from("<II", label, 16)
    if crc(label[20:]) != checksum or not 32 <= header_at <= SECTOR - 104:
        raise CannotTellError("its LVM label does not fit its checksum")
    uuid = label[header_at : header_at + 32]
    areas = list(_areas(label[header_at + 40 :]))
    if not areas:
        raise CannotTellError("it holds no copy of LVM's metadata")
    text = _text(blocks, *areas[0])
    return _volumes_of(_Parser(text).document(), uuid)


def _label_at(blocks: Blocks) -> int | None:
    if blocks.size < _LABEL_SECTORS * SECTOR:
        return None
    head = blocks.read(0, _LABEL_SECTORS * SECTOR)
    for sector in range(_LABEL_SECTORS):
        at = sector * SECTOR
        if head[at : at + 8] == b"LABELONE" and head[at + 24 : at + 32] == b"LVM2 001":
            return at if struct.unpack_from("<Q", head, at + 8)[0] == sector else None
    return None


def _areas(lists: bytes) -> Iterator[tuple[int, int]]:
    """Offsets and sizes of the metadata areas: the second of two lists, each of which ends with a pair of zeros."""
    pairs = [struct.unpack_from("<QQ", lists, at) for at in range(0, len(lists) - 15, 16)]
    ends = [number for number, pair in enumerate(pairs) if pair == (0, 0)]
    if len(ends) >= 2:
        yield from pairs[ends[0] + 1 : ends[1]]


def _text(blocks: Blocks, at: int, size: int) -> bytes:
    """The text that counts now, of a ring that begins behind its header."""
    header = blocks.read(at, SECTOR)
    if header[4:20] != b" LVM2 x[5A%r0N*>" or crc(header[4:]) != struct.unpack_from("<I", header)[0]:
        raise CannotTellError("LVM's metadata does not fit its checksum")
    start, area = struct.unpack_from("<QQ", header, 24)
    offset, length, checksum, flags = struct.unpack_from("<QQII", header, 40)
    if start != at or area != size or flags & 1 or not 0 < length <= min(MOST_METADATA, area - SECTOR):
        raise CannotTellError("LVM's metadata makes no sense")
    if not SECTOR <= offset < area:
        raise CannotTellError("LVM's metadata makes no sense")
    first = min(length, area - offset)
    text = blocks.read(at + offset, first) + (blocks.read(at + SECTOR, length - first) if first < length else b"")
    if crc(text) != checksum:
        raise CannotTellError("LVM's metadata does not fit its checksum")
    return text


def crc(data: bytes) -> int:
    """LVM's own checksum (lib/misc/crc.c): CRC-32 with another beginning, and no inversion at the end."""
    register = _CRC_START
    for byte in data:
        register ^= byte
        register = (register >> 4) ^ _CRC_NIBBLES[register & 0xF]
        register = (register >> 4) ^ _CRC_NIBBLES[register & 0xF]
    return register


class _Parser:
    """LVM's configuration text: ``key = value``, ``section { ... }``, arrays. CannotTellError for anything else."""

    def __init__(self, text: bytes) -> None:
        self._tokens: list[bytes] = []
        for token in _TOKEN.finditer(text.rstrip(b"\0")):
            if not token[0].startswith(b"#"):
                self._tokens.append(token[0])
            if token[0] == b'"':  # has no end: each of the quotes behind it would be followed to the end of the text
                raise CannotTellError("LVM's metadata makes no sense")
            if len(self._tokens) > MOST_TOKENS:
                raise CannotTellError("LVM's metadata is too long")
        self._tokens.append(b"")
        self._at = 0

    def document(self) -> dict[str, _Value]:
        found = self._section(0, b"")
        if self._at != len(self._tokens):
            raise CannotTellError("LVM's metadata makes no sense")
        return found

    def _next(self) -> bytes:
        if self._at >= len(self._tokens):
            raise CannotTellError("LVM's metadata ends in the middle")
        self._at += 1
        return self._tokens[self._at - 1]

    def _section(self, depth: int, end: bytes) -> dict[str, _Value]:
        if depth > MOST_DEPTH:
            raise CannotTellError("LVM's metadata is nested too deep")
        found: dict[str, _Value] = {}
        while (key := self._next()) != end:
            separator = self._next()
            if separator not in (b"=", b"{") or not key or key in (b"}", b"{", b"=", b"]", b"[", b","):
                raise CannotTellError("LVM's metadata makes no sense")
            name = key.decode("ascii", "replace")
            found[name] = self._section(depth + 1, b"}") if separator == b"{" else self._value(self._next())
        return found

    def _value(self, token: bytes) -> _Value:
        if token == b"[":
            items: list[_Value] = []
            while (item := self._next()) != b"]":
                if item != b",":
                    items.append(self._scalar(item))
            return items
        return self._scalar(token)

    @staticmethod
    def _scalar(token: bytes) -> _Value:
        if token.startswith(b'"'):
            return token[1:-1].decode("utf-8", "replace")
        if token.isdigit() and len(token) < 20:
            return int(token)
        return token.decode("ascii", "replace")


def _volumes_of(document: dict[str, _Value], uuid: bytes) -> list[Volume]:
    groups = [(name, value) for name, value in document.items() if isinstance(value, dict)]
    if len(groups) != 1:
        raise CannotTellError("LVM's metadata makes no sense")
    name, group = groups[0]
    extent = _whole(group.get("extent_size"))
    disks = _sections(group.get("physical_volumes"))
    ours = next((key for key, disk in disks.items() if str(disk.get("id", "")).replace("-", "").encode() == uuid), None)
    if not extent or ours is None:
        raise CannotTellError("LVM's metadata does not name this disk")
    start = _whole(disks[ours].get("pe_start"))
    found: list[Volume] = []
    for key, volume in _sections(group.get("logical_volumes")).items():
        status = volume.get("status")
        if not isinstance(status, list) or "VISIBLE" not in status:
            continue  # a part of another volume: a half of a mirror, what a cache has in front of it, a pool
        title = f"{clean(name, 40)}/{clean(key, 60)}"
        try:
            found.append(Volume(title, tuple(_pieces(volume, ours, start * SECTOR, extent * SECTOR))))
        except CannotTellError as error:
            found.append(Volume(title, why_not=str(error)))
    return found


def _pieces(volume: dict[str, _Value], ours: str, start: int, extent: int) -> Iterator[tuple[int, int]]:
    count = _whole(volume.get("segment_count"))
    if not 0 < count <= MOST_SEGMENTS:
        raise CannotTellError("a logical volume in too many pieces")
    expected = 0
    for number in range(1, count + 1):
        segment = volume.get(f"segment{number}")
        if not isinstance(segment, dict):
            raise CannotTellError("LVM's metadata makes no sense")
        kind, stripes = str(segment.get("type", "")), segment.get("stripes")
        if kind != "striped" or segment.get("stripe_count") != 1:
            raise CannotTellError(f"a logical volume that is not linear ({clean(kind, 20)})")
        if not isinstance(stripes, list) or len(stripes) != 2 or _whole(segment.get("start_extent")) != expected:
            raise CannotTellError("LVM's metadata makes no sense")
        if stripes[0] != ours:
            raise CannotTellError("a logical volume on several disks")
        length = _whole(segment.get("extent_count"))
        yield start + _whole(stripes[1]) * extent, length * extent
        expected += length


def _sections(value: _Value) -> dict[str, dict[str, _Value]]:
    return {key: item for key, item in value.items() if isinstance(item, dict)} if isinstance(value, dict) else {}


def _whole(value: _Value) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise CannotTellError("LVM's metadata makes no sense")
    return value
