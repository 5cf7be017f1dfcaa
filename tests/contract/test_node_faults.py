"""Faults that the lab node can be told to make, and what a client then sees."""

from __future__ import annotations

import http.client
import os
import signal
import time

import pytest

from tests.lab.node.client import Client, wait_for, with_scripted
from tests.lab.node.node import LabNode

QEMU = "/nodes/pve1/qemu/100"
FREEZE = "agent/fsfreeze-freeze"
LOST = (ConnectionError, http.client.RemoteDisconnected)


def test_a_lost_request_is_not_acted_on() -> None:
    with with_scripted() as lab:
        lab.node.fault(FREEZE, "drop")
        with pytest.raises(LOST):
            lab.agent("fsfreeze-freeze")
        assert not lab.guest.is_frozen()
        assert lab.agent("fsfreeze-freeze").result == 1, "only the first call was hit"


def test_a_lost_reply_was_acted_on() -> None:
    with with_scripted() as lab:
        lab.node.fault(FREEZE, "drop", when="after")
        with pytest.raises(LOST):
            lab.agent("fsfreeze-freeze")
        assert lab.guest.is_frozen()


def test_the_second_call_can_be_hit_and_any_number_after_it() -> None:
    with with_scripted() as lab:
        lab.node.fault("fsfreeze-status", "status", status=502, reason="Bad Gateway", nth=2, times=2)
        statuses = [lab.agent("fsfreeze-status").status for _ in range(4)]
        assert statuses == [200, 502, 502, 200]
        assert lab.node.fault_hits() == 2


@pytest.mark.parametrize("status", [401, 500, 502, 595, 596, 597, 598, 599])
@pytest.mark.parametrize(("when", "frozen"), [("before", False), ("after", True)])
def test_any_status_before_or_after_acting(status: int, when: str, frozen: bool) -> None:
    with with_scripted() as lab:
        lab.node.fault(FREEZE, "status", status=status, reason="because", when=when)
        answer = lab.agent("fsfreeze-freeze")
        assert (answer.status, answer.reason, answer.body) == (status, "because", b"")
        assert lab.guest.is_frozen() is frozen


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ("<html>Bad Gateway</html>", "text/html"),
        ('{"data": {"resu', "application/json"),
        ('{"data": {"result": null}}', "application/json"),
        ('{"data": "text"}', "application/json"),
        ('{"data": [1]}', "application/json"),
        ("[]", "application/json"),
    ],
)
def test_any_body_in_place_of_the_answer(body: str, kind: str) -> None:
    with with_scripted() as lab:
        lab.node.fault(FREEZE, "body", body=body, content_type=kind, when="after")
        answer = lab.agent("fsfreeze-freeze")
        assert (answer.status, answer.body.decode(), answer.headers["Content-Type"]) == (200, body, kind)
        assert lab.guest.is_frozen()


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_delay_before_or_after_acting(when: str) -> None:
    with with_scripted() as lab, Client(lab.node) as client:
        lab.node.fault(FREEZE, "delay", delay=0.5, when=when)
        client.send("POST", f"{QEMU}/{FREEZE}")
        assert client.receive().result == 1
        (request,) = lab.node.requests(FREEZE)
        assert request.acted_at is not None
        assert request.done is not None
        waited = {"before": request.acted_at - request.at, "after": request.done - request.acted_at}
        assert waited[when] >= 0.5


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_held_call_goes_on_when_it_is_released_before_or_after_acting(when: str) -> None:
    with with_scripted() as lab, Client(lab.node) as client:
        lab.node.fault(FREEZE, "hold", when=when)
        client.send("POST", f"{QEMU}/{FREEZE}")
        wait_for(lambda: lab.node.held() == 1)
        assert lab.guest.is_frozen() is (when == "after")
        assert lab.node.requests(FREEZE)[0].outcome == "running"
        lab.node.release()
        assert client.receive().result == 1
        assert lab.node.held() == 0
        assert lab.agent("fsfreeze-thaw").result == 1
        assert lab.agent("fsfreeze-freeze").result == 1, "a released fault holds nothing more"


def test_every_call_can_be_held_until_all_are_released_at_once() -> None:
    with with_scripted() as lab, Client(lab.node) as first, Client(lab.node) as second:
        lab.node.fault("fsfreeze-status", "hold", times=None)
        for number, client in enumerate((first, second), 1):
            client.send("POST", f"{QEMU}/agent/fsfreeze-status")
            wait_for(lambda number=number: lab.node.held() == number)  # type: ignore[misc]
        lab.node.release()
        assert (first.receive().result, second.receive().result) == ("thawed", "thawed")


def test_a_held_call_whose_client_has_left_is_acted_on_when_it_is_released() -> None:
    with with_scripted() as lab:
        lab.node.fault(FREEZE, "hold")
        with Client(lab.node) as client:
            client.send("POST", f"{QEMU}/{FREEZE}")
            wait_for(lambda: lab.node.held() == 1)
        assert not lab.guest.is_frozen()
        lab.node.clear_faults()  # releases as well
        wait_for(lab.guest.is_frozen)


def test_any_fault_can_hold_its_call_first() -> None:
    with with_scripted() as lab, Client(lab.node) as client:
        lab.node.fault(FREEZE, "drop", held=True)
        client.send("POST", f"{QEMU}/{FREEZE}")
        wait_for(lambda: lab.node.held() == 1)
        assert lab.node.requests(FREEZE)[0].outcome == "running"
        lab.node.release()
        with pytest.raises(LOST):
            client.receive()
        assert not lab.guest.is_frozen()


def test_a_hang_never_answers() -> None:
    with with_scripted() as lab, Client(lab.node, timeout=0.3) as client:
        lab.node.fault(FREEZE, "hang", when="after")
        with pytest.raises(TimeoutError):
            client.ask("POST", f"{QEMU}/{FREEZE}")
        assert lab.guest.is_frozen()


def test_the_server_can_die_before_or_after_acting_and_come_back() -> None:
    with with_scripted() as lab:
        for when, frozen in (("before", False), ("after", True)):
            lab.node.fault(FREEZE, "kill", when=when)
            with pytest.raises(LOST):
                lab.agent("fsfreeze-freeze")
            with pytest.raises(ConnectionError):  # refused, or reset while the kernel clears up
                lab.agent("fsfreeze-status")
            assert lab.guest.is_frozen() is frozen
            lab.node.restart()
        assert lab.agent("fsfreeze-status").result == "frozen"


def test_a_killed_pveproxy_leaves_pvedaemon_at_its_work() -> None:
    with with_scripted() as lab, Client(lab.node) as client:
        lab.guest.faults.freeze_sleep = 0.5
        client.send("POST", f"{QEMU}/{FREEZE}")
        lab.wait_began("guest-fsfreeze-freeze")
        os.kill(lab.node.pid, signal.SIGKILL)
        with pytest.raises(LOST):
            client.receive()
        wait_for(lab.guest.is_frozen)


def test_a_fault_can_be_kept_to_one_node_and_one_method() -> None:
    with with_scripted(nodes=("pve1", "pve2")) as lab:
        lab.node.fault("fsfreeze-thaw", "status", status=500, node="pve1", method="POST", times=None)
        assert lab.agent("fsfreeze-thaw").status == 500
        assert lab.agent("fsfreeze-thaw", at="pve2").result == 0
        lab.node.clear_faults()
        assert lab.agent("fsfreeze-thaw").result == 0


def test_a_task_status_can_lie() -> None:
    with with_scripted() as lab:
        upid = lab.snapshot("s1")
        lab.node.wait_task(upid)
        lab.node.fault("/status$", "body", body='{"data": {"status": "stopped"}}')
        assert "exitstatus" not in lab.task(upid).data
        assert lab.task(upid).data["exitstatus"] == "OK"


def test_a_wrong_fault_is_refused_where_it_is_written() -> None:
    with with_scripted() as lab:
        with pytest.raises(ValueError, match="no such fault"):
            lab.node.fault(FREEZE, "explode")
        with pytest.raises(TypeError):
            lab.node.fault(FREEZE, "drop", probability=0.5)


def test_every_request_is_recorded_with_its_instants_and_its_outcome() -> None:
    with with_scripted() as lab:
        lab.agent("fsfreeze-freeze")
        lab.node.fault("fsfreeze-thaw", "drop")
        with pytest.raises(LOST):
            lab.agent("fsfreeze-thaw")
        lab.node.kill()
        freeze, thaw = lab.node.requests("/agent/")
        assert (freeze.outcome, freeze.user, freeze.method) == ("200", lab.node.token_id, "POST")
        assert freeze.acted_at is not None
        assert freeze.done is not None
        assert freeze.at <= freeze.acted_at <= freeze.done
        assert (thaw.outcome, thaw.acted_at) == ("fault drop", None)
        lab.node.forget_requests()
        assert lab.node.requests() == []


def test_a_stopped_front_breaks_connections_off_and_the_freeze_goes_on() -> None:
    with with_scripted() as lab, Client(lab.node) as client:
        lab.guest.faults.freeze_sleep = 0.5
        client.send("POST", f"{QEMU}/{FREEZE}")
        lab.wait_began("guest-fsfreeze-freeze")
        lab.node.stop_front()
        with pytest.raises(LOST):
            client.receive()
        wait_for(lab.guest.is_frozen)


def test_a_second_node_of_a_test_process_starts_faster_than_fakepve_can_be_imported() -> None:
    with with_scripted():
        spent = []
        for _ in range(5):
            began = time.monotonic()
            with with_scripted():
                spent.append(time.monotonic() - began)
        assert min(spent) < 0.3


def test_a_node_that_cannot_listen_says_why() -> None:
    with with_scripted() as lab:
        second = LabNode(lab.node.root.parent / "second")
        second.settings.nodes = lab.node.settings.nodes
        with pytest.raises(RuntimeError, match="address already in use"):
            second.start()


def test_nothing_is_left_when_a_node_was_stopped() -> None:
    with with_scripted(task_delays={"before": 30}) as lab:
        lab.snapshot("s1")
        assert len(lab.node.running_tasks()) == 1
        lab.node.stop()
        wait_for(lambda: not lab.node.running_tasks())
