"""What QEMU counts of a guest's disks, through PVE: without the agent, and without a monitor connection of ours.

``status/current`` asks QEMU's monitor for us, with a connection of a moment (PVE::QemuServer::vmstatus, full:
``blockstat``, a drive's name to QEMU's own numbers). The monitor serves one client at a time, so we keep away from it.
"""

from __future__ import annotations

from collections.abc import Mapping

from snapshot.model import Guest
from snapshot.pve.guests import GuestApi, number_of

_COUNTED = ("wr_operations", "flush_operations")
"""What a frozen file system's guest does not do. Discards and reads go on."""


def write_operations(api: GuestApi, guest: Guest, *, timeout_seconds: float) -> int | None:
    """Writes and flushes on all the guest's drives since QEMU's start; None where PVE tells no numbers.

    Raises the errors of Transport.request.
    """
    return _sum_of(api.current(guest, timeout_seconds=timeout_seconds).get("blockstat"))


def _sum_of(drives: object) -> int | None:
    if not isinstance(drives, Mapping) or not drives:
        return None
    found = 0
    for stats in drives.values():
        numbers = [number_of(stats.get(name)) for name in _COUNTED] if isinstance(stats, Mapping) else [None]
        for number in numbers:
            if number is None:
                return None
            found += number
    return found
