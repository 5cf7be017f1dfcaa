"""`verify` on a thin pool: LVM's own tools in a Debian machine, with the commands of PVE::Storage::LvmThinPlugin.

Slow: `make test-slow`. The filesystem lies on a loop device on the thin volume, as a guest's lies behind QEMU: mounted
on the volume itself, LVM would freeze it whenever it takes a snapshot.
"""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.guest import debian
from tests.lab.rundir import run_directory

pytestmark = [pytest.mark.slow, pytest.mark.real, pytest.mark.timeout(3600)]

_REPOSITORY = Path(__file__).resolve().parents[2]
_PACKAGES = ("python3", "lvm2", "thin-provisioning-tools")
SECONDS = 600.0
TIMES = 5

POOL = """set -e
modprobe dm-thin-pool; modprobe loop
truncate -s 800M /root/pv
vgcreate -qq pve $(losetup -f --show /root/pv)
lvcreate -qq -L 600M -T pve/data
"""
VOLUME = """set -e
lvcreate -qq -aly -V 64M --name {name} --thinpool pve/data
dev=$(losetup --direct-io=on -f --show /dev/pve/{name})
mkfs.ext4 -q $dev
mkdir -p /mnt/{name}
mount $dev /mnt/{name}
(while :; do echo line >>/mnt/{name}/log; sync /mnt/{name}/log; sleep 0.05; done) </dev/null >/dev/null 2>&1 &
"""
FROZEN = "fsfreeze -f /mnt/{name} && lvcreate -qq -n snap_{name}_{snap} -pr -s pve/{name}; fsfreeze -u /mnt/{name}"
BUSY = "touch /mnt/{name}/{snap}; sync /mnt/{name}; lvcreate -qq -n snap_{name}_{snap} -pr -s pve/{name}"

LOOK = """import sys
sys.path.insert(0, "/root/ours")
from snapshot.base.clock import SystemClock
from snapshot.disk.blocks import Budget
from snapshot.disk.examine import words_of
from snapshot.disk.source import run_tool
from snapshot.disk.where import snapshot_of

volume = sys.argv[1]
def run(command, seconds):
    return f"/dev/pve/{volume}" if command[0] == "pvesm" else run_tool(command, seconds)
for name in sys.argv[2:]:
    with snapshot_of(f"local-lvm:{volume}", name, Budget(SystemClock(), seconds=600.0), run) as blocks:
        print(name, *(f"{one.kind} {one.word.value}" for one in words_of(blocks, "scsi0")), sep=":")
"""


class ThinMachine(debian.DebianGuest):
    """A Debian with a thin pool ``pve/data``."""

    def image(self) -> Path:
        return debian.built(_PACKAGES)

    def install(self) -> None:
        """What is judged, and the pool."""
        with tempfile.TemporaryDirectory() as folder:
            archive, look, pool = (Path(folder) / name for name in ("ours.tar.gz", "look.py", "pool"))
            subprocess.run(["tar", "-czf", archive, "--exclude=__pycache__", "-C", _REPOSITORY, "snapshot"], check=True)
            look.write_text(LOOK)
            self.copy_in(archive, "/root/ours.tar.gz")
            self.copy_in(look, "/root/look.py")
            self.script(pool, POOL)
        self.shell("mkdir -p /root/ours; tar -xzf /root/ours.tar.gz -C /root/ours --no-same-owner", timeout=SECONDS)

    def script(self, path: Path, text: str) -> None:
        """Run several lines."""
        path.write_text(text)
        self.copy_in(path, f"/root/{path.name}")
        self.shell(f"sh /root/{path.name} 2>&1", timeout=SECONDS)


@pytest.fixture(scope="module", name="machine")
def _machine() -> Iterator[ThinMachine]:
    with run_directory() as run, ThinMachine(900, run) as machine:
        machine.install()
        yield machine


def test_a_snapshot_of_a_thin_volume_has_the_word_that_is_true(machine: ThinMachine, tmp_path: Path) -> None:
    name = "vm-100-disk-0"
    machine.script(tmp_path / "volume", VOLUME.format(name=name))
    kinds = {f"{kind}{number}": kind for number in range(TIMES) for kind in ("frozen", "busy")}
    for snap, kind in kinds.items():
        machine.shell((FROZEN if kind == "frozen" else BUSY).format(name=name, snap=snap), timeout=SECONDS)
    told = machine.shell(f"python3 -I /root/look.py {name} {' '.join(kinds)}", timeout=SECONDS)
    right = {"frozen": "clean", "busy": "not-clean"}
    assert told.split("\n")[: len(kinds)] == [f"{snap}:ext4 {right[kind]}" for snap, kind in kinds.items()]
    active = machine.shell("lvs --noheadings -o lv_name -S 'lv_active=active && lv_name=~^snap_'", timeout=SECONDS)
    assert active.split() == []
    machine.shell(f"lvchange -ay -K pve/snap_{name}_busy0", timeout=SECONDS)
    assert "not-clean" in machine.shell(f"python3 -I /root/look.py {name} busy0", timeout=SECONDS)
    active = machine.shell("lvs --noheadings -o lv_name -S 'lv_active=active && lv_name=~^snap_'", timeout=SECONDS)
    assert active.split() == [f"snap_{name}_busy0"]
