"""Doors: the hosts that answer for the PVE API, asked one after the other where one host's word is no proof."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from snapshot.config.settings import Config
from snapshot.errors import ApiError, SafeSnapshotError
from snapshot.model import Guest, GuestKind
from snapshot.pve.access import Access, https_to
from snapshot.pve.agent import ApiChannel
from snapshot.pve.credentials import Credentials
from snapshot.pve.guests import GuestApi
from snapshot.pve.here import qemu_lives
from snapshot.pve.ladder import Ladder
from snapshot.pve.pvesh import PveshTransport
from snapshot.pve.standby import can_run, is_unusable
from snapshot.pve.transport import Transport

ASK_SECONDS = 5.0
"""How long PVE may take to say whether the guest is off, or where it is: amid a thaw, so less than usual."""

AHEAD_SECONDS = 3.0
"""How long a host may take to answer before anything is at risk. A guard asks two of them while it is being armed."""

LIST_SECONDS = 15.0
"""How long PVE's list may show a guest as it was: each node sends its guests' state every ten seconds (pvestatd)."""

T = TypeVar("T")


class Doors:
    """The hosts that answer for the API, as one ladder knows them."""

    def __init__(self, access: Access, host: ApiChannel | None) -> None:
        self._access = access
        self._host = host
        self.ladder: Ladder | None = None

    def configured(self) -> list[Transport]:
        """The peers that the configuration names."""
        return self._transports(self._access.config.api.peers) if self._host is not None else []

    def open_ahead(self, ladder: Ladder) -> None:
        """Open a connection to a host that answers; one that does not rests from the start, as one that was silent."""
        doors = [self._host, *ladder.peers]
        if ladder.peers:
            awake = [door for door in doors if isinstance(door, ApiChannel) and not ladder.rests(door)]
            any(self._answers(door) for door in awake[:2])
        else:
            ladder.look_for_peers()
        for door in doors:
            if door is not None and door.is_silent:
                ladder.let_rest(door)

    def _answers(self, door: ApiChannel) -> bool:
        try:
            door.transport.request("GET", "version", timeout_seconds=AHEAD_SECONDS)
        except ApiError as error:
            door.is_silent = is_unusable(error)
        return not door.is_silent

    def found(self, guest: Guest) -> list[ApiChannel] | None:
        """The cluster's other online nodes; None when there is nobody to ask now."""
        host = self._host
        if host is None:
            return []
        if host.is_silent:
            return None
        try:
            addresses = GuestApi(host.transport).node_addresses(timeout_seconds=AHEAD_SECONDS)
        except ApiError as error:
            host.is_silent = is_unusable(error)
            return None if host.is_silent else []
        access = self._access
        here = (access.config.api.host, "localhost", "127.0.0.1", "::1")
        hosts = [a for node, a in addresses.items() if a not in here and node not in (access.local_node, *here)]
        return [ApiChannel(peer, guest) for peer in self._transports(hosts)]

    def _transports(self, hosts: Iterable[str]) -> list[Transport]:
        config = self._access.config
        credentials = self._access.credentials or Credentials(config)
        return [https_to(config, host, credentials) for host in hosts]

    def answers(self, question: Callable[[GuestApi, float], T]) -> Iterator[T]:
        """What the doors say that answer, one after the other, all within ASK_SECONDS."""
        access = self._access
        ends_at = access.clock.monotonic() + ASK_SECONDS
        for door in self._doors():
            left = ends_at - access.clock.monotonic()
            if left <= 0:
                return
            if door.is_silent:
                continue
            access.moves()
            try:
                answer = question(GuestApi(door.transport), left)
            except SafeSnapshotError as error:
                door.is_silent = isinstance(error, ApiError) and is_unusable(error)
                continue
            yield answer

    def agreed(self, question: Callable[[GuestApi, float], bool], needed: int) -> bool | None:
        """Whether ``needed`` doors say yes before one says no; None when too few answer."""
        for yes, says in enumerate(self.answers(question), 1):
            if not says or yes == needed:
                return says
        return None

    @property
    def needed(self) -> int:
        """How many must say the same to be believed where nothing else tells: one, where there is no other."""
        return min(2, len(self._doors()))

    def _doors(self) -> list[ApiChannel]:
        """Those that are known, silent ones too: who cannot be asked now might say something else."""
        if self.ladder is None:
            return []
        self._access.moves()
        self.ladder.look_for_peers()
        known = [door for door in (*self.ladder.routes, *self.ladder.peers) if isinstance(door, ApiChannel)]
        usable = [door for door in known if _is_door(door.transport, self._access.config)]
        return usable or known


def off_by_another_door(access: Access, guest: Guest) -> bool:
    """Whether a guest that PVE's status calls stopped is off by another door too: by its own node's word on its QEMU,
    elsewhere by PVE's list, which follows within LIST_SECONDS. A snapshot's verdict rests on it. Raises ApiError.
    """
    folder = access.config.local.socket_folder
    if guest.kind is GuestKind.QEMU and access.is_local(guest) and folder.is_dir():
        return not qemu_lives(folder, guest.vmid)
    api, ends_at = GuestApi(access.main), access.clock.monotonic() + LIST_SECONDS
    while not any(listed.guest.vmid == guest.vmid and listed.status == "stopped" for listed in api.listing()):
        if access.clock.monotonic() >= ends_at:
            return False
        access.clock.sleep(1.0)
    return True


def _is_door(transport: Transport, config: Config) -> bool:
    return not isinstance(transport, PveshTransport) or can_run(config.local.pvesh)
