"""Guests and their snapshots in PVE's API, in this project's nouns. URL paths of guests live here alone."""

from __future__ import annotations

import ipaddress
from collections.abc import Container, Mapping
from typing import NamedTuple

from snapshot.base.text import clean
from snapshot.errors import ApiError, ApiFailureError, GuestRemovedError, GuestUnfitError, ReplyLostError
from snapshot.model import NODE, Guest, GuestKind, Node, Upid, Vmid, parse_vmid
from snapshot.pve.snapshots import Snapshot, Tree, tree_of
from snapshot.pve.transport import Transport

_FREEZE_KEYS = ("freeze-fs", "freeze-fs-on-backup", "guest-fsfreeze")
_TAKEN_BY_ALL = "freeze-fs-on-backup"
"""PVE 8's name, and an alias ever after (PVE::QemuServer::Agent, agent_fmt): PVE 8 refuses the newer ones."""
_BOOLEANS = {"1": True, "on": True, "yes": True, "true": True, "0": False, "off": False, "no": False, "false": False}
_AGENT_VALUES: Mapping[str, Container[str]] = {
    "enabled": _BOOLEANS,
    "fstrim_cloned_disks": _BOOLEANS,
    "type": ("virtio", "isa"),
    **dict.fromkeys(_FREEZE_KEYS, _BOOLEANS),
}
"""What PVE takes in the ``agent:`` option (PVE::QemuServer::Agent, agent_fmt); booleans in any case."""

LONGEST_TEXT = 4096
"""Of one value in a guest's configuration or status: a description may hold 8 KiB, and we need none of it."""

MOST_BYTES = 2**63 - 1
"""A counter that is higher is none: it fits no database column, and no disk either."""


class AgentOption(NamedTuple):
    """The guest's ``agent:`` option (PVE::QemuServer::Agent). ``freeze`` is off when the operator turned it off."""

    enabled: bool
    freeze: bool
    parts: tuple[tuple[str, str], ...] = ()
    """All of it that PVE takes, in its order: what a command that sets the option has to say again."""

    @classmethod
    def parse(cls, value: object) -> AgentOption:
        """From the config's value, e.g. ``1``, ``enabled=1,freeze-fs=0``; None when the option is not set.

        As PVE reads it (parse_guest_agent, PVE::JSONSchema::parse_property_string): no blanks around a word, each key
        once under all its names, and one part that makes no sense switches the whole agent off.
        """
        parts: list[tuple[str, str]] = []
        on: dict[str, bool] = {}
        makes_sense = True
        for part in str(value or "").split(","):
            key, equals, setting = part.partition("=")
            if not equals:
                key, setting = "enabled", key
            name = _FREEZE_KEYS[0] if key in _FREEZE_KEYS else key
            values = _AGENT_VALUES.get(key, ())
            if not part.strip():
                continue
            if name in on or (setting.lower() if values is _BOOLEANS else setting) not in values:
                makes_sense = False
                continue
            on[name] = _BOOLEANS.get(setting.lower(), False)
            parts.append((key, setting))
        enabled = makes_sense and on.get("enabled", False)
        return cls(enabled=enabled, freeze=on.get(_FREEZE_KEYS[0], True), parts=tuple(parts))

    @property
    def freeze_key(self) -> str:
        """By which of its names the option says whether PVE freezes, else one that every version takes."""
        return next((key for key, _ in self.parts if key in _FREEZE_KEYS), _TAKEN_BY_ALL)

    def without_freeze(self) -> str:
        """Its value with PVE's freezing off; the rest as it is."""
        rest = [part for part in self.parts if part[0] not in _FREEZE_KEYS]
        return ",".join(f"{key}={setting}" for key, setting in (*rest, (self.freeze_key, "0")))

    def switched_on(self, *, freeze: bool = True) -> str:
        """Its value with the agent on, and freezing too where ``freeze``; the rest as it is."""
        turned = {"enabled", *(_FREEZE_KEYS if freeze else ())}
        rest = [(key, "1" if key in turned else setting) for key, setting in self.parts if key != "enabled"]
        return ",".join(f"{key}={setting}" for key, setting in (("enabled", "1"), *rest))


class Listed(NamedTuple):
    """One guest as /cluster/resources lists it."""

    guest: Guest
    status: str = ""
    """``running``, ``stopped``, ``unknown`` (its node is offline); empty when the answer has none."""
    diskwrite: int | None = None
    """Bytes that its disks have been written since QEMU started; None when the answer has no such number."""
    uptime: int | None = None
    """Seconds since QEMU started."""


class GuestApi:
    """Reads guests, takes and describes snapshots. Every method raises the errors of Transport.request.

    A row of a list that makes no sense is left out, and stands in ``oddities``, a word each.
    """

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self.oddities: list[str] = []

    def find(self, vmid: Vmid, *, timeout_seconds: float = 10.0) -> Guest:
        """The guest with ``vmid`` anywhere in the cluster. GuestUnfitError when this token sees none."""
        rows = self._resources(timeout_seconds)
        for row in rows:
            if vmid_of(row.get("vmid")) == vmid:
                return _guest_of(row, vmid)
        if not rows:
            raise GuestUnfitError(
                f"guest {vmid} not found: the API lists no guest at all for this token",
                remedy="grant it VM.Audit (docs/privileges.md), or check that the guest exists: `qm list`, `pct list`",
            )
        raise GuestRemovedError(
            f"guest {vmid} does not exist in this cluster", remedy="check the vmid: `qm list`, `pct list`"
        )

    def list(self) -> tuple[Guest, ...]:
        """Every guest this token may see."""
        return tuple(listed.guest for listed in self.listing())

    def listing(self) -> tuple[Listed, ...]:
        """Every guest this token may see, with what a look at all of them needs: one request."""
        found: list[Listed] = []
        for row in self._resources():
            vmid = vmid_of(row.get("vmid"))
            if vmid is None:
                self._odd(f"a guest with the vmid {row.get('vmid')!r:.60}")
                continue
            try:
                guest = _guest_of(row, vmid)
            except ApiFailureError as error:
                self._odd(error.message)
                continue
            status = clean(str(row.get("status") or ""), 40)
            found.append(Listed(guest, status, number_of(row.get("diskwrite")), number_of(row.get("uptime"))))
        return tuple(found)

    def _resources(self, timeout_seconds: float = 10.0) -> tuple[Mapping[str, object], ...]:
        return self._rows("cluster/resources", {"type": "vm"}, timeout_seconds=timeout_seconds)

    def _rows(
        self, path: str, params: Mapping[str, object] | None = None, *, timeout_seconds: float = 10.0
    ) -> tuple[Mapping[str, object], ...]:
        answer = self._transport.request("GET", path, params, timeout_seconds=timeout_seconds)
        if not isinstance(answer, list):
            raise ReplyLostError(f"PVE's answer to {path} is not a list: {clean(repr(answer), 80)}")
        rows = tuple(row for row in answer if isinstance(row, dict))
        if len(rows) < len(answer):
            self._odd(f"{len(answer) - len(rows)} rows of {path} that are no objects")
        return rows

    def _odd(self, what: str) -> None:
        self.oddities.append(f"PVE's answer has {clean(what, 120)}: left out")

    def is_offline(self, node: Node) -> bool:
        """Whether PVE says of this node that it is offline; a list without it says nothing."""
        return any(row.get("node") == node and row.get("status") == "offline" for row in self._rows("nodes"))

    def qemu_server_version(self, node: Node) -> str:
        """The version of qemu-server on ``node``, or the beginning of it that is certain (``8.``); "" when not known.

        The exact one takes Sys.Audit on the node (PVE::API2::APT, versions); everybody may see pve-manager's, which
        tells the release, and PVE 8 never got a qemu-server 9.
        """
        try:
            for row in self._rows(f"nodes/{node}/apt/versions"):
                if row.get("Package") == "qemu-server":
                    return clean(str(row.get("OldVersion") or ""), 40)
        except ApiError:
            pass
        try:
            answer = _mapping(self._transport.request("GET", "version"), "version")
        except ApiError:
            return ""
        major = str(answer.get("version", "")).partition(".")[0]
        return f"{major}." if major in ("7", "8") else ""

    def storage_types(self, node: Node) -> Mapping[str, str]:
        """The storages of ``node`` that this token may see: name to type, ``lvmthin`` say."""
        rows = (r for r in self._rows("cluster/resources", {"type": "storage"}) if r.get("node") == node)
        return {str(r["storage"]): str(r.get("plugintype", "")) for r in rows if r.get("storage")}

    def node_addresses(self, timeout_seconds: float = 10.0) -> Mapping[Node, str]:
        """Online nodes' names and addresses, from /cluster/status; empty where the token may not read it."""
        found: dict[Node, str] = {}
        for row in self._rows("cluster/status", timeout_seconds=timeout_seconds):
            if row.get("type") != "node" or not row.get("online"):
                continue
            node = _node_of(row.get("name"))
            try:
                address = ipaddress.ip_address(str(row.get("ip")))
            except ValueError:
                self._odd(f"the address {row.get('ip')!r:.60} of node {row.get('name')!r:.60}")
                continue
            if node is not None:
                found[node] = str(address)
        return found

    def folds_tags(self) -> bool:
        """Whether tags know no upper and lower case, as by default (datacenter.cfg, tag-style)."""
        style = _mapping(self._transport.request("GET", "cluster/options"), "cluster/options").get("tag-style")
        if isinstance(style, dict):
            return str(style.get("case-sensitive", 0)) not in ("1", "True")
        return "case-sensitive=1" not in str(style or "").replace(" ", "").split(",")

    def current(self, guest: Guest, *, timeout_seconds: float = 10.0) -> Mapping[str, object]:
        """``status/current``: status, qmpstatus, lock, uptime, pid, ..."""
        answer = self._transport.request("GET", f"{guest.path}/status/current", timeout_seconds=timeout_seconds)
        return _texts(_mapping(answer, "status/current"))

    def config(self, guest: Guest) -> Mapping[str, object]:
        """The guest's configuration as PVE goes by it now. Without ``current`` PVE answers with the pending values,
        those of the guest's next start (PVE::API2::Qemu, vm_config): what no backup or snapshot task looks at.
        """
        return _texts(_mapping(self._transport.request("GET", f"{guest.path}/config", {"current": 1}), "config"))

    def pending(self, guest: Guest) -> tuple[Mapping[str, object], ...]:
        """Options with their present and pending values: ``key``, ``value``, ``pending``."""
        return self._rows(f"{guest.path}/pending")

    def can_snapshot(self, guest: Guest) -> bool:
        """Whether all the guest's disks are on storage that can. ApiFailureError when PVE does not say."""
        answer = _mapping(self._transport.request("GET", f"{guest.path}/feature", {"feature": "snapshot"}), "feature")
        if not isinstance(answer.get("hasFeature"), str | int):
            raise ApiFailureError("its answer does not tell", status=200)
        return str(answer["hasFeature"]) in ("1", "True")

    def snapshots(self, guest: Guest) -> Mapping[str, Snapshot]:
        """The guest's snapshots by name, without PVE's ``current``."""
        return self.snapshot_tree(guest).snapshots

    def snapshot_tree(self, guest: Guest) -> Tree:
        """The same, and the one that the guest stands on."""
        return tree_of(self._rows(f"{guest.path}/snapshot"))

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
        return bool(self.snapshot_config(guest, name).get("vmstate"))

    def snapshot_config(self, guest: Guest, name: str) -> Mapping[str, object]:
        """The guest's configuration as it was when the snapshot was taken: its disks stand in it."""
        answer = self._transport.request("GET", f"{guest.path}/snapshot/{name}/config")
        return _texts(_mapping(answer, "snapshot config"))

    def delete_snapshot(self, guest: Guest, name: str) -> Upid:
        """Start the task that removes the snapshot."""
        return _upid(self._transport.request("DELETE", f"{guest.path}/snapshot/{name}"))


def vmid_of(value: object) -> Vmid | None:
    """The vmid in a field of an answer or in a file's name; None for anything else. ``isdigit`` is no ``int``: "²"."""
    try:
        return parse_vmid(str(value)) if isinstance(value, int | str) and not isinstance(value, bool) else None
    except ValueError:
        return None


def number_of(value: object) -> int | None:
    """The whole number in a field of an answer (Perl's JSON may quote it); None for anything that is no such number."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 20:
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= MOST_BYTES:
        return None
    return int(value)


def _node_of(value: object) -> Node | None:
    return Node(value) if isinstance(value, str) and NODE.match(value) else None


def as_configured(guest: Guest, config: Mapping[str, object]) -> Guest:
    """``guest``, which was listed some time ago, with what its configuration says of it now."""
    lock = clean(str(config.get("lock") or ""), 40)
    is_template = str(config.get("template", 0)) in ("1", "True")
    return guest._replace(lock=lock, template=is_template, tags=_tags_of(config))


def _tags_of(row: Mapping[str, object]) -> tuple[str, ...]:
    tags = (clean(tag, 80) for tag in str(row.get("tags") or "").replace(",", ";").split(";"))
    return tuple(tag for tag in tags if tag)


def _guest_of(row: Mapping[str, object], vmid: Vmid) -> Guest:
    kind = next((kind for kind in GuestKind if kind.value == row.get("type")), None)
    node = _node_of(row.get("node"))
    if kind is None or node is None:
        what = f"of the type {row.get('type')!r:.60} on the node {row.get('node')!r:.60}"
        raise ApiFailureError(f"guest {vmid}, {clean(what)}", status=200)
    return Guest(
        vmid=vmid,
        node=node,
        kind=kind,
        name=clean(str(row.get("name") or ""), 80),
        running=row.get("status") == "running",
        template=str(row.get("template", 0)) in ("1", "True"),
        lock=clean(str(row.get("lock") or ""), 40),
        tags=_tags_of(row),
        pool=clean(str(row.get("pool") or ""), 80),
    )


def _upid(answer: object) -> Upid:
    try:
        return Upid.parse(answer if isinstance(answer, str) else "")
    except ValueError:
        raise ReplyLostError(f"PVE started a task but gave no UPID: {clean(repr(answer), 80)}") from None


def _mapping(answer: object, what: str) -> Mapping[str, object]:
    if not isinstance(answer, dict):
        raise ReplyLostError(f"PVE's answer to {what} is not an object: {clean(repr(answer), 80)}")
    return answer


def _texts(answer: Mapping[str, object]) -> Mapping[str, object]:
    """``answer`` with its texts fit for one line: a lock or a name is shown to people, and anybody may have set it."""
    return {key: clean(value, LONGEST_TEXT) if isinstance(value, str) else value for key, value in answer.items()}
