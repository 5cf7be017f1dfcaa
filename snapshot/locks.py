"""The locks of a guest's configuration: who holds each, how to see whether he is still at it, and what to do. Pure.

Names from PVE::QemuServer (confdesc, ``lock``) and PVE::LXC::Config. A lock is no fault: somebody works on the guest.
Only one whose task is gone (its worker was killed) has to be taken away, and what it left half done comes first.
"""

from __future__ import annotations

from typing import NamedTuple

from snapshot.model import Check, CheckResult, Guest, GuestKind

HIBERNATED = "suspended"
"""No task holds this one: the guest's RAM is on disk, and its filesystems are as mounted as they were."""


class _Lock(NamedTuple):
    doing: str
    """What is being done to the guest."""
    before: str = ""
    """What a killed task may have left, to be mended before the lock is taken away; ``{tool}`` and ``{vmid}`` stand in
    it."""
    unlock: bool = True
    """Whether taking the lock away is ever the right last step."""


_LOCKS = {
    "backup": _Lock("it is being backed up"),
    "clone": _Lock("it is being cloned", "a clone that was cut off is not complete: remove it and clone again", False),
    "create": _Lock(
        "it is being created or restored",
        "a guest whose creation was cut off is not complete: create or restore it again",
        False,
    ),
    "destroyed": _Lock("it is being destroyed", "finish it: `{tool} destroy {vmid}`", False),
    "disk": _Lock("one of its disks is being moved or resized", "look at its disks (`{tool} config {vmid}`)"),
    "fstrim": _Lock("its filesystems are being trimmed"),
    "migrate": _Lock("it is being migrated", "find out on which node its disks are complete"),
    "mounted": _Lock("its filesystem is mounted on the node", "`{tool} unmount {vmid}` ends that, and the lock", False),
    "rollback": _Lock("it is being rolled back", "its disks may be half rolled back: roll back once more"),
    "snapshot": _Lock(
        "a snapshot of it is being taken", "remove a snapshot that is half done (`{tool} listsnapshot {vmid}`)"
    ),
    "snapshot-delete": _Lock(
        "a snapshot of it is being removed", "remove that snapshot again (`{tool} listsnapshot {vmid}`)"
    ),
    "suspending": _Lock("it is being hibernated", "look whether it runs (`{tool} status {vmid}`)"),
}


def tool(guest: Guest) -> str:
    """PVE's command line tool for this kind of guest."""
    return "pct" if guest.kind is GuestKind.LXC else "qm"


def check_of(guest: Guest) -> Check:
    """The preflight's word on the guest's lock."""
    if not guest.lock:
        return Check("lock", CheckResult.OK, "not locked")
    known = _LOCKS.get(guest.lock)
    what = "it is hibernated" if guest.lock == HIBERNATED else known.doing if known else "somebody works on it"
    return Check("lock", CheckResult.FAILED, f"the guest is locked ({guest.lock}): {what}", remedy_of(guest))


def remedy_of(guest: Guest) -> str:
    """What to do about ``guest.lock``."""
    command = tool(guest)
    if guest.lock == HIBERNATED:
        return f"wake it up (`{command} resume {guest.vmid}`) and take the snapshot then: its saved RAM belongs to it"
    lock = _LOCKS.get(guest.lock, _Lock(""))
    # A job of several guests is no task of this one: its own list would not show it.
    which = "--typefilter vzdump" if guest.lock == "backup" else f"--vmid {guest.vmid}"
    wait = f"wait for its task: `pvesh get /nodes/{guest.node}/tasks --source active {which}`"
    steps = [lock.before.format(tool=command, vmid=guest.vmid)] if lock.before else []
    if lock.unlock:
        steps.append(f"{'last of all ' if steps else ''}`{command} unlock {guest.vmid}`")
    return f"{wait}; only if it is not there any more: {', '.join(steps)}"
