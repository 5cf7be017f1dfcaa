"""What `safe-snapshot thaw` does: the guest is found and thawed, and its windows are closed by that."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing, suppress
from typing import NamedTuple

from snapshot.base.procfs import ProcessIdentity
from snapshot.errors import GuardError, GuestRemovedError, GuestUnfitError, JournalError
from snapshot.guard.link import GuardSpec, spec_of
from snapshot.journal.book import JournalBook
from snapshot.journal.living import is_in_hand, is_in_progress
from snapshot.journal.record import WindowRecord
from snapshot.journal.store import Journal
from snapshot.model import Guest, GuestKind, Node, Say, ThawReport, Vmid
from snapshot.pve.access import Access
from snapshot.pve.guests import GuestApi
from snapshot.recovery import foreign
from snapshot.recovery.overdue import end_who_stands_still
from snapshot.recovery.settle import settle
from snapshot.thaw.rescue import thaw_now


class Rescue(NamedTuple):
    """A guest that is thawed."""

    report: ThawReport
    warnings: list[str]
    """What could not be recorded, and which freeze may still come."""


def rescue(
    access: Access,
    vmid: Vmid,
    me: ProcessIdentity,
    adopt: Callable[[GuardSpec], None],
    tell: Say = lambda line, at=None: None,
) -> Rescue:
    """Thaw guest ``vmid``, nearest way first, and close its windows. StillFrozenError when no thaw was confirmed.

    ``adopt`` starts a guard for a window that has to stay open. ``tell``: see thaw_now.
    """
    guest = guest_to_thaw(access, vmid)
    if guest.kind is GuestKind.LXC:
        raise GuestUnfitError(f"{vmid} is a container: it has no guest agent and is never frozen by us")
    report = thaw_now(guest, access, clear_the_way=lambda: _clear_the_way(access, vmid, me), tell=tell)
    return Rescue(report, _close_windows(access, vmid, me, report, adopt))


def guest_to_thaw(access: Access, vmid: Vmid) -> Guest:
    """The guest: where its agent's socket is on this node nobody else is asked; else as PVE lists it. One that PVE does
    not list is looked for where our open window has it: one host's list is no proof that it is gone.
    """
    here = Guest(vmid, Node(access.local_node), GuestKind.QEMU, running=True)
    if access.socket(here) is not None:
        return here
    try:
        return GuestApi(access.main).find(vmid)
    except GuestRemovedError:
        for window in _open_windows(access, vmid):
            return window.guest
        raise


def in_hand(access: Access, me: ProcessIdentity) -> frozenset[int]:
    """The vmids of guests in a window that somebody of ours sees to, and in good time. A journal that cannot be read
    knows of none.
    """
    path, now = access.config.journal.path, access.clock.time()
    with suppress(JournalError):
        if path.exists():
            with closing(Journal(path, read_only=True)) as journal:
                return frozenset(w.vmid for w in journal.open_windows() if is_in_hand(w, access.config, now, me))
    return frozenset()


def _clear_the_way(access: Access, vmid: Vmid, me: ProcessIdentity) -> None:
    """End processes of ours that are stopped past their deadline and may hold this agent's socket."""
    for window in _open_windows(access, vmid, read_only=True):
        end_who_stands_still(window, access.clock.time(), me)


def _open_windows(access: Access, vmid: Vmid, *, read_only: bool = False) -> list[WindowRecord]:
    """The open windows of the guest. A journal that is not there, or cannot be read, knows of none."""
    path = access.config.journal.path
    with suppress(JournalError):
        if path.exists():
            with closing(Journal(path, read_only=read_only)) as journal:
                return journal.open_windows(vmid)
    return []


def _close_windows(
    access: Access, vmid: Vmid, me: ProcessIdentity, report: ThawReport, adopt: Callable[[GuardSpec], None]
) -> list[str]:
    """Close what the thaw has settled. A window whose freeze may still come is left open, to a guard: a thaw that was
    confirmed before such a freeze says nothing.
    """
    config, clock, warnings = access.config, access.clock, list[str]()
    if not config.journal.path.exists():
        return warnings
    book = JournalBook(lambda: Journal(config.journal.path))
    try:
        foreign.note_thaw(book.journal, vmid, clock.time())
        for window in book.journal.open_windows(vmid):
            if window.is_foreign:
                how = f"thawed by `safe-snapshot thaw` over {report.route}"
                trouble = foreign.close(book, window, how, clock, **foreign.thawed_values(report))
                warnings += [str(trouble)] if trouble else []
                continue
            end_who_stands_still(window, clock.time(), me)
            if not is_in_progress(window, config, clock.time(), me):
                late = settle(book, window, report, access, me)
                if late > 0:
                    warnings.append(_hand_over(access, window, late, adopt))
    except JournalError as error:
        warnings.append(str(error))
    return warnings


def _hand_over(access: Access, window: WindowRecord, late: float, adopt: Callable[[GuardSpec], None]) -> str:
    still = f"a freeze whose answer was lost may still come, for up to {late / 60:.0f} min"
    try:
        adopt(spec_of(window, access.config))
    except GuardError as error:
        return f"{still}: run `safe-snapshot recover` again and again until then ({error.message})"
    return f"{still}: a guard watches"
