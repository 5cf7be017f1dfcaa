"""What PVE says of a whole cluster, beside its guests: nodes, backup jobs, vzdump's settings, our own rights.

Only reads. Every function raises the errors of Transport.request.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from snapshot.base.text import clean
from snapshot.errors import ReplyLostError
from snapshot.model import NODE, Guest, Node
from snapshot.pve.guests import vmid_of
from snapshot.pve.transport import Transport

_YES = ("1", "True", "true")


class BackupJob(NamedTuple):
    """One of the cluster's backup jobs (PVE::API2::Backup, /etc/pve/jobs.cfg)."""

    id: str
    enabled: bool = True
    script: str = ""
    """Its own, which takes the place of the one in vzdump.conf."""
    mode: str = ""
    """Empty: the node's, which is ``snapshot`` unless vzdump.conf says otherwise."""
    node: str = ""
    """The only node that it runs on; empty: each."""
    vmids: frozenset[int] = frozenset()
    everything: bool = False
    exclude: frozenset[int] = frozenset()
    pool: str = ""

    def holds(self, guest: Guest) -> bool:
        """Whether the guest is backed up by it."""
        if self.node and self.node != guest.node:
            return False
        if self.everything:
            return guest.vmid not in self.exclude
        return guest.vmid in self.vmids or bool(self.pool and self.pool == guest.pool)


class Rights(NamedTuple):
    """What this token may do, by path (PVE::RPCEnvironment, get_effective_permissions): the nearest path above counts,
    and of that what is passed down.
    """

    paths: Mapping[str, Mapping[str, bool]]

    def on(self, path: str) -> frozenset[str]:
        """The privileges held on ``path``."""
        if path in self.paths:
            return frozenset(self.paths[path])
        while path != "/":
            path = path.rpartition("/")[0] or "/"
            if path in self.paths:
                return frozenset(name for name, is_passed_down in self.paths[path].items() if is_passed_down)
        return frozenset()


class ClusterNode(NamedTuple):
    """A node as PVE lists it."""

    name: Node
    online: bool


def manager_version(transport: Transport, timeout_seconds: float = 10.0) -> str:
    """The version of pve-manager; "" where the answer has none."""
    answer = _mapping(transport.request("GET", "version", timeout_seconds=timeout_seconds), "version")
    return clean(str(answer.get("version") or ""), 40)


def rights(transport: Transport) -> Rights:
    """Our own; anybody may ask about himself."""
    answer = _mapping(transport.request("GET", "access/permissions"), "access/permissions")
    return Rights(
        {
            str(path): {str(name): str(passed) in _YES for name, passed in held.items()}
            for path, held in answer.items()
            if isinstance(held, dict)
        }
    )


def nodes(transport: Transport) -> tuple[ClusterNode, ...]:
    """Every node of the cluster. One that does not report is not online."""
    rows = _rows(transport.request("GET", "nodes"), "nodes")
    return tuple(
        ClusterNode(Node(str(row["node"])), row.get("status") == "online")
        for row in rows
        if NODE.match(str(row.get("node", "")))
    )


def is_quorate(transport: Transport) -> bool | None:
    """Whether the cluster has quorum (Sys.Audit); None for a node without a cluster."""
    rows = _rows(transport.request("GET", "cluster/status"), "cluster/status")
    found = next((row for row in rows if row.get("type") == "cluster"), None)
    return None if found is None else str(found.get("quorate")) in _YES


def backup_jobs(transport: Transport) -> tuple[BackupJob, ...]:
    """The cluster's jobs (Sys.Audit on /)."""
    rows = _rows(transport.request("GET", "cluster/backup"), "cluster/backup")
    return tuple(
        BackupJob(
            id=clean(str(row.get("id") or "?"), 60),
            enabled=str(row.get("enabled", 1)) in _YES,
            script=clean(str(row.get("script") or ""), 200),
            mode=clean(str(row.get("mode") or ""), 20),
            node=str(row.get("node") or ""),
            vmids=_vmids(row.get("vmid")),
            everything=str(row.get("all", 0)) in _YES,
            exclude=_vmids(row.get("exclude")),
            pool=str(row.get("pool") or ""),
        )
        for row in rows
    )


def vzdump_defaults(transport: Transport, node: Node) -> Mapping[str, object]:
    """What /etc/vzdump.conf of the node says. Without Sys.Audit on the node PVE leaves ``script`` out, and without
    Datastore.Audit on the default storage it says nothing (PVE::API2::VZDump, defaults).
    """
    return _mapping(transport.request("GET", f"nodes/{node}/vzdump/defaults"), "vzdump/defaults")


def replicated(transport: Transport) -> Mapping[int, str]:
    """Guests that PVE replicates, and how often; PVE freezes them for that."""
    rows = _rows(transport.request("GET", "cluster/replication"), "cluster/replication")
    found: dict[int, str] = {}
    for row in rows:
        vmid = vmid_of(row.get("guest"))
        if vmid is not None and str(row.get("disable", 0)) not in _YES:
            found[vmid] = clean(str(row.get("schedule") or "*/15"), 60)
    return found


def _vmids(value: object) -> frozenset[int]:
    parts = str(value or "").replace(";", ",").replace(" ", ",").split(",")
    return frozenset(vmid for part in parts if (vmid := vmid_of(part)) is not None)


def _rows(answer: object, where: str) -> list[Mapping[str, object]]:
    if not isinstance(answer, list):
        raise ReplyLostError(f"PVE's answer to {where} is not a list: {clean(repr(answer), 80)}")
    return [row for row in answer if isinstance(row, dict)]


def _mapping(answer: object, where: str) -> Mapping[str, object]:
    if not isinstance(answer, dict):
        raise ReplyLostError(f"PVE's answer to {where} is not an object: {clean(repr(answer), 80)}")
    return answer
