"""The ways to one guest's agent, in the order in which they are tried, from the configuration."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from snapshot import config as configuration
from snapshot.clock import Clock
from snapshot.config import Config, GuestSettings, Token
from snapshot.errors import ApiError, ApiFailureError, ConfigError, GuestRemovedError, SafeSnapshotError
from snapshot.model import Guest
from snapshot.pve.agent import AgentChannel, ApiChannel
from snapshot.pve.guests import GuestApi
from snapshot.pve.here import guests_here, qemu_lives
from snapshot.pve.https import Endpoint, HttpsTransport, check_ca_file
from snapshot.pve.pvesh import PveshTransport
from snapshot.pve.qga import SocketChannel
from snapshot.pve.transport import Transport
from snapshot.window.ladder import Ladder

OFF_SECONDS = 5.0
"""How long PVE may take to say whether the guest is off: in the middle of a thaw, so less than usual."""

SYSRQ_KEY = "alt-sysrq-j"
"""Emergency thaw of all frozen filesystems (Linux, Documentation/admin-guide/sysrq.rst), in QEMU's key names."""


class Access(NamedTuple):
    """This machine's ways to PVE: the API where a token is configured, and what the node itself offers."""

    config: Config
    clock: Clock
    api: Transport | None
    """None without a usable token: then only the node's own ways are left."""
    local_node: str

    @property
    def main(self) -> Transport:
        """The transport for everything but thaws: the API, else pvesh on a node. ConfigError when there is neither."""
        if self.api is not None:
            return self.api
        if self.local_node:
            return _pvesh(self.config)
        configuration.token(self.config)  # raises and says what is missing
        raise ConfigError("no way to the PVE API is configured")

    def settings_for(self, guest: Guest) -> GuestSettings:
        """What the configuration says about this guest, by its vmid, tags and pool."""
        return self.config.for_guest(guest.vmid, guest.tags, guest.pool, self._folds_tags)

    def _folds_tags(self) -> bool:
        try:
            return GuestApi(self.main).folds_tags()
        except (ApiError, ConfigError):
            return True  # PVE's default

    def is_local(self, guest: Guest) -> bool:
        """Whether the guest runs on this very node."""
        return bool(self.local_node) and guest.node == self.local_node

    def guests_here(self) -> tuple[Guest, ...]:
        """The guests that run on this node, by the node's own files: asks the API nothing. Empty off a node."""
        return guests_here(self.config.local.socket_folder, self.local_node) if self.local_node else ()

    def socket(self, guest: Guest) -> SocketChannel | None:
        """The agent's own socket, when the guest runs here."""
        path = self.config.local.socket_folder / f"{guest.vmid}.qga"
        return SocketChannel(path, self.clock) if self.is_local(guest) and path.exists() else None


def open_access(config: Config, clock: Clock) -> Access:
    """The ways that ``config`` allows. ConfigError when there is none at all: no token, and not a PVE node."""
    local_node = configuration.local_node(config)
    try:
        api: Transport | None = _https(config, config.api.host, configuration.token(config))
    except ConfigError:
        if not local_node:
            raise
        api = None
    return Access(config=config, clock=clock, api=api, local_node=local_node)


def fastest_channel(access: Access, guest: Guest) -> AgentChannel:
    """The quickest way to the guest's agent: its socket on this node, else the API."""
    return access.socket(guest) or ApiChannel(access.main, guest)


def build_ladder(access: Access, guest: Guest) -> Ladder:
    """Every route to the guest's agent. Asks the API for peers and addresses, so build it before anything is at risk.

    On the guest's own node its socket comes first: it is the fastest by far (`make bench`), and the thaw's delay
    is part of the window.
    """
    routes: list[AgentChannel] = []
    socket = access.socket(guest)
    if socket is not None:
        routes.append(socket)
    if access.api is not None:
        routes.append(ApiChannel(access.api, guest))
    if access.local_node:
        routes.append(ApiChannel(_pvesh(access.config), guest))
    return Ladder(
        routes=routes,
        peers=[ApiChannel(peer, guest) for peer in _peers(access)],
        relocate=_relocator(access, guest),
        last_resort=_sysrq(access, guest) if access.config.thaw.sysrq else None,
        is_off=lambda: _is_off(access, guest),
    )


def _pvesh(config: Config) -> PveshTransport:
    return PveshTransport(config.local.pvesh)


def _https(config: Config, host: str, token: Token) -> HttpsTransport:
    name, port = _split(host, config.api.port)
    ca_file = configuration.ca_file(config)
    if ca_file is not None:
        check_ca_file(ca_file)
    return HttpsTransport(Endpoint(name, port, token.id, token.secret, ca_file))


def _split(host: str, port: int) -> tuple[str, int]:
    """Host and port of ``name``, ``name:port``, ``2001:db8::1``, ``[2001:db8::1]`` or ``[2001:db8::1]:port``."""
    name, colon, number = host.rpartition(":")
    if not colon or not number.isdigit() or (":" in name and not name.endswith("]")):
        name, number = host, str(port)
    return name.strip("[]"), int(number)


def _peers(access: Access) -> list[Transport]:
    if access.api is None:
        return []
    hosts: list[str] = list(access.config.api.peers)
    if not hosts:
        try:
            addresses = GuestApi(access.api).node_addresses()
        except ApiError:
            addresses = {}
        here = (access.config.api.host, "localhost", "127.0.0.1", "::1")
        hosts = [a for node, a in addresses.items() if a not in here and node not in (access.local_node, *here)]
    token = configuration.token(access.config)
    return [_https(access.config, host, token) for host in hosts]


def _relocator(access: Access, guest: Guest) -> Callable[[], Ladder | None]:
    def relocate() -> Ladder | None:
        try:
            found = GuestApi(access.main).find(guest.vmid)
        except GuestRemovedError:
            if access.is_local(guest) and qemu_lives(access.config.local.socket_folder, guest.vmid):
                return None  # the token may not see it any more
            raise
        except SafeSnapshotError:
            return None  # also a token that suddenly sees no guest at all: that is no word on this one
        return build_ladder(access, found) if found.node != guest.node else None

    return relocate


def _is_off(access: Access, guest: Guest) -> bool:
    """The second source: PVE's status of the guest, by a request of its own; where it cannot be had, QEMU's own end.

    Only "stopped" is off. Without an answer, and away from the guest's node, nothing is known.
    """
    try:
        return GuestApi(access.main).current(guest, timeout_seconds=OFF_SECONDS).get("status") == "stopped"
    except ApiFailureError:
        return False
    except SafeSnapshotError:
        return access.is_local(guest) and qemu_lives(access.config.local.socket_folder, guest.vmid) is False


def _sysrq(access: Access, guest: Guest) -> Callable[[], str]:
    def press() -> str:
        try:
            access.main.request("PUT", f"{guest.path}/sendkey", {"key": SYSRQ_KEY})
        except (ApiError, ConfigError) as error:
            return f"SysRq j could not be sent ({error})"
        return "SysRq j sent"

    return press
