"""Who sat and who waited at an agent's socket, as the kernel lists it in /proc/net/unix.

A client that QEMU has not accepted yet is a line in state 02, an accepted one in state 03. The first column names the
kernel's socket, and a name is used again within the millisecond; the inode tells two accepted ones apart, one that
waits has none yet (net/unix/af_unix.c, unix_seq_show). The list is read once a millisecond and no client is touched:
something that stood between the clients and the socket would change the very turns that are to be seen.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

CONNECTIONS = Path("/proc/net/unix")
LOOK_SECONDS = 0.001
_LAST_SECONDS = 0.1
"""How long the last client may take to leave, behind the end of the block."""
_WAITS, _SITS = b"02", b"03"
_NONE = b"0"


@dataclass
class Connection:
    """One client's stay at the socket. Instants of time.monotonic(), late by up to LOOK_SECONDS and a look."""

    came: float
    seated: float | None = None
    left: float | None = None
    inode: bytes = b"0"
    """The accepted socket's."""
    was_empty: bool = False
    """Whether nobody else was at the socket when it came: then the agent had found its channel closed, and slept."""


class Seats:
    """Looks at the socket ``path`` while its block runs; ``stays`` has every client that was seen, in their order."""

    def __init__(self, path: Path, listing: Callable[[], bytes] = CONNECTIONS.read_bytes) -> None:
        self._end = b" " + str(path).encode()
        self._listing = listing
        self._present: dict[bytes, Connection] = {}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="bench-seats", daemon=True)
        self.stays: list[Connection] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        deadline = time.monotonic() + _LAST_SECONDS
        while self._present and time.monotonic() < deadline:
            time.sleep(LOOK_SECONDS)
        self._ended.set()
        self._thread.join()

    def look(self, now: float) -> None:
        """Compare the list with the one before."""
        inodes = dict(_entries(self._listing(), self._end))
        for name, stay in list(self._present.items()):
            if stay.inode not in (_NONE, inodes.get(name)) or name not in inodes:
                self._present.pop(name).left = now
        for name, inode in inodes.items():
            if name not in self._present:
                self._present[name] = Connection(now, was_empty=not self._present)
                self.stays.append(self._present[name])
            stay = self._present[name]
            if inode != _NONE and stay.seated is None:
                stay.seated, stay.inode = now, inode

    def _watch(self) -> None:
        with contextlib.suppress(PermissionError):  # a busy machine would keep it waiting for whole turns
            os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
        while not self._ended.wait(LOOK_SECONDS):
            self.look(time.monotonic())


def _entries(listing: bytes, end: bytes) -> Iterable[tuple[bytes, bytes]]:
    """Name and inode of each client. Only its own lines are taken apart: what a look costs, the window pays for."""
    at = listing.find(end)
    while at >= 0:
        after = at + len(end)
        if listing[after : after + 1] in (b"\n", b""):
            fields = listing[listing.rfind(b"\n", 0, at) + 1 : at].split()
            if fields[5] in (_WAITS, _SITS):
                yield fields[0], fields[6]
        at = listing.find(end, after)
