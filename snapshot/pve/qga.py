"""The agent's own unix socket on the guest's node: works with the whole PVE API down. Root only.

QEMU serves one client at a time (PVE's own calls included): a connect succeeds and nothing answers until the other one
has left, so every call here is bounded and holds the socket only for itself. A reply that was meant for a client that
left comes first and can look like a good answer; nothing is believed before our own ``guest-sync-delimited`` came back.
The command is sent only after that, so a call that times out in its sync has certainly not left a command behind.

An agent that finds nobody connected sleeps for 100 ms before it looks again (qga/main.c, channel_event_cb), so every
change of clients may cost that much. Hence ``keep_open``: the proof, the thaw and the status after it share one
connection.

What a call leaves behind when it gives up must not cost PVE's next call. PVE (PVE::QMPClient, mux_input) reads answers
in pairs, a sync's and a command's, and skips a pair whose number is lower than its own; a sync's answer alone swallows
its own one and lets it time out (a thaw: 180 s), a higher number fails it. So our sync comes with a guest-ping, and has
a low number.
"""

from __future__ import annotations

import contextlib
import json
import secrets
import socket
from collections import deque
from pathlib import Path

from snapshot.base.clock import Clock
from snapshot.base.text import clean
from snapshot.pve.agent import AgentRefusedError, AgentReplyLostError, CommandNotSentError, unwrap
from snapshot.pve.transport import AGENT_BYTES

SOCKET_FOLDER = Path("/var/run/qemu-server")
"""Where PVE puts ``<vmid>.qga`` (PVE::QemuServer::Helpers::qga_socket)."""

SYNC_SECONDS = 3.0
"""How long the agent may take to answer a sync before it counts as busy or gone: PVE's own limit for its ping."""

HIGHEST_ID = 99_999
"""PVE's numbers are its pid, a 0 and a counter (PVE::QMPClient, next_cmdid): longer for any pid of a daemon's."""

_SENTINEL = b"\xff"
_RECEIVE_BYTES = 65536


class SocketChannel:
    """AgentChannel over ``path``."""

    is_silent = False
    """Nothing stands before the agent here."""

    def __init__(self, path: Path, clock: Clock, sync_seconds: float = SYNC_SECONDS) -> None:
        self.name = f"agent socket {path}"
        self._path = path
        self._clock = clock
        self._sync_seconds = sync_seconds
        self._connection: _Connection | None = None
        """Open during a call, and after one that was to keep it open."""

    def call(self, command: str, *, timeout_seconds: float, keep_open: bool = False) -> object:
        """See AgentChannel.call."""
        deadline = self._clock.monotonic() + timeout_seconds
        is_answered = False
        try:
            connection = self._synced(min(deadline, self._clock.monotonic() + self._sync_seconds))
            try:
                answer = connection.ask(command, deadline)
            except OSError as error:
                raise AgentReplyLostError(f"{self.name}: no answer to guest-{command}: {clean(str(error))}") from error
            is_answered = True
        finally:
            if not (is_answered and keep_open):
                self.release()
        return _result(answer, self.name)

    def release(self) -> None:
        """See AgentChannel.release."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _synced(self, deadline: float) -> _Connection:
        """The kept connection, else a new one, once the agent has answered our sync over it."""
        try:
            if self._connection is not None:
                # One that QEMU let go of meanwhile tells nothing about the agent.
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    self._connection.sync(deadline)
                    return self._connection
                self.release()
            self._connection = connection = _Connection(self._clock)
            connection.open(self._path, deadline)
            connection.sync(deadline)
            return connection
        except OSError as error:
            busy = isinstance(error, TimeoutError | BlockingIOError | ConnectionResetError | BrokenPipeError)
            raise CommandNotSentError(
                f"{self.name}: {'busy or gone' if busy else clean(str(error))}", busy_or_gone=busy
            ) from error


class _Connection:
    """One connection to an agent, closed by whoever made it. Everything raises OSError; deadlines are monotonic."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lines: deque[bytes] = deque()
        self._unended = bytearray()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)

    def close(self) -> None:
        self._socket.close()

    def open(self, path: Path, deadline: float) -> None:
        self._limit(deadline)
        self._socket.connect(str(path))

    def ask(self, command: str, deadline: float) -> bytes:
        """The agent's line in answer to ``guest-<command>``."""
        self._limit(deadline)
        self._socket.sendall(json.dumps({"execute": f"guest-{command}"}).encode() + b"\n")
        return self._line(deadline)

    def _limit(self, deadline: float) -> None:
        self._socket.settimeout(max(0.01, deadline - self._clock.monotonic()))

    def sync(self, deadline: float) -> None:
        """Throw away what was meant for others."""
        token = 1 + secrets.randbelow(HIGHEST_ID)
        sync = {"execute": "guest-sync-delimited", "arguments": {"id": token}}
        self._limit(deadline)
        # The sentinel first clears half a request that a dead client left in the agent's parser.
        self._socket.sendall(_SENTINEL + json.dumps(sync).encode() + b'\n{"execute": "guest-ping"}\n')
        while True:
            line = self._line(deadline)
            try:
                answer = json.loads(line.rpartition(_SENTINEL)[2])
            except (ValueError, RecursionError):  # the guest is not trusted: brackets without end, too
                answer = None
            if isinstance(answer, dict) and answer.get("return") == token and _SENTINEL in line:
                self._line(deadline)  # the ping's
                return
            if self._clock.monotonic() >= deadline:
                raise TimeoutError("no answer in time, but other lines")

    def _line(self, deadline: float) -> bytes:
        """The next line without its end; TimeoutError past ``deadline``, ConnectionResetError at end of file."""
        while not self._lines:
            left = deadline - self._clock.monotonic()
            if left <= 0:
                raise TimeoutError("no answer in time")
            self._socket.settimeout(left)
            data = self._socket.recv(_RECEIVE_BYTES)
            if not data:
                raise ConnectionResetError("the guest closed the channel")
            self._take(data)
        return self._lines.popleft()

    def _take(self, data: bytes) -> None:
        """Every byte is looked at once, however little comes at a time."""
        first, *more = data.split(b"\n")
        self._unended += first
        if len(self._unended) > AGENT_BYTES:
            raise ConnectionResetError("an endless line")
        if more:
            self._lines.append(bytes(self._unended))
            self._lines.extend(more[:-1])
            self._unended = bytearray(more[-1])


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
