"""proxmoxer, the client that the product uses, against the lab node."""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Iterator

import pytest
from proxmoxer import ProxmoxAPI, ResourceException

from tests.lab.guest.agentmodel import Refusal
from tests.lab.node.client import Lab, with_scripted


@pytest.fixture(autouse=True)
def _no_other_ca(monkeypatch: pytest.MonkeyPatch) -> None:
    """requests prefers these variables to the CA file that it is given for a session."""
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)


@contextlib.contextmanager
def _client(lab: Lab, **credentials: str) -> Iterator[ProxmoxAPI]:
    """Its session is closed in the end: urllib3 before 2 leaves that to the garbage collector, and Python warns."""
    api = ProxmoxAPI(lab.node.host, port=lab.node.port, verify_ssl=str(lab.node.ca_file), **credentials)
    with api._store["session"]:
        yield api


@contextlib.contextmanager
def _api(lab: Lab) -> Iterator[ProxmoxAPI]:
    user, _, token = lab.node.token_id.partition("!")
    with _client(lab, user=user, token_name=token, token_value=lab.node.token_secret) as api:
        yield api


def test_a_window_by_hand() -> None:
    with with_scripted() as lab, _api(lab) as api:
        guest = api.nodes("pve1").qemu(100)
        assert guest.agent("fsfreeze-freeze").post() == {"result": 1}
        upid = guest.snapshot.post(snapname="s1", description="by proxmoxer")
        assert lab.node.wait_task(upid) == "OK"
        assert api.nodes("pve1").tasks(upid).status.get()["exitstatus"] == "OK"
        assert guest.agent("fsfreeze-thaw").post() == {"result": 1}
        guest.snapshot("s1").config.put(description="consistent")
        assert guest.snapshot.get()[0]["description"] == "consistent"


def test_a_refusal_is_no_exception() -> None:
    with with_scripted() as lab, _api(lab) as api:
        lab.guest.faults.refuse["guest-fsfreeze-freeze"] = Refusal("GenericError", "no")
        assert "error" in api.nodes("pve1").qemu(100).agent("fsfreeze-freeze").post()["result"]


@pytest.mark.parametrize("json_message", [True, False])
def test_an_error_carries_pves_reason_phrase_as_its_content(json_message: bool) -> None:
    with with_scripted(json_message=json_message) as lab, _api(lab) as api:
        lab.guest.stop()
        with pytest.raises(ResourceException) as caught:
            api.nodes("pve1").qemu(100).agent("fsfreeze-freeze").post()
        assert caught.value.status_code == 500
        assert caught.value.content == "VM 100 is not running"


def test_a_cut_call_is_596() -> None:
    with with_scripted(limits={"cut": 0.1}) as lab, _api(lab) as api:
        lab.guest.faults.freeze_sleep = 0.5
        with pytest.raises(ResourceException) as caught:
            api.nodes("pve1").qemu(100).agent("fsfreeze-freeze").post()
        assert caught.value.status_code == 596


def test_a_login_with_a_password() -> None:
    with with_scripted() as lab:
        lab.node.add_user("lab@pve", "secret")
        with _client(lab, user="lab@pve", password="secret") as api:
            assert api.nodes("pve1").qemu(100).agent("fsfreeze-thaw").post() == {"result": 0}


def test_its_local_backend_cannot_parse_a_task_of_pvesh() -> None:
    """It hands pvesh's output to a JSON parser: a task's lines in front of the UPID make that fail."""
    with with_scripted() as lab:
        command = [lab.node.pvesh, "create", "/nodes/pve1/qemu/100/snapshot", "-snapname", "s1"]
        output = subprocess.run(
            [*command, "--output-format", "json"], capture_output=True, text=True, check=True
        ).stdout
        with pytest.raises(json.JSONDecodeError):
            json.loads(output)
        assert json.loads(output.splitlines()[-1]).startswith("UPID:")
