"""The disk's own word on a snapshot of ours, beside the verdict. The guest is thawed, nothing waits for it.

It contradicts a verdict that calls the snapshot consistent, and lifts none.
"""

from __future__ import annotations

from snapshot.disk.verify import verify
from snapshot.errors import ApiError
from snapshot.model import AtRest, DiskWord, Guest, GuestKind, Verdict, VerdictKind
from snapshot.pve.guests import GuestApi
from snapshot.take.pvesnapshot import PveSnapshot
from snapshot.take.run import Run

SECONDS = 60.0
"""For all disks of a guest together."""


def heard(run: Run, guest: Guest, snapshot: PveSnapshot, verdict: Verdict) -> Verdict:
    """Ask the disk where that is wanted, record what it says, and return the verdict that is left."""
    is_wanted = run.request.verify if run.request.verify is not None else run.tools.config.snapshot.verify
    if not is_wanted or not snapshot.exists or guest.kind is GuestKind.LXC or verdict.kind is VerdictKind.MEMORY:
        return verdict
    said = _asked(run, guest)
    run.disk = snapshot.disk = said
    run.warnings += run.book.try_update(snapshot.mark, disk_word=said.word.value, disk_reason=said.reason)
    run.tools.say(f"the disk says {said.word.value}: {said.reason}")
    if said.word is not AtRest.NOT_CLEAN or not verdict.is_consistent:
        return verdict
    run.is_contradicted = True
    return Verdict(VerdictKind.CRASH_CONSISTENT, f"the disk contradicts ({verdict.kind.value}): {said.reason}")


def _asked(run: Run, guest: Guest) -> DiskWord:
    access = run.tools.access
    if not access.is_local(guest):
        return DiskWord(AtRest.CANNOT_TELL, f"its disks can be read on {guest.node} alone")
    try:
        return verify(guest, run.name, GuestApi(access.main), run.tools.clock, seconds=SECONDS).word
    except ApiError as error:
        return DiskWord(AtRest.CANNOT_TELL, f"PVE does not say where its disks are ({error.message})")
