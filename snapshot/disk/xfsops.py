"""What a record of XFS's log changes: the superblock alone, or more. Read from the record's operations.

Layout: fs/xfs/libxfs/xfs_log_format.h. Operations stand one behind the other, a header of 12 bytes each. A transaction
begins with a START; its first region is a header ("TRAN"), each item of it begins with a format that has its type in
front. A change of the superblock is a buffer item at sector 0.
"""

from __future__ import annotations

import struct
from enum import Enum

from snapshot.disk.blocks import CannotTellError
from snapshot.disk.xfslog import CYCLE_DATA, SECTOR, LogRecord, Ring

MOST_OPERATIONS = 4096

_TRANSACTION, _LOG = 0x69, 0xAA
_START, _COMMIT, _CONTINUE, _WAS_CONTINUED, _END, _UNMOUNT = 0x1, 0x2, 0x4, 0x8, 0x10, 0x20
_TRANS_MAGIC = 0x5452414E
_BUFFER = 0x123C
_TYPES = range(0x1236, 0x1250)
"""Items that XFS logs: inodes, buffers, quotas, intents."""
_UNMOUNT_TYPE = 0x556E
_LONGEST_HEADER = 16


class Content(Enum):
    """What a record holds."""

    SUPERBLOCK = "superblock"
    UNMOUNT = "unmount"
    OTHER = "other"


def content_of(ring: Ring, record: LogRecord) -> Content:
    """What is in it. CannotTellError for operations that are not understood."""
    body = _unpacked(ring, record)
    if not 0 < record.operations <= MOST_OPERATIONS:
        # No record of a freeze has so many.
        return Content.OTHER if record.operations else _unclear()
    at, regions, begun, ended = 0, 0, 0, 0
    for _ in range(record.operations):
        if at + 12 > len(body):
            _unclear()
        _, length, client, flags, _ = struct.unpack_from(">IIBBH", body, at)
        region = body[at + 12 : at + 12 + length]
        at += 12 + length
        if len(region) != length or length % 4 or client not in (_TRANSACTION, _LOG):
            _unclear()
        if flags == _UNMOUNT and client == _LOG and record.operations == 1:
            if struct.unpack_from("<H", body, 12)[0] != _UNMOUNT_TYPE:  # since 5.19 its length is given as 0
                _unclear()
            return Content.UNMOUNT
        if flags & (_CONTINUE | _WAS_CONTINUED | _END):
            return Content.OTHER  # a transaction that goes over more than one record: none of a freeze
        if flags & ~(_START | _COMMIT):
            _unclear()
        begun, ended = begun + (flags & _START), ended + (flags & _COMMIT) // _COMMIT
        if length == 0:
            continue
        if regions:
            regions -= 1
            continue
        regions = _item(region)
        if regions < 0:
            return Content.OTHER
    if regions or not begun or begun != ended:
        _unclear()
    return Content.SUPERBLOCK


def _item(region: bytes) -> int:
    """How many regions of data follow this one; -1: it is the format of something other than the superblock."""
    if len(region) == _LONGEST_HEADER and struct.unpack_from("<I", region)[0] == _TRANS_MAGIC:
        return 0
    kind, size = struct.unpack_from("<HH", region) if len(region) >= 4 else (0, 0)
    if kind not in _TYPES:
        _unclear()
    if kind != _BUFFER:
        return -1
    if len(region) < 24 or not size:
        _unclear()
    sector = struct.unpack_from("<q", region, 8)[0]
    return size - 1 if sector == 0 else -1


def _unpacked(ring: Ring, record: LogRecord) -> bytes:
    """The record's body with the words that the rounds had taken the place of."""
    data = bytearray(ring.read(record.at + 1, record.sectors - 1))
    headers = [record.header[44:300]]
    for number in range(record.headers - 1):
        headers.append(bytes(data[number * SECTOR + 4 : number * SECTOR + 4 + 4 * CYCLE_DATA]))
    body = data[(record.headers - 1) * SECTOR :]
    for sector in range(record.length // SECTOR):
        which, word = divmod(sector, CYCLE_DATA)
        body[sector * SECTOR : sector * SECTOR + 4] = headers[which][4 * word : 4 * word + 4]
    return bytes(body)


def _unclear() -> Content:
    raise CannotTellError("its log holds something that is not understood here")
