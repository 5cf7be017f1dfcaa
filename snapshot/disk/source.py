"""Where a snapshot's bytes are read on the node: a file or device, a qcow2's internal snapshot, or through QEMU (RBD).

All of it opens for reading alone. What PVE's storage plugins call a volume's snapshot stands in ``where.py``.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from snapshot.base.text import clean
from snapshot.disk.blocks import Blocks, Bounded, Budget, CannotTellError
from snapshot.disk.qcow2 import Qcow2Snapshot

CHUNK = 64 << 10
"""What is read of an image through QEMU at once: a start of qemu-io costs some 50 ms."""

MOST_CHUNKS = 256

_DUMPED = re.compile(r"^[0-9a-f]{8,16}:  ((?:[0-9a-f]{2} ){1,16})", re.MULTILINE)
"""A line of what qemu-io prints of 16 bytes."""


class _File:
    """A file or a block device."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self.size = os.lseek(descriptor, 0, os.SEEK_END)

    def read(self, offset: int, length: int) -> bytes:
        """See Blocks."""
        found = bytearray()
        while len(found) < length:
            data = os.pread(self._descriptor, length - len(found), offset + len(found))
            if not data:
                break
            found += data
        return bytes(found)


@contextmanager
def opened(path: Path, budget: Budget, *, may_be_device: bool = False) -> Iterator[Blocks]:
    """A file, or where it ``may_be_device`` a block device. CannotTellError when it is neither; OSError."""
    # Whoever can write to the storage can put a link there: to a device of another guest, or to one that acts when it
    # is opened.
    _check_kind(os.stat(path), may_be_device=may_be_device)
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        _check_kind(os.fstat(descriptor), may_be_device=may_be_device)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_RANDOM)  # nothing is read ahead into the node's memory
        yield Bounded(_File(descriptor), budget)
    finally:
        os.close(descriptor)


def _check_kind(found: os.stat_result, *, may_be_device: bool) -> None:
    if not stat.S_ISREG(found.st_mode) and not (may_be_device and stat.S_ISBLK(found.st_mode)):
        wanted = "neither a file nor a block device" if may_be_device else "no file"
        raise CannotTellError(f"its volume is {wanted}")


@contextmanager
def qcow2_snapshot(path: Path, name: str, budget: Budget) -> Iterator[Blocks]:
    """The internal snapshot ``name`` of a qcow2 file, which may be in use."""
    with opened(path, budget) as file:
        yield Qcow2Snapshot(file, name)


class ThroughQemu:
    """An image that only QEMU can read, ``rbd:pool/image@snapshot:...``: some chunks, each by a ``qemu-io``.

    Nothing on the node changes, and nothing is mapped. The image is taken as raw: a guest could write another format's
    header into it.
    """

    def __init__(self, image: str, budget: Budget) -> None:
        self._image = image
        self._budget = budget
        self._chunks: dict[int, bytes] = {}
        told = run_tool(("qemu-img", "info", "-U", "-f", "raw", "--output", "json", image), budget.seconds_left)
        try:
            self.size = int(json.loads(told)["virtual-size"])
        except (ValueError, TypeError, KeyError):
            raise CannotTellError("qemu-img does not tell the volume's size") from None

    def read(self, offset: int, length: int) -> bytes:
        """See Blocks."""
        if offset < 0 or length < 0 or offset + length > self.size:
            raise CannotTellError("it names a place beyond the end of the disk")
        found = bytearray()
        while len(found) < length:
            number, within = divmod(offset + len(found), CHUNK)
            found += self._chunk(number)[within : within + length - len(found)]
        return bytes(found)

    def _chunk(self, number: int) -> bytes:
        if number not in self._chunks:
            if len(self._chunks) >= MOST_CHUNKS:
                raise CannotTellError("it would take reading too much of the disk")
            length = min(CHUNK, self.size - number * CHUNK)
            self._budget.spend(length)
            read = f"read -v {number * CHUNK} {length}"
            told = run_tool(("qemu-io", "-r", "-U", "-f", "raw", "-c", read, self._image), self._budget.seconds_left)
            data = bytes.fromhex("".join(_DUMPED.findall(told)))
            if len(data) != length:
                raise CannotTellError("the disk is shorter than it says")
            self._chunks[number] = data
        return self._chunks[number]


def run_tool(command: tuple[str, ...], seconds: float) -> str:
    """What a tool of the node prints. CannotTellError when it fails, is not there, or takes too long."""
    program, *arguments = command
    if not shutil.which(program):
        program = f"/usr/sbin/{program}"  # a hook's environment has no PATH
    try:
        done = subprocess.run(  # noqa: S603 - tools of the node by name, arguments without a shell
            (program, *arguments),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=max(seconds, 0.1),
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise CannotTellError(f"{command[0]} took too long") from None
    except OSError as error:
        raise CannotTellError(f"{command[0]} cannot be run: {error.strerror or error}") from None
    if done.returncode:
        why = clean(done.stderr.decode(errors="replace"), 160) or f"exit code {done.returncode}"
        raise CannotTellError(f"{Path(command[0]).name} failed: {why}")
    return done.stdout.decode(errors="replace")
