"""The locks of a guest's configuration: who holds each, how to see whether its task still runs, and what to do.

Names from PVE::QemuServer (confdesc, ``lock``) and PVE::LXC::Config. A lock is no fault: somebody works on the guest.
Only one whose task is gone (its worker was killed) has to be taken away, and that comes first: while it stands PVE
refuses nearly everything else (check_lock in PVE::AbstractConfig's snapshot_delete and snapshot_rollback, in vm_resume
for every lock but ``backup``, in vm_start, destroy_vm and create_and_lock_config). What the task left half done is
mended after it.
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
    """What to find out before the lock is taken away; ``{tool}`` and ``{vmid}`` stand in it."""
    after: tuple[str, ...] = ()
    """What a killed task may have left, to be mended once PVE lets us, in this order."""
    unlock: bool = True
    """Whether the lock is taken away; False where another command does that, and wants it to stand."""


_RESUME = "`{resume}` when its {processes} stand still"
_THAW = "`safe-snapshot thaw {vmid}`"
_REMOVE = "`{tool} delsnapshot {vmid} {name} --force`"
_BUILD_ANEW = "`{tool} destroy {vmid}`, for it is not complete: {again}"
_LOCKS = {
    "backup": _Lock("it is being backed up"),
    "clone": _Lock("it is being cloned", after=(_BUILD_ANEW.replace("{again}", "clone again"),)),
    "create": _Lock(
        "it is being created or restored",
        after=(_BUILD_ANEW.replace("{again}", "create or restore it again"),),
    ),
    "destroyed": _Lock("it is being destroyed", after=("`{tool} destroy {vmid}` finishes it",)),
    "disk": _Lock("one of its disks is being moved or resized", "look at its disks (`{tool} config {vmid}`)"),
    "fstrim": _Lock("its filesystems are being trimmed"),
    "migrate": _Lock("it is being migrated", "find out on which node its disks are complete"),
    "mounted": _Lock(
        "its filesystem is mounted on the node", "`{tool} unmount {vmid}` ends that, and the lock", (), False
    ),
    "rollback": _Lock(
        "it is being rolled back", after=("`{tool} rollback {vmid} <name>`, for its disks may be half rolled back",)
    ),
    "snapshot": _Lock(
        "a snapshot of it is being taken",
        after=(_RESUME, f"{_REMOVE} for what is half done (`{{tool}} listsnapshot {{vmid}}`)", _THAW),
    ),
    "snapshot-delete": _Lock(
        "a snapshot of it is being removed",
        after=(f"{_REMOVE} for what is half removed (`{{tool}} listsnapshot {{vmid}}`)",),
    ),
    "suspending": _Lock("it is being hibernated", "look whether it runs (`{tool} status {vmid}`)", (_RESUME,)),
}

PASSES_RESUME = ("", "backup", HIBERNATED)
"""The locks under which PVE resumes a guest (PVE::QemuServer::RunState, vm_resume)."""


def tool(guest: Guest) -> str:
    """PVE's command line tool for this kind of guest."""
    return "pct" if guest.kind is GuestKind.LXC else "qm"


def check_of(guest: Guest) -> Check:
    """The preflight's word on the guest's lock."""
    if not guest.lock:
        return Check("lock", CheckResult.OK, "not locked")
    known = _LOCKS.get(guest.lock)
    what = "it is hibernated" if guest.lock == HIBERNATED else known.doing if known else "somebody works on it"
    code = "hibernated" if guest.lock == HIBERNATED else "guest-locked"
    return Check("lock", CheckResult.FAILED, f"the guest is locked ({guest.lock}): {what}", remedy_of(guest), code)


def in_use() -> Check:
    """A guest that another run of ours does not let go of: as one that is locked."""
    what = "the guest is in use: another run on this machine is at work on it"
    see = "run again when that one has ended: `safe-snapshot status` shows its window"
    return Check("lock", CheckResult.FAILED, what, see, "guest-locked")


def remedy_of(guest: Guest) -> str:
    """What to do about ``guest.lock``."""
    if guest.lock == HIBERNATED:
        return (
            f"wake it up (`{tool(guest)} resume {guest.vmid}`) and take the snapshot then: its saved RAM belongs to it"
        )
    # A job of several guests is no task of this one: its own list would not show it.
    which = "--typefilter vzdump" if guest.lock == "backup" else f"--vmid {guest.vmid}"
    wait = f"wait for its task: `pvesh get /nodes/{guest.node}/tasks --source active {which}`"
    return f"{wait}; only if it is not there any more: {steps_of(guest)}"


def steps_of(guest: Guest, name: str = "<name>") -> str:
    """What to do about a lock whose task is gone, in the order in which PVE takes it. ``name``: of the snapshot."""
    lock, is_container = _LOCKS.get(guest.lock, _Lock("")), guest.kind is GuestKind.LXC
    steps = [lock.before] if lock.before else []
    if lock.unlock:
        steps.append("`{tool} unlock {vmid}`")
    steps += [step for step in lock.after if not (is_container and step is _THAW)]
    return ", then ".join(steps).format(
        tool=tool(guest),
        vmid=guest.vmid,
        name=name,
        resume=f"lxc-unfreeze -n {guest.vmid}" if is_container else f"qm resume {guest.vmid}",
        processes="processes" if is_container else "processors",
    )


def half_done_of(guest: Guest) -> str:
    """What is cleaned up last, once the guest of a killed task is thawed; "" for most locks."""
    if guest.lock != "snapshot":
        return ""
    return ", then " + f"{_REMOVE} for what is half done".format(tool=tool(guest), vmid=guest.vmid, name="<name>")


def resume_of(guest: Guest) -> str:
    """How a guest is resumed whose processors stand still, in the order in which PVE takes it."""
    resume = f"`qm resume {guest.vmid}`"
    if guest.lock in PASSES_RESUME:
        return resume
    return (
        f"once its task is gone (`pvesh get /nodes/{guest.node}/tasks --source active --vmid {guest.vmid}`): "
        f"`qm unlock {guest.vmid}`, then {resume}"
    )
