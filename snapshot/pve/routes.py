"""The ways to one guest's agent, in the order in which they are tried, from the configuration."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple, TypeVar

from snapshot.base.aside import Aside
from snapshot.base.clock import Clock
from snapshot.config import settings as configuration
from snapshot.config.settings import Config, GuestSettings, Token
from snapshot.errors import (
    ApiDeniedError,
    ApiError,
    ApiFailureError,
    ApiUnreachableError,
    ConfigError,
    GuestRemovedError,
    SafeSnapshotError,
)
from snapshot.model import Guest, GuestKind
from snapshot.pve.agent import AgentChannel, ApiChannel
from snapshot.pve.guests import GuestApi, number_of
from snapshot.pve.here import guests_here, qemu_lives
from snapshot.pve.https import Endpoint, HttpsTransport, read_ca
from snapshot.pve.ladder import MOVED_TEXT, Ladder
from snapshot.pve.pvesh import PveshTransport
from snapshot.pve.qga import SocketChannel
from snapshot.pve.standby import Standby, WithStandby, can_run, is_unusable
from snapshot.pve.tasks import Tasks
from snapshot.pve.transport import Transport

ASK_SECONDS = 5.0
"""How long PVE may take to say whether the guest is off, or where it is: amid a thaw, so less than usual."""

SYSRQ_KEY = "alt-sysrq-j"
"""Emergency thaw of all frozen filesystems (Linux, Documentation/admin-guide/sysrq.rst), in QEMU's key names."""


LIST_SECONDS = 15.0
"""How long PVE's list may show a guest as it was: each node sends its guests' state every ten seconds (pvestatd)."""


AHEAD_SECONDS = 3.0
"""How long a host may take to answer before anything is at risk. A guard asks two of them while it is being armed."""


FILES_SECONDS = 2.0
"""How long the token file and the CA file may take to read, both together."""

T = TypeVar("T")


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

    @property
    def main(self) -> Transport:
        """The transport for everything but thaws: the API, or who stands by while it cannot be used; pvesh on a node
        without a token. ConfigError when there is neither.
        """
        if self.api is not None:
            return WithStandby(self.api, self.standby) if self.standby is not None else self.api
        if self.local_node:
            return _pvesh(self.config)
        (self.credentials or Credentials(self.config)).wait()  # raises and says what is missing
        raise ConfigError("no way to the PVE API is configured")

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


def open_access(config: Config, clock: Clock, say: Callable[[str], None] = lambda line: None) -> Access:
    """The ways that ``config`` allows. ConfigError when there is none at all: no token, and not a PVE node.

    ``say`` is told when the API turns out to be unusable and pvesh takes its place.
    """
    local_node, credentials = configuration.local_node(config), Credentials(config)
    api: Transport | None = _https(config, config.api.host, credentials)
    try:
        credentials.wait()
    except ApiUnreachableError as error:  # whatever needs no API goes on, and the API once they can be read
        say(f"the PVE API cannot be used now: {error}")
    except ConfigError as error:
        if not local_node:
            raise
        api = None
        if config.api.token_file.exists():  # without one, pvesh is what the operator chose
            say(f"the PVE API cannot be used, going on with pvesh: {error}")
    standby: Standby | None = None
    if local_node and can_run(config.local.pvesh):
        standby = Standby([_pvesh(config)], clock, say, node=local_node)
    elif api is not None and config.api.peers:
        peers = [_https(config, host, credentials) for host in config.api.peers]
        standby = Standby(peers, clock, say, same_token=True)
    return Access(config, clock, api, local_node, standby, credentials)


def tasks_of(access: Access) -> Tasks:
    """What waits for PVE's tasks: over the API, and by their own files for those of this node."""
    return Tasks(access.main, access.clock, access.local_node, access.config.local.task_folder)


def fastest_channel(access: Access, guest: Guest) -> AgentChannel:
    """The quickest way to the guest's agent: its socket on this node, else the API."""
    return access.socket(guest) or ApiChannel(access.main, guest)


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
        routes.append(ApiChannel(_pvesh(access.config), guest))
    doors = _Doors(access, host)
    ladder = Ladder(
        routes=routes,
        peers=[ApiChannel(peer, guest) for peer in doors.configured()],
        relocate=_relocator(access, guest, doors),
        last_resort=_sysrq(access, guest) if access.config.thaw.sysrq else None,
        is_off=lambda: _is_off(access, guest, doors),
        written=lambda: _written(access, guest),
        find_peers=lambda: doors.found(guest),
        peers_at=peers_at,
    )
    doors.ladder = ladder
    if host is not None and access.standby is not None and access.standby.is_needed:
        ladder.let_rest(host)
    if ahead:
        doors.open_ahead(ladder)
    return ladder


def _pvesh(config: Config) -> PveshTransport:
    return PveshTransport(config.local.pvesh)


def _https(config: Config, host: str, credentials: Credentials) -> HttpsTransport:
    name, port = _split(host, config.api.port)
    return HttpsTransport(Endpoint(name, port), complete=credentials.complete)


class Credentials:
    """Who we are and whom we trust, from the token file and the CA file: read once, aside, and kept.

    The CA lies in /etc/pve, which hangs where the cluster's file system does, and the agent's socket needs none of it.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        self._reading: Aside[tuple[Token, Path | None, str]] | None = None

    def wait(self) -> tuple[Token, Path | None, str]:
        """The token, the CA file and what is in it. ConfigError, and ApiUnreachableError when they cannot be read now.

        The first to ask begins to read. Who asks after that waits no more.
        """
        is_first = self._reading is None
        try:
            self._reading = self._reading or Aside(self._read, "credentials")
            return self._reading.result(FILES_SECONDS if is_first else 0.0)
        except (TimeoutError, RuntimeError) as error:  # RuntimeError: no room for a thread
            api = self._config.api
            files = f"the token file {api.token_file} or the CA file {api.ca_file or configuration.PVE_CA_FILE}"
            raise ApiUnreachableError(
                f"{files} cannot be read now ({error})",
                remedy="look whether their file system hangs: `systemctl status pve-cluster`, `dmesg`",
            ) from None

    def complete(self, endpoint: Endpoint) -> Endpoint:
        """See HttpsTransport."""
        try:
            token, ca_file, ca_data = self.wait()
        except ConfigError as error:
            raise ApiUnreachableError(error.message, remedy=error.remedy) from error
        return endpoint._replace(token_id=token.id, token_secret=token.secret, ca_file=ca_file, ca_data=ca_data)

    def _read(self) -> tuple[Token, Path | None, str]:
        token, ca_file = configuration.token(self._config), configuration.ca_file(self._config)
        return token, ca_file, read_ca(ca_file)


def _split(host: str, port: int) -> tuple[str, int]:
    """Host and port of ``name``, ``name:port``, ``2001:db8::1``, ``[2001:db8::1]`` or ``[2001:db8::1]:port``."""
    name, _, number = host.rpartition(":")
    is_port = number.isascii() and number.isdigit() and len(number) <= 5
    if not is_port or not name or (":" in name and not name.endswith("]")):
        name, number = host, str(port)
    return name.strip("[]"), int(number)


class _Doors:
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
        return [_https(config, host, credentials) for host in hosts]

    def answers(self, question: Callable[[GuestApi, float], T]) -> Iterator[T]:
        """What the doors say that answer, one after the other, all within ASK_SECONDS."""
        clock = self._access.clock
        ends_at = clock.monotonic() + ASK_SECONDS
        for door in self._doors():
            left = ends_at - clock.monotonic()
            if left <= 0:
                return
            if door.is_silent:
                continue
            try:
                answer = question(GuestApi(door.transport), left)
            except SafeSnapshotError as error:
                door.is_silent = isinstance(error, ApiError) and is_unusable(error)
                continue
            yield answer

    @property
    def needed(self) -> int:
        """How many must say the same to be believed where nothing else tells: one, where there is no other."""
        return min(2, len(self._doors()))

    def _doors(self) -> list[ApiChannel]:
        """Those that are known, silent ones too: who cannot be asked now might say something else."""
        if self.ladder is None:
            return []
        self.ladder.look_for_peers()
        known = [door for door in (*self.ladder.routes, *self.ladder.peers) if isinstance(door, ApiChannel)]
        usable = [door for door in known if _is_door(door.transport, self._access.config)]
        return usable or known


def _is_door(transport: Transport, config: Config) -> bool:
    return not isinstance(transport, PveshTransport) or can_run(config.local.pvesh)


def _qemu_lives(access: Access, guest: Guest) -> bool | None:
    """What the guest's own node tells by itself; None elsewhere."""
    return qemu_lives(access.config.local.socket_folder, guest.vmid) if access.is_local(guest) else None


def _relocator(access: Access, guest: Guest, doors: _Doors) -> Callable[[], Ladder | None]:
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
                return lives is False or _is_without(api, guest, seconds)
            return False

        gone = _agreed(doors, is_gone, 1 if lives is False else doors.needed)
        if found:
            return build_ladder(access, found[0]) if found[0].node != guest.node else None
        if gone and not lives:
            raise GuestRemovedError(f"guest {guest.vmid} does not exist in this cluster", remedy="check it: `qm list`")
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


def _is_off(access: Access, guest: Guest, doors: _Doors) -> bool:
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

    stopped = _agreed(doors, is_stopped, 1 if has_ended else doors.needed)
    return has_ended if stopped is None else stopped


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


def _agreed(doors: _Doors, question: Callable[[GuestApi, float], bool], needed: int) -> bool | None:
    """Whether ``needed`` doors say yes before one says no; None when too few answer."""
    for yes, says in enumerate(doors.answers(question), 1):
        if not says or yes == needed:
            return says
    return None


def _written(access: Access, guest: Guest) -> int | None:
    """What QEMU counts, without the agent; None without an answer. It sums all the guest's drives."""
    try:
        return number_of(GuestApi(access.main).current(guest, timeout_seconds=ASK_SECONDS).get("diskwrite"))
    except SafeSnapshotError:
        return None


def _sysrq(access: Access, guest: Guest) -> Callable[[], str]:
    def press() -> str:
        try:
            access.main.request("PUT", f"{guest.path}/sendkey", {"key": SYSRQ_KEY})
        except (ApiError, ConfigError) as error:
            return f"SysRq j could not be sent ({error})"
        return "SysRq j sent"

    return press
