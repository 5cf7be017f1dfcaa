"""A real guest whose backup freezes by itself and loses its thaw, under policy never: thawed in time, or told."""

from __future__ import annotations

import os
import signal
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
    lab.write_config()
    found = lab.guest
    assert isinstance(found, RealGuest)
    lab.node.set_config(100, lock=None)  # a job that was killed leaves it
    yield found
    found.set_knob("freeze_sleep", 0)
    check_thawed(lab, 20.0)


FROZEN_LINE = "starting backup via QMP command"
"""vzdump writes it once its freeze was answered. To see a real guest frozen takes seconds on a busy machine."""


def hooks(guest: RealGuest) -> list[str]:
    """What the guest's own freeze hook was called with so far."""
    return [event for _, event in guest.hook_log()]


@pytest.mark.parametrize("instant", ["while it freezes", "frozen"])
def test_a_worker_that_is_killed_inside_its_freeze(lab: Site, guest: RealGuest, instant: str) -> None:
    if instant == "while it freezes":
        guest.set_knob("freeze_sleep", 1.5)
    before = len(hooks(guest))
    with lab.vzdump(100, limits=SHORT, backup_delay=30.0) as job:
        if instant == "frozen":
            job.wait_for_line(FROZEN_LINE)
        else:
            job.wait_for_line("issuing guest-agent 'fs-freeze' command")
            assert wait_for(lambda: len(hooks(guest)) > before, 20)
        job.kill()
        assert wait_for(lambda: not job.running, 10)
        assert settled(lab).verdict == "crash-consistent"
        assert wait_for(lambda: newest(lab).closed_at is not None, 20)  # a busy guest's thaw may outlast the owner
        check_thawed(lab, 20.0)
    assert hooks(guest)[before:][:2] == ["freeze", "thaw"]


def test_a_freeze_that_lasts_past_the_deadline(lab: Site, guest: RealGuest) -> None:
    before = len(hooks(guest))
    with lab.vzdump(100, limits=SHORT, backup_delay=15.0, storage_kind="pbs") as job:
        job.wait_for_line(FROZEN_LINE)
        assert wait_for(lambda: hooks(guest)[before:][-1] == "thaw", 15)
        check_thawed(lab, 15.0)
        assert not any("started backup task" in line for line in job.log_lines)
        assert job.wait().ok
    assert newest(lab).failure_reason == "deadline"


def test_a_thaw_that_nobody_is_answered_is_an_alarm_and_done_when_the_agent_is_back(
    lab: Site, guest: RealGuest
) -> None:
    lab.write_config(freeze={"policy": "never", "freeze_timeout_seconds": 3, "max_window_seconds": 300})
    with lab.vzdump(100, limits=SHORT, backup_delay=3.0) as job:
        job.wait_for_line(FROZEN_LINE)
        os.kill(job.pid, signal.SIGSTOP)  # its thaw comes when the agent has been stopped
        guest.stop_agent()
        os.kill(job.pid, signal.SIGCONT)
        try:
            result = job.wait()
            assert result.ok  # a backup is never lost to a guest that does not thaw
            metrics = lab.metrics_path.read_text()
        finally:
            guest.continue_agent()
    check_thawed(lab, 20.0)
    assert 'pve_fsfreeze_guest_frozen{id="qemu/100",node="pve1",source="vzdump",vmid="100"} 1.0' in metrics
    assert wait_for(lambda: newest(lab).closed_at is not None, 20)
