"""Containers, templates, guests that are off, paused or this very machine; RAM, dry runs and descriptions."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable

import pytest

from snapshot.journal.store import Journal
from tests.engine import kit
from tests.engine.kit import FREEZE, check, take
from tests.lab.guest.scripted import ScriptedGuest
from tests.lab.node.node import GuestSpec
from tests.lab.site import Run, Site, wait_for
from tests.unit.kit import record


def lxc(**config: str | None) -> GuestSpec:
    return GuestSpec(200, kind="lxc", config=config)


def test_a_container_gets_a_plain_snapshot_and_an_honest_verdict(lab: Site) -> None:
    lab.node.add_guest(lxc())
    run = take(lab, vmid=200)
    assert run.exit_code == 0, run
    assert "crash-consistent: a container" in run.stdout
    assert "lxc/200" in run.stdout
    assert "s1" in kit.snapshots(lab, 200)


def test_a_container_is_not_snapshotted_with_policy_require(lab: Site) -> None:
    lab.node.add_guest(lxc())
    run = take(lab, "--policy", "require", vmid=200)
    assert run.exit_code == 6, run
    assert "a container has no guest agent" in run.stderr
    assert "s1" not in kit.snapshots(lab, 200)


def test_a_container_with_policy_never(lab: Site) -> None:
    lab.node.add_guest(lxc())
    run = take(lab, "--policy", "never", vmid=200)
    assert run.exit_code == 0, run


@pytest.mark.parametrize("policy", ["require", "prefer", "never"])
def test_a_container_that_is_off_is_offline_like_any_guest(lab: Site, policy: str) -> None:
    lab.node.add_guest(GuestSpec(200, kind="lxc", running=False))
    run = take(lab, "--policy", policy, vmid=200)
    assert run.exit_code == 0, run
    assert kit.window(lab).verdict == "offline"
    assert "s1" in kit.snapshots(lab, 200)


def test_a_containers_ram_cannot_be_saved(lab: Site) -> None:
    lab.node.add_guest(lxc())
    run = take(lab, "--vmstate", vmid=200)
    assert run.exit_code == 2, run
    assert "--vmstate" in run.stderr
    assert "container" in run.stderr
    assert "s1" not in kit.snapshots(lab, 200)


def test_a_locked_container_is_told_the_right_command(lab: Site) -> None:
    lab.node.add_guest(lxc(lock="snapshot"))
    run = take(lab, vmid=200)
    assert run.exit_code == 4
    assert "pct unlock 200" in run.stderr


def test_a_template_is_refused(lab: Site, guest: ScriptedGuest) -> None:
    guest.stop()
    lab.node.set_config(100, template=1)
    run = take(lab)
    assert run.exit_code == 4, run
    assert "the guest is a template" in run.stderr


def test_a_snapshot_with_ram_freezes_nothing(lab: Site, guest: ScriptedGuest) -> None:
    run = take(lab, "--vmstate", "--policy", "require")
    assert run.exit_code == 0, run
    assert "memory: RAM is part of the snapshot" in run.stdout
    assert not guest.hook_log()
    assert kit.snapshots(lab)["s1"]["vmstate"]


def test_the_ram_of_a_frozen_guest_is_not_saved(lab: Site, guest: ScriptedGuest) -> None:
    """It would wake up frozen after a rollback, and nobody would thaw it."""
    guest.ask(FREEZE)
    run = take(lab, "--vmstate", thawed=False)
    assert run.exit_code == 13, run
    assert "s1" not in kit.snapshots(lab)
    lab.write_config(freeze={"foreign": "thaw"})
    kit.seen_frozen(lab, 900)
    run = take(lab, "--vmstate")
    assert run.exit_code == 0, run
    assert "memory" in run.stdout


def test_the_ram_of_a_guest_without_an_agent_is_saved(lab: Site, guest: ScriptedGuest) -> None:
    guest.kill_agent()
    run = take(lab, "--vmstate", "--policy", "require")
    assert run.exit_code == 0, run


def test_the_ram_of_a_guest_that_an_earlier_run_may_have_left_frozen_is_not_saved(
    lab: Site, guest: ScriptedGuest
) -> None:
    """Its agent died in the freeze, so nobody can ask it. The alert on it must not end by such a snapshot either."""
    with contextlib.closing(Journal(lab.journal_path)) as journal:
        journal.begin(record("w1", 100, state="stuck", freeze_outcome="acknowledged", frozen_at=time.time()))
    guest.kill_agent()
    run = take(lab, "--vmstate")
    assert run.exit_code == 4, run
    assert "may still be frozen by an earlier run" in run.stderr
    assert "`safe-snapshot thaw 100`" in run.stderr
    assert "s1" not in kit.snapshots(lab)


def test_ram_of_a_guest_that_is_off_is_no_ram(lab: Site, guest: ScriptedGuest) -> None:
    guest.stop()
    run = take(lab, "--vmstate")
    assert run.exit_code == 0
    assert "offline" in run.stdout
    assert "vmstate" not in kit.snapshots(lab)["s1"]


def meanwhile(lab: Site, change: Callable[[], object], *arguments: str) -> Run:
    """A run whose guest changes between the preflight and PVE's task."""
    lab.node.fault("/qemu/100/snapshot$", "hold", method="POST")
    process = lab.start("100", "--name", "s1", *arguments)
    assert wait_for(lambda: lab.node.fault_hits() > 0, 20)
    change()
    lab.node.release()
    stdout, stderr = process.communicate(timeout=60)
    return check(lab, Run(process.returncode, stdout, stderr, 0.0))


@pytest.mark.parametrize("policy", ["require", "prefer"])
def test_a_guest_that_was_started_meanwhile_is_not_called_offline(lab: Site, guest: ScriptedGuest, policy: str) -> None:
    guest.stop()
    run = meanwhile(lab, guest.start, "--policy", policy)
    assert "unknown: the guest was shut down at first but was started meanwhile" in run.text
    assert run.exit_code == (6 if policy == "require" else 0), run
    assert ("s1" in kit.snapshots(lab)) == (policy == "prefer")
    assert (kit.window(lab).verdict, kit.window(lab).failure_reason) == ("unknown", "no-proof")


@pytest.mark.parametrize("policy", ["require", "prefer"])
def test_a_guest_that_went_off_meanwhile_has_no_ram_in_its_snapshot(
    lab: Site, guest: ScriptedGuest, policy: str
) -> None:
    """PVE then saves none, and its task ends OK."""
    run = meanwhile(lab, guest.stop, "--vmstate", "--policy", policy)
    assert "unknown: the guest was running at first, but PVE does not list the snapshot as one with RAM" in run.text
    assert run.exit_code == (6 if policy == "require" else 0), run
    assert ("s1" in kit.snapshots(lab)) == (policy == "prefer")


def test_without_a_second_word_from_pve_a_guest_is_not_called_offline(lab: Site, guest: ScriptedGuest) -> None:
    guest.stop()
    lab.node.fault("/status/current", "status", status=500, reason="no", nth=2)
    run = take(lab)
    assert run.exit_code == 0, run
    assert kit.window(lab).verdict == "unknown"


def test_a_dry_run_changes_nothing(lab: Site, guest: ScriptedGuest) -> None:
    run = take(lab, "--dry-run")
    assert run.exit_code == 0, run
    assert "would take snapshot s1 of qemu/100 on pve1" in run.stdout
    assert "s1" not in kit.snapshots(lab)
    assert not guest.hook_log()
    assert not lab.journal_path.exists()


def test_a_dry_run_says_what_would_stop_the_run(lab: Site) -> None:
    lab.node.set_config(100, agent=None)
    assert take(lab, "--dry-run", "--policy", "require").exit_code == 6
    assert "no freeze (crash-consistent" in take(lab, "--dry-run").stdout


def test_a_dry_run_of_a_frozen_guest_says_that_it_is_frozen(lab: Site, guest: ScriptedGuest) -> None:
    guest.ask(FREEZE)
    run = take(lab, "--dry-run", thawed=False)
    assert run.exit_code == 13, run
    assert guest.is_frozen()


def test_the_machine_we_run_on_is_never_frozen(lab: Site) -> None:
    uuid_file = lab.run / "product_uuid"
    uuid_file.write_text(kit.guest_uuid(lab).upper() + "\n")
    lab.write_config(local={"product_uuid_file": str(uuid_file)})
    for policy in ("require", "prefer"):
        run = take(lab, "--policy", policy)
        assert run.exit_code == 4, run
        assert "runs inside the very guest" in run.stderr
    assert not lab.node.requests("fsfreeze-freeze")


def test_a_description_is_kept_and_the_verdict_added(lab: Site) -> None:
    text = "before the upgrade: 100 % \u00fcmlaut 'quote' \"double\" & = ; #"
    run = take(lab, "--description", text)
    assert run.exit_code == 0, run
    assert kit.description(lab).startswith(text + "\n")
    assert "filesystem-consistent" in kit.description(lab)
    assert "pending" not in kit.description(lab)


def test_a_description_that_is_too_long_is_refused_before_anything_is_done(lab: Site) -> None:
    run = take(lab, "--description", "x" * 10_000)
    assert run.exit_code == 2, run
    assert "description" in run.stderr
    assert not lab.node.requests()


def test_a_description_that_cannot_be_written_is_reported_and_the_snapshot_stays(lab: Site) -> None:
    lab.node.fault("/snapshot/s1/config", "status", status=500, reason="can't lock file - got timeout", times=None)
    run = take(lab)
    assert run.exit_code == 10, run
    assert "filesystem-consistent" in run.stdout
    assert "the verdict could not be written into the description" in run.stdout
    assert "s1" in kit.snapshots(lab)


def test_a_paused_guest_is_called_paused(lab: Site, guest: ScriptedGuest) -> None:
    guest.pause()
    entry = {**lab.node.settings.guests["100"], "qmpstatus": "paused"}
    lab.node.set(guests={"100": entry})
    run = take(lab, "--policy", "require")
    assert run.exit_code == 6, run
    assert "paused" in run.stderr
    assert "qm resume 100" in run.stderr
