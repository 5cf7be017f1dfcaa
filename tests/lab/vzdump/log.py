"""vzdump's two logs, with their different clocks.

The task log is the worker's stderr: every line is there at once. The guest's log is a Perl file handle: a block of
8 KiB that reaches the disk when it is full, when the process forks (a hook is about to run) or when the file is
closed. Following the guest's log in order to thaw means thawing too late: this module lets a test show it.

Source: pve-guest-common ``PVE/VZDump/Plugin.pm`` (debugmsg); the buffering is PerlIO's, and flushing before a fork is
Perl's (``perldoc -f fork``).
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Literal

Level = Literal["info", "warn", "err"]
_PREFIX: dict[Level, bytes] = {"info": b"INFO:", "warn": b"WARN:", "err": b"ERROR:"}
_PERLIO_BUFFER_BYTES = 8192


def to_bytes(text: str | bytes) -> bytes:
    return text if isinstance(text, bytes) else text.encode("utf-8", "surrogateescape")


def write_all(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]


class PerlFile:
    """A file opened for writing as Perl does it: full blocks go out, the rest waits."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
        self._waiting = b""

    def write(self, data: bytes) -> None:
        self._waiting += data
        while len(self._waiting) >= _PERLIO_BUFFER_BYTES:
            write_all(self._descriptor, self._waiting[:_PERLIO_BUFFER_BYTES])
            self._waiting = self._waiting[_PERLIO_BUFFER_BYTES:]

    def flush(self) -> None:
        write_all(self._descriptor, self._waiting)
        self._waiting = b""

    def close(self) -> None:
        self.flush()
        os.close(self._descriptor)


class Logger:
    """Where a worker's messages go. ``guest_log`` is the log of the guest that is being backed up, if any."""

    def __init__(self) -> None:
        self.guest_log: PerlFile | None = None
        self.warnings = 0  # a job with warnings ends `TASK WARNINGS: n`

    def message(self, level: Level, text: str | bytes, *, guest_too: bool = True) -> None:
        """debugmsg: one message, each of its lines with a prefix of its own; an empty one, or `0`, is dropped."""
        data = to_bytes(text).removesuffix(b"\n")
        if data in (b"", b"0"):  # `return if !$msg`, and "0" is false in Perl
            return
        data = data.rstrip(b"\n")
        if not data:
            return
        stamp = time.strftime("%Y-%m-%d %H:%M:%S ").encode()
        for part in data.split(b"\n"):
            line = _PREFIX[level] + b" " + part + b"\n"
            if level == "warn":
                self.warnings += 1
            write_all(2, line)
            if guest_too and self.guest_log is not None:
                self.guest_log.write(stamp + line)

    def info(self, text: str | bytes) -> None:
        self.message("info", text)

    def error(self, text: str | bytes) -> None:
        self.message("err", text)

    def task_only(self, text: str) -> None:
        """A message that PVE gives no file handle for: it never stands in the guest's log."""
        self.message("info", text, guest_too=False)

    def raw(self, text: str) -> None:
        """Perl's own `print` and `warn`: into the task log, without any prefix."""
        write_all(2, to_bytes(text))

    def before_fork(self) -> None:
        """Perl flushes every open handle before it forks."""
        if self.guest_log is not None:
            self.guest_log.flush()

    def close_guest_log(self) -> None:
        if self.guest_log is not None:
            self.guest_log.close()
            self.guest_log = None
