"""From a guest that misbehaves in the lab to an alert at a webhook, and back: Prometheus and Alertmanager are real.

Nothing in between is made up: our commands run as processes against the lab's node, the guard publishes while the guest
is frozen, node_exporter reads the file, Prometheus evaluates the shipped rules (with limits of seconds), Alertmanager
sends. Each test has a guest of its own. One such chain is in `make test`, the one that matters most; what the others
add to promtool's stories is marked slow.
"""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.fixtures import real_guest
from tests.lab.guest.agentmodel import Refusal
from tests.lab.guest.scripted import ScriptedGuest
from tests.lab.rundir import run_directory
from tests.lab.site import Site, site, wait_for
from tests.metrics.monitoring import SECONDS, Stack, stack

RUNBOOKS = "file:///usr/share/doc/vzdump-hooks/runbooks"

FREEZE, THAW, SLOW, KILLED, SILENT, HOOK = range(100, 106)


@pytest.fixture(scope="module")
def lab() -> Iterator[Site]:
    with site(*[ScriptedGuest] * 6) as lab:
        lab.settings = {
            "freeze": {"max_window_seconds": 3, "freeze_timeout_seconds": 2},
            "thaw": {"owner_limit_seconds": 6},
            "metrics": {"scrape_interval_seconds": 1},
        }
        lab.write_config()
        yield lab


@pytest.fixture(scope="module")
def alerts(lab: Site) -> Iterator[Stack]:
    assert lab.safe_snapshot(str(FREEZE)).exit_code == 0
    with run_directory() as folder, stack(folder, lab.metrics_path.parent, SECONDS) as found:
        yield found


@pytest.mark.real
@pytest.mark.slow
def test_a_real_guests_failing_freeze_ends_as_an_alert_and_resolves_after_the_next_good_run() -> None:
    """The whole chain on a real kernel with a real agent whose freeze hook fails."""
    with site(real_guest) as lab, run_directory() as folder:
        _good_run(lab, 100)
        with stack(folder, lab.metrics_path.parent, SECONDS) as alerts:
            lab.guest.set_knob("freeze_exit", 3)
            since = time.time()
            assert lab.safe_snapshot("100").exit_code == 0
            notice = alerts.fires("VzdumpHooksFreezeFailed", since, id="qemu/100", node="pve1", stage="freeze")
            assert re.match(r"Guest qemu/100 \(\S+\) on node pve1", notice.annotations["description"])
            lab.guest.set_knob("freeze_exit", 0)
            since = time.time()
            _good_run(lab, 100)
            alerts.resolves("VzdumpHooksFreezeFailed", since, id="qemu/100")
            assert not lab.guest.is_frozen()


def _next_minutes(lab: Site, vmid: int) -> None:
    """What the timer does: a counter's first series, which stands at 0 for two scrapes, is published again."""

    def shown() -> bool:
        assert lab.safe_snapshot("recover").exit_code == 0
        return re.search(rf'guard_thaws_total{{.*vmid="{vmid}".*}} 1', lab.metrics_path.read_text()) is not None

    assert wait_for(shown, 60)


def _guest(lab: Site, vmid: int) -> ScriptedGuest:
    guest = lab.guests[vmid]
    assert isinstance(guest, ScriptedGuest)
    return guest


def _good_run(lab: Site, vmid: int) -> None:
    run = lab.safe_snapshot(str(vmid), "--policy", "require", "--name", f"good{time.monotonic_ns()}")
    assert run.exit_code == 0, run.text


@pytest.mark.slow
def test_a_failing_freeze_is_an_alert_until_the_next_good_run(lab: Site, alerts: Stack) -> None:
    _guest(lab, FREEZE).set_knob("freeze_exit", 3)
    since = time.time()
    run = lab.safe_snapshot(str(FREEZE))
    assert run.exit_code == 0, run.text  # policy prefer: the snapshot is there, and is crash-consistent
    notice = alerts.fires(
        "VzdumpHooksFreezeFailed", since, id=f"qemu/{FREEZE}", node="pve1", stage="freeze", reason="refused"
    )
    assert re.match(rf"Guest qemu/{FREEZE} \(\S+\) on node pve1", notice.annotations["description"])
    assert notice.annotations["runbook_url"] == f"{RUNBOOKS}/freeze-failed.md"
    assert notice.labels["severity"] == "warning"
    _guest(lab, FREEZE).set_knob("freeze_exit", 0)
    since = time.time()
    _good_run(lab, FREEZE)
    alerts.resolves("VzdumpHooksFreezeFailed", since, id=f"qemu/{FREEZE}")


@pytest.mark.slow
def test_a_guest_without_a_consistent_run_for_too_long_is_an_alert_until_it_has_one(lab: Site, alerts: Stack) -> None:
    _good_run(lab, SILENT)
    _guest(lab, SILENT).set_knob("freeze_exit", 3)
    since = time.time()
    lab.safe_snapshot(str(SILENT))
    notice = alerts.fires("VzdumpHooksNotConsistentSince", since, id=f"qemu/{SILENT}", node="pve1")
    assert "has had no consistent snapshot or backup for" in notice.annotations["description"]
    _guest(lab, SILENT).set_knob("freeze_exit", 0)
    since = time.time()
    _good_run(lab, SILENT)
    alerts.resolves("VzdumpHooksNotConsistentSince", since, id=f"qemu/{SILENT}")


def test_a_guest_that_cannot_be_thawed_is_critical_while_it_is_frozen(lab: Site, alerts: Stack) -> None:
    guest = _guest(lab, THAW)
    guest.faults.refuse["guest-fsfreeze-thaw"] = Refusal("GenericError", "the kernel does not let go")
    since = began = time.time()
    run = lab.safe_snapshot(str(THAW))
    assert run.exit_code == 8, run.text
    assert guest.is_frozen()
    notice = alerts.fires("VzdumpHooksGuestStillFrozen", since, id=f"qemu/{THAW}", node="pve1", severity="critical")
    assert guest.is_frozen()  # seen while it is so, not after
    assert notice.annotations["runbook_url"] == f"{RUNBOOKS}/guest-still-frozen.md"
    alerts.fires("VzdumpHooksThawFailed", since, id=f"qemu/{THAW}", stage="thaw")
    since = time.time()
    guest.faults.refuse.clear()
    assert wait_for(lambda: not guest.is_frozen(), 15), "the guard did not thaw it"
    alerts.resolves("VzdumpHooksGuestStillFrozen", since, id=f"qemu/{THAW}")
    _next_minutes(lab, THAW)
    alerts.fires("VzdumpHooksGuardIntervened", began, id=f"qemu/{THAW}", cause="owner-gave-up")
    _good_run(lab, THAW)
    alerts.resolves("VzdumpHooksThawFailed", since, id=f"qemu/{THAW}")


@pytest.mark.slow
def test_a_window_over_its_limit_is_an_alert_until_the_next_one_within(lab: Site, alerts: Stack) -> None:
    guest = _guest(lab, SLOW)
    guest.set_knob("thaw_sleep", 4)
    since = time.time()
    lab.safe_snapshot(str(SLOW))
    notice = alerts.fires("VzdumpHooksWindowOverLimit", since, id=f"qemu/{SLOW}", node="pve1")
    assert "is more than its max_window_seconds" in notice.annotations["description"]
    guest.set_knob("thaw_sleep", 0)
    since = time.time()
    _good_run(lab, SLOW)
    alerts.resolves("VzdumpHooksWindowOverLimit", since, id=f"qemu/{SLOW}")


@pytest.mark.slow
def test_an_owner_that_is_killed_while_the_guest_is_frozen_is_an_alert_for_a_while(lab: Site, alerts: Stack) -> None:
    guest = _guest(lab, KILLED)
    lab.node.fault(f"/qemu/{KILLED}/snapshot$", "delay", method="POST", delay=2.0)
    since = time.time()
    process = lab.start(str(KILLED))
    try:
        # Not before its freeze was answered: a guard whose owner may still be waiting for a freeze watches for an hour.
        assert wait_for(lambda: lab.node.fault_hits() > 0, 20)
        assert guest.is_frozen()
        os.kill(process.pid, signal.SIGKILL)
    finally:
        process.kill()
        process.communicate()
    assert wait_for(lambda: not guest.is_frozen(), 10)
    _next_minutes(lab, KILLED)
    notice = alerts.fires("VzdumpHooksGuardIntervened", since, id=f"qemu/{KILLED}", node="pve1", cause="owner-died")
    assert "was thawed by its guard (owner-died)" in notice.annotations["description"]
    alerts.fires("VzdumpHooksFreezeFailed", since, id=f"qemu/{KILLED}", stage="hold", reason="owner-died")
    alerts.resolves(
        "VzdumpHooksGuardIntervened", since, id=f"qemu/{KILLED}", cause="owner-died"
    )  # an event passes by itself
    _good_run(lab, KILLED)
    alerts.resolves("VzdumpHooksFreezeFailed", since, id=f"qemu/{KILLED}")


@pytest.mark.slow
def test_an_agent_that_does_not_answer_is_an_alert_until_it_does(lab: Site, alerts: Stack) -> None:
    guest = _guest(lab, SLOW)
    guest.kill_agent()
    since = time.time()
    lab.safe_snapshot(str(SLOW))
    notice = alerts.fires("VzdumpHooksAgentDown", since, id=f"qemu/{SLOW}", node="pve1")
    assert "crash-consistent only" in notice.annotations["description"]
    alerts.fires("VzdumpHooksFreezeFailed", since, id=f"qemu/{SLOW}", stage="preflight")
    guest.start_agent()
    since = time.time()
    _good_run(lab, SLOW)
    alerts.resolves("VzdumpHooksAgentDown", since, id=f"qemu/{SLOW}")


@pytest.mark.slow
def test_a_hook_that_fails_is_an_alert_for_a_while(lab: Site, alerts: Stack) -> None:
    secret = lab.node.token_file.read_bytes()
    since = time.time()
    try:
        lab.node.token_file.unlink()
        with lab.vzdump(HOOK) as job:
            assert wait_for(lambda: not job.running, 60)
    finally:
        lab.node.token_file.write_bytes(secret)
        lab.node.token_file.chmod(0o600)
    assert lab.safe_snapshot("recover").exit_code == 0
    notice = alerts.fires("VzdumpHooksHookErrors", since)
    assert notice.labels["phase"]
    assert notice.labels["node"] in notice.annotations["description"]
    alerts.resolves("VzdumpHooksHookErrors", since, phase=notice.labels["phase"])


@pytest.mark.slow
def test_metrics_that_grow_old_or_vanish_are_an_alert_until_they_are_written_again(lab: Site, alerts: Stack) -> None:
    """Last of all: nothing runs for longer than a node may be silent."""
    since = time.time()
    notice = alerts.fires("VzdumpHooksMetricsStale", since - 60, job="node")
    assert "are older than they may be, or gone" in notice.annotations["description"]
    assert Path(notice.labels["file"]).name == lab.metrics_path.name
    since = time.time()
    _good_run(lab, FREEZE)
    alerts.resolves("VzdumpHooksMetricsStale", since, job="node", file=notice.labels["file"])
    lab.metrics_path.unlink()
    alerts.fires("VzdumpHooksMetricsStale", since, job="node", instance=notice.labels["instance"])
    _good_run(lab, FREEZE)
    assert lab.metrics_path.exists()
