"""A qcow2 file made byte by byte: an internal snapshot ``snap`` that holds an image, and a present that is empty."""

from __future__ import annotations

import struct

CLUSTER = 1 << 16


def qcow2(image: bytes, *, name: str = "snap", version: int = 3, base: bytes = b"", features: int = 0) -> bytes:
    """The file. Clusters of 64 KiB that are zeros are not there."""
    clusters = [image[at : at + CLUSTER].ljust(CLUSTER, b"\0") for at in range(0, len(image), CLUSTER)]
    assert len(clusters) <= CLUSTER // 8
    # header, snapshots, the present's L1, the snapshot's L1, its L2, data
    file = bytearray(5 * CLUSTER)
    header = struct.pack(
        ">4sIQIIQIIQQIIQ", b"QFI\xfb", version, 0, 0, 16, len(image), 0, 1, 2 * CLUSTER, 0, 0, 1, CLUSTER
    )
    header += struct.pack(">QQQII", features, 0, 0, 4, 104)
    if base:
        header = header[:8] + struct.pack(">QI", 512, len(base)) + header[20:]
        file[512 : 512 + len(base)] = base
    file[: len(header)] = header
    encoded = name.encode()
    entry = struct.pack(">QIHHIIQIIQQ", 3 * CLUSTER, 1, 1, len(encoded), 0, 0, 0, 0, 16, 0, len(image))
    entry += b"1" + encoded
    file[CLUSTER : CLUSTER + len(entry)] = entry
    struct.pack_into(">Q", file, 3 * CLUSTER, 4 * CLUSTER)
    for number, cluster in enumerate(clusters):
        if any(cluster):
            struct.pack_into(">Q", file, 4 * CLUSTER + 8 * number, 1 << 63 | len(file))
            file += cluster
    return bytes(file)
