"""A Debian tree with the package's dependencies, made by debootstrap and kept in the lab's cache; commands run in a
throw-away copy of it through chroot."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.lab import packages

CHECKOUT = Path(__file__).resolve().parents[2]
LIBRARIES = ("python3-click", "python3-prometheus-client", "python3-proxmoxer", "python3-requests", "python3-tenacity")
# libsystemd0's tools (deb-systemd-helper) come with init-system-helpers, which is essential on Debian.
_INCLUDE = ("python3", "init-system-helpers", *LIBRARIES)


class Tree:
    """A Debian that commands can run in. The network is cut off for them where the kernel lets us."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def run(self, *command: str, network: bool = False) -> subprocess.CompletedProcess[str]:
        """Run a command inside, as root, with the environment that vzdump leaves a hook."""
        cut_off = [] if network else ["unshare", "--net"]
        return subprocess.run(
            [*cut_off, "chroot", str(self.root), *command],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            env={"LC_ALL": "C", "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
            timeout=300,
            check=False,
        )

    def ok(self, *command: str, network: bool = False) -> str:
        """Run a command that must succeed; returns its output, both streams."""
        done = self.run(*command, network=network)
        assert done.returncode == 0, done
        return done.stdout + done.stderr

    def files(self, *names: str) -> set[str]:
        """Everything below these folders of the tree."""
        found: set[str] = set()
        for name in names:
            found |= {str(path.relative_to(self.root)) for path in (self.root / name).rglob("*")}
        return found


def require_root() -> None:
    """Skip without root and debootstrap."""
    if os.geteuid() != 0:
        pytest.skip("a Debian tree needs root")
    if shutil.which("debootstrap") is None:
        pytest.skip("debootstrap is not installed; run: apt-get install debootstrap")


@contextlib.contextmanager
def debian(suite: str, include: Sequence[str] = _INCLUDE) -> Iterator[Tree]:
    """A fresh copy of a Debian ``suite`` with /proc, /dev and the libraries, without the package.

    With an empty ``include`` there is nothing but what every Debian has, no Python either.
    """
    require_root()
    key = hashlib.sha256(repr((suite, include)).encode()).hexdigest()[:16]
    target = packages.cache_dir() / "debian-tree" / f"{suite}-{key}"
    with packages.locked(f"debian-tree-{suite}"):
        if not target.is_dir():
            with packages.building(target) as work:
                wanted = [f"--include={','.join(include)}"] if include else []
                packages.run("debootstrap", "--variant=minbase", *wanted, suite, work)
    with tempfile.TemporaryDirectory(prefix=f"{suite}-") as folder, contextlib.ExitStack() as stack:
        root = Path(folder) / "tree"
        root.mkdir()
        if _laid_over(target, root, Path(folder)):
            stack.callback(subprocess.run, ["umount", "--lazy", root], check=True)
        else:
            subprocess.run(["cp", "-a", f"{target}/.", root], check=True)
        for what, where in ((("-t", "proc", "proc"), root / "proc"), (("--bind", "/dev"), root / "dev")):
            subprocess.run(["mount", *what, where], check=True)
            stack.callback(subprocess.run, ["umount", "--lazy", where], check=True)
        yield Tree(root)


def _laid_over(lower: Path, root: Path, folder: Path) -> bool:
    """Mount ``lower`` at ``root``, with what is written going to ``folder``: a copy takes a minute. False where the
    kernel, or the filesystem that the folder is on, has no such thing.
    """
    for name in ("upper", "work"):
        (folder / name).mkdir()
    options = f"lowerdir={lower},upperdir={folder / 'upper'},workdir={folder / 'work'}"
    mount = ["mount", "-t", "overlay", "overlay", "-o", options, root]
    return subprocess.run(mount, capture_output=True, check=False).returncode == 0


def build(folder: Path, **environment: str) -> Path:
    """The package, built from this checkout into ``folder``."""
    done = subprocess.run(
        [CHECKOUT / "contrib/debian/build", folder],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHON": sys.executable, **environment},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return Path(done.stdout.strip())


def contents(package: Path) -> Sequence[str]:
    """The lines of ``dpkg-deb --contents``."""
    return subprocess.run(
        ["dpkg-deb", "--contents", package], capture_output=True, text=True, check=True
    ).stdout.splitlines()
