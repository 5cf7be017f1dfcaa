"""What PVE says of the cluster's storages and of its quorum: whether there is room for a snapshot. Only reads.

Every function raises the errors of Transport.request.
"""

from __future__ import annotations

from typing import NamedTuple

from snapshot.base.text import clean
from snapshot.errors import ReplyLostError
from snapshot.model import NODE, Node
from snapshot.pve.guests import number_of
from snapshot.pve.transport import Transport

_YES = ("1", "True", "true")


class StorageUse(NamedTuple):
    """A storage of one node as /cluster/resources lists it: pvestatd's word, some ten seconds old.

    Of a thin pool PVE reports how much of its data is used (PVE::Storage::LvmThinPlugin, status), not of its metadata.
    """

    name: str
    node: Node
    kind: str = ""
    """PVE's type, ``lvmthin`` say."""
    shared: bool = False
    used: int | None = None
    size: int | None = None
    """Bytes; None where PVE has no word of the storage now."""

    @property
    def percent(self) -> float | None:
        """How full it is; None when PVE does not say. One that has no size has none to say."""
        if self.used is None or not self.size:
            return None
        return 100.0 * self.used / self.size


class ClusterState(NamedTuple):
    """What /cluster/status says (Sys.Audit on /)."""

    quorate: bool = True
    """A node without a cluster is its own quorum."""
    offline: frozenset[Node] = frozenset()


def storage_uses(transport: Transport) -> tuple[StorageUse, ...]:
    """Every storage that this token may see (Datastore.Audit), on each of its nodes."""
    rows = transport.request("GET", "cluster/resources", {"type": "storage"})
    return tuple(
        StorageUse(
            name=str(row["storage"]),
            node=Node(str(row["node"])),
            kind=clean(str(row.get("plugintype") or ""), 40),
            shared=str(row.get("shared", 0)) in _YES,
            used=number_of(row.get("disk")),
            size=number_of(row.get("maxdisk")),
        )
        for row in _rows(rows, "cluster/resources")
        if row.get("storage") and NODE.match(str(row.get("node", "")))
    )


def cluster_state(transport: Transport) -> ClusterState:
    """Whether the cluster has quorum, and which of its nodes are offline."""
    rows = _rows(transport.request("GET", "cluster/status"), "cluster/status")
    cluster = next((row for row in rows if row.get("type") == "cluster"), None)
    nodes = (row for row in rows if row.get("type") == "node" and NODE.match(str(row.get("name", ""))))
    return ClusterState(
        quorate=cluster is None or str(cluster.get("quorate", 1)) in _YES,
        offline=frozenset(Node(str(row["name"])) for row in nodes if str(row.get("online", 1)) not in _YES),
    )


def _rows(answer: object, where: str) -> list[dict[str, object]]:
    if not isinstance(answer, list):
        raise ReplyLostError(f"PVE's answer to {where} is not a list: {clean(repr(answer), 80)}")
    return [row for row in answer if isinstance(row, dict)]
