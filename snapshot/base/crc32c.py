"""The checksum of ext4, XFS and NVMe: CRC-32C (Castagnoli), which zlib does not have. Standard library only."""

from __future__ import annotations

_POLYNOMIAL = 0x82F63B78


def _entry(value: int) -> int:
    for _ in range(8):
        value = (value >> 1) ^ (_POLYNOMIAL if value & 1 else 0)
    return value


_TABLE = tuple(_entry(value) for value in range(256))


def crc32c(data: bytes | memoryview, start: int = 0xFFFFFFFF) -> int:
    """The register after ``data``, without the inversion at the end: ext4 stores it as it is, XFS inverted."""
    table, register = _TABLE, start
    for byte in data:
        register = table[(register ^ byte) & 0xFF] ^ (register >> 8)
    return register
