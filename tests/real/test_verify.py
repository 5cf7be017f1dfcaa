"""`safe-snapshot verify` against the lab's oracles: real guests, frozen and not, idle and busy, plain and in tables."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from snapshot.base.clock import SystemClock
from snapshot.disk.blocks import Blocks, Budget
from snapshot.disk.examine import words_of
from snapshot.disk.source import qcow2_snapshot
from snapshot.disk.word import together
from snapshot.model import AtRest
from tests.disk.onnode import on_node, put_pvesm
from tests.disk.placed import in_gpt, in_lvm, in_lvm_in_gpt, in_mbr
from tests.lab.fixtures import real_guest
from tests.lab.guest.base import BOOT_TIMEOUT_SECONDS, Filesystem
from tests.lab.guest.oracle import Judgement, judge
from tests.lab.guest.real import RealGuest
from tests.lab.site import Site, site, wait_for

pytestmark = [pytest.mark.real, pytest.mark.timeout(3600)]

TIMES = pytest.mark.parametrize("times", [4, pytest.param(200, marks=pytest.mark.slow)])
PLACES: dict[str, Callable[[Blocks], Blocks]] = {
    "plain": lambda blocks: blocks,
    "mbr": in_mbr,
    "gpt": in_gpt,
    "lvm": in_lvm,
    "lvm in gpt": in_lvm_in_gpt,
}


@pytest.fixture(scope="module", params=["ext4", "xfs"])
def lab(request: pytest.FixtureRequest) -> Iterator[Site]:
    """A real guest with one of the filesystems, and its node."""
    fs: Filesystem = request.param
    with site(lambda vmid, run: real_guest(vmid, run, fs=fs)) as found:
        found.on_the_node()
        put_pvesm(found, found.guest.disk)
        yield found


class Guest:
    """The guest, and snapshots of it that nobody of ours takes."""

    def __init__(self, lab: Site) -> None:
        assert isinstance(lab.guest, RealGuest)
        self.real = lab.guest
        self._numbers = itertools.count(1)

    def work(self) -> None:
        """Until the writer has written some lines."""
        count = self.real.counter()
        assert wait_for(lambda: self.real.counter() > count + 2, BOOT_TIMEOUT_SECONDS)

    def writer(self, signal: str) -> None:
        self.real.shell(f"kill -{signal} $(cat /run/lab/writer.pid)", timeout=BOOT_TIMEOUT_SECONDS)

    def snapshot(self) -> str:
        """An internal snapshot of the disk, now."""
        name = f"n{next(self._numbers)}"
        with self.real.monitor() as monitor:
            monitor.execute("blockdev-snapshot-internal-sync", {"device": self.real.drive_node, "name": name})
        return name

    def forget(self, name: str) -> None:
        with self.real.monitor() as monitor:
            monitor.execute("blockdev-snapshot-delete-internal-sync", {"device": self.real.drive_node, "name": name})


def frozen_busy(guest: Guest) -> str:
    guest.work()
    return frozen(guest)


def frozen(guest: Guest) -> str:
    guest.real.ask("guest-fsfreeze-freeze")
    try:
        return guest.snapshot()
    finally:
        guest.real.ask("guest-fsfreeze-thaw")


def frozen_idle(guest: Guest) -> str:
    guest.work()
    guest.writer("STOP")
    try:
        return frozen(guest)
    finally:
        guest.writer("CONT")


def busy(guest: Guest) -> str:
    guest.work()
    return guest.snapshot()


def idle(guest: Guest) -> str:
    guest.work()
    guest.writer("STOP")
    try:
        return guest.snapshot()
    finally:
        guest.writer("CONT")


def broken(guest: Guest) -> str:
    """A window that somebody inside ended before the snapshot: the agent still says frozen."""
    guest.real.ask("guest-fsfreeze-freeze")
    try:
        guest.real.thaw_from_inside()
        guest.work()
        return guest.snapshot()
    finally:
        guest.real.ask("guest-fsfreeze-thaw")


def broken_at_once(guest: Guest) -> str:
    """The same, with nothing written between the thaw and the snapshot, or with it."""
    guest.real.ask("guest-fsfreeze-freeze")
    try:
        guest.real.thaw_from_inside()
        return guest.snapshot()
    finally:
        guest.real.ask("guest-fsfreeze-thaw")


KINDS = (frozen_busy, frozen_idle, busy, idle, broken, broken_at_once)
FROZEN = (frozen_busy, frozen_idle)


def words(disk: Path, name: str) -> dict[str, AtRest]:
    """What the snapshot says, in each of the places that a filesystem can have on a disk."""
    found: dict[str, AtRest] = {}
    for place, put in PLACES.items():
        with qcow2_snapshot(disk, name, Budget(SystemClock())) as blocks:
            found[place] = together(words_of(put(blocks), "scsi0")).word
    return found


@pytest.mark.parametrize("kind", KINDS)
@TIMES
def test_verify_agrees_with_the_oracle(lab: Site, kind: Callable[[Guest], str], times: int) -> None:
    guest = Guest(lab)
    told: Counter[str] = Counter()
    wrong: list[tuple[str, dict[str, AtRest], Judgement]] = []
    for _ in range(times):
        name = kind(guest)
        said = words(guest.real.disk, name)
        oracle = judge(guest.real.disk, name, guest.real.fs)
        told.update(word.value for word in said.values())
        right = AtRest.CLEAN if oracle.consistent else AtRest.NOT_CLEAN
        if any(word not in (right, AtRest.CANNOT_TELL) for word in said.values()) or len(set(said.values())) != 1:
            wrong.append((name, said, oracle))
        if kind in FROZEN:
            assert oracle.consistent, (name, oracle)
        guest.forget(name)
    print(f"{guest.real.fs} {kind.__name__}: {times} snapshots in {len(PLACES)} places: {dict(told)}")
    assert wrong == []
    assert told[AtRest.CANNOT_TELL.value] <= times * len(PLACES) // 20, told


def test_the_command_tells_a_frozen_snapshot_from_another(lab: Site) -> None:
    run = lab.safe_snapshot("100", "--name", "proven", "--policy", "require")
    assert run.exit_code == 0, run
    told = on_node(lab, "verify", "100", "proven", "--json")
    assert told.exit_code == 0, told
    assert told.json["word"] == "clean"
    assert told.json["filesystems"][0]["where"] == "scsi0"
    lab.node.set_config(100, agent="1,freeze-fs=0")
    try:
        Guest(lab).work()
        assert lab.safe_snapshot("100", "--name", "plain", "--policy", "never").exit_code == 0
    finally:
        lab.node.set_config(100, agent="1")
    told = on_node(lab, "verify", "100", "plain")
    assert told.exit_code == 6, told
    assert "not-clean" in told.stdout
    assert all(len(line) <= 80 for line in told.stdout.splitlines()), told.stdout
    assert on_node(lab, "verify", "100", "nothing").exit_code == 4


def test_a_filesystem_that_is_unmounted_was_at_rest_and_one_that_is_mounted_again_was_not(lab: Site) -> None:
    guest = Guest(lab)
    fs, told = guest.real.fs, []
    guest.writer("KILL")
    steps = ("umount /data", f"mount -t {fs} /dev/vda /data; echo 1 >/data/x; sync", "mount -o remount,ro /data")
    for line in steps:
        assert wait_for(lambda line=line: guest.real.control(line)[0] == 0)  # type: ignore[misc]
        told.append(set(words(guest.real.disk, guest.snapshot()).values()))
    assert told == [{AtRest.CLEAN}, {AtRest.NOT_CLEAN}, {AtRest.CLEAN}]
