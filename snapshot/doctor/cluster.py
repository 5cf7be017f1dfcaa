"""What PVE is asked about the cluster: few questions, each with an answer or the reason why there is none."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from email.utils import parsedate_to_datetime
from typing import Any, Generic, NamedTuple, TypeVar

from snapshot.config.settings import Config
from snapshot.doctor.machine import is_our_script
from snapshot.errors import ApiError, ConfigError, SafeSnapshotError
from snapshot.model import Node
from snapshot.pve import certificate, estate
from snapshot.pve.access import Access
from snapshot.pve.estate import BackupJob, ClusterNode, Rights
from snapshot.pve.guests import GuestApi, Listed
from snapshot.pve.https import HttpsTransport
from snapshot.pve.transport import Transport

T = TypeVar("T")

REACH_SECONDS = 5.0
SEE_API = "see api"
"""Why nothing is known of a cluster that cannot be asked at all."""
MOST_NODES = 32
"""Of so many nodes the versions and vzdump.conf are asked: two requests each."""


class Asked(NamedTuple, Generic[T]):
    """An answer, or why there is none."""

    value: T | None
    why: str = ""
    error: SafeSnapshotError | None = None

    @property
    def is_known(self) -> bool:
        """Whether there is one."""
        return not self.why


class Door(NamedTuple):
    """The API's host as it answers, asked without any standby."""

    name: str = ""
    """Empty: no API is configured that could be asked."""
    version: str = ""
    error: ApiError | None = None
    clock_off_seconds: float | None = None
    """How much this machine's clock is ahead of the host's at least (behind: negative); None: not known."""
    certificate_ends_at: float | None = None
    certificate_refused: str = ""


class Cluster(NamedTuple):
    """Everything that PVE told. Of a cluster that cannot be reached nothing is known."""

    door: Door
    version: Asked[str]
    rights: Asked[Rights]
    listing: Asked[tuple[Listed, ...]]
    oddities: tuple[str, ...]
    nodes: Asked[tuple[ClusterNode, ...]]
    quorate: Asked[bool | None]
    """None as a value: there is no cluster."""
    jobs: Asked[tuple[BackupJob, ...]]
    scripts: Mapping[str, Asked[str]]
    """By node: what its vzdump.conf names, empty for nothing."""
    versions: Mapping[str, str]
    """Of qemu-server, by node; empty: not known."""
    replicated: Asked[Mapping[int, str]]
    folds_tags: Callable[[], bool]

    def is_hooked(self, node: str, script_here: str | None) -> bool | None:
        """Whether vzdump calls our hook on this node, by itself; None: not known. ``script_here``: of vzdump.conf on
        this very machine, None where that is another node's or not known.
        """
        if script_here is not None:
            return is_our_script(script_here)
        asked = self.scripts.get(node)
        return is_our_script(asked.value or "") if asked is not None and asked.is_known else None


def look(access: Access) -> Cluster:
    """Ask everything. Never raises for what PVE may answer."""
    door = _door(access)
    if door.error is not None and access.standby is None:
        return nothing_known(door.error, door)
    try:
        main = access.main
    except SafeSnapshotError as error:
        return nothing_known(error, door)
    version = _ask(lambda: estate.manager_version(main))
    if not version.is_known and version.error is not None:
        return nothing_known(version.error, door)
    api = GuestApi(main)
    rights, nodes = _ask(lambda: estate.rights(main)), _ask(lambda: estate.nodes(main))
    listing = _ask(api.listing)
    online = [node.name for node in nodes.value or () if node.online][:MOST_NODES]
    folds_tags = functools.cache(access.folds_tags)
    if any(rule.tag for rule in access.config.guest):
        folds_tags()  # now, while there is time to ask
    return Cluster(
        door=door,
        version=version,
        rights=rights,
        listing=listing,
        oddities=tuple(api.oddities),
        nodes=nodes,
        quorate=_ask(lambda: estate.is_quorate(main)),
        jobs=_ask(lambda: estate.backup_jobs(main)),
        scripts={node: _script_of(main, node, rights) for node in online},
        versions={node: api.qemu_server_version(node) for node in online},
        replicated=_ask(lambda: estate.replicated(main)),
        folds_tags=folds_tags,
    )


def nothing_known(error: SafeSnapshotError, door: Door | None = None) -> Cluster:
    """Of a cluster that nobody could be asked about."""
    none: Asked[Any] = Asked(None, SEE_API, error)
    return Cluster(
        door=door or Door(),
        version=none,
        rights=none,
        listing=none,
        oddities=(),
        nodes=none,
        quorate=none,
        jobs=none,
        scripts={},
        versions={},
        replicated=none,
        folds_tags=lambda: True,
    )


def _ask(question: Callable[[], T]) -> Asked[T]:
    try:
        return Asked(question())
    except SafeSnapshotError as error:
        return Asked(None, error.message, error)


def _script_of(main: Transport, node: Node, rights: Asked[Rights]) -> Asked[str]:
    """Without Sys.Audit on the node PVE leaves the script out, which is not the same as that there is none."""
    if rights.value is None:
        return Asked(None, f"which rights the token has is not known: {rights.why}")
    if "Sys.Audit" not in rights.value.on(f"/nodes/{node}"):
        return Asked(None, f"it takes Sys.Audit on /nodes/{node}")
    found = _ask(lambda: estate.vzdump_defaults(main, node))
    if found.value is None:
        return Asked(None, found.why, found.error)
    return Asked(str(found.value.get("script") or ""))


def _door(access: Access) -> Door:
    api = access.api
    if not isinstance(api, HttpsTransport):
        return Door()
    began_at = access.clock.time()
    try:
        version = estate.manager_version(api, REACH_SECONDS)
    except ApiError as error:
        return Door(api.name, error=error, certificate_refused=_certificate(access)[1])
    ends_at, _ = _certificate(access)
    off = clock_off_seconds(api.date, began_at, access.clock.time())
    return Door(api.name, version, clock_off_seconds=off, certificate_ends_at=ends_at)


def clock_off_seconds(date: str, asked_at: float, answered_at: float) -> float | None:
    """By how much our clock is ahead of an HTTP date at least; 0 where both may be the same, None without a date.

    The date has whole seconds, and was made at some instant between question and answer.
    """
    try:
        theirs = parsedate_to_datetime(date).timestamp()
    except (ValueError, TypeError, OverflowError):
        return None
    if asked_at > theirs + 1:
        return asked_at - theirs - 1
    return min(0.0, answered_at - theirs)


def _certificate(access: Access) -> tuple[float | None, str]:
    """When it ends, and why it is not accepted."""
    config: Config = access.config
    if access.credentials is None or access.api is None:
        return None, ""
    try:
        _, _, ca_data = access.credentials.wait()
        host, _, port = access.api.name.removeprefix("https://").rpartition(":")
        return certificate.ends_at(host.strip("[]"), int(port or config.api.port), ca_data), ""
    except certificate.RefusedError as error:
        return None, str(error)
    except (OSError, ApiError, ConfigError):
        return None, ""
