"""The owner dies, and so does the way it came: the guard finds another one."""

from __future__ import annotations

from tests.lab.guest.scripted import ScriptedGuest
from tests.lab.node.node import GuestSpec
from tests.lab.site import wait_for
from tests.process.figures import thawed_within
from tests.process.processes import guarded_site, held, hold_frozen, kill, kill_with, pvesh_of

BOUND_SECONDS = 5.0


def test_the_agents_socket_serves_when_the_api_server_dies_with_the_owner() -> None:
    with guarded_site(ScriptedGuest, on_the_node=True) as (lab, timeline):
        hold_frozen(lab)
        with lab.start("100") as owner:
            held(lab)
            assert timeline.is_frozen()
            killed_at = kill_with(owner.pid, lab.node.kill)
        thawed_within(BOUND_SECONDS, timeline, killed_at, "owner and API server dead: socket")


def test_pvesh_serves_when_the_front_is_down_and_there_is_no_socket() -> None:
    with guarded_site(ScriptedGuest) as (lab, timeline):
        (lab.run / "elsewhere").mkdir()
        lab.settings["local"] = {
            "node": lab.node.node,
            "socket_folder": str(lab.run / "elsewhere"),
            "pvesh": pvesh_of(lab),
        }
        lab.write_config()
        hold_frozen(lab)
        with lab.start("100") as owner:
            held(lab)
            killed_at = kill_with(owner.pid, lab.node.stop_front)
        thawed_within(BOUND_SECONDS, timeline, killed_at, "owner and front dead: pvesh")
        assert wait_for(lambda: lab.windows()[0].thaw_route is not None)
        assert lab.windows()[0].thaw_route == "pvesh"


def test_another_node_serves_when_the_configured_one_goes_down() -> None:
    with guarded_site(ScriptedGuest, nodes=("pve1", "pve2", "pve3")) as (lab, timeline):
        lab.node.move_guest(100, "pve3")
        hold_frozen(lab)
        with lab.start("100") as owner:
            held(lab)
            killed_at = kill_with(owner.pid, lambda: lab.node.set_node_online("pve1", False))
        thawed_within(BOUND_SECONDS, timeline, killed_at, "owner and configured node dead: a peer")
        assert wait_for(lambda: lab.windows()[0].thaw_route is not None)
        assert lab.windows()[0].thaw_route in (lab.node.urls["pve2"], lab.node.urls["pve3"])


def test_a_guest_that_migrates_in_its_window_is_found_and_thawed() -> None:
    with guarded_site(ScriptedGuest, nodes=("pve1", "pve2")) as (lab, timeline):
        hold_frozen(lab)
        with lab.start("100") as owner:
            held(lab)
            lab.node.move_guest(100, "pve2")
            killed_at = kill(owner.pid)
        thawed_within(BOUND_SECONDS, timeline, killed_at, "owner killed, guest migrated")


def test_a_guest_that_is_powered_off_in_its_window_ends_it() -> None:
    with guarded_site(ScriptedGuest) as (lab, _):
        hold_frozen(lab)
        with lab.start("100") as owner:
            held(lab)
            lab.guest.stop()
            kill(owner.pid)
        assert wait_for(lambda: lab.windows()[0].closed_at is not None)
        (window,) = lab.windows()
        assert window.guard_cause == "owner-died"
        assert window.verdict == "unknown"


def test_a_guest_that_is_reset_in_its_window_is_thawed_and_never_called_consistent() -> None:
    with guarded_site(ScriptedGuest) as (lab, timeline):
        lab.node.fault("fsfreeze-status", "hold", nth=2)
        with lab.start("100", "--policy", "require") as owner:
            held(lab)
            lab.guest.reset()
            lab.node.release()
            assert owner.wait(30) == 6, owner.communicate()
        assert not timeline.is_frozen()
        assert lab.windows()[0].verdict == "crash-consistent"


def test_a_removed_guest_ends_its_window() -> None:
    with guarded_site(ScriptedGuest) as (lab, _):
        lab.node.add_guest(GuestSpec(999, lab.run))
        hold_frozen(lab)
        with lab.start("100") as owner:
            held(lab)
            lab.node.store.path(lab.node.node, "qemu", 100).unlink()
            kill(owner.pid)
        assert wait_for(lambda: lab.windows()[0].closed_at is not None)
