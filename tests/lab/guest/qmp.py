"""A plain client of QEMU's monitor protocol (QMP), for the lab and its tests.

QEMU serves one client a socket at a time: a second one connects and gets no greeting until the first leaves. That is
why every lab guest has several sockets (see tests.lab.guest.real).
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

from tests.lab.guest.lines import LineSocket

DEFAULT_TIMEOUT_SECONDS = 30.0


class QmpError(Exception):
    """QEMU answered a command with an error: ``class_`` and ``desc`` are its own words."""

    def __init__(self, class_: str, desc: str) -> None:
        super().__init__(f"{class_}: {desc}")
        self.class_ = class_
        self.desc = desc


class QmpClient:
    """One connection. ``execute`` raises QmpError, TimeoutError, ConnectionError.

    ``events`` holds every asynchronous event seen so far, oldest first.
    """

    def __init__(self, path: Path, timeout: float = DEFAULT_TIMEOUT_SECONDS) -> None:
        self.events: list[dict[str, Any]] = []
        self._lines = LineSocket(path, timeout, "QEMU's monitor")
        try:
            self.greeting = self._read(time.monotonic() + timeout)["QMP"]
            self.execute("qmp_capabilities", timeout=timeout)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._lines.close()

    def execute(self, command: str, arguments: dict[str, Any] | None = None, *, timeout: float | None = None) -> Any:
        """Run a command and return its ``return`` value."""
        deadline = time.monotonic() + (DEFAULT_TIMEOUT_SECONDS if timeout is None else timeout)
        request = {"execute": command, "arguments": arguments} if arguments else {"execute": command}
        self._lines.send(json.dumps(request).encode() + b"\n")
        while True:
            message = self._read(deadline)
            if "event" in message:
                self.events.append(message)
            elif "error" in message:
                raise QmpError(message["error"]["class"], message["error"]["desc"])
            else:
                return message["return"]

    def wait_event(self, name: str, timeout: float = DEFAULT_TIMEOUT_SECONDS) -> dict[str, Any]:
        """The next event ``name``: one already seen, or one that arrives in time. It is taken out of ``events``."""
        deadline = time.monotonic() + timeout
        while True:
            for index, event in enumerate(self.events):
                if event["event"] == name:
                    return self.events.pop(index)
            message = self._read(deadline)
            if "event" in message:
                self.events.append(message)

    def human(self, line: str, timeout: float | None = None) -> str:
        """Run a command of the human monitor (``info snapshots``, ``savevm x``) and return what it prints."""
        return str(self.execute("human-monitor-command", {"command-line": line}, timeout=timeout))

    def _read(self, deadline: float) -> dict[str, Any]:
        message: dict[str, Any] = json.loads(self._lines.line(deadline))
        return message


@contextlib.contextmanager
def qmp(path: Path, timeout: float = DEFAULT_TIMEOUT_SECONDS) -> Iterator[QmpClient]:
    """A connection for the length of a block."""
    with QmpClient(path, timeout) as client:
        yield client
