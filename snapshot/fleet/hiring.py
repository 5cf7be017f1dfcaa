"""What a worker is told at its start: whose guest, whether it is the last try, and what is known of the cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from snapshot.fleet.guestwork import GuestWork
from snapshot.fleet.job import Job
from snapshot.fleet.link import Link
from snapshot.fleet.room import Room
from snapshot.fleet.worker import GuestWorker, WorkerGate, Workers
from snapshot.model import Guest


class Hiring:
    """See Hire. ``work_of`` makes one guest's work, in its worker; ``guests`` are those that may be asked for."""

    def __init__(self, work_of: Callable[[Guest, bool, Room | None], GuestWork], guests: Iterable[Guest]) -> None:
        self._work_of = work_of
        self._guests = {guest.vmid: guest for guest in guests}
        self._workers = Workers(self._do)

    def __call__(self, job: Job, is_last: bool) -> GuestWorker:
        """Start one. OSError."""
        return self._workers.begin({"vmid": job.guest.vmid, "is_last": is_last, "room": job.room})

    def dismiss(self) -> None:
        """Nobody else is wanted."""
        self._workers.dismiss()

    def _do(self, order: Mapping[str, Any], link: Link, gate: WorkerGate) -> None:
        self._work_of(self._guests[order["vmid"]], order["is_last"], Room.of(order["room"]))(link, gate)
