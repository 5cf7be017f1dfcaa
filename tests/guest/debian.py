"""A whole Debian guest: systemd, the packaged agent, and everything, the agent's programs included, on the disk that
is frozen. The lab's usual guest lives in memory and freezes a data disk only.

Built once with debootstrap (root and a Debian mirror needed; some minutes) and kept in the lab's cache. Debian 12, or
what ``LAB_DEBIAN`` names: ``trixie`` is PVE 9's.
"""

from __future__ import annotations

import functools
import hashlib
import os
import shlex
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from tests.lab import packages
from tests.lab.guest.base import BOOT_TIMEOUT_SECONDS
from tests.lab.guest.image import GUEST_FILES
from tests.lab.guest.real import RealGuest

_PACKAGES = ("systemd-sysv", "udev", "dbus", "linux-image-cloud-amd64", "initramfs-tools", "zstd", "qemu-guest-agent")
_SUITE = os.environ.get("LAB_DEBIAN", "bookworm")
_DISK_MIB = 1500
_MEMORY_MIB = 512
_MORE_BOOT_SECONDS = 600.0
PATIENCE_SECONDS = 1200.0
"""For whatever a whole system does under emulation, on a machine that has more to do."""
_LOOK_SECONDS = 0.5
_COPIES_BYTES = 64 << 20
# The lab's control port and writer, as services of this guest. /run is a tmpfs under systemd.
_CONTROL = """#!/bin/bash
mkdir -p /run/lab /data
echo 0.02 >/run/lab/period
echo 0 >/run/lab/count
bash /opt/writer & echo $! >/run/lab/writer.pid
. /opt/control-port
"""
_UNIT = """[Unit]
After=qemu-guest-agent.service
[Service]
ExecStart=/opt/control
Restart=always
[Install]
WantedBy=multi-user.target
"""
_FILES = {
    "opt/control": (_CONTROL, 0o755),
    "opt/control-port": ((GUEST_FILES / "control").read_text(), 0o644),
    "opt/writer": ((GUEST_FILES / "writer").read_text(), 0o644),
    "etc/systemd/system/lab-control.service": (_UNIT, 0o644),
    "etc/fstab": ("/dev/vda / ext4 errors=remount-ro 0 1\n", 0o644),
    "etc/hostname": ("debian\n", 0o644),
    # A journal on the disk: while that is frozen, journald is stuck, and whoever waits for it too.
    "var/log/journal/.keep": ("", 0o644),
    "etc/systemd/journald.conf": ("[Journal]\nStorage=persistent\nRateLimitBurst=0\n", 0o644),
}


class DebianGuest(RealGuest):
    """Debian with systemd. ``control`` and the rest work as in the lab's own guest."""

    def __init__(self, vmid: int, run: Path, *, has_own_clock: bool = True) -> None:
        """``has_own_clock``: it goes by what was executed, so that time limits mean the same on a machine that is busy;
        only ``clock`` is to be compared with it.
        """
        super().__init__(vmid, run, fs="ext4", memory=_MEMORY_MIB, from_saved_state=False)
        self._has_own_clock = has_own_clock
        self._copies = run / f"{vmid}.copies"

    def start(self) -> None:
        self._launch(self.image() / "disk.qcow2", None)

    def image(self) -> Path:
        """What ``built`` has made of it."""
        return built()

    def command(self) -> list[str]:
        words = super().command()
        for option, value in (
            ("-kernel", str(self.image() / "vmlinuz")),
            ("-initrd", str(self.image() / "initrd")),
            # On a machine that is busy the kernel may find that its timer does not work, and panic.
            ("-append", "console=ttyS0 root=/dev/vda rw panic=0 no_timer_check quiet systemd.show_status=no"),
            # A whole system does not fit into what the lab's small guests get for translated code.
            ("-accel", "tcg,tb-size=512"),
        ):
            words[words.index(option) + 1] = value
        # No power cut is tried here: a flush that this machine's disk takes part in shows nothing more.
        words = [word.replace("driver=qcow2,", "driver=qcow2,cache.no-flush=on,") for word in words]
        drive = f"driver=raw,node-name=copies,read-only=on,file.driver=file,file.filename={self._copies}"
        words += ["-icount", "shift=3"] if self._has_own_clock else []
        return [*words, "-blockdev", drive, "-device", "virtio-blk-pci,drive=copies,serial=copies"]

    def clock(self) -> float:
        """Seconds since its boot, as it counts them."""
        return float(self.shell("cat /proc/uptime").split()[0])

    def control(self, line: str, timeout: float = PATIENCE_SECONDS) -> tuple[int, str]:
        return super().control(line, timeout)

    def shell(self, line: str, timeout: float = PATIENCE_SECONDS) -> str:
        return super().shell(line, timeout)

    def copy_in(self, source: Path, target: str) -> None:
        """A file from this machine into the guest, by a disk of its own: the control port is slow."""
        data = source.read_bytes()
        assert len(data) <= _COPIES_BYTES
        with self._copies.open("r+b") as file:
            file.write(data)
        self.shell(
            f"mkdir -p {shlex.quote(str(Path(target).parent))}; "
            f"dd if=/dev/disk/by-id/virtio-copies iflag=direct bs=1M status=none | head -c {len(data)} >{target}; "
            f"chmod 755 {target}; [ $(stat -c %s {target}) = {len(data)} ]"
        )

    def _launch(self, disk: Path | None, state: Path | None) -> None:
        with self._copies.open("wb") as file:
            file.truncate(_COPIES_BYTES)
        super()._launch(disk, state)

    def _check_boot(self, deadline: float) -> None:
        super()._check_boot(deadline + _MORE_BOOT_SECONDS)

    def _settle(self) -> None:
        self.shell("true", timeout=BOOT_TIMEOUT_SECONDS + _MORE_BOOT_SECONDS)


def reached(condition: Callable[[], bool]) -> bool:
    """Whether ``condition`` came true. A look costs an emulated system more than what it waits for: few of them."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(_LOOK_SECONDS)
    return True


@functools.cache
def built(
    more_packages: tuple[str, ...] = (),
    more_files: tuple[tuple[str, str, int], ...] = (),
    *,
    mib: int = _DISK_MIB,
    commands: tuple[str, ...] = (),
) -> Path:
    """The folder with vmlinuz, initrd and disk.qcow2, of a Debian with more in it. Raises LabUnavailableError.

    ``more_files`` are (path, content, mode); ``mib`` is the size of its disk; ``commands`` are run in its tree.
    """
    inputs = (_SUITE, _PACKAGES, mib, _FILES, more_packages, more_files, *commands)
    key = hashlib.sha256(repr(inputs).encode()).hexdigest()[:16]
    target = packages.cache_dir() / "debian" / key
    with packages.locked(f"debian-{key}"):
        if not target.is_dir():
            if os.geteuid() != 0:
                raise packages.LabUnavailableError("the Debian guest is built by debootstrap, which needs root")
            if shutil.which("debootstrap") is None:
                raise packages.LabUnavailableError("debootstrap is not installed; run: apt-get install debootstrap")
            with packages.building(target) as work, tempfile.TemporaryDirectory(prefix="debian-") as tree:
                files = _FILES | {path: (text, mode) for path, text, mode in more_files}
                _build(Path(tree), work, _PACKAGES + more_packages, files, mib, commands)
    return target


def _build(
    tree: Path,
    work: Path,
    debs: tuple[str, ...],
    files: Mapping[str, tuple[str, int]],
    mib: int,
    commands: tuple[str, ...],
) -> None:
    tree.chmod(0o755)  # it becomes the root, and a package's own user sets its database up
    include = f"--include={','.join(debs)}"
    done = subprocess.run(
        [packages.tool("debootstrap"), "--variant=minbase", include, _SUITE, tree],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise packages.LabUnavailableError(f"debootstrap failed: {done.stdout[-500:]}{done.stderr[-500:]}")
    for name, (text, mode) in files.items():
        path = tree / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        path.write_text(text)
        path.chmod(mode)
    for command in commands:
        packages.run("chroot", tree, "sh", "-ec", command)
    wants = tree / "etc/systemd/system/multi-user.target.wants"
    wants.mkdir(exist_ok=True)
    (wants / "lab-control.service").symlink_to("/etc/systemd/system/lab-control.service")
    (kernel,) = (tree / "boot").glob("vmlinuz-*")
    (initrd,) = (tree / "boot").glob("initrd.img-*")
    shutil.copy(kernel, work / "vmlinuz")
    shutil.copy(initrd, work / "initrd")
    shutil.rmtree(tree / "var/cache/apt")
    raw = work / "disk.raw"
    with raw.open("wb") as file:
        file.truncate(mib << 20)
    packages.run("mkfs.ext4", "-q", "-F", "-d", tree, raw)
    packages.run("qemu-img", "convert", "-f", "raw", "-O", "qcow2", raw, work / "disk.qcow2")
    raw.unlink()
