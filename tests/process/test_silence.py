"""Agents that stop answering, owners that stop moving, and freezes that come when everybody has given up."""

from __future__ import annotations

import contextlib
import signal
import time

from tests.lab.guest.agentfacts import WINDOWS
from tests.lab.guest.agentmodel import Faults
from tests.lab.guest.qga import AgentClient
from tests.lab.guest.scripted import ScriptedGuest
from tests.lab.site import Site, wait_for
from tests.process.figures import thawed_within
from tests.process.processes import guarded_site, guards, held, hold_frozen, kill, requested, the_guard

# What PVE's worker leaves in the guest's channel when it gives up: PVE::QMPClient writes both in one go.
QUEUED_FREEZE = (
    b'{"execute":"guest-sync-delimited","arguments":{"id":7}}\n{"execute":"guest-fsfreeze-freeze","arguments":{}}\n'
)


# PVE's own limit is 3 s; what is tested does not depend on it.
SHORT_PING = {"ping": 1.0}


def queue_a_freeze(lab: Site) -> None:
    """Leave a freeze in the channel of an agent that is stopped, as a caller does that gave up waiting."""
    with lab.guest.agent() as client:
        client.send(QUEUED_FREEZE)
        time.sleep(0.1)


def test_a_silent_agent_is_thawed_as_soon_as_it_answers() -> None:
    with guarded_site(ScriptedGuest) as (lab, timeline):
        lab.node.set(limits=SHORT_PING)
        hold_frozen(lab)
        with lab.start("100") as owner:
            held(lab)
            lab.guest.stop_agent()
            kill(owner.pid)
        # Long enough for the retries to be at their slowest.
        assert wait_for(lambda: lab.windows()[0].state == "stuck", 40)
        lab.guest.continue_agent()
        thawed_within(2.0, timeline, time.monotonic(), "agent silent, then answering")
        assert wait_for(lambda: lab.windows()[0].state == "thawed")


def queued(lab: Site) -> AgentClient:
    """A connection to the agent, as soon as there is room in its queue."""
    found: list[AgentClient] = []

    def connects() -> bool:
        with contextlib.suppress(BlockingIOError):
            found.append(lab.guest.agent())
        return bool(found)

    assert wait_for(connects, 10)
    return found[0]


def test_an_agent_whose_answers_to_others_are_in_the_way_is_thawed_all_the_same() -> None:
    """PVE numbers its calls by its worker's pid, and gives up at once on an answer with a higher number."""
    with guarded_site(ScriptedGuest) as (lab, timeline):
        lab.node.set(limits=SHORT_PING)
        hold_frozen(lab)
        with lab.start("100") as owner:
            held(lab)
            lab.guest.stop_agent()
            kill(owner.pid)
        assert wait_for(lambda: lab.windows()[0].state == "stuck", 40)
        for _ in range(2):
            with queued(lab) as client:
                client.send(
                    b'{"execute":"guest-sync-delimited","arguments":{"id":99999999901}}\n{"execute":"guest-ping"}\n'
                )
        lab.guest.continue_agent()
        thawed_within(2.0, timeline, time.monotonic(), "agent silent, others' answers in the way")


def test_a_silent_agent_on_the_node_is_thawed_as_soon_as_it_answers() -> None:
    with guarded_site(ScriptedGuest, on_the_node=True) as (lab, timeline):
        lab.node.set(limits=SHORT_PING)
        hold_frozen(lab)
        with lab.start("100") as owner:
            held(lab)
            lab.guest.stop_agent()
            kill(owner.pid)
        time.sleep(5)
        lab.guest.continue_agent()
        thawed_within(2.0, timeline, time.monotonic(), "agent silent, then answering, on the node")


def test_the_guard_thaws_past_the_deadline_of_an_owner_that_stands_still() -> None:
    with guarded_site(ScriptedGuest) as (lab, timeline):
        lab.node.fault("/tasks/", "hold", times=None)  # the owner does not hear of the task's end
        with lab.start("100", "--policy", "prefer", "--max-window", "5") as owner:
            held(lab)
            assert wait_for(lambda: bool(lab.node.points()))
            stopped_at = kill(owner.pid, with_signal=signal.SIGSTOP)
            thawed_within(5.0 + 2.0 + 1.0, timeline, stopped_at, "owner stopped: deadline 5 s, margin 2 s")
            assert wait_for(lambda: lab.windows()[0].guard_cause == "deadline")
            lab.node.release()
            owner.send_signal(signal.SIGCONT)
            out, err = owner.communicate(timeout=30)
        assert owner.returncode == 0, (out, err)
        assert lab.windows()[0].verdict == "crash-consistent"
        assert wait_for(lambda: not guards(lab))


def test_a_freeze_that_outlives_its_caller_is_thawed_when_the_agent_returns() -> None:
    """The agent is stopped in the middle of its freeze; owner, API and PVE's own worker give up and go."""
    with guarded_site(ScriptedGuest) as (lab, timeline):
        lab.node.set(limits=SHORT_PING)
        lab.settings["thaw"]["owner_limit_seconds"] = 1
        lab.write_config()
        lab.guest.set_knob("freeze_sleep", 1)
        with lab.start("100", "--freeze-timeout", "1", "--policy", "require") as owner:
            requested(lab, "fsfreeze-freeze")
            assert wait_for(lambda: len(lab.guest.hook_log()) > 0)
            lab.guest.stop_agent()
            assert owner.wait(40) == 8, owner.communicate()
        assert "STILL BE FROZEN" in lab.safe_snapshot("status").text or guards(lab)
        lab.node.restart()  # PVE's worker, which would have waited for an hour
        lab.guest.continue_agent()
        returned_at = time.monotonic()
        assert wait_for(lambda: len(timeline.freezes()) == 1)
        thawed_within(5.0, timeline, returned_at, "late freeze, everybody gone but the guard")


def test_a_freeze_queued_in_a_stopped_agent_is_thawed_when_it_returns() -> None:
    with guarded_site(ScriptedGuest) as (lab, timeline):
        lab.settings["thaw"]["owner_limit_seconds"] = 1
        lab.write_config()
        lab.node.fault("fsfreeze-freeze", "drop", held=True)  # our freeze's reply is lost; the freeze is the queued one
        with lab.start("100", "--policy", "require") as owner:
            held(lab)
            lab.guest.stop_agent()
            queue_a_freeze(lab)
            lab.node.release()
            assert owner.wait(40) == 8, owner.communicate()
        lab.guest.continue_agent()
        returned_at = time.monotonic()
        assert wait_for(lambda: len(timeline.freezes()) == 1)
        thawed_within(5.0, timeline, returned_at, "late freeze, queued in a stopped agent")


def late_freeze_after_a_good_thaw(lab: Site) -> float:
    """The freeze that nobody waits for is executed now; returns the instant."""
    assert lab.guest.ask("guest-fsfreeze-freeze") == 1
    return time.monotonic()


def test_a_freeze_executed_after_the_run_has_ended_is_thawed() -> None:
    with guarded_site(ScriptedGuest) as (lab, timeline):
        lab.node.fault("fsfreeze-freeze", "drop")
        assert lab.safe_snapshot("100", "--policy", "require").exit_code == 11
        time.sleep(6)  # the looks are at their sparsest
        frozen_at = late_freeze_after_a_good_thaw(lab)
        thawed_within(5.0, timeline, frozen_at, "late freeze after the run's end")
        assert wait_for(lambda: lab.windows()[0].late_freezes == 1)
        assert wait_for(lambda: lab.windows()[0].closed_at is not None), "that was it: others may freeze again"


def test_a_guard_that_died_is_replaced_when_a_late_freeze_is_possible() -> None:
    with guarded_site(ScriptedGuest) as (lab, timeline):
        lab.node.fault("fsfreeze-freeze", "drop", held=True)
        with lab.start("100", "--policy", "require") as owner:
            held(lab)
            killed = the_guard(lab)
            kill(killed)
            lab.node.release()
            assert owner.wait(30) == 11, owner.communicate()
        assert the_guard(lab) != killed
        frozen_at = late_freeze_after_a_good_thaw(lab)
        thawed_within(5.0, timeline, frozen_at, "late freeze, the guard replaced")
        assert wait_for(lambda: lab.windows()[0].closed_at is not None)


def test_recover_starts_a_guard_for_a_late_freeze_that_nobody_watches() -> None:
    with guarded_site(ScriptedGuest) as (lab, timeline):
        lab.node.fault("fsfreeze-freeze", "drop")
        assert lab.safe_snapshot("100", "--policy", "require").exit_code == 11
        kill(the_guard(lab))
        assert "watched" in lab.safe_snapshot("recover").text
        the_guard(lab)
        frozen_at = late_freeze_after_a_good_thaw(lab)
        thawed_within(5.0, timeline, frozen_at, "late freeze, a guard started by recover")


def test_the_guard_ends_when_no_late_freeze_can_come_any_more() -> None:
    with guarded_site(ScriptedGuest) as (lab, _):
        lab.settings["freeze"]["late_freeze_seconds"] = 2
        lab.write_config()
        lab.node.fault("fsfreeze-freeze", "drop")
        assert lab.safe_snapshot("100", "--policy", "require").exit_code == 11
        assert wait_for(lambda: lab.windows()[0].closed_at is not None, 15)
        assert wait_for(lambda: not guards(lab))


def test_windows_that_lets_go_by_itself_is_never_called_consistent() -> None:
    def windows(vmid: int, run: object) -> ScriptedGuest:
        return ScriptedGuest(vmid, run, facts=WINDOWS, faults=Faults(self_thaw_after=1.0))  # type: ignore[arg-type]

    with guarded_site(windows) as (lab, timeline):
        lab.node.set(task_delays={"inside": 2})
        run = lab.safe_snapshot("100", "--policy", "prefer")
        assert run.exit_code == 0, run.text
        assert "crash-consistent" in run.text
        assert not timeline.is_frozen()
        assert lab.windows()[0].verdict == "crash-consistent"


def test_there_is_never_more_than_one_call_of_ours_at_an_agent() -> None:
    with guarded_site(ScriptedGuest) as (lab, timeline):
        assert lab.safe_snapshot("100").exit_code == 0
        lab.node.set(task_delays={"inside": 1})
        with lab.start("100", "--max-window", "3") as owner:
            requested(lab, "/tasks/", 2)
            kill(owner.pid)
        timeline.wait_until_thawed_for(1.0)
        lab.node.fault("fsfreeze-freeze", "drop")
        assert lab.safe_snapshot("100", "--policy", "require").exit_code == 11
        time.sleep(2)
        assert lab.safe_snapshot("recover").exit_code == 0
        assert lab.node.most_agent_calls_at_once(100) == 1
