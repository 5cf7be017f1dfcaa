"""systemd's watchdog, as the process that it watches knows it (sd_notify(3), sd_watchdog_enabled(3)).

systemd kills a process that has not said for a given time that it moves, and starts it again. The word comes from the
loop that does the work and from nowhere else: a thread of its own would go on saying it for one that hangs. It is a
datagram that is dropped rather than waited for. Standard library only.
"""

from __future__ import annotations

import contextlib
import socket

from snapshot.base.clock import Clock

LOOK_SECONDS = 5.0
"""How often one that waits for something else wakes up to say that it moves."""

SELDOM_SECONDS = 1.0
"""How often the word is sent at most: the service manager has others to listen to."""


class Watchdog:
    """``moves`` tells systemd, which listens at ``address`` (unit.notify_socket), that we do. Without one that listens
    nothing happens. Nothing raises, nothing waits.
    """

    def __init__(self, address: str, clock: Clock) -> None:
        self._clock = clock
        self._said_at = float("-inf")
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._socket: socket.socket | None = None
        if self._address[:1] in ("/", "\0"):
            with contextlib.suppress(OSError):
                self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)

    def begins(self, limit_seconds: float) -> None:
        """We are there, and are to be killed and started again once we have been silent for so long."""
        self._send(f"READY=1\nWATCHDOG=1\nWATCHDOG_USEC={int(limit_seconds * 1e6)}".encode())

    def moves(self) -> None:
        """To be called by the loop that must not hang, as often as one likes."""
        now = self._clock.monotonic()
        if now - self._said_at >= SELDOM_SECONDS:
            self._said_at = now
            self._send(b"WATCHDOG=1")

    def close(self) -> None:
        """Nothing is said any more."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _send(self, words: bytes) -> None:
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.sendto(words, self._address)
