"""What the measured guest is: idle with one disk, or one of eight disks, with much to write at the freeze, or busy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.bench.kinds import BACKUPS
from tests.lab.guest.base import Guest
from tests.lab.guest.qmp import qmp
from tests.lab.guest.real import RealGuest
from tests.lab.site import Site

DIRTY_SECONDS = 3
DISK_BYTES_A_SECOND = 1 << 20
_FIRST_DISK = "/machine/peripheral/virtio0/virtio-backend"
_BUSY = "while :; do dd if=/dev/zero of=/data/busy bs=64k count=4 conv=fsync; done"


def _nothing(_: Site) -> None:
    pass


@dataclass(frozen=True)
class Variant:
    """One kind of guest. Real guests only, but for the idle one."""

    what: str
    make: Callable[[int, Path], Guest] = RealGuest
    prepare: Callable[[Site], None] = _nothing
    """Done once, when the site is up."""
    before: Callable[[Site], None] = _nothing
    """Done in front of each measurement."""
    without: tuple[str, ...] = ()
    """Kinds that are not measured with it."""


def _slow_disk(lab: Site) -> None:
    """The disk takes DISK_BYTES_A_SECOND and no more, and the guest writes nothing back by itself."""
    lab.guest.shell("sysctl -w vm.dirty_writeback_centisecs=0 vm.dirty_ratio=80 vm.dirty_background_ratio=70")
    limits = dict.fromkeys(("bps", "bps_rd", "iops", "iops_rd", "iops_wr"), 0)
    with qmp(lab.guest.run / f"{lab.guest.vmid}.qmp3") as monitor:
        monitor.execute("block_set_io_throttle", {"id": _FIRST_DISK, "bps_wr": DISK_BYTES_A_SECOND, **limits})


def _make_dirty(lab: Site) -> None:
    count = DIRTY_SECONDS * DISK_BYTES_A_SECOND >> 16
    lab.guest.shell(f"dd if=/dev/zero of=/data/dirty bs=64k count={count} conv=notrunc", timeout=60.0)


VARIANTS = {
    "idle": Variant("idle, one disk"),
    "eight-disks": Variant(
        "eight disks",
        lambda vmid, run: RealGuest(vmid, run, disks=8),
        without=BACKUPS,  # the lab's vzdump copies the first disk alone
    ),
    "dirty": Variant(
        f"{DIRTY_SECONDS} s of data to write at the freeze",
        lambda vmid, run: RealGuest(vmid, run, options={"mountopt": "rw"}),
        _slow_disk,
        _make_dirty,
    ),
    "busy": Variant("a busy writer", prepare=lambda lab: lab.guest.shell(f"({_BUSY}) >/dev/null 2>&1 &") and None),
}
