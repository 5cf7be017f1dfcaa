"""A real guest whose backup freezes by itself and loses its thaw, under policy never: thawed in time, or told."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from tests.hook.kit import check_thawed, hook_site, newest, settled
from tests.lab.fixtures import require_real
from tests.lab.guest.real import RealGuest
from tests.lab.site import Site, wait_for
from tests.lab.vzdump.options import Limits

pytestmark = pytest.mark.real

SHORT = Limits(poll=0.05, thaw=1.0)
"""PVE gives its thaw up sooner."""


@pytest.fixture(scope="module")
def lab() -> Iterator[Site]:
    """One guest that we do not freeze."""
    require_real()
    with hook_site(RealGuest) as found:
        found.settings["freeze"] = {"policy": "never", "freeze_timeout_seconds": 3, "max_window_seconds": 3}
        found.settings["thaw"] = {"owner_limit_seconds": 3, "attempt_timeout_seconds": 1}
        found.write_config()
        yield found


@pytest.fixture
def guest(lab: Site) -> Iterator[RealGuest]:
    """The guest, whole again at the end."""
    found = lab.guest
    assert isinstance(found, RealGuest)
    lab.node.set_config(100, lock=None)  # a job that was killed leaves it
    yield found
    found.set_knob("freeze_sleep", 0)
    check_thawed(lab, 20.0)


@pytest.mark.parametrize("instant", ["while it freezes", "frozen"])
def test_a_worker_that_is_killed_inside_its_freeze(lab: Site, guest: RealGuest, instant: str) -> None:
    if instant == "while it freezes":
        guest.set_knob("freeze_sleep", 1.5)
    with lab.vzdump(100, limits=SHORT, backup_delay=6.0) as job:
        job.wait_for_line("issuing guest-agent 'fs-freeze' command")
        if instant == "frozen":
            assert wait_for(guest.is_frozen, 10)
        else:
            time.sleep(0.3)
        job.kill()
        assert wait_for(lambda: not job.running, 10)
        assert settled(lab).closed_at is not None
        check_thawed(lab, 5.0)
    assert newest(lab).verdict == "crash-consistent"


def test_a_freeze_that_lasts_past_the_deadline(lab: Site, guest: RealGuest) -> None:
    with lab.vzdump(100, limits=SHORT, backup_delay=6.0, storage_kind="pbs") as job:
        job.wait_for_line("starting backup via QMP command")
        assert wait_for(guest.is_frozen, 5)
        assert wait_for(lambda: not guest.is_frozen(), 5.5)
        assert not any("started backup task" in line for line in job.log_lines)
        assert job.wait().ok
    assert newest(lab).failure_reason == "deadline"


def test_a_thaw_that_nobody_is_answered_is_an_alarm_and_done_when_the_agent_is_back(
    lab: Site, guest: RealGuest
) -> None:
    with lab.vzdump(100, limits=SHORT, backup_delay=1.5) as job:
        job.wait_for_line("starting backup via QMP command")
        assert wait_for(guest.is_frozen, 5)
        guest.stop_agent()
        try:
            result = job.wait()
            assert result.ok  # a backup is never lost to a guest that does not thaw
            metrics = lab.metrics_path.read_text()
        finally:
            guest.continue_agent()
    check_thawed(lab, 10.0)
    assert 'pve_fsfreeze_guest_frozen{id="qemu/100",node="pve1",source="vzdump",vmid="100"} 1.0' in metrics
    assert wait_for(lambda: newest(lab).closed_at is not None, 20)
