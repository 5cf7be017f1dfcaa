"""The owner is SIGKILLed at every stage of its window; its guard thaws."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.lab.guest.scripted import ScriptedGuest
from tests.lab.site import Site, wait_for
from tests.process.figures import thawed_within
from tests.process.processes import (
    guarded_site,
    guards,
    held,
    hold_frozen,
    kill,
    requested,
    task_has_skipped_its_freeze,
    the_guard,
)

BOUND_SECONDS = 2.0


def _freeze_on_its_way(lab: Site) -> None:
    lab.node.fault("fsfreeze-freeze", "hold")


def _freezing(lab: Site) -> None:
    lab.guest.set_knob("freeze_sleep", 1)
    hold_frozen(lab)  # should we be late: it goes no further


def _in_the_task(lab: Site) -> None:
    lab.node.set(task_delays={"inside": 60})


def _proving(lab: Site) -> None:
    # The first status is the preflight's.
    lab.node.fault("fsfreeze-status", "hold", nth=2)


def _thaw_on_its_way(lab: Site) -> None:
    lab.node.fault("fsfreeze-thaw", "hold")


def _thaw_answered(lab: Site) -> None:
    lab.node.fault("fsfreeze-thaw", "hold", when="after")


def _hook_has_begun(lab: Site) -> None:
    assert wait_for(lambda: len(lab.guest.hook_log()) > 0)


# What holds the owner in its stage, and what says that it is there.
STAGES: dict[str, tuple[Callable[[Site], None], Callable[[Site], None]]] = {
    "freeze on its way": (_freeze_on_its_way, held),
    "freezing": (_freezing, _hook_has_begun),
    "frozen": (hold_frozen, held),
    "in the task": (_in_the_task, task_has_skipped_its_freeze),
    "proving": (_proving, held),
    "thaw on its way": (_thaw_on_its_way, held),
    "thaw answered": (_thaw_answered, held),
}


@pytest.mark.parametrize("stage", STAGES)
def test_the_guard_thaws_when_the_owner_is_killed(stage: str) -> None:
    prepare, reached = STAGES[stage]
    with guarded_site(ScriptedGuest) as (lab, timeline):
        prepare(lab)
        with lab.start("100", "--policy", "require") as owner:
            reached(lab)
            killed_at = kill(owner.pid)
        if stage == "freeze on its way":
            requested(lab, "fsfreeze-thaw")
            lab.node.release()
            assert wait_for(lambda: len(timeline.freezes()) > 0)
        thawed_within(BOUND_SECONDS, timeline, killed_at, "owner killed, scripted guest")
        assert wait_for(lambda: lab.windows()[0].thawed_at is not None)
        (window,) = lab.windows()
        assert (window.guard_cause, window.verdict, window.failure_reason) == ("owner-died", "unknown", "owner-died")


@pytest.mark.parametrize("stage", ["freezing", "frozen", "in the task"])
def test_the_guard_on_the_node_thaws_through_the_agents_socket(stage: str) -> None:
    prepare, reached = STAGES[stage]
    with guarded_site(ScriptedGuest, on_the_node=True) as (lab, timeline):
        prepare(lab)
        with lab.start("100") as owner:
            reached(lab)
            _hook_has_begun(lab)
            killed_at = kill(owner.pid)
        thawed_within(BOUND_SECONDS, timeline, killed_at, "owner killed on the node, scripted guest")
        assert wait_for(lambda: lab.windows()[0].thaw_route is not None)
        assert "agent socket" in str(lab.windows()[0].thaw_route)


def test_the_guard_of_an_owner_killed_before_any_freeze_leaves_the_guest_alone() -> None:
    with guarded_site(ScriptedGuest) as (lab, timeline):
        # The preflight comes before the guard, so the only stage between is the journal's: hold it there.
        lab.node.fault("cluster/status", "hold", nth=2)  # the guard's first request: it is not armed yet
        with lab.start("100") as owner:
            held(lab)
            the_guard(lab)
            kill(owner.pid)
        lab.node.release()
        assert wait_for(lambda: not guards(lab))
        assert not lab.node.requests("fsfreeze-thaw")
        assert not timeline.freezes()
