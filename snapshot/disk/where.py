"""What PVE's storage plugins call a volume's snapshot on the node, and how it is read there.

``pvesm path <volume>`` gives the path of the volume itself, by the plugin's own ``path``; how the snapshot's follows
from it stands in each plugin, named below. Tried: qcow2 files, LVM-thin, Btrfs, RBD's way with a file in its place.
Read in the plugins' sources and not tried: ZFS, RBD.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from snapshot.disk.blocks import Blocks, Budget, CannotTellError
from snapshot.disk.source import ThroughQemu, opened, qcow2_snapshot, run_tool

Tool = Callable[[tuple[str, ...], float], str]
"""Runs a tool of the node: ``run_tool``."""

_VOLUME = re.compile(r"[A-Za-z][A-Za-z0-9._-]*:[A-Za-z0-9._/+-]+\Z")
_THIN = re.compile(r"/dev/(?P<group>[A-Za-z0-9+_.-]+)/(?P<name>(?:vm|base)-[0-9]+-[A-Za-z0-9+_.-]+)\Z")


@contextmanager
def snapshot_of(volume: str, snapshot: str, budget: Budget, run: Tool = run_tool) -> Iterator[Blocks]:
    """The bytes of ``volume`` (PVE's ``storage:name``) in the snapshot. CannotTellError with the reason; OSError."""
    if not _VOLUME.match(volume):
        raise CannotTellError("its volume is not on a storage of PVE's")
    path = run(("pvesm", "path", volume), budget.seconds_left).strip()
    with _at(path, snapshot, budget, run) as found:
        yield found


@contextmanager
def _at(path: str, snapshot: str, budget: Budget, run: Tool) -> Iterator[Blocks]:
    if path.startswith("rbd:"):
        # PVE::Storage::RBDPlugin, path: `rbd:pool/image:conf=...`, with `@snapshot` behind the image.
        name, colon, rest = path[4:].partition(":")
        yield ThroughQemu(f"rbd:{name}@{snapshot}{colon}{rest}", budget)
    elif path.startswith(("/dev/zvol/", "/dev/rbd-pve/", "/dev/rbd/")):
        # PVE::Storage::ZFSPoolPlugin and RBDPlugin (krbd), path: `@snapshot` behind the volume's.
        with opened(_there(Path(f"{path}@{snapshot}")), budget, may_be_device=True) as device:
            yield device
    elif path.endswith(".qcow2"):
        file = Path(path)
        if path.startswith("/dev/") or file.with_name(f"snap-{snapshot}-{file.name}").exists():
            # PVE::Storage::Plugin and LVMPlugin, get_snap_name: the storage's option snapshot-as-volume-chain.
            raise CannotTellError("its snapshot is a volume of a chain, which is not read here")
        with qcow2_snapshot(file, snapshot, budget) as image:
            yield image
    elif thin := _THIN.match(path):
        with _thin(thin["group"], f"snap_{thin['name']}_{snapshot}", budget, run) as device:
            yield device
    elif path.endswith("/disk.raw"):
        # PVE::Storage::BTRFSPlugin, path: the subvolume's folder with `@snapshot` behind it.
        folder = Path(path).parent
        with opened(_there(folder.with_name(f"{folder.name}@{snapshot}") / "disk.raw"), budget) as image:
            yield image
    else:
        raise CannotTellError("how its storage keeps snapshots is not known here")


@contextmanager
def _thin(group: str, name: str, budget: Budget, run: Tool) -> Iterator[Blocks]:
    """A snapshot of a thin pool (PVE::Storage::LvmThinPlugin, filesystem_path and activate_volume).

    PVE makes it read-only, and inactive. It is activated as PVE does for a clone, and deactivated again by whoever
    activated it: that makes and removes a device node, and writes nothing to the pool.
    """
    path = Path(f"/dev/{group}/{name}")
    was_there = path.exists()
    try:
        if not was_there:
            run(("lvchange", "-ay", "-K", f"{group}/{name}"), budget.seconds_left)
        with opened(path, budget, may_be_device=True) as device:
            yield device
    finally:
        if not was_there:
            # One that stays active (another verify reads it) is no harm: PVE deactivates what it removes.
            with contextlib.suppress(CannotTellError):
                run(("lvchange", "-an", f"{group}/{name}"), 10.0)


def _there(path: Path) -> Path:
    if os.path.exists(path):
        return path
    if str(path).startswith("/dev/zvol/"):
        # The property snapdev is hidden by default. Setting it makes a device node for every snapshot of the volume.
        pool = str(path).removeprefix("/dev/zvol/").partition("@")[0]
        raise CannotTellError(f"ZFS shows no device of the snapshot: `zfs set snapdev=visible {pool}`")
    raise CannotTellError(f"the node has no {path}")
