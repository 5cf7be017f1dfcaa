"""The dead-man's script on this machine, with a pretended guest around it: mount points are folders, a folder is
frozen while it holds a file ``.frozen``, and ``fsfreeze`` is a script that takes that file away.

Nothing here freezes or mounts anything; the real thing is in test_real_guest.py.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.lab.packages import LabUnavailableError, fetch
from tests.lab.site import wait_for

SCRIPT = Path(__file__).parents[2] / "contrib/guest/fsfreeze-deadman"
SHELLS = ("dash", "bash", "busybox")
_FSFREEZE = """#!/bin/sh
[ "$1" = --unfreeze ] || exit 0
echo "$2" >>{log}
while [ -e "$2/.hangs" ]; do sleep 0.05; done
rm "$2/.frozen" 2>/dev/null
"""
# The device number 0:27 is what a btrfs has; the other two without a block device are never frozen by the agent.
_MOUNTS = (
    ("8:1", "root", "ext4"),
    ("253:0", "with space", "xfs"),
    ("253:1", "with\nnewline", "ext4"),
    ("0:27", "btrfs", "btrfs"),
    ("0:22", "tmpfs", "tmpfs"),
    ("0:5", "nfs", "nfs4"),
)


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
    settings: dict[str, str] = field(default_factory=lambda: {"LIMIT": "1"})
    extra: dict[str, str] = field(default_factory=dict)

    @property
    def home(self) -> Path:
        return self.memory / "fsfreeze-deadman"

    @property
    def bin(self) -> Path:
        return self.root / "bin"

    @property
    def frozen_kinds(self) -> list[Path]:
        """The mount points that an agent would freeze."""
        return [self.root / name for _, name, _ in _MOUNTS[:4]]

    def build(self) -> None:
        self.bin.mkdir()
        (self.bin / "sh").symlink_to(self.shell)
        self.program("fsfreeze", _FSFREEZE.format(log=self.root / "fsfreeze.log"))
        self.program("mount", "#!/bin/sh\nexit 1\n")
        lines = []
        for number, (device, name, kind) in enumerate(_MOUNTS):
            (self.root / name).mkdir()
            folder = str(self.root / name).replace(" ", r"\040").replace("\n", r"\012")
            lines.append(f"{number} 1 {device} / {folder} rw,relatime shared:1 - {kind} /dev/x rw")
        (self.root / "mountinfo").write_text("\n".join(lines) + "\n")

    def program(self, name: str, text: str) -> Path:
        """Put a script in front of the PATH."""
        path = self.bin / name
        path.unlink(missing_ok=True)
        path.write_text(text)
        path.chmod(0o755)
        return path

    def environment(self) -> dict[str, str]:
        return {
            "PATH": f"{self.bin}:/usr/bin:/bin",
            "DEADMAN_CONFIG": str(self.root / "config"),
            "DEADMAN_PARENTS": str(self.memory),
            "DEADMAN_MOUNTINFO": str(self.root / "mountinfo"),
            "DEADMAN_KMSG": str(self.root / "kmsg"),
            "DEADMAN_PAUSE": "1",
            "DEADMAN_SYSTEMD": "/nowhere",
            "DEADMAN_CGROUPS": "/nowhere",
            **self.extra,
        }

    def call(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """The hook, as the agent calls it. Its output is read to the end: a timer that kept a descriptor would hold
        this up until the time limit."""
        (self.root / "config").write_text("".join(f"{key}={value}\n" for key, value in self.settings.items()))
        return subprocess.run(
            [self.bin / "sh", SCRIPT, *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=20,
            env=self.environment(),
            check=False,
        )

    def freeze(self) -> None:
        """The hook, then the agent's freeze."""
        done = self.call("freeze")
        assert done.returncode == 0, done
        for folder in self.frozen_kinds:
            (folder / ".frozen").touch()

    def thaw(self) -> None:
        """The agent's thaw, then the hook."""
        for folder in self.frozen_kinds:
            (folder / ".frozen").unlink(missing_ok=True)
        done = self.call("thaw")
        assert done.returncode == 0, done

    def frozen(self) -> set[str]:
        return {folder.name for folder in self.frozen_kinds if (folder / ".frozen").exists()}

    def thawed_by_itself(self, seconds: float = 15.0) -> bool:
        return wait_for(lambda: not self.frozen(), seconds)

    def kernel_log(self) -> str:
        return self._text(self.root / "kmsg")

    def events(self) -> str:
        return self._text(self.home / "events")

    def attempts(self) -> list[str]:
        """The mount points that fsfreeze was called for."""
        return self._text(self.root / "fsfreeze.log").splitlines()

    def timer_pid(self) -> int:
        return int((self.home / "timer").read_text().split()[1])

    def timers(self) -> list[int]:
        """The pids of all timers of this sandbox that live."""
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                words = (entry / "cmdline").read_bytes().split(b"\0")
                if b"timer" in words and str(self.home).encode() in words:
                    found.append(int(entry.name))
        return found

    def stop(self) -> None:
        for folder in self.frozen_kinds:
            (folder / ".hangs").unlink(missing_ok=True)
        for pid in self.timers():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    @staticmethod
    def _text(path: Path) -> str:
        return path.read_text() if path.exists() else ""


@contextlib.contextmanager
def sandbox(shell: str = "dash") -> Iterator[Sandbox]:
    """A pretended guest whose /bin/sh is ``shell``. Skips where there is no tmpfs to keep the timer in."""
    memory = Path("/dev/shm")  # /run may lie on the disk in a container
    if not memory.is_dir() or not os.access(memory, os.W_OK):
        pytest.skip("no tmpfs at /dev/shm")
    with tempfile.TemporaryDirectory(prefix="deadman-") as root, tempfile.TemporaryDirectory(dir=memory) as home:
        found = Sandbox(Path(root), Path(home), shell_path(shell))
        found.build()
        try:
            yield found
        finally:
            found.stop()
