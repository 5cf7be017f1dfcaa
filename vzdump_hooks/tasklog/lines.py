"""The lines of a task's log: from the file on the node, else from the API. What they mean stands in wordings.py."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Protocol
from urllib.parse import quote

from snapshot.base.files import open_regular
from snapshot.errors import ApiError
from snapshot.model import Upid
from snapshot.pve.transport import Transport

LONGEST_LINE = 8192
"""Longer lines are cut: what matters to us stands at their beginning."""

READ_BYTES = 1 << 16

API_ROWS = 5000
API_SECONDS = 2.0
"""How long one request may take: the deadline of a window is not checked meanwhile."""


class LogSource(Protocol):
    """Where lines come from. Begins at the log's beginning."""

    pause_seconds: float
    """How long to wait before reading again."""

    def lines(self) -> list[str] | None:
        """The whole lines since the last call, without their ends; None when the log cannot be read at present."""
        ...


class FileLog:
    """The lines of a growing file. One that is replaced or cut short is read from its new beginning."""

    pause_seconds = 0.002
    """The delay is part of the window, and vzdump's own freeze may take only some 40 ms."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0
        self._inode: int | None = None
        self._rest = b""

    def lines(self) -> list[str] | None:
        """See LogSource. Undecodable bytes are replaced."""
        found: list[str] = []
        try:
            with open_regular(self._path) as file:
                now = os.fstat(file.fileno())
                if (self._inode is not None and now.st_ino != self._inode) or now.st_size < self._offset:
                    self._offset, self._rest = 0, b""
                self._inode = now.st_ino
                file.seek(self._offset)
                # Nothing means the end of the file, and not the middle of a long line.
                while not found and (data := file.read(READ_BYTES)):
                    found = self._take(data)
        except OSError:
            return found or None
        return found

    def _take(self, data: bytes) -> list[str]:
        self._offset += len(data)
        *whole, rest = (self._rest + data).split(b"\n")
        self._rest = rest[:LONGEST_LINE]  # the beginning: the end of a long line must never look like a line
        return [line[:LONGEST_LINE].decode("utf-8", "replace") for line in whole]


class ApiLog:
    """The same through ``/nodes/{node}/tasks/{upid}/log``. Slower by far, and never wrong about whose log it is."""

    pause_seconds = 0.25

    def __init__(self, transport: Transport, upid: Upid) -> None:
        self._transport = transport
        self._path = f"nodes/{upid.node}/tasks/{quote(upid.text, safe='')}/log"
        self._next = 0

    def lines(self) -> list[str] | None:
        """See LogSource."""
        params = {"start": self._next, "limit": API_ROWS}
        try:
            answer = self._transport.request("GET", self._path, params, timeout_seconds=API_SECONDS)
        except ApiError:
            return None
        rows = [row for row in answer if isinstance(row, dict)] if isinstance(answer, list) else []
        texts = [str(row.get("t", ""))[:LONGEST_LINE] for row in rows]
        # PVE answers with one row that says so (PVE::Tools, dump_logfile).
        if texts == ["no content"]:
            return []
        if len(texts) == 1 and texts[0].startswith("unable to open file - "):
            return None
        self._next += len(texts)
        return texts


def log_path(task_folder: Path, upid: Upid) -> Path:
    """Where PVE keeps the log of a task (PVE::RESTEnvironment, fork_worker)."""
    return task_folder / upid.log_folder / upid.text
