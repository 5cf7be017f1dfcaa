"""Lines over a unix socket, each with its deadline: what the agent's and QEMU's protocols have in common."""

from __future__ import annotations

import socket
import time
from pathlib import Path


class LineSocket:
    """One connection, to what ``peer`` names in errors. Raises TimeoutError, ConnectionError and other OSErrors."""

    def __init__(self, path: Path, timeout: float, peer: str) -> None:
        self._peer = peer
        self._buffer = b""
        self._socket = socket.socket(socket.AF_UNIX)
        try:
            self._socket.settimeout(timeout)
            self._socket.connect(str(path))
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        self._socket.close()

    def send(self, data: bytes) -> None:
        self._socket.sendall(data)

    def line(self, deadline: float) -> bytes:
        """The next line without its newline; ``deadline`` is monotonic."""
        while b"\n" not in self._buffer:
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError(f"no answer from {self._peer}")
            self._socket.settimeout(left)
            data = self._socket.recv(65536)
            if not data:
                raise ConnectionError(f"{self._peer} closed its socket")
            self._buffer += data
        line, self._buffer = self._buffer.split(b"\n", 1)
        return line
