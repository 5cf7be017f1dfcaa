"""A pretended guest on this machine: programs in front of the PATH, and a /bin/sh that is chosen.

Nothing here freezes or mounts anything; the real things are in the tests of real guests.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import pytest

from tests.lab.packages import LabUnavailableError, fetch

SHELLS = ("dash", "bash", "busybox")
Kind = TypeVar("Kind", bound="Sandbox")


def shell_path(name: str) -> str:
    """The shell's executable. Skips the test where it cannot be had."""
    if name == "busybox":
        try:
            return str(fetch().busybox / "bin/busybox")
        except LabUnavailableError as error:
            pytest.skip(str(error))
    return shutil.which(name) or pytest.skip(f"no {name} on this machine")


@dataclass
class Sandbox:
    """A pretended guest. ``memory`` stands for /run: a folder on a real tmpfs."""

    root: Path
    memory: Path
    shell: str

    @property
    def bin(self) -> Path:
        return self.root / "bin"

    def build(self) -> None:
        self.bin.mkdir()
        (self.bin / "sh").symlink_to(self.shell)

    def program(self, name: str, text: str) -> Path:
        """Put a script in front of the PATH."""
        path = self.bin / name
        path.unlink(missing_ok=True)
        path.write_text(text)
        path.chmod(0o755)
        return path

    def environment(self) -> dict[str, str]:
        return {"PATH": f"{self.bin}:/usr/bin:/bin"}

    def kernel_log(self) -> str:
        return self.text(self.root / "kmsg")

    def of_ours(self, *words: str) -> list[int]:
        """The pids of this sandbox's processes whose command line has all of ``words``."""
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                if any(str(ours) in line for ours in (self.root, self.memory)) and all(word in line for word in words):
                    found.append(int(entry.name))
        return found

    def stop(self) -> None:
        for pid in self.of_ours():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    @staticmethod
    def text(path: Path) -> str:
        return path.read_text() if path.exists() else ""


@contextlib.contextmanager
def sandbox(kind: type[Kind], shell: str = "dash") -> Iterator[Kind]:
    """A pretended guest whose /bin/sh is ``shell``. Skips where there is no tmpfs."""
    memory = Path("/dev/shm")  # /run may lie on the disk in a container
    if not memory.is_dir() or not os.access(memory, os.W_OK):
        pytest.skip("no tmpfs at /dev/shm")
    with tempfile.TemporaryDirectory(prefix="guest-") as root, tempfile.TemporaryDirectory(dir=memory) as home:
        found = kind(Path(root), Path(home), shell_path(shell))
        found.build()
        try:
            yield found
        finally:
            found.stop()
