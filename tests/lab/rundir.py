"""Short temporary folders for sockets.

A unix socket's path holds at most 107 bytes (`man 7 unix`), and pytest's own temporary folders are often longer than
that before the file name begins.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

MAX_SOCKET_PATH_BYTES = 107


@contextlib.contextmanager
def run_directory() -> Iterator[Path]:
    """A fresh folder such as ``/tmp/lab-k3j2h1g0``, removed at the end of the block."""
    path = Path(tempfile.mkdtemp(prefix="lab-", dir="/tmp"))  # a fixed short place: $TMPDIR may be long
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def socket_path(run: Path, name: str) -> Path:
    """``run/name``, checked to be short enough for a socket. Raises ValueError."""
    path = run / name
    if len(str(path).encode()) > MAX_SOCKET_PATH_BYTES:
        raise ValueError(f"{path} is longer than {MAX_SOCKET_PATH_BYTES} bytes; use tests.lab.rundir.run_directory()")
    return path
