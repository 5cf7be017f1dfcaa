"""API methods about the cluster: version, nodes, resources, status."""

from __future__ import annotations

import os
import time
from typing import Any

from snapshot.pve import vzdumpconf
from tests.lab.node.config import GuestConfig
from tests.lab.node.host import Host
from tests.lab.node.ops import Caller, operation
from tests.lab.node.tasks import process_start

_MIB = 1 << 20


@operation("GET", "/version")
def version(host: Host, values: dict[str, Any], caller: Caller) -> dict[str, str]:
    settings = host.settings
    text = settings.manager_version or settings.pve_version
    return {"version": text, "release": ".".join(text.split(".")[:2]), "repoid": "1ab0000000000000"}


@operation("GET", "/nodes/{node}/apt/versions")
def versions(host: Host, values: dict[str, Any], caller: Caller) -> list[dict[str, Any]]:
    """The packages that a bug report names; ``OldVersion`` is the one that is installed (PVE::API2::APT)."""
    caller.need(f"/nodes/{values['node']}", "Sys.Audit")
    installed = host.settings.pve_version
    return [{"Package": "qemu-server", "OldVersion": installed, "Version": installed, "CurrentState": "Installed"}]


@operation("GET", "/nodes")
def nodes(host: Host, values: dict[str, Any], caller: Caller) -> list[dict[str, Any]]:
    return [
        {"type": "node", "level": "", **_node_entry(name, entry)} for name, entry in sorted(host.settings.nodes.items())
    ]


@operation("GET", "/cluster/status")
def cluster_status(host: Host, values: dict[str, Any], caller: Caller) -> list[dict[str, Any]]:
    """Every node's address, and which of them answered: ``_front`` is filled in by the server."""
    entries = sorted(host.settings.nodes.items())
    answer: list[dict[str, Any]] = []
    if len(entries) > 1:
        cluster = {"type": "cluster", "id": "cluster", "name": "lab", "nodes": len(entries), "version": 1}
        cluster["quorate"] = int(host.settings.quorate)
        answer.append(cluster)
    for number, (name, entry) in enumerate(entries, 1):
        state = {"online": int(entry.get("online", True)), "local": int(name == values.get("_front")), "level": ""}
        answer.append(
            {"type": "node", "id": f"node/{name}", "name": name, "nodeid": number, "ip": entry["address"], **state}
        )
    return answer


@operation("GET", "/nodes/{node}/vzdump/defaults")
def vzdump_defaults(host: Host, values: dict[str, Any], caller: Caller) -> dict[str, Any]:
    """vzdump.conf; without Sys.Audit the script is left out, without a right to the storage all (PVE::API2::VZDump)."""
    conf = host.root / "etc/vzdump.conf"  # one for all nodes; each has its own in PVE
    script = os.fsdecode(vzdumpconf.script(conf.read_bytes())) if conf.exists() else ""
    found = {"storage": "local"} | ({"script": script} if script else {}) | host.settings.vzdump.get(values["node"], {})
    path = f"/storage/{found['storage']}"
    if not (caller.has(path, "Datastore.Audit") or caller.has(path, "Datastore.AllocateSpace")):
        caller.need(path, "Datastore.Audit|Datastore.AllocateSpace")
    if not caller.has(f"/nodes/{values['node']}", "Sys.Audit"):
        found.pop("script", None)
    return found


@operation("GET", "/cluster/replication")
def replication(host: Host, values: dict[str, Any], caller: Caller) -> list[dict[str, Any]]:
    return [job for job in host.settings.replication if caller.has(f"/vms/{job['guest']}", "VM.Audit")]


@operation("GET", "/cluster/resources")
def resources(host: Host, values: dict[str, Any], caller: Caller) -> list[dict[str, Any]]:
    """Guests the caller may audit, and nodes and storages."""
    wanted = values.get("type")
    settings = host.settings
    answer: list[dict[str, Any]] = []
    if wanted in (None, "vm"):
        for node, kind, vmid in host.store.everywhere():
            if not caller.has(f"/vms/{vmid}", "VM.Audit"):
                continue
            online = settings.nodes.get(node, {}).get("online", True)
            answer.append(guest_entry(host, host.load(node, kind, vmid), online=online))
    if wanted in (None, "node"):
        for name, entry in sorted(settings.nodes.items()):
            answer.append({"type": "node", "level": "", **_node_entry(name, entry)})
    if wanted in (None, "storage"):
        answer += [
            {"type": "storage", "id": f"storage/{node}/{name}", "node": node, "storage": name, "status": "available"}
            | {"plugintype": entry["type"], "content": entry.get("content", ""), "shared": entry.get("shared", 0)}
            | entry.get("usage", {}).get(node, {"disk": 1 << 30, "maxdisk": 16 << 30})
            for node in sorted(settings.nodes)
            for name, entry in settings.storages.items()
            if caller.has(f"/storage/{name}", "Datastore.Audit")
        ]
    return answer


def guest_entry(host: Host, config: GuestConfig, *, online: bool = True) -> dict[str, Any]:
    """A guest as /cluster/resources lists it."""
    running = bool(host.pid(config.vmid))
    entry: dict[str, Any] = {
        "id": f"{config.kind}/{config.vmid}",
        "type": config.kind,
        "vmid": config.vmid,
        "node": config.node,
        "name": guest_name(config),
        "status": ("running" if running else "stopped") if online else "unknown",
        "template": int(config.values.get("template", 0)),
        "maxcpu": int(config.values.get("cores", 1)),
        "cpu": 0.01 if running else 0,
        "maxmem": int(config.values.get("memory", 512)) * _MIB,
        "mem": 64 * _MIB if running else 0,
        "maxdisk": 64 * _MIB,
        "disk": 0,
        "uptime": uptime(host, config.vmid),
        **dict.fromkeys(("netin", "netout", "diskread"), 0),
        "diskwrite": host.guest_settings(config.vmid).get("diskwrite", 0),
    }
    for key in ("tags", "lock"):
        if config.values.get(key):
            entry[key] = config.values[key]
    if pool := host.guest_settings(config.vmid).get("pool"):
        entry["pool"] = pool
    return entry


def guest_name(config: GuestConfig) -> str:
    """PVE calls a guest without a name by its number."""
    if config.kind == "lxc":
        return config.values.get("hostname", f"CT{config.vmid}")
    return config.values.get("name", f"VM {config.vmid}")


def uptime(host: Host, vmid: int) -> int:
    """Seconds since the guest's QEMU process began."""
    started = process_start(host.pid(vmid) or -1)
    if not started:
        return 0
    ticks_per_second = 100
    return max(0, int(time.clock_gettime(time.CLOCK_BOOTTIME) - started[0] / ticks_per_second))


def _node_entry(name: str, entry: dict[str, Any]) -> dict[str, Any]:
    online = entry.get("online", True)
    usage = {"cpu": 0.02, "maxcpu": 2, "mem": 1 << 30, "maxmem": 4 << 30, "disk": 1 << 30, "maxdisk": 16 << 30}
    entry = {"id": f"node/{name}", "node": name, "status": "online" if online else "offline"}
    return entry | (usage | {"uptime": 3600} if online else {})
