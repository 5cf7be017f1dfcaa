"""An internal snapshot of a qcow2 file: what is read of it, and what is refused."""

from __future__ import annotations

import struct
import subprocess
from pathlib import Path

import pytest

from snapshot.disk.blocks import Bounded, Budget, CannotTellError
from snapshot.disk.qcow2 import Qcow2Snapshot
from snapshot.disk.source import ThroughQemu, opened, qcow2_snapshot
from tests.disk.kit import MIB, Memory
from tests.disk.qcow2kit import CLUSTER, qcow2
from tests.lab import packages
from tests.unit.kit import VirtualClock

IMAGE = bytes(range(256)) * 1024 + bytes(CLUSTER) + b"end" * 1000


def test_a_snapshot_reads_as_what_was_in_it() -> None:
    found = Qcow2Snapshot(Memory(qcow2(IMAGE)), "snap")
    assert found.size == len(IMAGE)
    assert found.read(0, len(IMAGE)) == IMAGE
    assert found.read(CLUSTER - 3, 7) == IMAGE[CLUSTER - 3 : CLUSTER + 4]
    assert found.read(len(IMAGE) - 3, 3) == b"end"


@pytest.mark.parametrize(("offset", "length"), [(-1, 4), (len(IMAGE) - 1, 2), (1 << 62, 1)])
def test_what_lies_beyond_the_end_is_not_read(offset: int, length: int) -> None:
    with pytest.raises(CannotTellError):
        Qcow2Snapshot(Memory(qcow2(IMAGE)), "snap").read(offset, length)


def test_another_name_is_not_there() -> None:
    with pytest.raises(CannotTellError, match="no snapshot of that name"):
        Qcow2Snapshot(Memory(qcow2(IMAGE)), "sna")


@pytest.mark.parametrize(
    ("file", "why"),
    [
        (qcow2(IMAGE, features=1 << 2), "features"),
        (qcow2(IMAGE, features=1 << 4), "features"),
        (qcow2(IMAGE, features=1 << 9), "features"),
        (b"QFI\xfb" + qcow2(IMAGE)[4:32] + struct.pack(">I", 2) + qcow2(IMAGE)[36:], "encrypted"),
        (bytes(4) + qcow2(IMAGE)[4:], "no qcow2"),
        (qcow2(IMAGE, version=4), "not known"),
    ],
)
def test_what_is_not_understood_is_refused(file: bytes, why: str) -> None:
    with pytest.raises(CannotTellError, match=why):
        Qcow2Snapshot(Memory(file), "snap")


@pytest.mark.parametrize(
    ("entry", "base", "why"),
    [
        (1 << 62 | 7 * CLUSTER, b"", "compressed"),
        (0, b"/images/base-9000.qcow2", "base image"),
        (3 * CLUSTER + 512, b"", "makes no sense"),
        (1 << 50, b"", "beyond the end"),
    ],
)
def test_a_cluster_that_is_not_plainly_there_is_refused(entry: int, base: bytes, why: str) -> None:
    file = bytearray(qcow2(IMAGE, base=base))
    struct.pack_into(">Q", file, 4 * CLUSTER, entry)
    snapshot = Qcow2Snapshot(Bounded(Memory(bytes(file)), Budget(VirtualClock())), "snap")
    with pytest.raises(CannotTellError, match=why):
        snapshot.read(0, 512)


def test_too_many_snapshots_are_refused() -> None:
    file = bytearray(qcow2(IMAGE))
    struct.pack_into(">I", file, 60, 1 << 31)
    with pytest.raises(CannotTellError, match="too many"):
        Qcow2Snapshot(Memory(bytes(file)), "snap")


def test_it_reads_what_qemu_wrote(tmp_path: Path) -> None:
    image, raw = tmp_path / "disk.qcow2", tmp_path / "disk.raw"
    raw.write_bytes(IMAGE.ljust(MIB, b"\0"))
    packages.run("qemu-img", "convert", "-f", "raw", "-O", "qcow2", raw, image)
    packages.run("qemu-img", "snapshot", "-c", "before", image)
    packages.run("qemu-io", "-f", "qcow2", "-c", "write -P 7 0 1M", image)
    packages.run("qemu-img", "snapshot", "-c", "after", image)
    for name, expected in (("before", IMAGE.ljust(MIB, b"\0")), ("after", b"\7" * MIB)):
        with qcow2_snapshot(image, name, Budget(VirtualClock())) as blocks:
            assert blocks.read(0, MIB) == expected


def test_an_image_that_only_qemu_can_read_is_read_through_it(tmp_path: Path) -> None:
    raw = tmp_path / "disk.raw"
    raw.write_bytes(IMAGE.ljust(MIB, b"\0"))
    budget = Budget(VirtualClock())
    blocks = ThroughQemu(str(raw), budget)
    assert blocks.size == MIB
    assert blocks.read(CLUSTER - 5, 10) == IMAGE[CLUSTER - 5 : CLUSTER + 5]
    assert blocks.read(MIB - 16, 16) == bytes(16)
    with pytest.raises(CannotTellError):
        blocks.read(MIB, 1)


def test_a_guest_cannot_make_another_format_of_its_raw_disk(tmp_path: Path) -> None:
    raw, secret = tmp_path / "disk.raw", tmp_path / "secret"
    secret.write_bytes(b"of the node".ljust(MIB, b"\0"))
    subprocess.run(
        ["qemu-img", "create", "-q", "-f", "qcow2", "-b", secret, "-F", "raw", raw], check=True, capture_output=True
    )
    blocks = ThroughQemu(str(raw), Budget(VirtualClock()))
    assert blocks.read(0, 4) == b"QFI\xfb"


def test_a_folder_is_no_volume(tmp_path: Path) -> None:
    with pytest.raises((CannotTellError, OSError)), opened(tmp_path, Budget(VirtualClock())):
        pass
