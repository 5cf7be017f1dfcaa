"""The oracles tell frozen from unfrozen, on real disks and on scripted ones."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contract.conftest import KINDS
from tests.lab.fixtures import real_guest
from tests.lab.guest.base import Filesystem, Guest
from tests.lab.guest.oracle import block_statistics_move, judge, judge_image, log_size
from tests.lab.guest.scripted import ScriptedGuest
from tests.lab.packages import tool
from tests.lab.rundir import run_directory

FREEZE = "guest-fsfreeze-freeze"
THAW = "guest-fsfreeze-thaw"
ROUNDS = 20
BACKUP_SECONDS = 60.0
SLOW_SECONDS = 30.0


@pytest.fixture(scope="module", params=["ext4", "xfs"])
def fs(request: pytest.FixtureRequest) -> Filesystem:
    return "xfs" if request.param == "xfs" else "ext4"


@pytest.fixture(scope="module", params=KINDS)
def writing(request: pytest.FixtureRequest, fs: Filesystem) -> Iterator[Guest]:
    """A running guest whose writer writes all the time."""
    with run_directory() as run:
        guest = real_guest(100, run, fs=fs) if request.param == "real" else ScriptedGuest(100, run, fs=fs)
        with guest:
            yield guest


def take(guest: Guest, name: str) -> None:
    with guest.monitor() as monitor:
        monitor.execute("blockdev-snapshot-internal-sync", {"device": guest.drive_node, "name": name})


def drop(guest: Guest, name: str) -> None:
    with guest.monitor() as monitor:
        monitor.execute("blockdev-snapshot-delete-internal-sync", {"device": guest.drive_node, "name": name})


def wait_for_a_line(guest: Guest) -> None:
    """Until the writer's next line is on the disk: up to then an XFS looks as it did while it was frozen."""
    first = guest.counter()
    deadline = time.monotonic() + SLOW_SECONDS
    while guest.counter() == first:
        assert time.monotonic() < deadline, "the writer stands still"
        time.sleep(0.01)


def test_a_snapshot_inside_a_window_is_consistent_every_time(writing: Guest) -> None:
    for _ in range(ROUNDS):
        wait_for_a_line(writing)
        assert writing.ask(FREEZE) == 1
        take(writing, "s1")
        counter = writing.counter()
        assert writing.ask(THAW) == 1
        judgement = judge(writing.disk, "s1", writing.fs, counter=counter)
        assert judgement.consistent, judgement
        assert judgement.lines == counter
        drop(writing, "s1")


def test_a_snapshot_without_a_freeze_is_not_consistent_any_time(writing: Guest) -> None:
    for _ in range(ROUNDS):
        wait_for_a_line(writing)
        take(writing, "s1")
        judgement = judge(writing.disk, "s1", writing.fs)
        assert not judgement.consistent, judgement
        drop(writing, "s1")


def test_a_snapshot_after_a_window_that_broke_is_not_consistent(writing: Guest) -> None:
    writing.ask(FREEZE)
    writing.thaw_from_inside()
    wait_for_a_line(writing)
    take(writing, "s1")
    assert writing.ask(THAW) == 0
    assert not judge(writing.disk, "s1", writing.fs).consistent
    drop(writing, "s1")


def test_a_snapshot_of_another_instant_than_the_counters_is_not_consistent(writing: Guest) -> None:
    writing.ask(FREEZE)
    take(writing, "s1")
    counter = writing.counter()
    writing.ask(THAW)
    judgement = judge(writing.disk, "s1", writing.fs, counter=counter + 1)
    assert not judgement.consistent
    assert f"the writer had {counter + 1} lines, the image has {counter}" in judgement.evidence
    drop(writing, "s1")


def test_block_statistics_stand_still_inside_a_window_and_move_outside(writing: Guest) -> None:
    assert block_statistics_move(writing, SLOW_SECONDS)
    writing.ask(FREEZE)
    assert not block_statistics_move(writing, 0.3)
    writing.ask(THAW)
    assert block_statistics_move(writing, SLOW_SECONDS)


@pytest.mark.parametrize("frozen", [True, False])
def test_a_backup_image_is_judged_by_its_point_in_time(writing: Guest, frozen: bool) -> None:
    image = writing.run / "backup.qcow2"
    size = str(300 << 20) if writing.fs == "xfs" else str(64 << 20)
    if not isinstance(writing, ScriptedGuest):
        subprocess.run([tool("qemu-img"), "create", "-q", "-f", "qcow2", str(image), size], check=True)
    wait_for_a_line(writing)
    with writing.monitor() as monitor:
        file = {"driver": "file", "filename": str(image)}
        monitor.execute("blockdev-add", {"node-name": "target", "driver": "qcow2", "file": file})
        data = {"device": writing.drive_node, "target": "target", "sync": "full", "job-id": "backup0"}
        if frozen:
            writing.ask(FREEZE)
        monitor.execute("transaction", {"actions": [{"type": "blockdev-backup", "data": data}]})
        if frozen:
            counter = writing.counter()
            writing.ask(THAW)
        monitor.wait_event("BLOCK_JOB_COMPLETED", BACKUP_SECONDS)
        monitor.execute("blockdev-del", {"node-name": "target"})
    judgement = judge_image(image, writing.fs, counter=counter if frozen else None)
    assert judgement.consistent is frozen, judgement
    image.unlink()


def test_a_snapshot_that_does_not_exist_is_an_error_and_no_judgement(writing: Guest) -> None:
    with pytest.raises(LookupError, match="nope"):
        judge(writing.disk, "nope", writing.fs)


def test_an_image_without_a_file_system_is_an_error_and_no_judgement(tmp_path: Path, fs: Filesystem) -> None:
    image = tmp_path / "raw"
    image.write_bytes(bytes(1 << 20))
    with pytest.raises(ValueError, match="holds no"):
        judge_image(image, fs)


def test_the_size_of_the_writers_log_follows_from_its_last_number() -> None:
    for lines in (0, 1, 9, 10, 99, 100, 12_345):
        assert log_size(lines) == sum(len(f"{number}\n") for number in range(1, lines + 1))
