"""The dead-man's script on this machine, with a pretended guest around it: mount points are folders, a folder is
frozen while it holds a file ``.frozen``, and ``fsfreeze`` is a script that takes that file away.

Nothing here freezes or mounts anything; the real thing is in test_real_guest.py.
"""

from __future__ import annotations

import subprocess
from dataclasses import dataclass, field
from pathlib import Path

from tests.guest.sandbox import Sandbox
from tests.lab.site import wait_for

SCRIPT = Path(__file__).parents[3] / "contrib/guest/fsfreeze-deadman"
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


@dataclass
class DeadmanGuest(Sandbox):
    """A pretended guest with the dead-man."""

    settings: dict[str, str] = field(default_factory=lambda: {"LIMIT": "1"})
    extra: dict[str, str] = field(default_factory=dict)

    @property
    def home(self) -> Path:
        return self.memory / "fsfreeze-deadman"

    @property
    def frozen_kinds(self) -> list[Path]:
        """The mount points that an agent would freeze."""
        return [self.root / name for _, name, _ in _MOUNTS[:4]]

    def build(self) -> None:
        super().build()
        self.program("fsfreeze", _FSFREEZE.format(log=self.root / "fsfreeze.log"))
        self.program("mount", "#!/bin/sh\nexit 1\n")
        lines = []
        for number, (device, name, kind) in enumerate(_MOUNTS):
            (self.root / name).mkdir()
            folder = str(self.root / name).replace(" ", r"\040").replace("\n", r"\012")
            lines.append(f"{number} 1 {device} / {folder} rw,relatime shared:1 - {kind} /dev/x rw")
        (self.root / "mountinfo").write_text("\n".join(lines) + "\n")

    def environment(self) -> dict[str, str]:
        return {
            **super().environment(),
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

    def events(self) -> str:
        return self.text(self.home / "events")

    def attempts(self) -> list[str]:
        """The mount points that fsfreeze was called for."""
        return self.text(self.root / "fsfreeze.log").splitlines()

    def timer_pid(self) -> int:
        return int((self.home / "timer").read_text().split()[1])

    def timers(self) -> list[int]:
        """The pids of all timers of this sandbox that live."""
        return self.of_ours(" timer ", str(self.home))

    def stop(self) -> None:
        for folder in self.frozen_kinds:
            (folder / ".hangs").unlink(missing_ok=True)
        super().stop()
