"""Is there room for a snapshot, and may PVE take one? Looked at before each, while its guest is not at risk.

A cluster without quorum changes no configuration: its snapshot task would fail with the guest frozen for nothing. A
storage that fills up stops every guest that lies on it. What PVE does not say is a warning, not a refusal: one snapshot
by itself asks neither.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from snapshot.errors import ApiError, NodeOfflineError, NoQuorumError, StorageFullError
from snapshot.model import Guest, Node
from snapshot.preflight.disks import disks
from snapshot.pve.storages import ClusterState, StorageUse, cluster_state
from snapshot.pve.transport import Transport


def storages_of(guest: Guest, config: Mapping[str, object]) -> tuple[str, ...]:
    """The storages that the guest's disks lie on."""
    found = (volume.partition(":") for _, volume in disks(guest, config))
    return tuple(sorted({name for name, colon, _ in found if colon and not name.startswith("/")}))


def check_cluster(guest: Guest, transport: Transport) -> list[str]:
    """Warnings. NoQuorumError, and NodeOfflineError for a guest that cannot be reached."""
    try:
        state = cluster_state(transport)
    except ApiError as error:
        return [f"whether the cluster has quorum is not known: {error}"]
    refuse_by_state(guest, state)
    return []


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
