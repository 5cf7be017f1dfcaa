"""What to do about it: the second half of an operation's messages, and the fixed words that metrics count by."""

from __future__ import annotations

from snapshot.errors import InterruptedBySignalError, SafeSnapshotError
from snapshot.model import FreezeOutcome, FreezeReply, Guest, GuestKind
from snapshot.window.verdict import Proof
from snapshot.window.window import Window


def tool(guest: Guest) -> str:
    """PVE's command line tool for this kind of guest."""
    return "pct" if guest.kind is GuestKind.LXC else "qm"


def of_task(exitstatus: str, guest: Guest) -> str:
    """For a snapshot task's exit status."""
    command = tool(guest)
    remedies = {
        "is locked": f"wait for the running task; when none runs: `{command} unlock {guest.vmid}`",
        "already used": "choose another --name",
        "feature is not available": "a disk is on storage without snapshots: move it, or use vzdump",
        "unexpected status": f"the task was killed: look at `{command} listsnapshot {guest.vmid}`, remove what is half "
        f"done, and `{command} unlock {guest.vmid}`",
        "no space left": "free space on the guest's storage",
    }
    return next((text for key, text in remedies.items() if key in exitstatus.lower()), "see the task's log in PVE")


def of_freeze(reply: FreezeReply, guest: Guest) -> str:
    """For a freeze that did not work."""
    if reply.outcome is FreezeOutcome.NOTHING_FROZEN:
        return "look at the guest's mounts and at SELinux: the agent found nothing it could freeze"
    if "hook" in reply.detail:
        return "the guest's own freeze hook failed: see /etc/qemu/fsfreeze-hook.d and its log in the guest"
    return f"`safe-snapshot check {guest.vmid}` shows what is missing"


def failure_word(error: SafeSnapshotError) -> str:
    """A journal's ``failure_reason`` for an error that ended a window."""
    return "interrupted" if isinstance(error, InterruptedBySignalError) else "not-started"


def broken_word(window: Window) -> str:
    """A journal's ``failure_reason`` for a window that was not held."""
    if "deadline" in window.broken_by:
        return "deadline"
    if "guard" in window.broken_by:
        return "guard-died"
    if window.broken_by:
        return "reply-lost"
    return {Proof.NOT_FROZEN: "thawed-early", Proof.NO_ANSWER: "no-proof"}.get(window.proof, "count-mismatch")


def count(filesystems: int) -> str:
    """``1 filesystem``, ``3 filesystems``."""
    return f"{filesystems} filesystem{'s' if filesystems != 1 else ''}"
