"""Debian packages for the lab's guests, fetched and unpacked without being installed.

What lives here: the lab's cache folder, its locks, the look-up of host tools, and the three packages a guest is made
of. Everything in the cache is built under a temporary name and renamed, inside a lock between processes, so that two
test runs that start at once share one download and never see half of one.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import functools
import hashlib
import json
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

_REPOSITORY = Path(__file__).resolve().parents[2]
# Debian leaves these out of a plain user's PATH, and mkfs, debugfs and xfs_db live there.
_SBIN = ("/usr/local/sbin", "/usr/sbin", "/sbin")
_KERNEL_METAPACKAGE = "linux-image-cloud-amd64"
_COMMAND_TIMEOUT_SECONDS = 600
_KEPT_SECONDS = 86_400

# Host command -> the Debian package that ships it.
HOST_TOOLS = {
    "qemu-system-x86_64": "qemu-system-x86",
    "qemu-img": "qemu-utils",
    "mkfs.ext4": "e2fsprogs",
    "debugfs": "e2fsprogs",
    "mkfs.xfs": "xfsprogs",
    "xfs_db": "xfsprogs",
    "xfs_logprint": "xfsprogs",
    "apt-get": "apt",
    "apt-cache": "apt",
    "dpkg": "dpkg",
    "ldd": "libc-bin",
}


class LabUnavailableError(Exception):
    """Real guests cannot be built or run on this machine. The message names the command that would change that."""


def cache_dir() -> Path:
    """The lab's cache: ``$LAB_CACHE``, or ``.lab`` in the checkout. Created on demand; safe to delete at rest."""
    path = Path(os.environ.get("LAB_CACHE") or _REPOSITORY / ".lab").absolute()
    path.mkdir(parents=True, exist_ok=True)
    return path


@contextlib.contextmanager
def locked(name: str) -> Iterator[None]:
    """Hold the lock ``name`` of the cache, between processes and threads; waits for as long as another builds."""
    folder = cache_dir() / "locks"
    folder.mkdir(exist_ok=True)
    with (folder / name).open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def building(target: Path) -> Iterator[Path]:
    """A temporary folder beside ``target`` that becomes ``target`` when the block ends well, and vanishes otherwise."""
    target.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        yield work
        work.chmod(0o755)
        work.rename(target)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def forget_old(parent: Path, pattern: str) -> None:
    """Remove what no run has used for a day: it belongs to an older version of the lab. Hold the lock."""
    for path in parent.glob(pattern):
        if time.time() - path.stat().st_mtime > _KEPT_SECONDS:
            shutil.rmtree(path)


def tool(name: str) -> str:
    """Path of the host command ``name``. Raises LabUnavailableError that names the package to install."""
    path = shutil.which(name) or shutil.which(name, path=os.pathsep.join(_SBIN))
    if path is None:
        package = HOST_TOOLS.get(name, name)
        raise LabUnavailableError(f"{name} is not installed; run: apt-get install --no-install-recommends {package}")
    return path


def run(*command: str | Path, cwd: Path | None = None) -> str:
    """Run a host command and return its stdout. Raises LabUnavailableError with the command and its last words."""
    line = [tool(str(command[0])), *map(str, command[1:])]
    env = {**os.environ, "LC_ALL": "C"}
    try:
        done = subprocess.run(
            line,
            cwd=cwd,
            env=env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_COMMAND_TIMEOUT_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise LabUnavailableError(f"no end after {_COMMAND_TIMEOUT_SECONDS} s: {' '.join(line)}") from error
    if done.returncode != 0:
        words = (done.stderr.strip() or done.stdout.strip())[-500:]
        raise LabUnavailableError(f"failed with exit {done.returncode}: {' '.join(line)}\n{words}")
    return done.stdout


@dataclasses.dataclass(frozen=True)
class Packages:
    """Folders that hold the unpacked packages, and the digest of the archives they came from."""

    kernel: Path
    busybox: Path
    agent: Path
    digest: str


def _link_usr(package: Path) -> None:
    """Debian 12 unpacks to /bin and /lib, Debian 13 to /usr/bin and /usr/lib: both are found below the short names."""
    for name in ("bin", "sbin", "lib", "lib64"):
        if (package / "usr" / name).is_dir() and not (package / name).exists():
            (package / name).symlink_to(f"usr/{name}")


@functools.cache
def _fetch(cache: Path) -> Packages:
    folder = cache / "packages"
    manifest = folder / "manifest.json"
    with locked("packages"):
        # A complete cache needs no network and no apt, and does not change under a running series of tests.
        if not manifest.is_file():
            folder.mkdir(exist_ok=True)
            names = {"kernel": _kernel_package(), "busybox": "busybox-static", "agent": "qemu-guest-agent"}
            entries = {role: _download(name, folder) for role, name in names.items()}
            scratch = folder / ".manifest.json"
            scratch.write_text(json.dumps(entries, indent=1) + "\n")
            scratch.rename(manifest)
        entries = json.loads(manifest.read_text())
        paths = {role: folder / entry["folder"] for role, entry in entries.items()}
        missing = [str(path) for path in paths.values() if not path.is_dir()]
        if missing:
            raise LabUnavailableError(f"the lab's cache lost {', '.join(missing)}; run: rm -rf {folder}")
        for path in paths.values():
            _link_usr(path)
    digest = hashlib.sha256("".join(entry["sha256"] for _, entry in sorted(entries.items())).encode()).hexdigest()
    return Packages(paths["kernel"], paths["busybox"], paths["agent"], digest)


def fetch() -> Packages:
    """The unpacked kernel, busybox and guest agent packages; downloads them once a cache.

    Raises LabUnavailableError when apt cannot: the message holds the command and apt's own words.
    """
    if os.uname().machine != "x86_64":
        raise LabUnavailableError(f"the lab's guests are x86-64; this machine is {os.uname().machine}")
    return _fetch(cache_dir())


def _kernel_package() -> str:
    """Name of the newest cloud kernel: the metapackage depends on exactly one."""
    try:
        listing = run("apt-cache", "depends", _KERNEL_METAPACKAGE)
    except LabUnavailableError as error:
        raise LabUnavailableError(f"{error}\nthe package lists may be missing; as root run: apt-get update") from error
    found = re.search(r"Depends: (linux-image-\S+)", listing)
    if found is None:
        raise LabUnavailableError(
            f"`apt-cache depends {_KERNEL_METAPACKAGE}` names no kernel; as root run: apt-get update (Debian only)"
        )
    return found[1]


def _download(name: str, folder: Path) -> dict[str, str]:
    """Download and unpack one package into a folder named by its content."""
    with tempfile.TemporaryDirectory(prefix=".download.", dir=folder) as scratch:
        # apt's own sandbox user cannot write into a private folder; it would only warn, but on every run.
        sandbox = ["-o", "APT::Sandbox::User=root"] if os.geteuid() == 0 else []
        try:
            run("apt-get", *sandbox, "download", name, cwd=Path(scratch))
        except LabUnavailableError as error:
            raise LabUnavailableError(f"{error}\nthe package lists may be old; as root run: apt-get update") from error
        (archive,) = Path(scratch).glob("*.deb")
        sha256 = hashlib.sha256(archive.read_bytes()).hexdigest()
        target = folder / f"{name}-{sha256[:16]}"
        if not target.is_dir():
            with building(target) as work:
                run("dpkg", "-x", archive, work)
        return {"package": name, "file": archive.name, "sha256": sha256, "folder": target.name}
