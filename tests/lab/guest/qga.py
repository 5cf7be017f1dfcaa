"""The tests' own client of the QEMU guest agent: plain, and independent of the product's code.

The agent's channel is a pipe without sessions: an answer that nobody waited for is read by the next client. Hence every
exchange begins with a delimited sync, and whatever stands before its answer is stale and thrown away (QEMU's
``docs/interop/qemu-ga.rst`` and ``qga/qapi-schema.json``, guest-sync-delimited).
"""

from __future__ import annotations

import json
import random
import time
from pathlib import Path
from typing import Any, Self

from tests.lab.guest.lines import LineSocket

DEFAULT_TIMEOUT_SECONDS = 10.0
_DELIMITER = b"\xff"


class AgentError(Exception):
    """The agent answered with an error: ``class_`` and ``desc`` are its own words."""

    def __init__(self, class_: str, desc: str) -> None:
        super().__init__(f"{class_}: {desc}")
        self.class_ = class_
        self.desc = desc


class AgentClient:
    """One connection to an agent's socket. Methods raise AgentError, TimeoutError, ConnectionError."""

    def __init__(self, path: Path, timeout: float = DEFAULT_TIMEOUT_SECONDS) -> None:
        self._lines = LineSocket(path, timeout, "the agent")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._lines.close()

    def send(self, data: bytes) -> None:
        """Send raw bytes, for tests of half requests and of lost replies."""
        self._lines.send(data)

    def send_command(self, command: str, arguments: dict[str, Any] | None = None) -> None:
        """Send a command without waiting for its answer."""
        request = {"execute": command} if arguments is None else {"execute": command, "arguments": arguments}
        self.send(json.dumps(request).encode() + b"\n")

    def read_line(self, timeout: float = DEFAULT_TIMEOUT_SECONDS) -> bytes:
        """The next line from the agent, without its newline, delimiter byte included."""
        return self._lines.line(time.monotonic() + timeout)

    def sync(self, timeout: float = DEFAULT_TIMEOUT_SECONDS) -> list[bytes]:
        """Synchronise; returns the stale lines that stood before the answer."""
        deadline = time.monotonic() + timeout
        token = random.getrandbits(31)
        request = json.dumps({"execute": "guest-sync-delimited", "arguments": {"id": token}})
        self.send(_DELIMITER + request.encode() + b"\n")
        stale: list[bytes] = []
        while True:
            line = self.read_line(deadline - time.monotonic())
            before, delimiter, answer = line.rpartition(_DELIMITER)
            if delimiter and _returned(answer) == token:
                return stale + ([before] if before else [])
            stale.append(line)

    def command(
        self, command: str, arguments: dict[str, Any] | None = None, timeout: float = DEFAULT_TIMEOUT_SECONDS
    ) -> Any:
        """Synchronise, run a command, and return its ``return`` value."""
        deadline = time.monotonic() + timeout
        self.sync(timeout)
        self.send_command(command, arguments)
        answer = json.loads(self.read_line(deadline - time.monotonic()))
        if "error" in answer:
            raise AgentError(answer["error"]["class"], answer["error"]["desc"])
        return answer["return"]


def ask(
    path: Path, command: str, arguments: dict[str, Any] | None = None, timeout: float = DEFAULT_TIMEOUT_SECONDS
) -> Any:
    """One command over a connection of its own."""
    with AgentClient(path, timeout) as client:
        return client.command(command, arguments, timeout)


def _returned(answer: bytes) -> object:
    try:
        return json.loads(answer).get("return")
    except (ValueError, AttributeError):
        return None
