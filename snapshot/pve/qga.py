"""The agent's own unix socket on the guest's node: works with the whole PVE API down. Root only.

QEMU serves one client at a time (PVE's own calls included): a connect succeeds and nothing answers until the other one
has left, so every call here is bounded and holds the socket only for itself. A reply that was meant for a client that
left comes first and can look like a good answer; nothing is believed before our own ``guest-sync-delimited`` came back.
The command is sent only after that, so a call that times out in its sync has certainly not left a command behind.

What a call leaves behind when it gives up must not cost PVE's next call. PVE (PVE::QMPClient, mux_input) reads answers
in pairs, a sync's and a command's, and skips a pair whose number is lower than its own; a sync's answer alone swallows
its own one and lets it time out (a thaw: 180 s), a higher number fails it. So our sync comes with a guest-ping, and has
a low number.
"""

from __future__ import annotations

import json
import secrets
import socket
from pathlib import Path

from snapshot.clock import Clock
from snapshot.pve.agent import AgentRefusedError, AgentReplyLostError, CommandNotSentError, unwrap
from snapshot.pve.transport import clean

SOCKET_FOLDER = Path("/var/run/qemu-server")
"""Where PVE puts ``<vmid>.qga`` (PVE::QemuServer::Helpers::qga_socket)."""

SYNC_SECONDS = 3.0
"""How long the agent may take to answer a sync before it counts as busy or gone: PVE's own limit for its ping."""

HIGHEST_ID = 99_999
"""PVE's numbers are its pid, a 0 and a counter (PVE::QMPClient, next_cmdid): longer for any pid of a daemon's."""

_SENTINEL = b"\xff"
_MAX_LINE = 1 << 20


class SocketChannel:
    """AgentChannel over ``path``."""

    def __init__(self, path: Path, clock: Clock, sync_seconds: float = SYNC_SECONDS) -> None:
        self.name = f"agent socket {path}"
        self._path = path
        self._clock = clock
        self._sync_seconds = sync_seconds

    def call(self, command: str, *, timeout_seconds: float) -> object:
        """See AgentChannel.call."""
        deadline = self._clock.monotonic() + timeout_seconds
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            lines = _Lines(connection, self._clock)
            try:
                connection.settimeout(min(self._sync_seconds, timeout_seconds))
                connection.connect(str(self._path))
                self._sync(connection, lines, min(deadline, self._clock.monotonic() + self._sync_seconds))
            except OSError as error:
                busy = isinstance(error, TimeoutError | BlockingIOError | ConnectionResetError | BrokenPipeError)
                raise CommandNotSentError(
                    f"{self.name}: {'busy or gone' if busy else clean(str(error))}", busy_or_gone=busy
                ) from error
            try:
                connection.settimeout(max(0.01, deadline - self._clock.monotonic()))
                connection.sendall(json.dumps({"execute": f"guest-{command}"}).encode() + b"\n")
                return _result(lines.next(deadline), self.name)
            except OSError as error:
                raise AgentReplyLostError(f"{self.name}: no answer to guest-{command}: {clean(str(error))}") from error

    @staticmethod
    def _sync(connection: socket.socket, lines: _Lines, deadline: float) -> None:
        token = 1 + secrets.randbelow(HIGHEST_ID)
        sync = {"execute": "guest-sync-delimited", "arguments": {"id": token}}
        # The sentinel first clears half a request that a dead client left in the agent's parser.
        connection.sendall(_SENTINEL + json.dumps(sync).encode() + b'\n{"execute": "guest-ping"}\n')
        while True:
            line = lines.next(deadline)
            try:
                answer = json.loads(line.rpartition(_SENTINEL)[2])
            except (ValueError, RecursionError):  # the guest is not trusted: brackets without end, too
                continue
            if isinstance(answer, dict) and answer.get("return") == token and _SENTINEL in line:
                lines.next(deadline)  # the ping's
                return


class _Lines:
    """Newline-terminated replies of a socket, with a deadline each."""

    def __init__(self, connection: socket.socket, clock: Clock) -> None:
        self._connection = connection
        self._clock = clock
        self._buffer = b""

    def next(self, deadline: float) -> bytes:
        """The next line without its end; TimeoutError past ``deadline``, ConnectionResetError at end of file."""
        while b"\n" not in self._buffer:
            left = deadline - self._clock.monotonic()
            if left <= 0:
                raise TimeoutError("no answer in time")
            self._connection.settimeout(left)
            data = self._connection.recv(65536)
            if not data:
                raise ConnectionResetError("the guest closed the channel")
            self._buffer += data
            if len(self._buffer) > _MAX_LINE:
                raise ConnectionResetError("an endless line")
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line


def _result(line: bytes, name: str) -> object:
    try:
        answer = json.loads(line.lstrip(_SENTINEL))
    except (ValueError, RecursionError):
        raise AgentReplyLostError(f"{name}: an answer that is not JSON: {clean(repr(line[:80]))}") from None
    if not isinstance(answer, dict) or not ("return" in answer or "error" in answer):
        raise AgentReplyLostError(f"{name}: an answer that is not the agent's: {clean(repr(line[:80]))}")
    if "error" in answer:
        unwrap(answer)
    return answer["return"]


__all__ = ["SOCKET_FOLDER", "AgentRefusedError", "SocketChannel"]
