"""What a snapshot may be called: known beforehand without a freeze, or from a window and PVE's task. Pure.

The rules of evidence stand in window/verdict.py; here is what PVE's snapshots add to them.
"""

from __future__ import annotations

from collections.abc import Callable

from snapshot.model import Guest, GuestKind, Policy, Verdict, VerdictKind
from snapshot.pve.agent import hook_has_failed
from snapshot.pve.tasks import TaskEnd
from snapshot.window.snapshot import SnapshotWindow
from snapshot.window.verdict import Evidence, Proof, judge


def without_freeze(guest: Guest, policy: Policy, *, memory: bool) -> Verdict | None:
    """The verdict on a guest that is not to be frozen; None when it is."""
    if not guest.running:
        return Verdict(VerdictKind.OFFLINE, "the guest was shut down")
    if guest.kind is GuestKind.LXC:
        if policy is Policy.REQUIRE:
            return None  # the container check is the obstacle
        why = "a container: PVE froze its processes and synced, nothing proves more"
        return Verdict(VerdictKind.CRASH_CONSISTENT, why)
    if memory:
        return Verdict(VerdictKind.MEMORY, "RAM is part of the snapshot: a rollback continues where the guest was")
    if policy is Policy.NEVER:
        return Verdict(VerdictKind.CRASH_CONSISTENT, "policy never: not frozen by us, nothing proven")
    return None


def of_window(
    window: SnapshotWindow, task: TaskEnd | None, leaves_alone: Callable[[], bool | None] = lambda: None
) -> Verdict:
    """The verdict on a snapshot whose freeze was acknowledged. ``leaves_alone``: whether PVE's version leaves a guest
    alone that it finds frozen; None: which one it is, is not known.
    """
    evidence = Evidence(freeze=window.reply, proof=window.proof, thaw=window.report, broken_by=window.broken_by)
    verdict = judge(evidence)
    if verdict.kind is VerdictKind.CRASH_CONSISTENT and not window.broken_by and pve_thawed(window.proof, task):
        why = {
            True: "the guest was found thawed before its end: somebody else thawed it",
            False: "PVE thawed the guest itself at the end of its own snapshots, as it does before qemu-server 9.1.10",
            None: "the guest was found thawed before its end: somebody else thawed it, or PVE itself, as it does "
            "before qemu-server 9.1.10",
        }[leaves_alone()]
        return Verdict(VerdictKind.UNKNOWN, f"{why}: nothing proves that it was frozen until then")
    return verdict


def asked_in_vain(proof: Proof, task: TaskEnd | None) -> str:
    """Why a guest frozen at the knock, and frozen still, may not have been so at the point in time; "" when it was.

    A worker's ping that is ended by a TERM is taken for an agent that is not there (PVE::QemuServer::Agent,
    qga_check_running: its eval swallows the signal), and the knock may have been another's: only the task's own word
    that it found the guest frozen tells that it was frozen first.
    """
    if proof is not Proof.STILL_FROZEN or (task is not None and _found_frozen(task)):
        return ""
    said = next((line for line in task.log if "not running" in line), "") if task is not None else ""
    said = f"PVE's task went on without its agent ({said})" if said else "PVE's task does not say that it found it so"
    return f"the guest was frozen, but perhaps not before the point in time: {said}"


def _found_frozen(task: TaskEnd) -> bool:
    """Since qemu-server 9.1.10 the task says so."""
    return any(line.startswith("skipping guest filesystem freeze - already frozen") for line in task.log)


def pve_thawed(proof: Proof, task: TaskEnd | None) -> bool:
    """Whether PVE did not leave our freeze alone (PVE::QemuServer::Agent, guest_fs_freeze_applicable).

    Before 9.1.10 it sends a freeze of its own, ignores the refusal, and thaws after the volume snapshots, without a
    word in the log when that goes well. So nobody can ask whether the guest was still frozen after the point in time,
    and a guest that was thawed from inside a moment before would look the same.
    """
    if proof is not Proof.NOT_FROZEN or task is None:
        return False
    return not _found_frozen(task)


def says_not_frozen(log: tuple[str, ...]) -> bool:
    """Whether PVE's task says that it does not freeze: since qemu-server 9.1.10, and before."""
    words = ("skipping guest filesystem freeze", "QEMU Guest Agent is not running")
    refused = [line for line in log if "unable to freeze guest fs" in line]
    return any(word in line for line in log for word in words) or any(hook_has_failed(line) for line in refused)


def thaw_failed(log: tuple[str, ...]) -> bool:
    """Whether PVE's task says that its own thaw did not work."""
    return any("thaw problems" in line for line in log)
