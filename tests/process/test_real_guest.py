"""The headline promises on a real guest: a real kernel, the real agent, a real disk. Its writes are the witness."""

from __future__ import annotations

import signal
import time

import pytest

from tests.lab.fixtures import real_guest
from tests.lab.site import wait_for
from tests.process.figures import thawed_within
from tests.process.processes import (
    guarded_site,
    guards,
    held,
    hold_frozen,
    kill,
    kill_with,
    requested,
    task_has_skipped_its_freeze,
    the_guard,
)

pytestmark = pytest.mark.real


def test_a_real_guest_is_thawed_when_its_owner_is_killed() -> None:
    with guarded_site(real_guest) as (lab, timeline):
        hold_frozen(lab)
        with lab.start("100") as owner:
            held(lab)
            killed_at = kill(owner.pid)
        thawed_within(2.0, timeline, killed_at, "real guest: owner killed")
        assert wait_for(lambda: not guards(lab))


def test_a_real_guest_is_thawed_when_its_owner_is_killed_in_the_middle_of_the_freeze() -> None:
    with guarded_site(real_guest) as (lab, timeline):
        lab.guest.set_knob("freeze_sleep", 0.7)
        hold_frozen(lab)  # should we be late: it goes no further
        with lab.start("100") as owner:
            requested(lab, "fsfreeze-freeze")
            assert wait_for(lambda: len(lab.guest.hook_log()) > 0)
            killed_at = kill(owner.pid)
        assert wait_for(lambda: [event for _, event in lab.guest.hook_log()] == ["freeze", "thaw"])
        thawed_within(2.0, timeline, killed_at, "real guest: owner killed while freezing")


def test_a_real_guest_is_thawed_when_the_api_dies_with_the_owner() -> None:
    with guarded_site(real_guest, on_the_node=True) as (lab, timeline):
        hold_frozen(lab)
        with lab.start("100") as owner:
            held(lab)
            killed_at = kill_with(owner.pid, lab.node.kill)
        thawed_within(5.0, timeline, killed_at, "real guest: owner and API server killed")


def test_a_real_guest_is_thawed_by_its_owner_when_the_guard_is_killed() -> None:
    with guarded_site(real_guest) as (lab, timeline):
        lab.node.set(task_delays={"inside": 60})
        with lab.start("100", "--policy", "require") as owner:
            task_has_skipped_its_freeze(lab)
            killed_at = kill(the_guard(lab))
            thawed_within(2.0, timeline, killed_at, "real guest: guard killed")
            lab.node.set(task_delays={})
            assert owner.wait(30) == 6, owner.communicate()


def test_a_real_guest_is_thawed_by_recover_when_both_are_killed() -> None:
    with guarded_site(real_guest) as (lab, timeline):
        hold_frozen(lab)
        with lab.start("100") as owner:
            held(lab)
            kill(the_guard(lab), owner.pid)
        assert wait_for(timeline.is_frozen)
        recovered_at = time.monotonic()
        assert lab.safe_snapshot("recover").exit_code == 0
        thawed_within(5.0, timeline, recovered_at, "real guest: both killed, recover started")


def test_a_real_guest_with_a_silent_agent_is_thawed_when_it_answers() -> None:
    with guarded_site(real_guest) as (lab, timeline):
        hold_frozen(lab)
        with lab.start("100") as owner:
            held(lab)
            lab.guest.stop_agent()
            kill(owner.pid)
        time.sleep(8)
        assert timeline.is_frozen()
        lab.guest.continue_agent()
        thawed_within(2.0, timeline, time.monotonic(), "real guest: agent silent, then answering")


@pytest.mark.parametrize("where", ["api", "node"])
def test_a_real_late_freeze_is_thawed_when_the_agent_returns(where: str) -> None:
    """qemu-ga is stopped inside its freeze; the owner gives up, PVE is restarted; then it goes on and freezes."""
    with guarded_site(real_guest, on_the_node=where == "node") as (lab, timeline):
        lab.settings["thaw"]["owner_limit_seconds"] = 1
        lab.write_config()
        lab.guest.set_knob("freeze_sleep", 3)
        with lab.start("100", "--freeze-timeout", "1", "--policy", "require") as owner:
            requested(lab, "fsfreeze-freeze")
            assert wait_for(lambda: len(lab.guest.hook_log()) > 0)
            lab.guest.stop_agent()
            assert owner.wait(40) == 8, owner.communicate()
        lab.node.restart()
        time.sleep(3)
        lab.guest.continue_agent()
        returned_at = time.monotonic()
        assert wait_for(lambda: len(timeline.freezes()) > 0 or len(lab.guest.hook_log()) > 1)
        thawed_within(5.0, timeline, returned_at, "real guest: late freeze after everybody gave up")


def test_a_real_guest_is_thawed_past_the_deadline_of_an_owner_that_stands_still() -> None:
    with guarded_site(real_guest) as (lab, timeline):
        hold_frozen(lab)
        with lab.start("100", "--max-window", "5") as owner:
            held(lab)
            stopped_at = kill(owner.pid, with_signal=signal.SIGSTOP)
            thawed_within(8.0, timeline, stopped_at, "real guest: owner stopped (deadline 5 s, margin 2 s)")
            owner.kill()


@pytest.mark.parametrize("event", ["reset", "powered off"])
def test_a_real_guest_that_goes_away_in_its_window_ends_it(event: str) -> None:
    with guarded_site(real_guest) as (lab, timeline):
        hold_frozen(lab)
        with lab.start("100") as owner:
            held(lab)
            if event == "reset":
                lab.guest.reset()
            else:
                lab.guest.stop()
            kill(owner.pid)
        assert wait_for(lambda: lab.windows()[0].closed_at is not None, 30)
        assert lab.windows()[0].verdict == "unknown"
        if event == "reset":
            lab.guest.wait_agent()
            timeline.wait_until_thawed_for(0.3)
