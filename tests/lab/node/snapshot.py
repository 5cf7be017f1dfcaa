"""Snapshot tasks: PVE's locks, PVE's own freeze, and a real QMP snapshot of the guest's disk.

The order of steps and the texts are those of PVE::AbstractConfig and PVE::QemuConfig. RAM is not saved: a snapshot with
``vmstate`` is a plain one without a freeze, marked as PVE marks it.
"""

from __future__ import annotations

import contextlib
import subprocess
import time
from pathlib import Path

from tests.lab.node import agent
from tests.lab.node.config import WORDS, GuestConfig
from tests.lab.node.errors import Die
from tests.lab.node.host import Host
from tests.lab.node.tasks import Interrupted, say

_CAUGHT = (Die, Interrupted)
_QCOW2 = b"QFI\xfb"


def create(host: Host, node: str, kind: str, vmid: int, name: str, description: str, vmstate: bool) -> int:
    """Body of a qmsnapshot or vzsnapshot task; returns the number of warnings. Raises Die, Interrupted."""
    config = _prepare(host, host.load(node, kind, vmid), name, description, vmstate)
    with_ram = "vmstate" in config.snapshots[name]
    host.linger("prepare")
    running = bool(host.pid(vmid))
    freeze = (
        running and kind == "qemu" and not with_ram and agent.freeze_applicable(host, config.values.get("agent"), vmid)
    )
    done: dict[str, str] = {}
    failure: Exception | None = None
    try:
        if freeze:
            agent.freeze_in_task(host, vmid)
        host.linger("before")
        _before_volumes(host, vmid, config, name, running)
        for key, volume in config.disks().items():
            _snapshot_volume(host, config, key, volume, name, running)
            done[key] = volume
        host.linger("after")
    except _CAUGHT as error:
        failure = error
    if running:
        _after_volumes(host, vmid, kind)
        if freeze:
            agent.thaw_in_task(host, vmid)
    if failure:
        say("snapshot create failed: starting cleanup")
        try:
            delete(host, node, kind, vmid, name, volumes=done, expected_lock="snapshot")
        except _CAUGHT as error:
            say(str(error))
        raise failure
    host.linger("finish")
    _commit(host, config, name)
    return host.warn(host.settings.task_warnings)


def _prepare(host: Host, config: GuestConfig, name: str, description: str, vmstate: bool) -> GuestConfig:
    with host.locked(config) as locked:
        if locked.values.get("template") == "1":
            raise Die("you can't take a snapshot if it's a template")
        locked.check_lock()
        if name in locked.snapshots:
            raise Die(f"snapshot name '{name}' already used")
        if not locked.can_snapshot(host.settings.storages):
            raise Die("snapshot feature is not available")
        snapshot = locked.snapshot_values()
        if vmstate and host.pid(config.vmid):
            snapshot["vmstate"] = f"local:{config.vmid}/vm-{config.vmid}-state-{name}.raw"
        snapshot |= {"snapstate": "prepare", "snaptime": str(int(time.time()))}
        if description:
            snapshot["description"] = description
        locked.snapshots[name] = snapshot
        locked.values["lock"] = "snapshot"
    return locked


def _commit(host: Host, config: GuestConfig, name: str) -> None:
    with host.locked(config) as locked:
        if locked.lock != "snapshot":
            raise Die("missing snapshot lock")
        if name not in locked.snapshots:
            raise Die(f"snapshot '{name}' does not exist")
        if locked.snapshots[name].pop("snapstate", "") != "prepare":
            raise Die("wrong snapshot state")
        del locked.values["lock"]
        locked.values["parent"] = name


def _before_volumes(host: Host, vmid: int, config: GuestConfig, name: str, running: bool) -> None:
    if "vmstate" in config.snapshots[name]:
        say("saving VM state and RAM using storage 'local'")
        say("completed saving the VM state in 1s, saved 1.00 MiB")
    if running and host.settings.pause_guest and config.kind == "qemu":
        begun = _begun(host, vmid)
        if begun.exists() and begun.read_text() == str(host.pid(vmid)):
            raise Die(f"VM {vmid} qmp command 'savevm-start' failed - VM snapshot already started")
        host.mon(vmid, "stop")
        begun.write_text(str(host.pid(vmid)))


def _begun(host: Host, vmid: int) -> Path:
    """QEMU's own note of a snapshot between savevm-start and savevm-end: a killed task leaves it, a resume too."""
    return host.root / "lab" / f"savevm-{vmid}"


def _after_volumes(host: Host, vmid: int, kind: str) -> None:
    if host.settings.pause_guest and kind == "qemu":
        _begun(host, vmid).unlink(missing_ok=True)
        try:
            host.mon(vmid, "cont")
        except _CAUGHT as error:
            say(str(error))


def _snapshot_volume(host: Host, config: GuestConfig, key: str, volume: str, name: str, running: bool) -> None:
    if config.kind == "qemu":
        say(f"snapshotting 'drive-{key}' ({volume})")
    host.linger("inside")
    began = time.monotonic()
    if config.kind == "qemu" and running:
        if device := _device(host, config.vmid, key):
            host.mon(config.vmid, "blockdev-snapshot-internal-sync", device=device, name=name)
    elif config.kind == "qemu":
        _offline(host, config.vmid, "-c", name)
    host.note_point(config.vmid, name, began, time.monotonic())


def _device(host: Host, vmid: int, key: str) -> str | None:
    """The QEMU node name behind a disk of the configuration; None for one that exists on paper only."""
    drives = host.guest_settings(vmid).get("drives")
    return drives.get(key) if drives is not None else "drive0"


def _offline(host: Host, vmid: int, option: str, name: str) -> None:
    image = host.run_path(vmid, "qcow2")
    if not _is_qcow2(image):
        return  # a scripted guest's disk is a file of another kind
    done = subprocess.run(["qemu-img", "snapshot", option, name, image], capture_output=True, text=True, check=False)
    if done.returncode:
        raise Die(f"command '/usr/bin/qemu-img snapshot {option} {name} {image}' failed: exit code {done.returncode}")


def _is_qcow2(image: Path) -> bool:
    with contextlib.suppress(OSError), image.open("rb") as file:
        return file.read(len(_QCOW2)) == _QCOW2
    return False


def delete(
    host: Host,
    node: str,
    kind: str,
    vmid: int,
    name: str,
    *,
    force: bool = False,
    volumes: dict[str, str] | None = None,
    expected_lock: str = "snapshot-delete",
) -> int:
    """Body of a qmdelsnapshot task, and the clean-up of a failed creation (then only of ``volumes``). Raises Die."""
    config = host.load(node, kind, vmid)
    if name not in config.snapshots:
        raise Die(f"snapshot '{name}' does not exist")
    if volumes is None:
        with host.locked(config) as locked:
            locked.check_lock()
            locked.values["lock"] = expected_lock
    with host.locked(config) as locked:
        if locked.lock != expected_lock:
            raise Die(f"encountered invalid lock, expected '{expected_lock}'")
        if locked.values.get("template") == "1":
            raise Die(f"you can't delete a snapshot if {WORDS[kind].lower()} is a template")
        if name not in locked.snapshots:  # PVE's own: the guest stays locked
            raise Die(f"snapshot '{name}' does not exist")
        locked.snapshots[name]["snapstate"] = "delete"
    disks = config.disks() if volumes is None else volumes
    for key in disks:
        try:
            _delete_volume_snapshot(host, config, key, name)
        except _CAUGHT as error:
            if not force and volumes is None:
                raise
            say(str(error))
    with host.locked(config) as locked:
        removed = locked.snapshots.pop(name)
        for values in [locked.values, *locked.snapshots.values()]:
            if values.get("parent") == name:
                values.pop("parent")
                if "parent" in removed:
                    values["parent"] = removed["parent"]
        locked.values.pop("lock", None)
    return 0


def _delete_volume_snapshot(host: Host, config: GuestConfig, key: str, name: str) -> None:
    if config.kind != "qemu":
        return
    if host.pid(config.vmid):
        if device := _device(host, config.vmid, key):
            command = "blockdev-snapshot-delete-internal-sync"
            host.mon(config.vmid, command, device=device, name=name)
    else:
        with contextlib.suppress(Die):
            _offline(host, config.vmid, "-d", name)
