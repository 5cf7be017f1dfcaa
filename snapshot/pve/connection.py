"""One connection to the guest agent's unix socket: what is sent over it, and what is believed of what comes back.

A reply that was meant for a client that left comes first and can look like a good answer; nothing is believed before
our own ``guest-sync-delimited`` came back.

What a call leaves behind when it gives up must not cost PVE's next call. PVE (PVE::QMPClient, mux_input) reads answers
in pairs, a sync's and a command's, and skips a pair whose number is lower than its own; a sync's answer alone swallows
its own one and lets it time out (a thaw: 180 s), a higher number fails it. So our sync comes with a command, and has a
low number. The command is guest-fsfreeze-status, which costs no more than a ping: each of our turns says what the agent
believes.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import secrets
import select
import socket
import sys
import termios
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from snapshot.base import interruption
from snapshot.base.clock import Clock
from snapshot.model import FreezeState
from snapshot.pve.transport import AGENT_BYTES

HIGHEST_ID = 99_999
"""PVE's numbers are its pid, a 0 and a counter (PVE::QMPClient, next_cmdid): longer for any pid of a daemon's."""

READ_SECONDS = 0.02
"""How long an answer that has begun to come may take, where nobody waits for it."""

SENTINEL = b"\xff"
_RECEIVE_BYTES = 65536


class Heard(NamedTuple):
    """What the agent believed, and when it was asked (monotonic)."""

    state: FreezeState
    asked_at: float


class Connection:
    """One connection to an agent, closed by whoever made it. Everything raises OSError; deadlines are monotonic."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lines: deque[bytes] = deque()
        self._unended = bytearray()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._token: int | None = None
        """Of the sync that is not answered yet."""
        self._is_status_due = False
        self.asked_at = clock.monotonic()
        """When the agent was asked last (monotonic)."""
        self.heard: Heard | None = None
        """What it said then; None before it has answered, and when that was neither."""

    def close(self) -> None:
        """Leave the seat, or the queue for it."""
        self._socket.close()

    def open(self, path: Path, deadline: float) -> None:
        """Connect, and ask to be heard: the answer to the sync says that it is our turn."""
        self._limit(deadline)
        self._socket.connect(str(path))
        self.begin_sync(deadline)

    def take_place(self, path: Path) -> None:
        """As ``open``, without waiting for a place in the queue: BlockingIOError where it is full."""
        self._socket.setblocking(False)
        self._socket.connect(str(path))
        self.begin_sync(self._clock.monotonic())

    def ask(self, command: str, deadline: float, arguments: Mapping[str, object] | None = None) -> bytes:
        """The agent's line in answer to ``guest-<command>``."""
        self._limit(deadline)
        request = {"execute": f"guest-{command}"} | ({"arguments": arguments} if arguments else {})
        self._socket.sendall(json.dumps(request).encode() + b"\n")
        return self._line(deadline)

    def sync(self, deadline: float) -> None:
        """Throw away what was meant for others."""
        if self.is_synced:
            self.begin_sync(deadline)
        self._end_sync(deadline)

    @property
    def is_synced(self) -> bool:
        """Whether nothing that was asked over this connection is unanswered."""
        return self._token is None and not self._is_status_due

    def is_in_turn(self) -> bool:
        """Whether the sync has been answered by now: the seat is ours. Does not wait."""
        if not self.is_synced and (self._lines or select.select([self._socket], [], [], 0)[0]):
            with contextlib.suppress(TimeoutError):
                self._end_sync(self._clock.monotonic() + READ_SECONDS)
        return self.is_synced

    @property
    def is_read(self) -> bool:
        """Whether QEMU has read all that was sent (unix(7), SIOCOUTQ): it has accepted us."""
        return int.from_bytes(fcntl.ioctl(self._socket, termios.TIOCOUTQ, bytes(4)), sys.byteorder) == 0

    def _limit(self, deadline: float) -> None:
        self._socket.settimeout(max(0.01, deadline - self._clock.monotonic()))

    def begin_sync(self, deadline: float) -> None:
        """Ask to be heard, and what the agent believes, without waiting for the answer: see ``is_in_turn``."""
        token = 1 + secrets.randbelow(HIGHEST_ID)
        sync = {"execute": "guest-sync-delimited", "arguments": {"id": token}}
        self._limit(deadline)
        # The sentinel first clears half a request that a dead client left in the agent's parser.
        self._socket.sendall(SENTINEL + json.dumps(sync).encode() + b'\n{"execute": "guest-fsfreeze-status"}\n')
        self._token, self._is_status_due, self.asked_at = token, True, self._clock.monotonic()

    def _end_sync(self, deadline: float) -> None:
        while self._token is not None:
            line = self._line(deadline)
            try:
                answer = json.loads(line.rpartition(SENTINEL)[2])
            except (ValueError, RecursionError):  # the guest is not trusted: brackets without end, too
                answer = None
            if isinstance(answer, dict) and answer.get("return") == self._token and SENTINEL in line:
                self._token = None
            elif self._clock.monotonic() >= deadline:
                raise TimeoutError("no answer in time, but other lines")
        if self._is_status_due:
            state = _state(self._line(deadline))
            self.heard = Heard(state, self.asked_at) if state is not None else None
            self._is_status_due = False

    def _line(self, deadline: float) -> bytes:
        """The next line without its end; TimeoutError past ``deadline``, ConnectionResetError at end of file."""
        while not self._lines:
            left = deadline - self._clock.monotonic()
            if left <= 0:
                raise TimeoutError("no answer in time")
            self._socket.settimeout(interruption.patience(left))
            try:
                data = self._socket.recv(_RECEIVE_BYTES)
            except TimeoutError:
                interruption.mind()
                continue
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


def _state(line: bytes) -> FreezeState | None:
    """The answer to guest-fsfreeze-status; None for an error, and for what cannot be one."""
    try:
        return FreezeState(json.loads(line)["return"])
    except (ValueError, TypeError, LookupError, RecursionError):
        return None
