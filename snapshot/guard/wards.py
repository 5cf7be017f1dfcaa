"""The guards of a nursery as it knows them: which process each sits in, and what is heard of it."""

from __future__ import annotations

import contextlib
import socket

from snapshot.base import detached
from snapshot.base.host import Host
from snapshot.base.watchdog import LOOK_SECONDS
from snapshot.guard.hosted import Order

QUIET_SECONDS = 2 * LOOK_SECONDS
"""A guard that has said nothing for so long may stand still: a new one sits elsewhere, where it can."""


class Ward:
    """A guard that lives, and what is heard of it."""

    def __init__(self, order: Order, now: float) -> None:
        address = detached.new_address("notify")
        self.notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self.notify.bind("\0" + address)
        self.order = order._replace(notify=f"@{address}")
        self.heard_at = now
        self.limit_seconds = float("inf")
        """From its first word on: one that is slow to start does not hang."""
        self.has_hung = False

    def hear(self, now: float) -> None:
        """Read what it has said (sd_notify(3))."""
        with contextlib.suppress(OSError):  # nothing more, or its end came first
            while words := self.notify.recv(256):
                self.heard_at = now
                for word in words.split(b"\n"):
                    name, _, value = word.partition(b"=")
                    if name == b"WATCHDOG_USEC" and value.isdigit():
                        self.limit_seconds = int(value) / 1e6


class Nest:
    """A process for guards, and those that sit in it, by the numbers of their orders."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.wards: dict[int, Ward] = {}
        self.takes_more = True
        self.is_told = False
        """That its guards are to thaw and to end."""

    def burden(self, now: float) -> tuple[bool, int]:
        """Whom to spare: who may stand still, then who has much to do."""
        return any(now - ward.heard_at > QUIET_SECONDS for ward in self.wards.values()), len(self.wards)

    def retire(self) -> None:
        """It takes nobody any more, and ends behind its last one."""
        if self.takes_more:
            self.takes_more = False
            self.host.dismiss()

    def hanging(self, now: float) -> list[Ward]:
        """Those that have been silent past their limit."""
        return [ward for ward in self.wards.values() if now - ward.heard_at > ward.limit_seconds]
