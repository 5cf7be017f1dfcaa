"""The rescue: one guest thawed now, nearest way first, and what is left to do where that fails."""

from __future__ import annotations

from collections.abc import Callable

from snapshot.base.text import clean
from snapshot.errors import SafeSnapshotError, StillFrozenError
from snapshot.model import Guest, Say, ThawReport
from snapshot.pve import locks, remedies
from snapshot.pve.access import Access
from snapshot.pve.guests import GuestApi
from snapshot.pve.routes import build_ladder
from snapshot.thaw.pace import thawing_of
from snapshot.thaw.telling import Answers, News, in_words
from snapshot.thaw.thawer import Thawer

OFFLINE_LIMIT_SECONDS = 5.0
"""How long a guest is tried whose node PVE calls offline: it may be cut off from the others alone."""


def thaw_now(
    guest: Guest,
    access: Access,
    limit_seconds: float | None = None,
    clear_the_way: Callable[[], object] = lambda: None,
    tell: Say = lambda line, at=None: None,
) -> ThawReport:
    """Thaw one guest, retried within ``limit_seconds`` (the owner's limit). StillFrozenError when not confirmed.

    ``clear_the_way`` is called once where the first seconds were in vain: somebody may keep us from the agent.
    ``tell``: who hears meanwhile of a thaw that takes long. It must not block.

    What is nearest is asked first (build_ladder): on the guest's node its socket, before the API is asked for anything.
    """
    limit = access.config.thaw.owner_limit_seconds if limit_seconds is None else limit_seconds
    until = access.clock.monotonic() + limit
    answers = Answers(News(guest.vmid, until, access.clock, tell).heard)
    thawer = Thawer(build_ladder(access, guest), thawing_of(access.config), access.clock, answers)
    report = thawer.until_confirmed(min(OFFLINE_LIMIT_SECONDS, max(0.0, until - access.clock.monotonic())))
    is_offline = not report.confirmed and not report.forbidden and _is_offline(guest, access)
    left = until - access.clock.monotonic()
    if not report.confirmed and not report.forbidden and not is_offline and left > 0:
        clear_the_way()
        report = thawer.until_confirmed(left)
    if not report.confirmed:
        why = "its agent does not let us" if report.forbidden else f"no thaw was confirmed in {limit:g} s"
        # A refusal is the agent's own word, whatever the way to it.
        said = report.detail if report.forbidden else in_words(answers.last)
        raise StillFrozenError(
            f"GUEST {guest.vmid} MAY STILL BE FROZEN: {why} ({said})"
            if not is_offline
            else f"guest {guest.vmid} cannot be reached: its node {guest.node} is offline ({said})",
            remedy=what_is_left(guest, access, is_offline=is_offline, is_forbidden=report.forbidden),
        )
    return report


def _is_offline(guest: Guest, access: Access) -> bool:
    """Whether PVE says that the guest's node is offline. In doubt it is not."""
    if access.is_local(guest):
        return False
    try:
        return GuestApi(access.main).is_offline(guest.node)
    except SafeSnapshotError:
        return False


def what_is_left(guest: Guest, access: Access, *, is_offline: bool, is_forbidden: bool = False) -> str:
    """What an operator can do where all our ways have failed: true for the place we are at.

    ``is_forbidden``: the agent answers, and does not let anybody thaw.
    """
    if is_forbidden:
        return remedies.of_forbidden_thaw(guest.vmid)
    if is_offline:
        return (
            f"bring {guest.node} back, or let HA start the guest elsewhere: a freeze does not outlive a restart; when "
            f"only the network is down, `qm guest cmd {guest.vmid} fsfreeze-thaw` on {guest.node} itself thaws it"
        )
    first = _first_resumed(guest, access)
    by_hand = f"{remedies.UNFREEZE}; {remedies.last_resorts(guest.vmid)}"
    if access.is_local(guest):
        return f"{first}look at its console; {by_hand}"
    return (
        f"{first}on its node {guest.node}, where nothing depends on the API: `safe-snapshot thaw {guest.vmid}`, or "
        f"`qm guest cmd {guest.vmid} fsfreeze-thaw`; then its console; {by_hand}"
    )


def _first_resumed(guest: Guest, access: Access) -> str:
    """What comes before any thaw where the guest's processors stand still, as after a killed snapshot task."""
    try:
        current = GuestApi(access.main).current(guest)
    except SafeSnapshotError:
        return ""
    state = clean(str(current.get("qmpstatus", "running")), 40)
    if current.get("status") != "running" or state == "running":
        return ""
    locked = guest._replace(lock=clean(str(current.get("lock") or ""), 40))
    return (
        f"its processors stand still ({state}), so nothing can thaw it yet: {locks.resume_of(locked)}, then "
        f"`safe-snapshot thaw {guest.vmid}`{locks.half_done_of(locked)}; else "
    )
