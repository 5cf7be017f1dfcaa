"""This machine's ways to PVE, from the configuration. The routes to one guest's agent are made of them in routes.py."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from snapshot.base.clock import Clock
from snapshot.config import settings
from snapshot.config.settings import Config, GuestSettings
from snapshot.config.token import has_file
from snapshot.errors import ApiError, ApiUnreachableError, ConfigError
from snapshot.model import Guest
from snapshot.pve.agent import AgentChannel, ApiChannel
from snapshot.pve.credentials import Credentials
from snapshot.pve.guests import GuestApi
from snapshot.pve.here import guests_here
from snapshot.pve.https import Endpoint, HttpsTransport
from snapshot.pve.pvesh import PveshTransport
from snapshot.pve.qga import SocketChannel
from snapshot.pve.standby import Standby, WithStandby, can_run
from snapshot.pve.tasks import Tasks
from snapshot.pve.transport import Transport
from snapshot.pve.turns import PatientChannel, Turns


class Access(NamedTuple):
    """This machine's ways to PVE: the API where a token is configured, and what the node itself offers."""

    config: Config
    clock: Clock
    api: Transport | None
    """None without a usable token: then only the node's own ways are left."""
    local_node: str
    standby: Standby | None = None
    """Who takes the API's place when it turns out to be unusable: pvesh on a node, the configured peers elsewhere."""
    credentials: Credentials | None = None
    """Who we are to the API; every host of the cluster gets the same."""
    moves: Callable[[], None] = lambda: None
    """Called ahead of each request of a thaw, by a guard that must show that it does not hang. Must not block."""
    turns: Turns | None = None
    """For what a run does before its guest is at risk; None for those that wait for nobody."""

    @property
    def main(self) -> Transport:
        """The transport for everything but thaws: the API, or its standby while it cannot be used; pvesh on a node
        without a token. ConfigError when there is neither.
        """
        if self.api is not None:
            return WithStandby(self.api, self.standby) if self.standby is not None else self.api
        if self.local_node:
            return pvesh_of(self.config)
        (self.credentials or Credentials(self.config)).wait()  # raises and says what is missing
        raise ConfigError("no way to the PVE API is configured")

    def apart(self, moves: Callable[[], None]) -> Access:
        """The same ways for another thread: the connections are its own, and so is what it finds out about them.

        What was read and made once (credentials, certificates) is shared.
        """
        api, standby = self.api, self.standby
        if standby is not None:
            standby = standby.apart([_apart(other) for other in standby.others], moves)
        return self._replace(api=_apart(api) if api is not None else None, standby=standby, moves=moves)

    def close(self) -> None:
        """Let go of its connections; a request opens new ones."""
        for transport in (self.api, *(self.standby.others if self.standby is not None else ())):
            if transport is not None:
                transport.close()

    def settings_for(self, guest: Guest) -> GuestSettings:
        """What the configuration says about this guest, by its vmid, tags and pool."""
        return self.config.for_guest(guest.vmid, guest.tags, guest.pool, self.folds_tags)

    def folds_tags(self) -> bool:
        """Whether the cluster's tags know no case."""
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


def open_access(
    config: Config,
    clock: Clock,
    say: Callable[[str], None] = lambda line: None,
    moves: Callable[[], None] = lambda: None,
) -> Access:
    """The ways that ``config`` allows. ConfigError when there is none at all: no token, and not a PVE node.

    ``say`` is told when the API turns out to be unusable and pvesh takes its place. ``moves``: see Access.
    """
    local_node, credentials = settings.local_node(config), Credentials(config)
    api: Transport | None = https_to(config, config.api.host, credentials)
    try:
        credentials.wait()
    except ApiUnreachableError as error:  # whatever needs no API goes on, and the API once they can be read
        say(f"the PVE API cannot be used now: {error}")
    except ConfigError as error:
        if not local_node:
            raise
        api = None
        if has_file(config):  # without one, pvesh is what the operator chose
            say(f"the PVE API cannot be used, going on with pvesh: {error}")
    standby: Standby | None = None
    if local_node and can_run(config.local.pvesh):
        standby = Standby([pvesh_of(config)], clock, say, node=local_node, moves=moves)
    elif api is not None and config.api.peers:
        peers = [https_to(config, host, credentials) for host in config.api.peers]
        standby = Standby(peers, clock, say, same_token=True, moves=moves)
    return Access(config, clock, api, local_node, standby, credentials, moves)


def _apart(transport: Transport) -> Transport:
    return transport.apart() if isinstance(transport, HttpsTransport) else transport  # pvesh has no connection


def tasks_of(access: Access) -> Tasks:
    """What waits for PVE's tasks: over the API, and by their own files for those of this node."""
    return Tasks(access.main, access.clock, access.local_node, access.config.local.task_folder)


def fastest_channel(access: Access, guest: Guest) -> AgentChannel:
    """The quickest way to the guest's agent: its socket on this node, else the API."""
    socket = access.socket(guest)
    if socket is None and access.turns is not None:
        return PatientChannel(access.main, guest, access.turns)
    return socket or ApiChannel(access.main, guest)


def pvesh_of(config: Config) -> PveshTransport:
    """The node's own command."""
    return PveshTransport(config.local.pvesh)


def https_to(config: Config, host: str, credentials: Credentials) -> HttpsTransport:
    """The API on one host of the cluster."""
    name, port = _split(host, config.api.port)
    return HttpsTransport(Endpoint(name, port), complete=credentials.complete)


def _split(host: str, port: int) -> tuple[str, int]:
    """Host and port of ``name``, ``name:port``, ``2001:db8::1``, ``[2001:db8::1]`` or ``[2001:db8::1]:port``."""
    name, _, number = host.rpartition(":")
    is_port = number.isascii() and number.isdigit() and len(number) <= 5
    if not is_port or not name or (":" in name and not name.endswith("]")):
        name, number = host, str(port)
    return name.strip("[]"), int(number)
