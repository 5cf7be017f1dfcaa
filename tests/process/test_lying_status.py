"""Where the agent's status lies (it is its memory, not the kernel's state), with the real agent."""

from __future__ import annotations

import subprocess

import pytest

from tests.lab.fixtures import real_guest
from tests.lab.guest.real import RealGuest
from tests.lab.node.node import PRIVILEGES
from tests.lab.site import Site, wait_for
from tests.process.processes import guarded_site, guards, held, hold_frozen, kill, requested

pytestmark = pytest.mark.real


def _guest(lab: Site) -> RealGuest:
    assert isinstance(lab.guest, RealGuest)
    return lab.guest


def test_a_guest_whose_agent_forgot_that_it_is_frozen_is_thawed() -> None:
    """The agent dies in the window and its state file with it: the status says thawed, the disk is frozen."""
    with guarded_site(real_guest) as (lab, timeline):
        lab.node.fault("/tasks/", "hold", times=None)  # its owner does not hear that the snapshot is taken
        with lab.start("100", "--policy", "require") as owner:
            assert wait_for(lambda: bool(lab.node.points()) and not lab.node.running_tasks(), 60)
            lab.guest.kill_agent()
            lab.guest.start_agent(keep_state=False)
            assert lab.guest.ask("guest-fsfreeze-status") == "thawed"
            assert wait_for(timeline.is_frozen)
            lab.node.release()
            out, err = owner.communicate(timeout=60)
        timeline.wait_until_thawed_for(0.4)
        assert owner.returncode == 6, (out, err)  # its proof said thawed: never called consistent
        assert lab.windows()[0].filesystems_thawed == 1


def test_recover_thaws_a_guest_whose_agent_forgot_that_it_is_frozen() -> None:
    with guarded_site(real_guest) as (lab, timeline):
        hold_frozen(lab)
        with lab.start("100") as owner:
            held(lab)
            kill(*guards(lab), owner.pid)
        lab.guest.kill_agent()
        lab.guest.start_agent(keep_state=False)
        assert lab.safe_snapshot("recover").exit_code == 0
        timeline.wait_until_thawed_for(0.4)


def test_a_window_thawed_from_inside_is_never_called_consistent() -> None:
    """The status stays frozen; only the count of the thaw tells."""
    with guarded_site(real_guest) as (lab, timeline):
        hold_frozen(lab)
        with lab.start("100", "--policy", "prefer") as owner:
            held(lab)
            lab.guest.thaw_from_inside()
            lab.node.release()
            out, err = owner.communicate(timeout=60)
        assert owner.returncode == 0, (out, err)
        timeline.wait_until_thawed_for(0.4)
        (window,) = lab.windows()
        assert (window.verdict, window.filesystems_frozen, window.filesystems_thawed) == ("crash-consistent", 1, 0)


def test_a_failing_thaw_hook_is_reported_and_not_retried_for_ever() -> None:
    with guarded_site(real_guest) as (lab, timeline):
        lab.guest.set_knob("thaw_exit", 3)
        run = lab.safe_snapshot("100")
        timeline.wait_until_thawed_for(0.4)
        assert run.exit_code == 0, run
        assert len(lab.node.requests("fsfreeze-thaw")) == 1
        assert [event for _, event in lab.guest.hook_log()] == ["freeze", "thaw"]
        assert lab.windows()[0].closed_at is not None


def _freeze_what_cannot_be_thawed(lab: Site) -> subprocess.Popen[str]:
    """Start a run and, in its window, let the agent come back with its thaw blocked (`qemu-ga -b`)."""
    hold_frozen(lab)
    owner = lab.start("100")
    held(lab)
    lab.guest.kill_agent()
    _guest(lab).shell(
        "/usr/sbin/qemu-ga -m virtio-serial -p /dev/virtio-ports/org.qemu.guest_agent.0 -t /run -F/lab/hook "
        "-b guest-fsfreeze-thaw </dev/null >/dev/null 2>&1 3>&- & echo $! >/run/qga.pid"
    )
    lab.guest.wait_agent()
    lab.node.release()
    return owner


def test_a_guest_that_cannot_be_thawed_raises_the_alert_until_somebody_cures_it() -> None:
    with guarded_site(real_guest) as (lab, timeline):
        lab.settings["thaw"]["owner_limit_seconds"] = 2
        lab.write_config()
        with _freeze_what_cannot_be_thawed(lab) as owner:
            out, err = owner.communicate(timeout=60)
        assert owner.returncode == 8, (out, err)
        assert timeline.is_frozen()
        # The alert stands in the journal, the metrics and the status for as long as it lasts.
        assert wait_for(lambda: lab.windows()[0].state == "stuck")
        gauge = 'pve_fsfreeze_guest_frozen{id="qemu/100",node="pve1",source="snapshot",vmid="100"}'
        assert wait_for(lambda: f"{gauge} 1" in lab.metrics_path.read_text())
        assert "FROZEN" in lab.safe_snapshot("status").text
        assert guards(lab)
        # The last resort is for those who opted in: its turn comes every eighth round.
        requested(lab, "fsfreeze-thaw", 10)
        assert not lab.node.sendkeys()
        # The runbook's cure. The agent remembers the freeze, so the guard is told as soon as it may thaw again.
        _guest(lab).shell("fsfreeze --unfreeze /data")
        timeline.wait_until_thawed_for(0.4)
        assert lab.windows()[0].state == "stuck"
        lab.guest.kill_agent()
        lab.guest.start_agent()
        assert wait_for(lambda: lab.windows()[0].state == "thawed", 30)
        assert wait_for(lambda: f"{gauge} 0" in lab.metrics_path.read_text())
        assert lab.windows()[0].verdict != "filesystem-consistent"


def test_sysrq_thaws_a_guest_whose_agent_cannot_where_the_operator_opted_in() -> None:
    with guarded_site(real_guest) as (lab, timeline):
        lab.node.on_key(lambda vmid, key: _press(lab, key))
        secret = lab.node.add_token("lab@pve!keys", (*PRIVILEGES, "VM.Console"))  # what PVE asks for a key press
        lab.node.token_file.write_text(f"lab@pve!keys={secret}\n")
        lab.settings["thaw"] |= {"owner_limit_seconds": 20, "sysrq": True}
        lab.write_config()
        with _freeze_what_cannot_be_thawed(lab) as owner:
            timeline.wait_until_thawed_for(1.0)
            assert {entry["key"] for entry in lab.node.sendkeys()} == {"alt-sysrq-j"}
            owner.kill()
        assert lab.windows()[0].verdict != "filesystem-consistent"


def _press(lab: Site, key: str) -> None:
    """What the guest's kernel does on the key: the lab's guests have no keyboard."""
    assert key == "alt-sysrq-j"
    _guest(lab).shell("echo j >/proc/sysrq-trigger")
