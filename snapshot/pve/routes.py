"""The routes to one guest's agent, in the order in which they are tried. A new route is added in build_ladder."""

from __future__ import annotations

from collections.abc import Callable

from snapshot.errors import (
    ApiDeniedError,
    ApiError,
    ApiFailureError,
    ConfigError,
    GuestRemovedError,
    SafeSnapshotError,
)
from snapshot.model import Guest
from snapshot.pve.access import Access, pvesh_of
from snapshot.pve.agent import AgentChannel, ApiChannel
from snapshot.pve.doors import ASK_SECONDS, Doors
from snapshot.pve.guests import GuestApi, number_of
from snapshot.pve.here import qemu_lives
from snapshot.pve.ladder import MOVED_TEXT, Ladder

SYSRQ_KEY = "alt-sysrq-j"
"""Emergency thaw of all frozen filesystems (Linux, Documentation/admin-guide/sysrq.rst), in QEMU's key names."""


def build_ladder(access: Access, guest: Guest, *, ahead: bool = False) -> Ladder:
    """Every route to the guest's agent. Asks nobody anything, unless ``ahead``: before anything is at risk the API's
    connection is opened and the peers are found, within AHEAD_SECONDS.

    On the guest's own node its socket comes first: it is the fastest by far (`make bench`), and the thaw's delay
    is part of the window.
    """
    routes: list[AgentChannel] = []
    socket = access.socket(guest)
    if socket is not None:
        routes.append(socket)
    peers_at = len(routes) + 1
    host = ApiChannel(access.api, guest) if access.api is not None else None
    if host is not None:
        routes.append(host)
    if access.local_node:
        routes.append(ApiChannel(pvesh_of(access.config), guest))
    doors = Doors(access, host)
    ladder = Ladder(
        routes=routes,
        peers=[ApiChannel(peer, guest) for peer in doors.configured()],
        relocate=_relocator(access, guest, doors),
        last_resort=_sysrq(access, guest) if access.config.thaw.sysrq else None,
        is_off=lambda: _is_off(access, guest, doors),
        written=lambda: _written(access, guest),
        find_peers=lambda: doors.found(guest),
        peers_at=peers_at,
        moves=access.moves,
    )
    doors.ladder = ladder
    if host is not None and access.standby is not None and access.standby.is_needed:
        ladder.let_rest(host)
    if ahead:
        doors.open_ahead(ladder)
    return ladder


def _qemu_lives(access: Access, guest: Guest) -> bool | None:
    """What the guest's own node tells by itself; None elsewhere."""
    return qemu_lives(access.config.local.socket_folder, guest.vmid) if access.is_local(guest) else None


def _relocator(access: Access, guest: Guest, doors: Doors) -> Callable[[], Ladder | None]:
    """Where the guest is now. That it is nowhere is believed of two doors, or of one and QEMU's own end: one host alone
    may be cut off from its cluster, or belong to another, and a token may not see the guest any more.
    """

    def relocate() -> Ladder | None:
        lives = _qemu_lives(access, guest)
        found: list[Guest] = []

        def is_gone(api: GuestApi, seconds: float) -> bool:
            try:
                found.append(api.find(guest.vmid, timeout_seconds=seconds))
            except GuestRemovedError:
                access.moves()
                return lives is False or _is_without(api, guest, seconds)
            return False

        gone = doors.agreed(is_gone, 1 if lives is False else doors.needed)
        if found:
            return build_ladder(access, found[0]) if found[0].node != guest.node else None
        if gone and not lives:
            raise GuestRemovedError(
                f"guest {guest.vmid} does not exist in this cluster", remedy="check it: `qm list`, `pct list`"
            )
        return None

    return relocate


def _is_without(api: GuestApi, guest: Guest, seconds: float) -> bool:
    """Whether PVE says that the guest's node has no such guest. It says so to those alone who may see the guest."""
    try:
        api.current(guest, timeout_seconds=seconds)
    except ApiFailureError as error:
        return MOVED_TEXT in error.message
    except ApiDeniedError:
        pass
    return False


def _is_off(access: Access, guest: Guest, doors: Doors) -> bool:
    """The second source: PVE's status of the guest, by requests of their own to two doors, or to one where QEMU has
    ended; where nobody answers, QEMU's own end.

    Only "stopped" is off. Without an answer, and away from the guest's node, nothing is known.
    """
    has_ended = _qemu_lives(access, guest) is False

    def is_stopped(api: GuestApi, seconds: float) -> bool:
        try:
            return api.current(guest, timeout_seconds=seconds).get("status") == "stopped"
        except ApiFailureError:
            return False

    stopped = doors.agreed(is_stopped, 1 if has_ended else doors.needed)
    return has_ended if stopped is None else stopped


def _written(access: Access, guest: Guest) -> int | None:
    """What QEMU counts, without the agent; None without an answer. It sums all the guest's drives."""
    access.moves()
    try:
        return number_of(GuestApi(access.main).current(guest, timeout_seconds=ASK_SECONDS).get("diskwrite"))
    except SafeSnapshotError:
        return None


def _sysrq(access: Access, guest: Guest) -> Callable[[], str]:
    def press() -> str:
        access.moves()
        try:
            access.main.request("PUT", f"{guest.path}/sendkey", {"key": SYSRQ_KEY}, timeout_seconds=ASK_SECONDS)
        except (ApiError, ConfigError) as error:
            return f"SysRq j could not be sent ({error})"
        return "SysRq j sent"

    return press
