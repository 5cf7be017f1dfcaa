"""The lab guest's kernel, initramfs and disks, built once from Debian packages and cached by content.

The initramfs is written here byte by byte (cpio "newc", kernel documentation
``driver-api/early-userspace/buffer-format.rst``): that needs neither root nor a cpio program, and the same inputs
give the same bytes, so the cache's key is a digest of the inputs.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import lzma
import os
import re
import shutil
import stat
from pathlib import Path

from tests.lab import packages

GUEST_FILES = Path(__file__).with_name("guestfiles")
FILESYSTEMS = ("ext4", "xfs")
# What the guest needs beside what a cloud kernel has built in; a module that is built in is skipped.
_MODULES = {"base": ("virtio_pci", "virtio_blk", "virtio_console", "dummy"), "ext4": ("ext4",), "xfs": ("xfs",)}
# mkfs.xfs refuses anything below 300 MiB.
_DISK_MIB = {"ext4": 64, "xfs": 300}
_MKFS = {"ext4": ("mkfs.ext4", "-q", "-F", "-L", "data"), "xfs": ("mkfs.xfs", "-q", "-f", "-L", "data")}


@dataclasses.dataclass(frozen=True)
class Image:
    """What a guest boots from. ``digest`` changes with anything that went in."""

    kernel: Path
    initrd: Path
    digest: str


@functools.cache
def image() -> Image:
    """Kernel and initramfs, built on first use. Raises tests.lab.packages.LabUnavailableError."""
    found = packages.fetch()
    libraries = _libraries(found.agent / "usr/sbin/qemu-ga")
    sources = [Path(__file__), *sorted(GUEST_FILES.iterdir()), *libraries.values()]
    digest = hashlib.sha256(found.digest.encode())
    for source in sources:
        digest.update(hashlib.sha256(source.read_bytes()).digest())
    key = digest.hexdigest()[:16]
    target = packages.cache_dir() / "image" / key
    with packages.locked("image"):
        if target.is_dir():
            os.utime(target)
        else:
            packages.forget_old(target.parent, "*")
            with packages.building(target) as work:
                _fill(work, found, libraries)
    return Image(target / "vmlinuz", target / "initrd", key)


def _fill(work: Path, found: packages.Packages, libraries: dict[str, Path]) -> None:
    try:
        (kernel,) = (found.kernel / "boot").glob("vmlinuz-*")
        shutil.copy(kernel, work / "vmlinuz")
        # Not compressed: an emulated processor needs half a second to unpack it.
        (work / "initrd").write_bytes(_initramfs(found, libraries))
    except (OSError, ValueError, lzma.LZMAError) as error:
        raise packages.LabUnavailableError(f"no guest can be made of Debian's packages: {error}") from error


@functools.cache
def blank_disk(filesystem: str) -> Path:
    """A qcow2 image with one fresh file system (``ext4`` or ``xfs``); copy it, never write to it."""
    options = _MKFS[filesystem]
    key = hashlib.sha256(repr((options, _DISK_MIB[filesystem])).encode()).hexdigest()[:16]
    target = packages.cache_dir() / "disk" / f"{filesystem}-{key}"
    with packages.locked("disk"):
        if not target.is_dir():
            with packages.building(target) as work:
                raw = work / "disk.raw"
                with raw.open("wb") as file:
                    file.truncate(_DISK_MIB[filesystem] << 20)
                packages.run(*options, raw)
                packages.run("qemu-img", "convert", "-f", "raw", "-O", "qcow2", raw, work / "disk.qcow2")
                raw.unlink()
    return target / "disk.qcow2"


def _libraries(program: Path) -> dict[str, Path]:
    """The shared libraries of ``program``: path inside the guest -> file of this machine."""
    listing = packages.run("ldd", program)
    absent = re.findall(r"(\S+) => not found", listing)
    if absent:
        raise packages.LabUnavailableError(
            f"qemu-ga needs {', '.join(absent)}; run: apt-get install --no-install-recommends qemu-system-x86"
        )
    return {path: Path(path).resolve() for path in re.findall(r"(/\S+) \(0x", listing)}


def _initramfs(found: packages.Packages, libraries: dict[str, Path]) -> bytes:
    archive = _Cpio()
    for name in ("dev", "proc", "sys", "run", "run/lab", "tmp", "data", "sbin", "usr/bin"):
        archive.folder(name)
    archive.file("bin/busybox", (found.busybox / "bin/busybox").read_bytes(), executable=True)
    archive.link("bin/sh", "busybox")
    archive.file("usr/sbin/qemu-ga", (found.agent / "usr/sbin/qemu-ga").read_bytes(), executable=True)
    for path, source in libraries.items():
        archive.file(path.lstrip("/"), source.read_bytes(), executable=True)
    archive.file("init", (GUEST_FILES / "init").read_bytes(), executable=True)
    archive.file("etc/os-release", (GUEST_FILES / "os-release").read_bytes())
    archive.file("lab/hook", (GUEST_FILES / "hook").read_bytes(), executable=True)
    archive.file("lab/control", (GUEST_FILES / "control").read_bytes())
    archive.file("lab/writer", (GUEST_FILES / "writer").read_bytes())
    loaded: set[str] = set()
    for group, names in _MODULES.items():
        order = _insertion_order(found.kernel, names, loaded if group == "base" else set(loaded))
        archive.file(f"lab/modules.{group}", "".join(f"{file.name}\n" for file, _ in order).encode())
        for file, content in order:
            archive.file(f"lib/modules/{file.name}", content)
    return archive.finish()


def _insertion_order(kernel: Path, names: tuple[str, ...], loaded: set[str]) -> list[tuple[Path, bytes]]:
    """Uncompressed modules, dependencies first, as their own ``depends=`` lines say; adds to ``loaded``.

    The package has no modules.dep: depmod would write it when the package is installed.
    """
    order: list[tuple[Path, bytes]] = []
    for name in names:
        if name in loaded:
            continue
        loaded.add(name)
        file = _module_file(kernel, name)
        if file is None:
            continue
        content = lzma.decompress(file.read_bytes()) if file.suffix == ".xz" else file.read_bytes()
        depends = re.search(rb"\0depends=([^\0]*)", content)
        needed = tuple(filter(None, depends[1].decode().split(","))) if depends else ()
        order += _insertion_order(kernel, needed, loaded)
        order.append((file.with_name(f"{name}.ko"), content))
    return order


def _module_file(kernel: Path, name: str) -> Path | None:
    """The module's file (its name may have - for _), or None when it is built in. Raises LabUnavailableError."""
    (modules,) = (kernel / "lib/modules").iterdir()
    pattern = re.compile(re.escape(name).replace("_", "[-_]") + r"\.ko(\.xz)?")
    for file in modules.rglob("*.ko*"):
        if pattern.fullmatch(file.name):
            return file
    built_in = (modules / "modules.builtin").read_text().split()
    if any(pattern.fullmatch(Path(line).name) for line in built_in):
        return None
    raise packages.LabUnavailableError(f"the kernel package {modules.name} has no module {name} that the lab can read")


class _Cpio:
    """A "newc" archive; parent folders are added on their own."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._folders: set[str] = set()
        self._inode = 0

    def folder(self, name: str) -> None:
        parent, _, _ = name.rpartition("/")
        if parent:
            self.folder(parent)
        if name not in self._folders:
            self._folders.add(name)
            self._add(name, stat.S_IFDIR | 0o755, b"")

    def file(self, name: str, content: bytes, *, executable: bool = False) -> None:
        self._parent(name)
        self._add(name, stat.S_IFREG | (0o755 if executable else 0o644), content)

    def link(self, name: str, target: str) -> None:
        self._parent(name)
        self._add(name, stat.S_IFLNK | 0o777, target.encode())

    def finish(self) -> bytes:
        self._add("TRAILER!!!", 0, b"")
        return b"".join(self._parts)

    def _parent(self, name: str) -> None:
        parent, _, _ = name.rpartition("/")
        if parent:
            self.folder(parent)

    def _add(self, name: str, mode: int, content: bytes) -> None:
        self._inode += 1
        encoded = name.encode() + b"\0"
        links = 2 if stat.S_ISDIR(mode) else 1
        # inode, mode, uid, gid, links, mtime, size, device (4 fields), name size, checksum
        fields = (self._inode, mode, 0, 0, links, 0, len(content), 0, 0, 0, 0, len(encoded), 0)
        head = b"070701" + b"".join(b"%08X" % field for field in fields) + encoded
        self._parts += [head, bytes(-len(head) % 4), content, bytes(-len(content) % 4)]
