"""A snapshot that should have gone with its group, and whose own process can see to it no more: found and removed.

Only by the mark that this very run put into its description is it taken for ours.
"""

from __future__ import annotations

from snapshot.errors import ApiError
from snapshot.fleet.group import Member
from snapshot.model import Guest, GuestKind, Node, Vmid
from snapshot.pve import remedies
from snapshot.pve.guests import GuestApi
from snapshot.take.pvesnapshot import PveSnapshot
from snapshot.take.request import Request, Tools

SIGNALLED = 128
"""Exit codes above it are a signal's."""


def guest_of(member: Member) -> Guest:
    """As the member told it."""
    told = member.told
    return Guest(Vmid(member.vmid), Node(str(told["node"])), GuestKind(str(told["kind"])), running=True)


def of_member(exists: bool | None, exit_code: int) -> bool | None:
    """What its own process said of a member's snapshot, as far as it is to be believed: one that a signal has ended had
    no time to look for what it had just asked for.
    """
    return None if exit_code > SIGNALLED and not exists else exists


def remove(member: Member, tools: Tools, *, exists: bool | None) -> str:
    """Remove what the member left; what the operator must know, "" when nothing is left.

    ``exists``: see of_member; None too where it said nothing at all.
    """
    guest, name, mark = guest_of(member), str(member.told["name"]), str(member.told["mark"])
    snapshot = PveSnapshot(guest, Request(vmid=guest.vmid, name=name), tools, name=name, mark=mark, warnings=[])
    what, remedy = f"the snapshot {name} of guest {guest.vmid}", f"{remedies.tool(guest)} listsnapshot {guest.vmid}"
    snapshot.exists = exists
    if exists is None:
        _find(snapshot, tools)
    if snapshot.exists is None:
        return f"PVE may still be at work on {what}, which should go with its group; look at `{remedy}`"
    if snapshot.exists:
        trouble = snapshot.remove()
        return f"{what} should go with its group, and could not be removed ({trouble}); `{remedy}`" if trouble else ""
    if exists is None and _is_named(guest, name, tools):
        return f"whether {what} is of this run is not known: it was left; look at `{remedy}`"
    seconds = tools.config.snapshot.lost_reply_seconds
    return f"{what} has not appeared in {seconds:g} s: should it come, remove it; `{remedy}`" if exists is None else ""


def _find(snapshot: PveSnapshot, tools: Tools) -> None:
    """Until it is there and whole. What PVE was asked for may come late."""
    clock, settings = tools.clock, tools.config.snapshot
    began = clock.monotonic()
    while not snapshot.exists:
        limit = settings.task_timeout_seconds if snapshot.exists is None else settings.lost_reply_seconds
        if clock.monotonic() >= began + limit:
            return
        snapshot.find_out()


def _is_named(guest: Guest, name: str, tools: Tools) -> bool:
    """Whether there may be one of that name that does not say that it is this run's."""
    try:
        return name in GuestApi(tools.access.main).snapshots(guest)
    except ApiError:
        return True
