"""A PVE node in a box: the API over HTTPS, for guests whose sockets stand in a run directory.

``LabNode`` starts the server as a process of its own, so it can be killed and takes no time from what is measured, and
steers it: settings and guest configurations are files below its root, faults and fronts go over a control channel. What
the node does is in server (process), api (HTTP), ops* (methods), snapshot and tasks.

    with run_directory() as run, ScriptedGuest(100, run) as guest, LabNode(tmp_path, [guest]) as node:
        api = ProxmoxAPI(node.host, port=node.port, user=..., verify_ssl=str(node.ca_file))
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import random
import secrets
import shlex
import signal
import socket
import sys
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, Self

from tests.lab.node.certs import Authority, authority, server_certificate
from tests.lab.node.config import ConfigStore, GuestConfig
from tests.lab.node.faults import Fault
from tests.lab.node.host import Host
from tests.lab.node.process import ServerProcess
from tests.lab.node.settings import Settings, SettingsFile
from tests.lab.node.tasks import TaskLog, Upid, is_running

# What a token of ours needs, and what the optional features need.
PRIVILEGES = (
    "VM.Audit",
    "VM.Snapshot",
    "VM.GuestAgent.Audit",
    "VM.GuestAgent.FileSystemMgmt",
    "VM.Config.Options",
    "VM.Monitor",
    "Sys.Audit",
)
EVERYTHING = ("*",)
TOKEN_ID = "lab@pve!safe-snapshot"
# Below the range that the kernel takes for outgoing connections, so that a stopped server's port stays free.
_PORTS = range(20000, 32000)


class HasSockets(Protocol):
    """A lab guest, real or scripted: the run directory holds ``<vmid>.qga``, ``.qmp``, ``.pid`` and ``.qcow2``."""

    vmid: int
    run: Path


@dataclass
class GuestSpec:
    """A guest as the node shall know it. ``config`` is laid over DEFAULT configuration; None removes a key."""

    vmid: int
    run: Path | None = None
    kind: str = "qemu"
    node: str = ""  # empty: the first node
    config: dict[str, str | None] = field(default_factory=dict)
    drives: dict[str, str] | None = None  # configuration key -> QEMU node name; None: every disk is drive0
    pool: str = ""
    running: bool = True  # containers only: a QEMU guest runs when the process in its pid file does


@dataclass(frozen=True)
class Request:
    """A request that the node received. Instants are time.monotonic(); None: not yet, or never."""

    id: int
    at: float
    node: str
    method: str
    path: str
    params: dict[str, Any]
    user: str | None = None
    acted_at: float | None = None  # a worker began with it: None for what pvedaemon never saw
    acted_until: float | None = None
    left: float | None = None  # the client had gone, seen with some 20 ms of delay; the call goes on without it
    done: float | None = None
    outcome: str = "running"


@dataclass(frozen=True)
class Workers:
    """A node's pvedaemon workers: calls so far, and the high-water marks."""

    calls: int
    most_busy: int
    longest_full: float  # how long all of them were busy at a stretch, in seconds: then nobody else is served
    longest_wait: float  # how long a call waited for a free one


class LabNode:
    """One or more PVE nodes of one cluster, served by one process. Start it with ``with``.

    ``root`` holds everything PVE would keep under ``/``: ``etc/pve``, ``var/log/pve/tasks``, ``var/lib/vz``. Further
    keywords are fields of settings.Settings; ``network`` and ``port`` say where it listens. With several nodes each
    listens on an address of its own and the same port, as real nodes do: ``urls``.
    """

    def __init__(
        self,
        root: Path,
        guests: Iterable[HasSockets | GuestSpec] = (),
        *,
        nodes: tuple[str, ...] = ("pve1",),
        ca: Authority | None = None,
        network: str = "127.0.0",
        port: int = 0,
        **settings: Any,
    ) -> None:
        self.root = root
        self.node = nodes[0]
        self.node_names = nodes
        self._ca = ca or authority()
        self._file = SettingsFile(root)
        self.store = ConfigStore(root)
        self.tasks = TaskLog(root)
        self._control: ServerProcess | None = None
        self._key_hook: Callable[[int, str], None] | None = None
        self.settings = Settings(csrf_key=secrets.token_hex(), **settings)
        self.settings.storages.setdefault("local", {"type": "dir", "content": "backup,images,iso"})
        self.settings.storages.setdefault("local-lvm", {"type": "lvmthin", "content": "images,rootdir"})
        for folder in ("lab", "run", "var/lib/vz/dump", "var/run", "var/log/pve/tasks", "var/log/vzdump"):
            (root / folder).mkdir(parents=True, exist_ok=True)
        self.ca_file = root / "etc" / "pve" / "pve-root-ca.pem"
        self.ca_file.parent.mkdir(parents=True, exist_ok=True)
        self.ca_file.write_bytes(self._ca.certificate)
        self._choose_ports(network, port)
        self._link_as_pmxcfs()
        self.token_id = TOKEN_ID
        self.token_secret = self.add_token(TOKEN_ID, PRIVILEGES)
        self.token_file = root / "token"
        self.token_file.write_text(f"{self.token_id}={self.token_secret}\n")
        self.token_file.chmod(0o600)
        self.pvesh = self._install_pvesh()
        self._add_guests([guest if isinstance(guest, GuestSpec) else _spec_of(guest) for guest in guests])

    # ------------------------------------------------------------------- life

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start the server and wait until it listens. Raises RuntimeError with its log."""
        self._file.put(self.settings)
        control = ServerProcess(self.root, self._on_key)
        text = control.wait_ready()
        if text is not None:
            control.close()
            raise RuntimeError(f"the lab node did not start: {text}\n{self.server_log()}")
        self._control = control
        if self._key_hook:
            self._order("hook_keys", on=True)

    def stop(self) -> None:
        """End the server, its workers and every task that still runs."""
        self.kill()
        for upid in self.running_tasks():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(upid.pid, signal.SIGKILL)

    def kill(self) -> None:
        """SIGKILL the server and its workers (pveproxy and pvedaemon). Tasks live on, as after a daemon's crash."""
        if self._control:
            self._control.kill()
            self._control = None
        # Workers of a server that died by itself may still be busy with a call. By start time: pids are used again.
        workers = self.root / "lab" / "workers"
        for line in workers.read_text().splitlines() if workers.exists() else ():
            pid, pstart = map(int, line.split())
            if is_running(pid, pstart):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        workers.unlink(missing_ok=True)

    def restart(self) -> None:
        """Start again on the same address and port; configurations, tasks, tokens and tickets are as before."""
        self.kill()
        self.start()

    @property
    def pid(self) -> int:
        """The server's pid; 0 when it was killed or stopped."""
        return self._control.pid if self._control else 0

    def server_log(self) -> str:
        """What the server wrote to its standard output and error: empty unless the lab has a bug."""
        with contextlib.suppress(FileNotFoundError):
            return (self.root / "lab" / "server.log").read_text()
        return ""

    # -------------------------------------------------------------- addresses

    @property
    def host(self) -> str:
        """The first node's address."""
        return str(self.settings.nodes[self.node]["address"])

    @property
    def port(self) -> int:
        """The port, the same at every node."""
        return int(self.settings.nodes[self.node]["port"])

    @property
    def url(self) -> str:
        return self.urls[self.node]

    @property
    def urls(self) -> dict[str, str]:
        """Every node's ``https://address:port``."""
        return {name: f"https://{e['address']}:{e['port']}" for name, e in self.settings.nodes.items()}

    def _choose_ports(self, network: str, port: int) -> None:
        addresses = {name: f"{network}.{number}" for number, name in enumerate(self.node_names, 1)}
        port = port or _free_port(list(addresses.values()))
        for name, address in addresses.items():
            self.settings.nodes[name] = {"address": address, "port": port, "online": True}
            certificate, key = server_certificate(self._ca, name, address)
            folder = self.root / "etc" / "pve" / "nodes" / name
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "pve-ssl.pem").write_bytes(certificate)
            (folder / "pve-ssl.key").write_bytes(key)

    def _link_as_pmxcfs(self) -> None:
        """The links that say which node this is; there only while the cluster's file system is mounted."""
        folder = self.root / "etc" / "pve"
        for name, target in (("local", f"nodes/{self.node}"), ("qemu-server", f"nodes/{self.node}/qemu-server")):
            if not (folder / name).is_symlink():
                (folder / name).symlink_to(target)

    def certify(self, ca: Authority, node: str = "") -> None:
        """Give a node a certificate of another CA; it counts from the next start of its front."""
        name = node or self.node
        certificate, key = server_certificate(ca, name, self.settings.nodes[name]["address"])
        folder = self.root / "etc" / "pve" / "nodes" / name
        (folder / "pve-ssl.pem").write_bytes(certificate)
        (folder / "pve-ssl.key").write_bytes(key)

    def _install_pvesh(self) -> Path:
        """``<root>/usr/bin/pvesh``, an executable like the real one: see pvesh_fake."""
        path = self.root / "usr" / "bin" / "pvesh"
        path.parent.mkdir(parents=True, exist_ok=True)
        script = Path(__file__).with_name("pvesh_fake.py")
        command = shlex.join([sys.executable, str(script), str(self.root), self.node])
        path.write_text(f'#!/bin/sh\nexec {command} "$@"\n')
        path.chmod(0o755)
        return path

    # --------------------------------------------------------------- settings

    def set(self, **settings: Any) -> None:
        """Change fields of Settings; they hold from the next request on. Raises TypeError for an unknown one."""
        self.settings = dataclasses.replace(self.settings, **settings)
        self._file.put(self.settings)

    def add_token(self, token_id: str, privileges: Iterable[str] = PRIVILEGES, *, path: str = "/") -> str:
        """Give a token these privileges on a path, and only those; returns its secret."""
        secret = str(uuid.uuid4())
        tokens = {**self.settings.tokens, token_id: {"secret": secret, "acl": [[path, list(privileges)]]}}
        self.set(tokens=tokens)
        return secret

    def add_user(self, userid: str, password: str, privileges: Iterable[str] = PRIVILEGES, *, path: str = "/") -> None:
        """A user who logs in with a password and works with tickets."""
        users = {**self.settings.users, userid: {"password": password, "acl": [[path, list(privileges)]]}}
        self.set(users=users)

    def set_node_online(self, node: str, online: bool) -> None:
        """Take a node down (its front closes, the others answer 595 for it), or bring it back."""
        nodes = {**self.settings.nodes, node: {**self.settings.nodes[node], "online": online}}
        self.set(nodes=nodes)
        if self._control:
            self._order("start_front" if online else "stop_front", node=node)

    # ----------------------------------------------------------------- guests

    def add_guest(self, spec: GuestSpec) -> None:
        """Let the node know a guest, or describe one anew."""
        self._add_guests([spec])

    def _add_guests(self, specs: Sequence[GuestSpec]) -> None:
        """All in one step: five hundred of them, one by one, would take a minute."""
        entries = {
            str(spec.vmid): {
                "kind": spec.kind,
                "run": str(spec.run or self.root / "run"),
                "drives": spec.drives,
                "pool": spec.pool,
                "running": spec.running,
            }
            for spec in specs
        }
        self.set(guests={**self.settings.guests, **entries})
        for node, kind, vmid in list(self.store.everywhere()):
            if str(vmid) in entries:
                self.store.path(node, kind, vmid).unlink()
        for spec in specs:
            values = {**default_config(spec.kind, spec.vmid), **spec.config}
            kept = {key: value for key, value in values.items() if value is not None}
            self.store.write(GuestConfig(spec.node or self.node, spec.kind, spec.vmid, kept))

    def set_diskwrite(self, counters: Mapping[int, int]) -> None:
        """What /cluster/resources says that these guests have written; 0 for those that nobody has set."""
        guests = dict(self.settings.guests)
        for vmid, counter in counters.items():
            guests[str(vmid)] = {**guests[str(vmid)], "diskwrite": counter}
        self.set(guests=guests)

    def config(self, vmid: int) -> GuestConfig:
        """A guest's configuration file, read now."""
        for node, kind, found in self.store.everywhere():
            if found == vmid:
                return Host(self.root).load(node, kind, vmid)
        raise LookupError(f"no guest {vmid}")

    def set_config(self, vmid: int, **values: str | int | None) -> None:
        """Edit a guest's configuration file as an editor would: no checks, nothing pending. None removes a key.

        A key with a hyphen or the like: ``set_config(100, **{"net0": "..."})``.
        """
        config = self.config(vmid)
        with self.store.locked(config.node, config.kind, vmid, 10) as locked:
            for key, value in values.items():
                if value is None:
                    locked.values.pop(key, None)
                else:
                    locked.values[key] = str(value)

    def move_guest(self, vmid: int, node: str) -> None:
        """Move a guest's configuration to another node, as a migration does at its end."""
        config = self.config(vmid)
        target = self.store.path(node, config.kind, vmid)
        target.parent.mkdir(parents=True, exist_ok=True)
        self.store.path(config.node, config.kind, vmid).rename(target)

    def on_key(self, hook: Callable[[int, str], None] | None) -> None:
        """Call ``hook(vmid, key)`` for every sendkey before it is answered: the lab's guests have no keyboard."""
        self._key_hook = hook
        if self._control:
            self._order("hook_keys", on=hook is not None)

    def _on_key(self, vmid: int, key: str) -> None:
        if self._key_hook:
            self._key_hook(vmid, key)

    # ----------------------------------------------------------------- faults

    def fault(self, path: str, do: str, **fields: Any) -> None:
        """Add a fault for requests whose path matches the regular expression: see faults.Fault for the fields.

        ``node.fault("fsfreeze-freeze", "drop", when="after")`` loses one freeze's reply. Raises ValueError, TypeError.
        """
        Fault(path, do, **fields)  # refuse a wrong rule here rather than in the server
        self._order("fault", rule={"path": path, "do": do, **fields})

    def clear_faults(self) -> None:
        """No faults any more; held calls go on."""
        self._order("clear_faults")

    def release(self) -> None:
        """Let every held call go on, within 20 ms; the faults that held them hold no further one."""
        self._order("release")

    def held(self) -> int:
        """How many calls are held right now, "before" or "after" they were acted on."""
        return int(self._order("held"))

    def fault_hits(self) -> int:
        """How many requests the present faults have hit."""
        return int(self._order("fault_hits"))

    def stop_front(self, node: str = "") -> None:
        """Stop pveproxy: connections break off, new ones are refused. pvedaemon, tasks and pvesh go on."""
        self._order("stop_front", node=node or self.node)

    def start_front(self, node: str = "") -> None:
        self._order("start_front", node=node or self.node)

    def _order(self, do: str, **fields: Any) -> Any:
        if self._control is None:
            raise RuntimeError("the lab node is not running")
        return self._control.order(do, **fields)

    # ------------------------------------------------------------- what it saw

    def requests(self, path: str = "") -> list[Request]:
        """Every request so far whose path contains ``path``, oldest first; killed servers' requests included."""
        found: dict[int, dict[str, Any]] = {}
        for entry in _lines(self.root / "lab" / "requests.jsonl"):
            found.setdefault(entry["id"], {}).update(entry)
        return [Request(**entry) for entry in found.values() if path in entry.get("path", "")]

    def forget_requests(self) -> None:
        """Begin a new list of requests. Requests that are under way now are lost from it."""
        path = self.root / "lab" / "requests.jsonl"
        if path.exists():
            os.truncate(path, 0)

    def most_agent_calls_at_once(self, vmid: int) -> int:
        """The largest number of agent calls for a guest whose clients waited at the same time."""
        edges: list[tuple[float, int]] = []
        for request in self.requests(f"/qemu/{vmid}/agent/"):
            edges += [(request.at, 1), (request.left or request.done or float("inf"), -1)]
        most = open_now = 0
        for _, change in sorted(edges):
            open_now += change
            most = max(most, open_now)
        return most

    def workers(self) -> dict[str, Workers]:
        """By node: how its three pvedaemon workers were taken up since the server started."""
        return {name: Workers(**seen) for name, seen in self._order("workers").items()}

    def points(self) -> list[dict[str, Any]]:
        """Every volume snapshot: vmid, name, and the monotonic instants ``began`` and ``ended`` around it."""
        return list(_lines(self.root / "lab" / "points.jsonl"))

    def sendkeys(self) -> list[dict[str, Any]]:
        """Every key press: vmid, key, and the monotonic instant ``at``."""
        return list(_lines(self.root / "lab" / "sendkeys.jsonl"))

    def running_tasks(self) -> list[Upid]:
        """Tasks whose worker process lives."""
        upids = [entry["upid"] for entry in self.tasks.refresh()]
        return [upid for upid in upids if is_running(upid.pid, upid.pstart)]

    def wait_task(self, upid: str, timeout: float = 30.0) -> str:
        """Wait for a task's end; returns its exit status. Raises TimeoutError."""
        task = Upid.parse(upid)
        if task is None:
            raise ValueError(f"no UPID: {upid}")
        deadline = time.monotonic() + timeout
        while is_running(task.pid, task.pstart):
            if time.monotonic() > deadline:
                raise TimeoutError(f"task still runs: {upid}")
            time.sleep(0.002)
        return self.tasks.exit_status(task)

    def task_log(self, upid: str) -> list[str]:
        """The lines of a task's log so far."""
        task = Upid.parse(upid)
        return [line["t"] for line in self.tasks.lines(task, 0, 0)[1]] if task else []


def _spec_of(guest: HasSockets) -> GuestSpec:
    """The guest's product UUID and its further disks stand in its configuration, where it has been given any."""
    config: dict[str, str | None] = {}
    if uuid_text := getattr(guest, "uuid", None):
        config["smbios1"] = f"uuid={uuid_text}"
    nodes = ("drive0", *getattr(guest, "more_disks", ()))
    drives = {f"scsi{number}": node for number, node in enumerate(nodes)}
    for number in range(1, len(nodes)):
        config[f"scsi{number}"] = f"local:{guest.vmid}/vm-{guest.vmid}-disk-{number}.qcow2,size=64M"
    return GuestSpec(guest.vmid, guest.run, config=config, drives=drives if len(drives) > 1 else None)


def default_config(kind: str, vmid: int) -> dict[str, str]:
    """A guest's configuration as PVE's wizard leaves it: one disk that can be snapshotted, the agent enabled."""
    if kind == "lxc":
        return {
            "arch": "amd64",
            "cores": "1",
            "hostname": f"ct{vmid}",
            "memory": "128",
            "ostype": "debian",
            "rootfs": f"local-lvm:vm-{vmid}-disk-0,size=64M",
        }
    return {
        "agent": "1",
        "boot": "order=scsi0",
        "cores": "1",
        "memory": "128",
        "name": f"guest{vmid}",
        "ostype": "l26",
        "scsi0": f"local:{vmid}/vm-{vmid}-disk-0.qcow2,size=64M",
        "scsihw": "virtio-scsi-single",
        "smbios1": f"uuid={uuid.uuid4()}",
    }


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    with contextlib.suppress(FileNotFoundError):
        *lines, _half_written = path.read_text().split("\n")
        for line in lines:
            yield json.loads(line)


def _free_port(addresses: list[str]) -> int:
    for port in random.sample(_PORTS, 50):
        with contextlib.ExitStack() as stack:
            try:
                for address in addresses:
                    listener = stack.enter_context(socket.socket())
                    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    listener.bind((address, port))
            except OSError:
                continue
            return port
    raise RuntimeError("no free port for the lab node")
