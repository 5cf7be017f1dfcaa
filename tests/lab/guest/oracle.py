"""What a disk itself says about how a snapshot or a backup of it was taken. Nothing here asks the program under test.

ext4
    The superblock's ``needs_recovery`` flag is off in a snapshot taken inside a freeze window, and on in every other
    one of a file system that is mounted with a journal: a freeze writes the journal out and clears the flag, a thaw
    sets it again before it lets go.
XFS
    A freeze writes everything out and then logs the superblock, so the last transaction in the log of a snapshot
    taken inside a window changes the superblock alone. While the guest's writer works, the last transaction outside
    of a window changes the inode of its log file. This oracle needs the writer: an XFS that was idle for a minute
    logs its superblock too, and between a thaw and the first write after it nothing has changed on the disk, so a
    snapshot of that moment reads (and is) as good as one inside the window.
counter
    With the guest's counter at hand, the writer's log file must have arrived with exactly that many lines, read
    without replaying any journal. For a frozen guest the counter stands still, so it can be read at leisure.

Scripted guests keep the answer in their disk's file (tests.lab.guest.scriptedqmp).
"""

from __future__ import annotations

import dataclasses
import re
import struct
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.lab import packages
from tests.lab.guest.base import Filesystem, Guest
from tests.lab.guest.qmp import QmpClient
from tests.lab.guest.scriptedqmp import read_disk

_QCOW2_MAGIC = b"QFI\xfb"
_EXT4_MAGIC = 0xEF53
_NEEDS_RECOVERY = 0x4
_XFS_MAGIC = b"XFSB"


@dataclasses.dataclass(frozen=True)
class Judgement:
    """``consistent``: taken while every file system was frozen. ``evidence`` says why, for people.

    ``lines`` is how many lines of the writer's log the image holds without a replay, None where that cannot be read.
    """

    consistent: bool
    evidence: str
    lines: int | None


def judge(disk: Path, snapshot: str, fs: Filesystem, *, counter: int | None = None) -> Judgement:
    """Judge the internal snapshot ``snapshot`` of a qcow2 disk, which may be in use.

    Raises LookupError when there is no such snapshot, ValueError when it holds no such file system.
    """
    scripted = read_disk(disk)
    if scripted is not None:
        if snapshot not in scripted["snapshots"]:
            raise LookupError(f"{disk} has no snapshot {snapshot}")
        return _with_counter(_scripted(scripted["snapshots"][snapshot]), counter)
    with tempfile.TemporaryDirectory(prefix="oracle-") as folder:
        raw = Path(folder) / "raw"
        try:
            _convert(disk, raw, "-f", "qcow2", "-l", f"snapshot.name={snapshot}")
        except packages.LabUnavailableError as error:
            raise LookupError(f"{disk}: snapshot {snapshot}: {error}") from error
        return _judge_raw(raw, fs, counter)


def judge_image(image: Path, fs: Filesystem, *, counter: int | None = None) -> Judgement:
    """Judge a whole image, raw or qcow2: a backup. Raises ValueError when it holds no such file system."""
    scripted = read_disk(image)
    if scripted is not None:
        if "image" not in scripted:
            raise ValueError(f"{image} is a scripted disk, not a backup")
        return _with_counter(_scripted(scripted["image"]), counter)
    with image.open("rb") as file:
        is_qcow2 = file.read(4) == _QCOW2_MAGIC
    if not is_qcow2:
        return _judge_raw(image, fs, counter)
    with tempfile.TemporaryDirectory(prefix="oracle-") as folder:
        raw = Path(folder) / "raw"
        _convert(image, raw, "-f", "qcow2")
        return _judge_raw(raw, fs, counter)


def block_statistics_move(guest: Guest, seconds: float = 0.5) -> bool:
    """Whether QEMU sees writes or flushes on the guest's drive within ``seconds``; returns at the first."""
    deadline = time.monotonic() + seconds
    with QmpClient(guest.qmp_own) as monitor:
        first = writes_seen(monitor, guest.drive_node)
        while time.monotonic() < deadline:
            time.sleep(0.01)
            if writes_seen(monitor, guest.drive_node) != first:
                return True
    return False


def writes_seen(monitor: QmpClient, node: str) -> tuple[int, int]:
    """Write and flush operations that QEMU has counted on the drive ``node``. Raises LookupError."""
    for entry in monitor.execute("query-blockstats"):
        if entry.get("node-name") == node:
            return entry["stats"]["wr_operations"], entry["stats"]["flush_operations"]
    raise LookupError(f"QEMU has no drive on node {node}")


def log_size(lines: int) -> int:
    """Bytes of the writer's log when its last line is the number ``lines``."""
    size, first, digits = 0, 1, 1
    while first <= lines:
        last = min(lines, first * 10 - 1)
        size += (last - first + 1) * (digits + 1)
        first, digits = first * 10, digits + 1
    return size


def _convert(source: Path, raw: Path, *options: str) -> None:
    # -U: the guest's QEMU holds the image's lock. A snapshot's clusters do not change while it runs.
    packages.run("qemu-img", "convert", "-U", *options, "-O", "raw", source, raw)


def _scripted(moment: dict[str, Any]) -> Judgement:
    state = "frozen" if moment["frozen"] else "not frozen"
    return Judgement(moment["frozen"], f"the scripted guest was {state} at {moment['at']:.3f} s", moment["counter"])


def _judge_raw(raw: Path, fs: Filesystem, counter: int | None) -> Judgement:
    return _with_counter(_ext4(raw) if fs == "ext4" else _xfs(raw), counter)


def _with_counter(found: Judgement, counter: int | None) -> Judgement:
    if counter is None:
        return found
    if found.lines == counter:
        return dataclasses.replace(found, evidence=f"{found.evidence}; all {counter} lines of the writer are there")
    text = f"{found.evidence}; the writer had {counter} lines, the image has {found.lines}"
    return Judgement(False, text, found.lines)


def _ext4(raw: Path) -> Judgement:
    with raw.open("rb") as file:
        file.seek(1024)
        superblock = file.read(1024)
    if len(superblock) < 1024 or struct.unpack_from("<H", superblock, 0x38)[0] != _EXT4_MAGIC:
        raise ValueError(f"{raw} holds no ext4 file system")
    needs_recovery = bool(struct.unpack_from("<I", superblock, 0x60)[0] & _NEEDS_RECOVERY)
    lines = packages.run("debugfs", "-R", "cat /log", raw).split("\n")
    state = "on" if needs_recovery else "off"
    return Judgement(not needs_recovery, f"ext4's needs_recovery flag is {state}", _whole_lines(lines))


def _whole_lines(lines: list[str]) -> int | None:
    """The last number, when the file is 1, 2, 3, ... without a gap; None when it is not."""
    numbers = lines[:-1]
    return len(numbers) if numbers == [str(number) for number in range(1, len(numbers) + 1)] else None


def _xfs(raw: Path) -> Judgement:
    with raw.open("rb") as file:
        if file.read(4) != _XFS_MAGIC:
            raise ValueError(f"{raw} holds no XFS file system")
    listing = packages.run("xfs_logprint", "-t", raw)
    last = listing.rpartition("TRANS:")[2]
    superblock_only = "SUPER Block Buffer" in last and "INODE:" not in last
    what = "the superblock alone" if superblock_only else "more than the superblock"
    return Judgement(superblock_only, f"the last transaction in XFS's log changes {what}", _xfs_lines(raw))


def _xfs_lines(raw: Path) -> int | None:
    """The lines that fit the log file's size on disk, or None when it is not there yet or the size fits none."""
    try:
        printed = packages.run("xfs_db", "-r", "-c", "path /log", "-c", "print core.size", raw)
    except packages.LabUnavailableError:
        return None
    found = re.search(r"core\.size = (\d+)", printed)
    if found is None:
        return None
    size, lines, step = int(found[1]), 0, 1 << 40
    while step:
        if log_size(lines + step) <= size:
            lines += step
        step >>= 1
    return lines if log_size(lines) == size else None
