"""The guests of this node as the node itself knows them: no API, no network. What a rescue asks first.

QEMU's files in PVE's socket folder say which guests run; their configurations in /etc/pve say their names and tags, for
the rules that go by tags. /etc/pve hangs where the cluster's file system does, so it is read aside, within a limit.
"""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import Iterable, Mapping
from pathlib import Path

from snapshot.base.aside import Aside
from snapshot.base.procfs import process_start
from snapshot.base.text import clean
from snapshot.model import Guest, GuestKind, Node, Vmid
from snapshot.pve.guests import vmid_of

CONFIG_FOLDER = Path("/etc/pve/qemu-server")
"""This node's guests' configurations (a link to /etc/pve/nodes/<node>/qemu-server)."""

CONFIG_SECONDS = 2.0
"""How long all configurations together may take to read."""

MEMBERS_FILE = Path("/etc/pve/.members")
"""pmxcfs' own word about the cluster, as JSON (pve-cluster, status.c, cfs_create_memberlist_msg)."""

MOST_CONFIG_BYTES = 1 << 20
"""Of one configuration: pmxcfs has no larger files."""


def guests_here(socket_folder: Path, node: str, config_folder: Path = CONFIG_FOLDER) -> tuple[Guest, ...]:
    """The QEMU guests that run on this node, by vmid: those with an agent's socket, or with a living QEMU.

    A guest whose QEMU was killed may still have a socket; nobody answers there. Never raises: a folder that is not
    there holds no guests, and a configuration that cannot be read leaves its guest without a name, tags and lock.
    """
    vmids = _running(socket_folder)
    options = options_of(vmids, config_folder)
    return tuple(_guest(vmid, node, options.get(vmid, {})) for vmid in sorted(vmids))


def qemu_lives(socket_folder: Path, vmid: int) -> bool | None:
    """Whether this guest's QEMU lives on this node, by its pid file, else by the agent's socket; None: nothing tells.

    A QEMU that was killed leaves both files behind: its pid is nobody's then, and its socket refuses.
    """
    pid_file = socket_folder / f"{vmid}.pid"
    if pid_file.exists():
        return _lives(pid_file)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(1.0)
        try:
            connection.connect(str(socket_folder / f"{vmid}.qga"))
        except ConnectionRefusedError:
            return False
        except OSError:
            return None
    return True


def cluster_name(members_file: Path = MEMBERS_FILE) -> str | None:
    """The name of the cluster that this node is in; "" where it is in none, None where that cannot be read in time."""

    def read() -> object:
        with members_file.open("rb") as file:
            found = json.loads(file.read(MOST_CONFIG_BYTES))
        return found.get("cluster", {"name": ""})["name"]

    try:
        name = Aside(read, "cluster").result(CONFIG_SECONDS)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError):  # TimeoutError is an OSError
        return None
    return clean(name, 80) if isinstance(name, str) else None


def _running(folder: Path) -> set[Vmid]:
    found: set[Vmid] = set()
    try:
        paths = list(folder.iterdir())
    except OSError:
        return found
    for path in paths:
        vmid = vmid_of(path.stem)
        if vmid is not None and (path.suffix == ".qga" or (path.suffix == ".pid" and _lives(path))):
            found.add(vmid)
    return found


def _lives(path: Path) -> bool:
    """Whether the process whose number a pid file holds is there."""
    try:
        with path.open("rb") as file:
            text = file.read(32).strip()
    except OSError:
        return False
    return text.isdigit() and process_start(int(text)) is not None


def options_of(vmids: Iterable[Vmid], folder: Path) -> Mapping[Vmid, Mapping[str, str]]:
    """What these guests' configurations say; without those that cannot be read in time."""
    found: dict[Vmid, Mapping[str, str]] = {}

    def read() -> None:
        for vmid in vmids:
            try:
                with (folder / f"{vmid}.conf").open("rb") as file:
                    found[vmid] = _parsed(file.read(MOST_CONFIG_BYTES).decode(errors="replace"))
            except OSError:
                continue

    with contextlib.suppress(TimeoutError, RuntimeError):  # what was read until now counts; no room for a thread
        Aside(read, "guests").result(CONFIG_SECONDS)
    return dict(found)


def _parsed(text: str) -> Mapping[str, str]:
    """The options in front of the snapshots' and the pending ones' sections (PVE::QemuServer, parse_vm_config)."""
    options: dict[str, str] = {}
    for line in text.splitlines():
        if line.startswith("["):
            break
        key, colon, value = line.partition(":")
        if colon and not line.startswith("#"):
            options[key.strip()] = value.strip()
    return options


def _guest(vmid: Vmid, node: str, options: Mapping[str, str]) -> Guest:
    tags = (clean(tag, 80) for tag in options.get("tags", "").replace(",", ";").split(";"))
    return Guest(
        vmid=vmid,
        node=Node(node),
        kind=GuestKind.QEMU,
        name=clean(options.get("name", ""), 80),
        running=True,
        lock=clean(options.get("lock", ""), 40),
        tags=tuple(tag for tag in tags if tag),
    )
