"""Who may do what on the lab node: tokens, tickets, privileges, certificates."""

from __future__ import annotations

import socket
import ssl

import pytest

from tests.lab.node.certs import authority
from tests.lab.node.client import Answer, Client, Lab, with_scripted
from tests.lab.node.node import PRIVILEGES, GuestSpec, LabNode

QEMU = "/nodes/pve1/qemu/100"
THAW = f"{QEMU}/agent/fsfreeze-thaw"


def _with(lab: Lab, headers: dict[str, str], method: str, path: str, **values: object) -> Answer:
    with Client(lab.node, headers=headers) as client:
        return client.ask(method, path, **values)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "PVEAPIToken=lab@pve!safe-snapshot=wrong"},
        {"Authorization": "PVEAPIToken=nobody@pve!x=00000000"},
        {"Cookie": "PVEAuthCookie=PVE:root@pam:00000000::forged"},
    ],
)
def test_wrong_credentials_get_401_and_no_body(headers: dict[str, str]) -> None:
    with with_scripted() as lab:
        answer = _with(lab, headers, "GET", "/version")
        assert (answer.status, answer.body) == (401, b"")


def test_a_missing_privilege_is_named_with_its_alternative() -> None:
    with with_scripted() as lab:
        headers = lab.as_token("lab@pve!audit", "VM.Audit", "VM.GuestAgent.Audit")
        answer = _with(lab, headers, "POST", THAW)
        text = "Permission check failed (/vms/100, VM.GuestAgent.FileSystemMgmt|VM.GuestAgent.Unrestricted)"
        assert (answer.status, answer.reason) == (403, text)
        assert _with(lab, headers, "POST", f"{QEMU}/agent/fsfreeze-status").result == "thawed"


@pytest.mark.parametrize(
    ("path", "method", "missing"),
    [
        (f"{QEMU}/config", "GET", "VM.Audit"),
        (f"{QEMU}/status/current", "GET", "VM.Audit"),
        (f"{QEMU}/snapshot", "POST", "VM.Snapshot"),
        (f"{QEMU}/snapshot/s1", "DELETE", "VM.Snapshot"),
        (f"{QEMU}/snapshot/s1/config", "PUT", "VM.Snapshot"),
        (f"{QEMU}/feature?feature=snapshot", "GET", "VM.Audit"),
        (f"{QEMU}/agent/ping", "POST", "VM.GuestAgent.Audit|VM.GuestAgent.Unrestricted"),
        (f"{QEMU}/sendkey", "PUT", "VM.Console"),
    ],
)
def test_every_method_asks_for_its_privilege(path: str, method: str, missing: str) -> None:
    with with_scripted() as lab:
        answer = _with(lab, lab.as_token("lab@pve!none"), method, path)
        assert (answer.status, answer.reason) == (403, f"Permission check failed (/vms/100, {missing})")


@pytest.mark.parametrize(("version", "privilege"), [("9.0.3", "VM.GuestAgent.FileSystemMgmt"), ("9.0.2", "VM.Monitor")])
def test_before_9_0_3_the_agent_needs_the_monitor_privilege(version: str, privilege: str) -> None:
    with with_scripted(pve_version=version) as lab:
        others = [name for name in PRIVILEGES if name != privilege]
        refused = _with(lab, lab.as_token("lab@pve!without", *others), "POST", THAW)
        assert refused.status == 403
        assert privilege in refused.reason
        assert _with(lab, lab.as_token("lab@pve!with", privilege), "POST", THAW).result == 0


def test_without_rights_the_list_of_guests_is_empty_and_no_error() -> None:
    with with_scripted() as lab:
        assert _with(lab, lab.as_token("lab@pve!none"), "GET", "/cluster/resources", type="vm").data == []
        assert [entry["vmid"] for entry in lab.ask("GET", "/cluster/resources", type="vm").data] == [100]


def test_a_privilege_on_one_guest_is_none_on_another() -> None:
    with with_scripted(vmids=(100, 101)) as lab:
        secret = lab.node.add_token("lab@pve!one", PRIVILEGES, path="/vms/100")
        headers = {"Authorization": f"PVEAPIToken=lab@pve!one={secret}"}
        assert _with(lab, headers, "POST", THAW).result == 0
        assert _with(lab, headers, "POST", THAW.replace("100", "101")).status == 403
        assert [e["vmid"] for e in _with(lab, headers, "GET", "/cluster/resources", type="vm").data] == [100]


def test_a_ticket_needs_the_csrf_token_for_writing_only() -> None:
    with with_scripted() as lab:
        lab.node.add_user("lab@pve", "secret")
        login = _with(lab, {}, "POST", "/access/ticket", username="lab@pve", password="secret").data
        cookie = {"Cookie": f"PVEAuthCookie={login['ticket']}"}
        assert _with(lab, cookie, "GET", f"{QEMU}/config").status == 200
        refused = _with(lab, cookie, "POST", THAW)
        text = "Permission denied - invalid csrf token"
        assert (refused.status, refused.reason, refused.body) == (401, text, b"")
        good = {**cookie, "CSRFPreventionToken": login["CSRFPreventionToken"]}
        assert _with(lab, good, "POST", THAW).result == 0


def test_a_wrong_password_gets_401_and_an_old_ticket_too() -> None:
    with with_scripted() as lab:
        lab.node.add_user("lab@pve", "secret")
        assert _with(lab, {}, "POST", "/access/ticket", username="lab@pve", password="wrong").status == 401
        login = _with(lab, {}, "POST", "/access/ticket", username="lab@pve", password="secret").data
        lab.node.set(ticket_ttl=-1)
        answer = _with(lab, {"Cookie": f"PVEAuthCookie={login['ticket']}"}, "GET", "/version")
        assert (answer.status, answer.body) == (401, b"")


def test_a_ticket_outlives_a_restart() -> None:
    with with_scripted() as lab:
        lab.node.add_user("lab@pve", "secret")
        login = _with(lab, {}, "POST", "/access/ticket", username="lab@pve", password="secret").data
        lab.node.restart()
        assert _with(lab, {"Cookie": f"PVEAuthCookie={login['ticket']}"}, "GET", "/version").status == 200


@pytest.mark.parametrize(("json_message", "keys"), [(True, {"data", "message"}), (False, {"data"})])
def test_the_text_of_an_error_is_the_reason_phrase_and_the_json_message_depends_on_the_version(
    json_message: bool, keys: set[str]
) -> None:
    with with_scripted(GuestSpec(100, config={"agent": None}), json_message=json_message) as lab:
        answer = lab.agent("ping")
        assert answer.reason == "No QEMU guest agent configured"
        assert set(answer.json) == keys


def test_only_root_may_set_a_lock() -> None:
    with with_scripted() as lab:
        answer = lab.ask("PUT", f"{QEMU}/config", lock="backup")
        assert (answer.status, answer.reason) == (500, "only root can set 'lock' config")


def test_the_certificate_is_the_nodes_own_and_signed_by_the_clusters_ca() -> None:
    with with_scripted(nodes=("pve1", "pve2")) as lab:
        for at in ("pve1", "pve2"):
            assert lab.ask("GET", "/version", at=at).status == 200
        context = ssl.create_default_context(cafile=str(lab.node.ca_file))
        names = _names_of(lab.node, context)
        assert names == {"localhost", "pve1", "127.0.0.1"}


def test_a_certificate_of_another_ca_is_refused_by_a_client_that_checks() -> None:
    with with_scripted() as lab:
        lab.node.certify(authority("Somebody Else"))
        lab.node.stop_front()
        lab.node.start_front()
        with pytest.raises(ssl.SSLCertVerificationError):
            lab.ask("GET", "/version")


def _names_of(node: LabNode, context: ssl.SSLContext) -> set[str]:
    with (
        socket.create_connection((node.host, node.port)) as plain,
        context.wrap_socket(plain, server_hostname="pve1") as wrapped,
    ):
        certificate = wrapped.getpeercert()
    assert certificate
    return {str(value) for _, value in certificate["subjectAltName"]}
