"""API methods about one guest: configuration, status, snapshots, agent, keys."""

from __future__ import annotations

import json
import re
import time
from typing import Any

from tests.lab.node import agent, snapshot
from tests.lab.node.config import GuestConfig
from tests.lab.node.errors import Die
from tests.lab.node.host import Host
from tests.lab.node.ops import Caller, bad_parameter, is_true, operation
from tests.lab.node.ops_cluster import guest_entry
from tests.lab.node.tasks import fork_worker

QEMU = "/nodes/{node}/qemu/{vmid}"
LXC = "/nodes/{node}/lxc/{vmid}"
AGENT_COMMANDS = {
    "GET": [
        *("get-fsinfo", "get-host-name", "get-memory-block-info", "get-memory-blocks", "get-osinfo", "get-time"),
        *("get-timezone", "get-users", "get-vcpus", "info", "network-get-interfaces"),
    ],
    "POST": [
        *("fsfreeze-freeze", "fsfreeze-status", "fsfreeze-thaw", "fstrim", "ping"),
        *("shutdown", "suspend-disk", "suspend-hybrid", "suspend-ram"),
    ],
}
# Configuration keys that PVE's API shows as numbers.
_INTEGERS = ("cores", "sockets", "onboot", "template", "protection", "numa", "unprivileged", "snaptime", "vcpus")
# Keys a running guest takes at once; the rest waits in [PENDING] for a stop and start (fast_plug_option).
_APPLIED_AT_ONCE = ("description", "hookscript", "lock", "name", "onboot", "protection", "startup", "tags", "shares")
_BLOCKSTAT_SECONDS = 1.0
_PRIVILEGES = (  # configuration keys and the privilege that may change them, first match
    (
        re.compile(
            "agent|autostart|bios|description|keyboard|localtime|name|onboot|ostype|protection|reboot|startdate|startup"
            "|tdf|template|tags"
        ),
        "VM.Config.Options",
    ),
    (re.compile(r"cores|sockets|cpu|cpulimit|cpuunits|vcpus|numa\d*"), "VM.Config.CPU"),
    (re.compile(r"memory|balloon|shares"), "VM.Config.Memory"),
    (re.compile(r"net\d+"), "VM.Config.Network"),
    (re.compile(r"boot|bootdisk|vmstatestorage|(?:ide|sata|scsi|virtio|unused)\d+|mp\d+|rootfs"), "VM.Config.Disk"),
    (re.compile(r"acpi|hotplug|kvm|machine|scsihw|smbios1|vga|watchdog|serial\d+|usb\d+"), "VM.Config.HWType"),
    (re.compile(r"hostname|nameserver|searchdomain"), "VM.Config.Network"),
)


def _load(host: Host, values: dict[str, Any]) -> GuestConfig:
    return host.load(values["node"], values.get("_kind", "qemu"), int(values["vmid"]))


# ------------------------------------------------------------------------ agent


def _agent(command: str) -> None:
    for method, commands in AGENT_COMMANDS.items():
        if command in commands:

            @operation(method, f"{QEMU}/agent/{command}")
            def call(host: Host, values: dict[str, Any], caller: Caller) -> dict[str, Any]:
                return {"result": agent.call(host, values["node"], int(values["vmid"]), command)}


for _command in [*AGENT_COMMANDS["GET"], *AGENT_COMMANDS["POST"]]:
    _agent(_command)


@operation("POST", f"{QEMU}/agent")
def agent_by_name(host: Host, values: dict[str, Any], caller: Caller) -> dict[str, Any]:
    """The old form, with the command as a parameter."""
    return {"result": agent.call(host, values["node"], int(values["vmid"]), str(values["command"]))}


# --------------------------------------------------------------- status, config


@operation("GET", "/nodes/{node}/qemu", "/nodes/{node}/lxc")
def guests_of_node(host: Host, values: dict[str, Any], caller: Caller) -> list[dict[str, Any]]:
    kind = values.get("_kind", "qemu")
    found = [vmid for node, other, vmid in host.store.everywhere() if (node, other) == (values["node"], kind)]
    entries = [guest_entry(host, host.load(values["node"], kind, vmid)) for vmid in found]
    return [
        {key: value for key, value in entry.items() if key not in ("id", "type", "node", "maxcpu")}
        | {"cpus": entry["maxcpu"]}
        for entry in entries
        if caller.has(f"/vms/{entry['vmid']}", "VM.Audit")
    ]


@operation("GET", f"{QEMU}/status/current", f"{LXC}/status/current")
def status_current(host: Host, values: dict[str, Any], caller: Caller) -> dict[str, Any]:
    config = _load(host, values)
    entry = guest_entry(host, config)
    answer = {key: entry[key] for key in entry if key not in ("id", "type", "node", "maxcpu", "pool", "template")}
    answer |= {"cpus": entry["maxcpu"], "ha": {"managed": 0}}
    if config.values.get("template") == "1":
        answer["template"] = 1
    if config.kind == "qemu":
        answer["qmpstatus"] = host.guest_settings(config.vmid).get("qmpstatus", entry["status"])
        if agent.agent_options(config.values.get("agent")):
            answer["agent"] = 1
        if blockstat := _blockstat(host, config.vmid):
            answer["blockstat"] = blockstat
        if pid := host.pid(config.vmid):
            answer |= {"pid": pid, "running-qemu": "10.1.2", "running-machine": "pc-q35-10.1+pve0"}
    return answer


def _blockstat(host: Host, vmid: int) -> dict[str, Any]:
    """QEMU's own numbers by the drive's name, when its monitor answers (PVE::QemuServer::vmstatus, blockstatscb)."""
    if not host.pid(vmid) or not host.run_path(vmid, "qmp").exists():
        return {}
    try:
        found = host.mon(vmid, "query-blockstats", timeout=_BLOCKSTAT_SECONDS)
    except Die:
        return {}
    return {f"virtio{number}": entry["stats"] for number, entry in enumerate(found)}


@operation("GET", f"{QEMU}/config", f"{LXC}/config")
def config_get(host: Host, values: dict[str, Any], caller: Caller) -> dict[str, Any]:
    """With pending changes applied, unless ``current`` is set (PVE::API2::Qemu, vm_config)."""
    config = _load(host, values)
    if name := values.get("snapshot"):
        if name not in config.snapshots:
            raise Die(f"snapshot '{name}' does not exist")
        found = config.snapshots[name]
    else:
        found = config.values if is_true(values.get("current", 0)) else config.with_pending()
    return {**_typed(found), "digest": config.digest}


@operation("GET", f"{QEMU}/pending", f"{LXC}/pending")
def pending(host: Host, values: dict[str, Any], caller: Caller) -> list[dict[str, Any]]:
    config = _load(host, values)
    current = _typed(config.values)
    answer: list[dict[str, Any]] = []
    for key in sorted({*current, *config.pending}):
        entry: dict[str, Any] = {"key": key}
        if key in current:
            entry["value"] = current[key]
        if key in config.pending:
            value = config.pending[key]
            entry |= {"delete": 1} if value is None else {"pending": value}
        answer.append(entry)
    return answer


@operation("PUT", f"{QEMU}/config", f"{LXC}/config")
@operation("POST", f"{QEMU}/config")
def config_put(host: Host, values: dict[str, Any], caller: Caller) -> None:
    config = _load(host, values)
    not_keys = (
        "node",
        "vmid",
        "_kind",
        "_front",
        "digest",
        "delete",
        "skiplock",
        "revert",
        "force",
        "background_delay",
    )
    updates = {key: str(value) for key, value in values.items() if key not in not_keys and value is not None}
    deleted = [key for key in re.split(r"[,; ]+", str(values.get("delete") or "")) if key]
    skiplock = is_true(values.get("skiplock", 0))
    if skiplock and caller.user != "root@pam":
        raise bad_parameter(skiplock="Only root may use this option.")
    for key in [*updates, *deleted]:
        _need_config_privilege(caller, config, key)
    with host.locked(config) as locked:
        if values.get("digest") not in (None, locked.digest):
            raise Die("detected modified configuration - file changed by other user? Try again.")
        if not skiplock:
            locked.check_lock()
        running = bool(host.pid(config.vmid)) and config.kind == "qemu"
        for key, value in [*updates.items(), *((key, None) for key in deleted)]:
            if running and not _applies_at_once(locked, key, value):
                locked.pending[key] = value
                host.note_pending(config.vmid)
                continue
            locked.pending.pop(key, None)
            if value is None:
                locked.values.pop(key, None)
            else:
                locked.values[key] = value


def _need_config_privilege(caller: Caller, config: GuestConfig, key: str) -> None:
    for pattern, privilege in _PRIVILEGES:
        if pattern.fullmatch(key):
            caller.need(f"/vms/{config.vmid}", privilege)
            return
    if caller.user != "root@pam":
        raise Die(f"only root can set '{key}' config")


def _applies_at_once(config: GuestConfig, key: str, value: str | None) -> bool:
    """Fast options do; of ``agent`` only fstrim_cloned_disks does (vmconfig_update_agent)."""
    if key in _APPLIED_AT_ONCE:
        return True
    if key != "agent" or key not in config.values:
        return False
    old, new = (agent.agent_options(text) for text in (config.values[key], value))
    return {k: v for k, v in old.items() if k != "fstrim_cloned_disks"} == {
        k: v for k, v in new.items() if k != "fstrim_cloned_disks"
    }


def _typed(values: dict[str, str]) -> dict[str, Any]:
    return {key: int(value) if key in _INTEGERS and value.isdigit() else value for key, value in values.items()}


# -------------------------------------------------------------------- snapshots


@operation("GET", f"{QEMU}/feature", f"{LXC}/feature")
def feature(host: Host, values: dict[str, Any], caller: Caller) -> dict[str, Any]:
    config = _load(host, values)
    has = config.can_snapshot(host.settings.storages)
    answer: dict[str, Any] = {"hasFeature": int(has)}
    return answer | {"nodes": sorted(host.settings.nodes)} if config.kind == "qemu" else answer


@operation("GET", f"{QEMU}/snapshot", f"{LXC}/snapshot")
def snapshot_list(host: Host, values: dict[str, Any], caller: Caller) -> list[dict[str, Any]]:
    config = _load(host, values)
    answer: list[dict[str, Any]] = []
    for name, kept in config.snapshots.items():
        entry: dict[str, Any] = {"name": name, "snaptime": int(kept.get("snaptime", 0))}
        if config.kind == "qemu":
            entry["vmstate"] = int("vmstate" in kept)
        entry["description"] = kept.get("description", "")
        answer.append(entry | {key: kept[key] for key in ("parent", "snapstate") if key in kept})
    current: dict[str, Any] = {"name": "current", "description": "You are here!", "digest": config.digest}
    if config.kind == "qemu":
        current["running"] = int(bool(host.pid(config.vmid)))
    if "parent" in config.values:
        current["parent"] = config.values["parent"]
    return [*answer, current]


@operation("POST", f"{QEMU}/snapshot", f"{LXC}/snapshot")
def snapshot_create(host: Host, values: dict[str, Any], caller: Caller) -> str:
    """A task; only reserved names and an unknown guest are refused at once."""
    name, node, vmid, kind = values["snapname"], values["node"], int(values["vmid"]), values.get("_kind", "qemu")
    if name == "current":
        raise Die("unable to use snapshot name 'current' (reserved name)")
    if kind == "qemu" and name.lower() == "pending":
        raise Die("unable to use snapshot name 'pending' (reserved name)")
    if kind == "lxc" and name == "vzdump":
        raise Die("unable to use snapshot name 'vzdump' (reserved name)")
    if kind == "qemu":
        host.load(node, kind, vmid)
    description, vmstate = str(values.get("description") or ""), is_true(values.get("vmstate", 0))

    def body() -> int:
        return snapshot.create(host, node, kind, vmid, name, description, vmstate)

    task = "qmsnapshot" if kind == "qemu" else "vzsnapshot"
    return str(fork_worker(host.tasks, node, task, str(vmid), caller.user, body))


@operation("DELETE", f"{QEMU}/snapshot/{{snapname}}", f"{LXC}/snapshot/{{snapname}}")
def snapshot_delete(host: Host, values: dict[str, Any], caller: Caller) -> str:
    name, node, vmid, kind = values["snapname"], values["node"], int(values["vmid"]), values.get("_kind", "qemu")
    force = is_true(values.get("force", 0))

    def body() -> int:
        return snapshot.delete(host, node, kind, vmid, name, force=force)

    task = "qmdelsnapshot" if kind == "qemu" else "vzdelsnapshot"
    return str(fork_worker(host.tasks, node, task, str(vmid), caller.user, body))


@operation("GET", f"{QEMU}/snapshot/{{snapname}}/config", f"{LXC}/snapshot/{{snapname}}/config")
def snapshot_config_get(host: Host, values: dict[str, Any], caller: Caller) -> dict[str, Any]:
    config = _load(host, values)
    if values["snapname"] not in config.snapshots:
        raise Die(f"snapshot '{values['snapname']}' does not exist")
    return _typed(config.snapshots[values["snapname"]])


@operation("PUT", f"{QEMU}/snapshot/{{snapname}}/config", f"{LXC}/snapshot/{{snapname}}/config")
def snapshot_config_put(host: Host, values: dict[str, Any], caller: Caller) -> None:
    if values.get("description") is None:
        return
    with host.locked(_load(host, values)) as locked:
        locked.check_lock()
        if values["snapname"] not in locked.snapshots:
            raise Die(f"snapshot '{values['snapname']}' does not exist")
        locked.snapshots[values["snapname"]]["description"] = str(values["description"])


# ------------------------------------------------------------------------- keys


@operation("PUT", f"{QEMU}/sendkey")
def sendkey(host: Host, values: dict[str, Any], caller: Caller) -> None:
    """A key press, in the words of QEMU's monitor (``alt-sysrq-j``); every one is noted for LabNode.sendkeys()."""
    if is_true(values.get("skiplock", 0)) and caller.user != "root@pam":
        raise bad_parameter(skiplock="Only root may use this option.")
    config, key = _load(host, values), str(values["key"])
    if not host.pid(config.vmid):
        raise Die(f"VM {config.vmid} not running")
    if host.settings.sendkey_to_qemu and host.run_path(config.vmid, "qmp").exists():
        arguments: dict[str, Any] = {"command-line": f"sendkey {key}"}
        complaint = host.mon(config.vmid, "human-monitor-command", **arguments)
        if complaint:
            raise Die(str(complaint).strip())
    with (host.root / "lab" / "sendkeys.jsonl").open("a") as output:
        output.write(json.dumps({"at": time.monotonic(), "vmid": config.vmid, "key": key}) + "\n")
