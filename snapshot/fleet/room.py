"""Is there room for a snapshot, and may PVE take one? Looked at before each, while its guest is not at risk.

A cluster without quorum changes no configuration: its snapshot task would fail with the guest frozen for nothing. A
storage that fills up stops every guest that lies on it. What PVE does not say is a warning, not a refusal: one snapshot
by itself asks neither. One worker's answers are the others' too, for a few seconds: five hundred of them would ask the
same.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any, NamedTuple, Self

from snapshot.base.clock import Clock
from snapshot.errors import ApiError, NodeOfflineError, NoQuorumError, StorageFullError
from snapshot.model import Guest, Node
from snapshot.preflight.disks import disks
from snapshot.pve.storages import ClusterState, StorageUse, cluster_state, storage_uses
from snapshot.pve.transport import Transport

FRESH_SECONDS = 5.0
"""How long an answer counts. PVE itself reads how full its storages are every ten (pvestatd)."""


class Room(NamedTuple):
    """What PVE says of the cluster and its storages."""

    at: float
    """Before PVE was asked (monotonic, and so the same for all processes of this machine)."""
    state: ClusterState
    uses: tuple[StorageUse, ...]
    warning: str = ""
    is_whole: bool = True
    """Whether PVE has answered both; what it does not say is asked again for each guest."""

    def is_fresh(self, now: float) -> bool:
        """Whether a decision may go by it still."""
        return now - self.at <= FRESH_SECONDS

    def told(self) -> dict[str, Any]:
        """For the parent, as JSON."""
        return {
            "at": self.at,
            "state": [self.state.quorate, sorted(self.state.offline)],
            "uses": [list(use) for use in self.uses],
        }

    @classmethod
    def of(cls, told: Mapping[str, Any] | None) -> Self | None:
        """What another worker has told."""
        if told is None:
            return None
        quorate, offline = told["state"]
        uses = tuple(StorageUse(*row) for row in told["uses"])
        return cls(told["at"], ClusterState(quorate, frozenset(map(Node, offline))), uses)


def ask(transport: Transport, clock: Clock) -> Room:
    """Both, now."""
    at, state, warning = clock.monotonic(), ClusterState(), ""
    uses: tuple[StorageUse, ...] | None = None  # said of each storage then
    try:
        state = cluster_state(transport)
    except ApiError as error:
        warning = f"whether the cluster has quorum is not known: {error}"
    with suppress(ApiError):
        uses = storage_uses(transport)
    return Room(at, state, uses or (), warning, is_whole=not warning and uses is not None)


def storages_of(guest: Guest, config: Mapping[str, object]) -> tuple[str, ...]:
    """The storages that the guest's disks lie on."""
    found = (volume.partition(":") for _, volume in disks(guest, config))
    return tuple(sorted({name for name, colon, _ in found if colon and not name.startswith("/")}))


def refuse_by_state(guest: Guest, state: ClusterState) -> None:
    """NoQuorumError, NodeOfflineError, or nothing."""
    if not state.quorate:
        raise NoQuorumError(
            f"guest {guest.vmid} was not begun: the cluster has no quorum",
            remedy="bring its nodes back together (`pvecm status`), then run again",
        )
    if guest.node in state.offline:
        raise NodeOfflineError(
            f"guest {guest.vmid} was not begun: its node {guest.node} is offline",
            remedy=f"bring {guest.node} back, or let HA start the guest elsewhere, then run again for it",
        )


def refuse_by_use(guest: Guest, names: Iterable[str], uses: Iterable[StorageUse], full_percent: float) -> list[str]:
    """Warnings. StorageFullError when a storage of the guest is as full as ``full_percent``."""
    known = {use.name: use for use in uses if use.node == guest.node}
    silent: list[str] = []
    for name in names:
        use = known.get(name)
        percent = use.percent if use is not None else None
        if percent is None:
            silent.append(name)
        elif percent >= full_percent:
            kind = f" ({use.kind})" if use is not None and use.kind else ""
            raise StorageFullError(
                f"guest {guest.vmid} was not begun: its storage {name}{kind} on {guest.node} is {percent:.0f} % full, "
                f"and the bound is {full_percent:g} %",
                remedy="remove old snapshots or move disks away; see [fleet] storage_full_percent",
            )
    if not silent:
        return []
    hint = "" if known else ": grant the token Datastore.Audit on /storage (docs/privileges.md)"
    return [f"how full {', '.join(silent)} on {guest.node} is not known, PVE does not say{hint}"]


def places_of(names: Iterable[str], node: Node, uses: Iterable[StorageUse]) -> list[tuple[str, str]]:
    """Name and node of each storage, for the limits: one that is shared is the same on all nodes, and has none."""
    shared = {use.name for use in uses if use.shared}
    return [(name, "" if name in shared else node) for name in names]
