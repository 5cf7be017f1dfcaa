"""The lab's vzdump with a real guest: the copy's disk says how it was made, and nobody else is asked."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.lab.fixtures import real_guest
from tests.lab.guest.base import Filesystem
from tests.lab.guest.oracle import block_statistics_move, judge_image
from tests.lab.guest.real import RealGuest
from tests.lab.rundir import run_directory
from tests.lab.vzdump.job import JobResult
from tests.lab.vzdump.options import GuestSpec
from tests.lab.vzdump.power import Verb, power_server
from tests.lab.vzdump.testing import Bench

pytestmark = pytest.mark.real

UNFROZEN = (GuestSpec(100, agent="1,freeze-fs=0"),)
# name -> options of the job, and whether the copy must be consistent
BACKUPS: dict[str, tuple[dict[str, Any], bool]] = {
    "vzdump freezes, file": ({}, True),
    "vzdump freezes, pbs, terminal": ({"storage_kind": "pbs", "terminal": True, "backup_delay": 0.5}, True),
    "vzdump freezes, PVE 8": ({"qemu_server_version": "8.4.0"}, True),
    "vzdump freezes, provider": ({"storage_kind": "provider"}, True),
    "nobody freezes, file": ({"guests": UNFROZEN}, False),
    "nobody freezes, pbs": ({"guests": UNFROZEN, "storage_kind": "pbs"}, False),
    "suspend mode pauses and does not freeze": ({"mode": "suspend"}, False),
}


@pytest.fixture(scope="module")
def run_and_root() -> Iterator[Bench]:
    with run_directory() as root, run_directory() as run:
        yield Bench(root, run)


@pytest.fixture(scope="module", params=["ext4", "xfs"])
def guest(request: pytest.FixtureRequest, run_and_root: Bench) -> Iterator[RealGuest]:
    fs: Filesystem = request.param
    with real_guest(100, run_and_root.run, fs=fs) as guest:
        yield guest


@pytest.fixture
def bench(run_and_root: Bench) -> Iterator[Bench]:
    """A root of its own for each test, beside the one guest."""
    with run_directory() as root:
        yield Bench(root, run_and_root.run)


def consistent(guest: RealGuest, result: JobResult) -> bool:
    archive = result.guests[100].archive
    assert archive is not None, result.log_lines
    return judge_image(archive, guest.fs).consistent


@pytest.mark.parametrize(("options", "expected"), BACKUPS.values(), ids=BACKUPS)
def test_the_disk_in_the_backup_tells_whether_the_guest_was_frozen(
    bench: Bench, guest: RealGuest, options: dict[str, Any], expected: bool
) -> None:
    with bench.job(**options) as job:
        result = job.wait()
    assert result.exitstatus == "OK", result.log_lines
    assert consistent(guest, result) == expected
    assert block_statistics_move(guest)


def test_a_guest_that_was_frozen_before_is_copied_frozen_and_left_frozen(bench: Bench, guest: RealGuest) -> None:
    guest.ask("guest-fsfreeze-freeze")
    try:
        with bench.job() as job:
            result = job.wait()
        assert "INFO: skipping guest filesystem freeze - already frozen" in result.log_lines
        assert consistent(guest, result)
        assert guest.is_frozen()
    finally:
        guest.ask("guest-fsfreeze-thaw")


def test_the_refusal_of_a_second_freeze_is_in_the_agents_own_words(bench: Bench, guest: RealGuest) -> None:
    guest.ask("guest-fsfreeze-freeze")
    with bench.job(qemu_server_version="9.1.9") as job:
        result = job.wait()
    refused = "Command guest-fsfreeze-freeze has been disabled: the agent is in frozen state"
    assert f"ERROR: unable to freeze guest fs - {refused}" in result.log_lines
    assert consistent(guest, result)
    assert not guest.is_frozen()


def test_a_killed_job_leaves_a_frozen_guest_and_a_job_that_the_next_backup_cancels(
    bench: Bench, guest: RealGuest
) -> None:
    with bench.job(backup_delay=20) as job:
        job.wait_for_line("starting backup via QMP command")
        job.kill()
        job.wait()
    try:
        assert guest.is_frozen()
    finally:
        guest.ask("guest-fsfreeze-thaw")
    (bench.root / "locks/100").unlink()
    with bench.job() as job:
        assert job.wait().exitstatus == "OK"  # the command was never sent: there is nothing to cancel
    with bench.job(archive_seconds=20) as job:
        job.wait_for_line("started backup task")
        job.kill()
        job.wait()
    (bench.root / "locks/100").unlink()
    with bench.job() as job:
        result = job.wait()
    assert result.guests[100].state == "ok", result.log_lines
    assert consistent(guest, result)


def test_a_stop_mode_backup_of_a_guest_that_is_really_switched_off_is_clean(bench: Bench, guest: RealGuest) -> None:
    def power(verb: Verb, vmid: int) -> None:
        if verb == "shutdown":
            guest.shell('kill "$(cat /run/lab/writer.pid)"; while ! umount /data; do usleep 20000; done')
            guest.stop()
        else:
            guest.start_again()

    with power_server(bench.root / "power", power) as socket, bench.job(mode="stop", power_socket=socket) as job:
        result = job.wait()
    assert result.exitstatus == "OK", result.log_lines
    if guest.fs == "ext4":  # an unmounted XFS ends its log with an unmount record, which the oracle does not know
        assert consistent(guest, result)
    assert block_statistics_move(guest)
