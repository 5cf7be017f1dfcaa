"""Guests and their snapshots in PVE's API, in this project's nouns. URL paths of guests live here alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from snapshot.errors import ApiFailureError, GuestRemovedError, GuestUnfitError, ReplyLostError
from snapshot.model import Guest, GuestKind, Node, Upid, Vmid
from snapshot.pve.transport import Transport, clean

_FREEZE_KEYS = ("freeze-fs", "freeze-fs-on-backup", "guest-fsfreeze")


class AgentOption(NamedTuple):
    """The guest's ``agent:`` option (PVE::QemuServer::Agent). ``freeze`` is off when the operator turned it off."""

    configured: bool
    enabled: bool
    freeze: bool

    @classmethod
    def parse(cls, value: object) -> AgentOption:
        """From the config's value, e.g. ``1``, ``enabled=1,freeze-fs=0``; None when the option is not set."""
        if value is None:
            return cls(configured=False, enabled=False, freeze=False)
        enabled, freeze = False, True
        for part in str(value).split(","):
            key, equals, setting = part.strip().partition("=")
            if not equals:
                key, setting = "enabled", key
            on = setting.strip().lower() in ("1", "on", "yes", "true")
            if key == "enabled":
                enabled = on
            elif key in _FREEZE_KEYS:
                freeze = on
        return cls(configured=True, enabled=enabled, freeze=freeze)


class Snapshot(NamedTuple):
    """A snapshot as PVE lists it. ``state`` is empty once it is whole, else ``prepare`` or ``delete``."""

    name: str
    description: str
    state: str

    @property
    def is_whole(self) -> bool:
        """Whether PVE has finished it."""
        return not self.state


class GuestApi:
    """Reads guests, takes and describes snapshots. Every method raises the errors of Transport.request."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def find(self, vmid: Vmid) -> Guest:
        """The guest with ``vmid`` anywhere in the cluster. GuestUnfitError when this token sees none."""
        listing = _rows(self._transport.request("GET", "cluster/resources", {"type": "vm"}), "cluster/resources")
        for row in listing:
            if row.get("vmid") == vmid or str(row.get("vmid")) == str(vmid):
                return _guest_of(row, vmid)
        if not listing:
            raise GuestUnfitError(
                f"guest {vmid} not found: the API lists no guest at all for this token",
                remedy="grant it VM.Audit (docs/privileges.md), or check that the guest exists: `qm list`, `pct list`",
            )
        raise GuestRemovedError(f"guest {vmid} does not exist in this cluster", remedy="check the vmid: `qm list`")

    def list(self) -> tuple[Guest, ...]:
        """Every guest this token may see."""
        rows = _rows(self._transport.request("GET", "cluster/resources", {"type": "vm"}), "cluster/resources")
        return tuple(_guest_of(row, Vmid(int(str(row["vmid"])))) for row in rows if str(row.get("vmid", "")).isdigit())

    def online_nodes(self) -> tuple[Node, ...]:
        """The names of the cluster's nodes that are online."""
        rows = _rows(self._transport.request("GET", "nodes"), "nodes")
        return tuple(Node(str(row["node"])) for row in rows if row.get("status") == "online" and row.get("node"))

    def node_addresses(self) -> Mapping[Node, str]:
        """Node name to address, from /cluster/status; empty where the token may not read it."""
        rows = _rows(self._transport.request("GET", "cluster/status"), "cluster/status")
        return {
            Node(str(row["name"])): str(row["ip"])
            for row in rows
            if row.get("type") == "node" and row.get("online") and row.get("ip") and row.get("name")
        }

    def current(self, guest: Guest) -> Mapping[str, object]:
        """``status/current``: status, qmpstatus, lock, uptime, pid, ..."""
        return _mapping(self._transport.request("GET", f"{guest.path}/status/current"), "status/current")

    def config(self, guest: Guest) -> Mapping[str, object]:
        """The guest's configuration."""
        return _mapping(self._transport.request("GET", f"{guest.path}/config"), "config")

    def pending(self, guest: Guest) -> tuple[Mapping[str, object], ...]:
        """Options with their present and pending values: ``key``, ``value``, ``pending``."""
        return _rows(self._transport.request("GET", f"{guest.path}/pending"), "pending")

    def can_snapshot(self, guest: Guest) -> bool:
        """Whether all the guest's disks are on storage that can."""
        answer = _mapping(self._transport.request("GET", f"{guest.path}/feature", {"feature": "snapshot"}), "feature")
        return str(answer.get("hasFeature", "0")) in ("1", "True")

    def snapshots(self, guest: Guest) -> Mapping[str, Snapshot]:
        """The guest's snapshots by name, without PVE's ``current``."""
        rows = _rows(self._transport.request("GET", f"{guest.path}/snapshot"), "snapshot")
        found = (
            Snapshot(str(r["name"]), str(r.get("description", "")), str(r.get("snapstate", "")))
            for r in rows
            if r.get("name")
        )
        return {snapshot.name: snapshot for snapshot in found if snapshot.name != "current"}

    def privileges(self, guest: Guest) -> frozenset[str] | None:
        """What this token may do with the guest; None when PVE's answer does not tell.

        PVE answers with ``{path: {privilege: propagated}}`` (PVE::API2::AccessControl, permissions); anybody may ask
        about himself.
        """
        answer = self._transport.request("GET", "access/permissions", {"path": f"/vms/{guest.vmid}"})
        paths = _mapping(answer, "access/permissions").values()
        if not all(isinstance(held, dict) for held in paths):
            return None
        return frozenset(str(name) for held in paths if isinstance(held, dict) for name in held)

    def create_snapshot(
        self, guest: Guest, name: str, description: str, *, memory: bool, timeout_seconds: float
    ) -> Upid:
        """Start the snapshot task. Lock, name and storage errors appear in the task's exit status only."""
        params: dict[str, object] = {"snapname": name, "description": description}
        if guest.kind is GuestKind.QEMU:
            params["vmstate"] = 1 if memory else 0
        return _upid(self._transport.request("POST", f"{guest.path}/snapshot", params, timeout_seconds=timeout_seconds))

    def describe_snapshot(self, guest: Guest, name: str, description: str) -> None:
        """Replace the snapshot's description."""
        self._transport.request("PUT", f"{guest.path}/snapshot/{name}/config", {"description": description})

    def snapshot_holds_ram(self, guest: Guest, name: str) -> bool:
        """Whether the snapshot has the guest's RAM in it.

        Asked for, PVE saves none, without a word, of a guest that went off (PVE::AbstractConfig, __snapshot_prepare).
        """
        answer = self._transport.request("GET", f"{guest.path}/snapshot/{name}/config")
        return bool(_mapping(answer, "snapshot config").get("vmstate"))

    def delete_snapshot(self, guest: Guest, name: str) -> Upid:
        """Start the task that removes the snapshot."""
        return _upid(self._transport.request("DELETE", f"{guest.path}/snapshot/{name}"))

    def uptime_seconds(self, guest: Guest) -> float | None:
        """Seconds since QEMU started, or None when the guest is off. Raises like the rest when PVE does not say."""
        current = self.current(guest)
        if current.get("status") != "running":
            return None
        uptime = current.get("uptime", 0)
        return float(uptime) if isinstance(uptime, int | float) else 0.0


def _guest_of(row: Mapping[str, object], vmid: Vmid) -> Guest:
    try:
        kind = GuestKind(str(row.get("type")))
    except ValueError:
        raise ApiFailureError(f"PVE lists guest {vmid} as {clean(str(row.get('type')))!r}", status=200) from None
    tags = str(row.get("tags") or "").replace(",", ";").split(";")
    return Guest(
        vmid=vmid,
        node=Node(str(row.get("node", ""))),
        kind=kind,
        name=clean(str(row.get("name") or ""), 80),
        running=row.get("status") == "running",
        template=str(row.get("template", 0)) in ("1", "True"),
        lock=clean(str(row.get("lock") or ""), 40),
        tags=tuple(tag.strip() for tag in tags if tag.strip()),
        pool=clean(str(row.get("pool") or ""), 80),
    )


def _upid(answer: object) -> Upid:
    try:
        return Upid.parse(answer if isinstance(answer, str) else "")
    except ValueError:
        raise ReplyLostError(f"PVE started a task but gave no UPID: {clean(repr(answer), 80)}") from None


def _rows(answer: object, what: str) -> tuple[Mapping[str, object], ...]:
    if not isinstance(answer, list) or not all(isinstance(row, dict) for row in answer):
        raise ReplyLostError(f"PVE's answer to {what} is not a list of objects: {clean(repr(answer), 80)}")
    return tuple(answer)


def _mapping(answer: object, what: str) -> Mapping[str, object]:
    if not isinstance(answer, dict):
        raise ReplyLostError(f"PVE's answer to {what} is not an object: {clean(repr(answer), 80)}")
    return answer
