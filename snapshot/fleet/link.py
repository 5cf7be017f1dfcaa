"""What the parent and a worker say to each other: one JSON object a packet, over a socketpair, both ways.

A packet arrives whole or not at all, so nothing that is said can be torn. ``op`` names what is said:

========  ===========  =========================================================================================
from      op           what
========  ===========  =========================================================================================
worker    say          ``line``, ``at``: a line of progress, as of a single run
worker    stage        ``stage``: where the guest stands (Stage)
worker    storages     ``names``: where its disks are; the worker waits for ``go``
worker    room         what PVE says of the cluster and its storages, for those that begin next (room.py)
worker    later        ``why``, ``lock``: it cannot be done now (it is locked): it is to be tried again
worker    result       what came of it; the worker ends
parent    go           it may take the snapshot
========  ===========  =========================================================================================

A fence (take/fence.py) has words of its own. The end of the connection is the other one's end.
"""

from __future__ import annotations

import contextlib
import json
import select
import socket
from collections.abc import Mapping
from enum import Enum
from typing import Any

from snapshot.base import interruption

LONGEST_SECONDS = 3600.0
"""Of one wait for a message that may take for ever."""

MOST_BYTES = 1 << 20
"""Of one packet. A result with all its checks has some ten thousand; socket(7) lets an ordinary user send 200 KB."""

Said = Mapping[str, Any]
"""One message."""


class Stage(Enum):
    """Where a worker's guest stands, for the eye."""

    LOOKING = "looking"
    WAITING = "waits for its storage"
    CHECKING = "checking"
    WINDOW = "in its window"
    THAWED = "thawed"


class Link:
    """One end of the pair. Only ``tell_whole`` and ``wait`` block."""

    def __init__(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        # A result must pass in one piece; what the kernel does not allow it cuts by itself (wmem_max).
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, MOST_BYTES)
        self._connection = connection

    def fileno(self) -> int:
        """For a selector."""
        return self._connection.fileno()

    def tell(self, op: str, **values: object) -> bool:
        """Send one message, now: one system call, and no waiting. Whether it is on its way.

        A parent that does not read (it is stopped) loses lines of progress: no guest waits for it.
        """
        try:
            self._connection.send(json.dumps({"op": op, **values}).encode())
        except OSError:
            return False
        return True

    def tell_whole(self, op: str, **values: object) -> bool:
        """Send one message that must arrive, and wait until there is room for it. False: nobody is there any more, or
        it is too long.
        """
        data = json.dumps({"op": op, **values}).encode()
        while True:
            try:
                self._connection.send(data)
            except BlockingIOError:
                with contextlib.suppress(OSError):
                    select.select([], [self._connection], [])
            except OSError:
                return False
            else:
                return True

    def take(self) -> Said | None:
        """The next message that is there; None when there is none now. EOFError when the other one has ended."""
        try:
            data = self._received()
        except BlockingIOError:
            return None
        if not data:
            raise EOFError
        found: Said = json.loads(data)
        return found

    def wait(self, seconds: float | None = None) -> Said | None:
        """The next message; None when none came within ``seconds``. EOFError as above; a signal ends it
        (base/interruption.py).
        """
        message = self.take()
        left = LONGEST_SECONDS if seconds is None else seconds
        while message is None and left > 0:
            step = interruption.patience(left)
            if select.select([self._connection], [], [], step)[0]:
                message = self.take()
            interruption.mind()
            left -= step if seconds is not None else 0.0
        return message

    def _received(self) -> bytes:
        """One packet, empty at the end. BlockingIOError when there is none."""
        try:
            return self._connection.recv(MOST_BYTES)
        except ConnectionResetError:  # it ended with a word of ours unread; what it said itself is there all the same
            return self._connection.recv(MOST_BYTES)

    @property
    def is_closed(self) -> bool:
        """Whether the other one has ended; what it said before may still be there. One system call."""
        poll = select.poll()
        poll.register(self._connection, select.POLLRDHUP)
        return any(events & (select.POLLRDHUP | select.POLLHUP | select.POLLERR) for _, events in poll.poll(0))

    def close(self) -> None:
        """Let go of it."""
        self._connection.close()


def pair() -> tuple[Link, Link]:
    """Two ends."""
    one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    return Link(one), Link(other)
