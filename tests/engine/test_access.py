"""Tokens, privileges, certificates, nodes, and an API that is down (pve-facts, section 4)."""

from __future__ import annotations

import math

import pytest

from tests.engine import kit
from tests.engine.kit import take
from tests.lab.guest.scripted import ScriptedGuest
from tests.lab.node.certs import authority
from tests.lab.site import Site, site, wait_for


def test_a_wrong_token_is_named_without_its_secret(lab: Site) -> None:
    kit.write_secret(lab.node.token_file, f"{lab.node.token_id}=11111111-2222-3333-4444-555555555555\n")
    run = take(lab)
    assert run.exit_code == 5, run
    assert "did not accept the credentials" in run.stderr
    assert "token_file" in run.stderr
    assert "11111111" not in run.text


@pytest.mark.parametrize(
    "reason", ["token 'safe-snapshot' access expired", "Permission denied - invalid csrf token", "no ticket"]
)
def test_the_reason_of_a_401_is_shown(lab: Site, reason: str) -> None:
    lab.node.fault(".*", "status", status=401, reason=reason, times=None)
    run = take(lab)
    assert run.exit_code == 5, run
    assert f"did not accept the credentials ({reason})" in run.stderr


def test_a_token_that_expires_while_the_guest_is_frozen_does_not_leave_it_frozen(lab: Site) -> None:
    """The owner and its guard go on asking: the token is made valid again, or another route opens."""
    lab.node.fault("fsfreeze-thaw", "status", status=401, reason="token 'safe-snapshot' access expired", times=3)
    run = take(lab, "--policy", "require")
    assert run.exit_code == 0, run
    assert len(lab.node.requests("fsfreeze-thaw")) == 4


@pytest.mark.parametrize(("status", "reason"), [(401, "no such user"), (403, "Permission check failed"), (400, "no")])
def test_a_task_that_pve_does_not_tell_of_any_more_is_not_waited_for(lab: Site, status: int, reason: str) -> None:
    """A token that is revoked meanwhile, a task that PVE does not know: asking on for half an hour cannot help."""
    lab.node.fault("/tasks/", "status", status=status, reason=reason, times=None)
    run = take(lab)
    assert run.exit_code == 7, run
    assert "PVE does not say any more how the snapshot task ended" in run.stderr
    assert lab.guest.windows()[0] < 15, "nor is the guest held frozen to the deadline for news that cannot come"


WITHOUT = {
    "VM.Audit": (4, "VM.Audit"),
    "VM.Snapshot": (4, "VM.Snapshot"),
    "VM.GuestAgent.FileSystemMgmt": (6, "VM.GuestAgent.FileSystemMgmt"),
    "VM.GuestAgent.Audit": (6, "VM.GuestAgent.Audit"),
}
NEEDED = tuple(WITHOUT)


@pytest.mark.parametrize("missing", WITHOUT)
def test_a_missing_privilege_is_named_before_anything_is_at_risk(lab: Site, missing: str) -> None:
    exit_code, says = WITHOUT[missing]
    secret = lab.node.add_token("lab@pve!less", [p for p in NEEDED if p != missing])
    kit.write_secret(lab.node.token_file, f"lab@pve!less={secret}\n")
    run = take(lab, "--policy", "require")
    assert run.exit_code == exit_code, run
    assert says in run.stderr
    assert "docs/privileges.md" in run.stderr
    assert not lab.node.requests("fsfreeze-freeze")
    assert secret not in run.text


def test_the_documented_privileges_suffice(lab: Site) -> None:
    secret = lab.node.add_token("lab@pve!exact", NEEDED)
    kit.write_secret(lab.node.token_file, f"lab@pve!exact={secret}\n")
    run = take(lab, "--policy", "require")
    assert run.exit_code == 0, run
    assert "warning" not in run.stdout


def test_before_pve_9_the_agent_needs_vm_monitor() -> None:
    with site(ScriptedGuest, pve_version="8.4.1", limits=dict(kit.QUICK_LIMITS)) as lab:
        secret = lab.node.add_token("lab@pve!eight", ["VM.Audit", "VM.Snapshot", "VM.Monitor"])
        kit.write_secret(lab.node.token_file, f"lab@pve!eight={secret}\n")
        run = take(lab)
        assert run.exit_code == 0, run
        assert "unknown" in run.stdout
        secret = lab.node.add_token("lab@pve!eight", ["VM.Audit", "VM.Snapshot"])
        kit.write_secret(lab.node.token_file, f"lab@pve!eight={secret}\n")
        run = kit.check(lab, lab.safe_snapshot("100", "--policy", "require"))
        assert run.exit_code == 6, run
        assert "VM.Monitor" in run.stderr


def test_a_token_that_sees_no_guest_is_told_so(lab: Site) -> None:
    secret = lab.node.add_token("lab@pve!none", [])
    kit.write_secret(lab.node.token_file, f"lab@pve!none={secret}\n")
    run = take(lab)
    assert run.exit_code == 4, run
    assert "lists no guest at all for this token" in run.stderr
    assert "VM.Audit" in run.stderr


def test_a_guest_that_does_not_exist(lab: Site) -> None:
    run = take(lab, vmid=999)
    assert run.exit_code == 4, run
    assert "guest 999 does not exist in this cluster" in run.stderr
    assert "qm list" in run.stderr


def test_a_guest_that_was_removed_meanwhile(lab: Site) -> None:
    text = "Configuration file 'nodes/pve1/qemu-server/100.conf' does not exist"
    lab.node.fault("/qemu/100/config", "status", status=500, reason=text)
    run = take(lab)
    assert run.exit_code == 5, run
    assert "does not exist" in run.stderr


def test_a_guest_on_a_node_that_nobody_knows(lab: Site) -> None:
    text = "hostname lookup 'pve9' failed - failed to get address info for: pve9: Name or service not known"
    lab.node.fault("/qemu/100/config", "status", status=500, reason=text)
    run = take(lab)
    assert run.exit_code == 5, run
    assert "hostname lookup 'pve9' failed" in run.stderr


def test_a_guest_on_a_node_that_is_down() -> None:
    with site(ScriptedGuest, nodes=("pve1", "pve2")) as lab:
        lab.node.move_guest(100, "pve2")
        lab.node.set_node_online("pve2", False)
        run = take(lab)
        assert run.exit_code == 4, run
        assert "pve2 is offline" in run.stderr


def test_a_certificate_of_somebody_else(lab: Site) -> None:
    lab.node.certify(authority("Somebody Else"))
    lab.node.restart()
    run = take(lab)
    assert run.exit_code == 5, run
    assert "the certificate was not accepted" in run.stderr
    assert "ca_file" in run.stderr


def test_a_host_name_that_is_not_in_the_certificate(lab: Site) -> None:
    lab.write_config(api={"host": "127.0.0.9"})
    run = take(lab)
    assert run.exit_code == 5, run


@pytest.mark.parametrize("text", [None, "", "no certificate at all\n"], ids=["missing", "empty", "garbage"])
def test_a_ca_file_that_is_none(lab: Site, text: str | None) -> None:
    path = lab.run / "ca.pem"
    if text is not None:
        path.write_text(text)
    lab.write_config(api={"ca_file": str(path)})
    run = take(lab)
    assert run.exit_code == 3, run
    assert str(path) in run.stderr
    assert "ca_file" in run.stderr


def test_an_api_that_is_down(lab: Site) -> None:
    lab.node.stop_front()
    run = take(lab)
    assert run.exit_code == 5, run
    assert "cannot be reached" in run.stderr
    assert "pveproxy" in run.stderr


@pytest.mark.parametrize("json_message", [True, False], ids=["new", "old"])
def test_pves_own_words_are_shown_with_and_without_a_json_message(lab: Site, json_message: bool) -> None:
    """`message` in the JSON exists since pve-http-server 5.2.0; before, the text is the reason phrase alone."""
    lab.node.set(json_message=json_message)
    lab.node.set_config(100, agent=None)
    lab.node.fault("/feature", "status", status=500, reason="storage 'x' is not online")
    run = take(lab)
    assert run.exit_code == 0, run
    assert "storage 'x' is not online" in run.stderr


def test_a_bad_parameter_names_the_field(lab: Site) -> None:
    body = '{"data":null,"errors":{"snapname":"invalid format"},"message":"Parameter verification failed.\\n"}'
    reason = "Parameter verification failed."
    lab.node.fault("/qemu/100/snapshot$", "status", method="POST", status=400, reason=reason, body=body)
    run = take(lab)
    assert run.exit_code == 7, run
    assert "Parameter verification failed" in run.stderr
    assert "snapname: invalid format" in run.stderr
    assert kit.window(lab).closed_at is not None


def test_a_method_that_this_pve_does_not_have(lab: Site) -> None:
    lab.node.fault("/qemu/100/snapshot$", "status", method="POST", status=501, reason="Method not implemented")
    run = take(lab)
    assert run.exit_code == 7, run
    assert "501" in run.stderr


def test_the_api_server_dies_while_the_guest_is_frozen(lab: Site, guest: ScriptedGuest) -> None:
    """It is started again after a second, as systemd does: the owner's retries thaw the guest."""
    lab.write_config(thaw={"owner_limit_seconds": 20})
    lab.node.fault("/tasks/", "kill")
    process = lab.start("100", "--name", "s1")
    assert wait_for(lambda: any("/tasks/" in r.path for r in lab.node.requests()))
    lab.node.restart()
    _, stderr = process.communicate(timeout=60)
    assert process.returncode in (0, 7), stderr
    assert not guest.is_frozen()


def test_a_guest_that_hangs_for_ever_gets_the_alarm_and_the_guard_stays(lab: Site, guest: ScriptedGuest) -> None:
    lab.write_config(thaw={"owner_limit_seconds": 1, "slowest_retry_seconds": 0.3, "attempt_timeout_seconds": 1})
    lab.node.set(limits={**kit.QUICK_LIMITS, "thaw": 2.0})
    guest.faults.delay["guest-fsfreeze-thaw"] = math.inf
    run = take(lab, thawed=False, timeout=40)
    assert run.exit_code == 8, run
    guest.faults.delay.clear()
    guest.kill_agent()
    guest.start_agent()
    assert wait_for(lambda: not guest.is_frozen(), 15), "the guard went on"
    assert kit.closes(lab)
