"""Which of a guest's disks stands in the way of a snapshot, and what to do about it. Pure.

PVE says only whether all can (``feature``); which one cannot is read from the configuration and the storages' types
(PVE::Storage::*Plugin, volume_has_feature).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from snapshot.base.text import clean
from snapshot.model import Check, CheckResult, Guest, GuestKind
from snapshot.pve.locks import tool

_DISKS = {
    GuestKind.QEMU: re.compile(r"(?:ide|sata|scsi|virtio|efidisk|tpmstate)[0-9]+\Z"),
    GuestKind.LXC: re.compile(r"(?:rootfs|mp[0-9]+)\Z"),
}
_ALWAYS = frozenset({"lvmthin", "zfspool", "zfs", "rbd", "btrfs", "cephfs"})
"""Types whose volumes can be snapshotted whatever their format."""
_CODE = "disk-no-snapshot"
_IMAGES = re.compile(r"\.(qcow2|raw|vmdk|subvol)\Z")


class Obstacle(NamedTuple):
    """A disk that cannot be snapshotted. ``why`` goes on after its name."""

    key: str
    why: str
    remedy: str


def checks_of(guest: Guest, config: Mapping[str, object], storages: Mapping[str, str]) -> list[Check]:
    """The preflight's word on the disks of a guest that PVE cannot snapshot. ``storages``: name to type, as known."""
    found = obstacles(guest, config, storages)
    if not found:
        every = ", ".join(f"{key} ({volume})" for key, volume in disks(guest, config)) or "none listed"
        return [
            Check(
                "storage",
                CheckResult.FAILED,
                f"a disk is on storage that cannot take snapshots, and PVE does not say which: {every}",
                f"`pvesm status` on {guest.node} shows the types: LVM-thin, ZFS and Ceph can, and qcow2 files; "
                "or use vzdump",
                _CODE,
            )
        ]
    return [Check("storage", CheckResult.FAILED, f"{disk.key}: {disk.why}", disk.remedy, _CODE) for disk in found]


def obstacles(guest: Guest, config: Mapping[str, object], storages: Mapping[str, str]) -> list[Obstacle]:
    """The disks that cannot; empty when the configuration does not show which. ``storages``: name to type, as known."""
    return [found for key, volume in disks(guest, config) if (found := _obstacle(guest, key, volume, storages))]


def disks(guest: Guest, config: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    """Key and volume of each disk; no CD-ROM."""
    for key, value in sorted(config.items()):
        parts = str(value).split(",")
        if _DISKS[guest.kind].match(key) and "media=cdrom" not in parts and parts[0] not in ("none", "cdrom"):
            yield key, clean(parts[0].removeprefix("file=").removeprefix("volume="), 120)


def _obstacle(guest: Guest, key: str, volume: str, storages: Mapping[str, str]) -> Obstacle | None:
    command = tool(guest)
    if volume.startswith("/"):
        if guest.kind is GuestKind.LXC:
            return Obstacle(
                key,
                f"{volume} of the node is mounted into it, which no snapshot of PVE's holds",
                f"snapshot {volume} where it lies; for the rest of the container, write the mount into "
                f"/etc/pve/lxc/{guest.vmid}.conf as `lxc.mount.entry` instead of {key}: PVE leaves that out",
            )
        return Obstacle(key, f"{volume} is a device or file of the node itself", "use vzdump, or a disk on a storage")
    storage, _, name = volume.partition(":")
    kind, image = storages.get(storage, ""), _IMAGES.search(name)
    if kind in _ALWAYS or (image and image[1] in ("qcow2", "subvol")) or not (image or kind):
        return None  # or nobody knows
    what = ", ".join(word for word in (image[1] if image else "", kind) if word)
    why = f"{volume} is on storage that cannot take snapshots of it ({what})"
    if guest.kind is GuestKind.LXC:
        return Obstacle(key, why, f"`{command} move-volume {guest.vmid} {key} <LVM-thin, ZFS or Ceph>`, or use vzdump")
    if key.startswith("tpmstate"):
        return Obstacle(
            key,
            why,
            f"with the guest off, `{command} move-disk {guest.vmid} {key} <LVM-thin, ZFS or Ceph>`, or use vzdump",
        )
    to = f"{storage} --format qcow2`, or to LVM-thin, ZFS or Ceph" if image else "<LVM-thin, ZFS or Ceph>`"
    return Obstacle(key, why, f"`{command} move-disk {guest.vmid} {key} {to}, or use vzdump")
