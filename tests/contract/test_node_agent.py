"""The lab node's agent calls against PVE's own answers, row by row."""

from __future__ import annotations

import math
import threading
import time

import pytest

from tests.lab.guest.agentmodel import Refusal
from tests.lab.node.client import Client, wait_for, with_scripted
from tests.lab.node.node import GuestSpec
from tests.lab.node.qmp import PeerTimeout, agent_command

QEMU = "/nodes/pve1/qemu/100"
FREEZE = "guest-fsfreeze-freeze"


def test_a_freeze_answers_the_number_of_filesystems_and_a_thaw_likewise() -> None:
    with with_scripted() as lab:
        assert lab.agent("fsfreeze-status").result == "thawed"
        assert lab.agent("fsfreeze-freeze").json == {"data": {"result": 1}}
        assert lab.agent("fsfreeze-status").result == "frozen"
        assert lab.agent("fsfreeze-thaw").result == 1
        assert lab.agent("fsfreeze-thaw").result == 0
        assert not lab.guest.is_frozen()


@pytest.mark.parametrize("command", ["ping", "info", "get-fsinfo", "get-osinfo", "get-host-name", "get-time"])
def test_the_harmless_commands_are_answered(command: str) -> None:
    with with_scripted() as lab:
        assert "error" not in str(lab.agent(command).result)


@pytest.mark.parametrize(("method", "command"), [("GET", "fsfreeze-freeze"), ("POST", "info"), ("GET", "ping")])
def test_a_command_with_the_wrong_method_does_not_exist(method: str, command: str) -> None:
    with with_scripted() as lab:
        answer = lab.ask(method, f"{QEMU}/agent/{command}")
        assert (answer.status, answer.reason) == (501, f"Method '{method} {QEMU}/agent/{command}' not implemented")


def test_a_refusal_by_the_agent_is_an_answer_with_status_200() -> None:
    with with_scripted() as lab:
        lab.agent("fsfreeze-freeze")
        text = f"Command {FREEZE} has been disabled: the agent is in frozen state"
        assert lab.agent("fsfreeze-freeze").result == {"error": {"class": "CommandNotFound", "desc": text}}
        lab.agent("fsfreeze-thaw")
        lab.guest.faults.refuse[FREEZE] = Refusal("GenericError", "fsfreeze hook has failed with status 3")
        assert lab.agent("fsfreeze-freeze").result["error"]["desc"] == "fsfreeze hook has failed with status 3"


def test_a_guest_without_the_agent_option_has_no_agent() -> None:
    with with_scripted(GuestSpec(100, config={"agent": None})) as lab:
        answer = lab.agent("ping")
        assert (answer.status, answer.reason) == (500, "No QEMU guest agent configured")


def test_a_disabled_agent_option_does_not_stop_a_call() -> None:
    with with_scripted(GuestSpec(100, config={"agent": "0"})) as lab:
        assert lab.agent("fsfreeze-status").result == "thawed"


def test_a_guest_that_is_off_is_not_running() -> None:
    with with_scripted() as lab:
        lab.guest.stop()
        answer = lab.agent("fsfreeze-status")
        assert (answer.status, answer.reason) == (500, "VM 100 is not running")


def test_a_dead_agent_is_not_running() -> None:
    with with_scripted(limits={"ping": 0.1}) as lab:
        lab.guest.kill_agent()
        answer = lab.agent("fsfreeze-status")
        assert (answer.status, answer.reason) == (500, "QEMU guest agent is not running")


def test_an_agent_whose_socket_is_gone_is_not_running() -> None:
    with with_scripted() as lab:
        lab.guest.agent_socket.unlink()
        assert lab.agent("fsfreeze-status").reason == "QEMU guest agent is not running"


def test_while_the_agent_is_busy_a_thaw_is_not_even_sent() -> None:
    with with_scripted(limits={"ping": 0.4}) as lab, Client(lab.node) as freezer:
        lab.guest.faults.freeze_sleep = 1.5
        freezer.send("POST", f"{QEMU}/agent/fsfreeze-freeze")
        lab.wait_began(FREEZE)
        answer = lab.agent("fsfreeze-thaw")
        assert (answer.status, answer.reason) == (500, "QEMU guest agent is not running")
        assert freezer.receive().result == 1
        assert lab.guest.is_frozen()
        assert [event for _, event in lab.guest.hook_log()] == ["freeze"]


def test_a_call_that_is_not_answered_in_time_says_so() -> None:
    with with_scripted(limits={"command": 0.1}) as lab:
        lab.guest.faults.delay["guest-fsfreeze-status"] = 0.4
        answer = lab.agent("fsfreeze-status")
        text = "VM 100 qga command 'guest-fsfreeze-status' failed - got timeout"
        assert (answer.status, answer.reason) == (500, text)


def test_an_answer_left_over_by_a_caller_that_gave_up_is_not_believed() -> None:
    with with_scripted(limits={"command": 0.4}) as lab:
        lab.guest.faults.delay["guest-fsfreeze-status"] = 0.8
        lab.agent("fsfreeze-status")
        lab.guest.faults.delay.clear()
        assert lab.agent("fsfreeze-freeze").result == 1
        assert lab.agent("fsfreeze-status").result == "frozen"


def test_the_proxy_cuts_after_its_limit_and_the_freeze_still_happens() -> None:
    with with_scripted(limits={"cut": 0.2}) as lab:
        lab.guest.faults.freeze_sleep = 1.0
        answer = lab.agent("fsfreeze-freeze")
        assert (answer.status, answer.reason, answer.body) == (596, "Connection timed out", b"")
        assert not lab.guest.is_frozen()
        wait_for(lab.guest.is_frozen)
        wait_for(lambda: lab.node.requests("fsfreeze-freeze")[0].acted_until is not None)
        request = lab.node.requests("fsfreeze-freeze")[0]
        assert request.acted_until is not None
        assert request.done is not None
        assert request.acted_until > request.done


def test_a_freeze_that_pvedaemon_gave_up_waits_in_the_channel_for_the_next_caller() -> None:
    with with_scripted() as lab:
        lab.guest.stop_agent()  # after PVE's ping, that is: the command and its sync are written all the same
        with pytest.raises(PeerTimeout, match=f"VM 100 qga command '{FREEZE}' failed - got timeout"):
            agent_command(100, lab.guest.agent_socket, FREEZE, timeout=0.1)
        lab.guest.continue_agent()
        time.sleep(0.05)
        assert not lab.guest.is_frozen(), "the agent wants to get rid of its answer to the sync first"
        status = agent_command(100, lab.guest.agent_socket, "guest-fsfreeze-status", timeout=10)
        assert status == "frozen", "the next caller takes that answer, and sets the freeze free"
        assert lab.agent("fsfreeze-thaw").result == 1


def test_a_client_that_leaves_does_not_stop_the_freeze() -> None:
    with with_scripted() as lab:
        lab.guest.faults.freeze_sleep = 1.0
        with Client(lab.node) as client:
            client.send("POST", f"{QEMU}/agent/fsfreeze-freeze")
            lab.wait_began(FREEZE)
        assert not lab.guest.is_frozen()
        wait_for(lab.guest.is_frozen)
        (request,) = lab.node.requests("fsfreeze-freeze")
        assert request.left is not None
        assert request.done is None or request.done > request.left


def test_three_hung_calls_leave_no_worker_for_a_fourth_of_any_kind() -> None:
    with with_scripted(vmids=(100, 101, 102, 103), limits={"cut": 0.5, "freeze": 2.0}) as lab:
        clients = []
        for vmid in (100, 101, 102):
            lab.guests[vmid].faults.delay[FREEZE] = math.inf
            client = Client(lab.node)
            client.send("POST", f"/nodes/pve1/qemu/{vmid}/agent/fsfreeze-freeze")
            clients.append(client)
            lab.wait_began(FREEZE, vmid=vmid)
        assert lab.agent("fsfreeze-status", vmid=103).status == 596
        assert lab.ask("GET", "/nodes/pve1/qemu/103/config").status == 200, "pveproxy answers this one itself"
        for client in clients:
            with client:
                assert client.receive().status == 596
        wait_for(lambda: lab.agent("fsfreeze-status", vmid=103).status == 200)


def test_another_node_has_workers_of_its_own() -> None:
    specs = [GuestSpec(101, node="pve2")]
    with with_scripted(*specs, vmids=(100, 101), nodes=("pve1", "pve2")) as lab:
        lab.guest.faults.delay[FREEZE] = 1.0
        with Client(lab.node) as first, Client(lab.node) as second, Client(lab.node) as third:
            for client in (first, second, third):
                client.send("POST", f"{QEMU}/agent/fsfreeze-freeze")
            lab.wait_began(FREEZE)
            assert lab.ask("POST", "/nodes/pve2/qemu/101/agent/fsfreeze-status").result == "thawed"


def test_a_second_caller_waits_for_the_socket_and_is_then_served() -> None:
    with with_scripted() as lab:
        lab.guest.faults.freeze_sleep = 0.5
        results = []
        caller = threading.Thread(target=lambda: results.append(lab.agent("fsfreeze-freeze").result))
        caller.start()
        lab.wait_began(FREEZE)
        assert lab.agent("fsfreeze-status").result == "frozen"
        caller.join()
        assert results == [1]
        assert lab.node.most_agent_calls_at_once(100) == 2


def test_an_unknown_guest_is_named_by_its_missing_file() -> None:
    with with_scripted() as lab:
        answer = lab.agent("ping", vmid=999)
        text = "Configuration file 'nodes/pve1/qemu-server/999.conf' does not exist"
        assert (answer.status, answer.reason) == (500, text)


def test_an_unknown_node_cannot_be_looked_up() -> None:
    with with_scripted() as lab:
        answer = lab.ask("POST", "/nodes/nope/qemu/100/agent/ping")
        assert answer.status == 500
        assert answer.reason.startswith("hostname lookup 'nope' failed - ")


def test_a_bad_parameter_is_named_and_an_unknown_path_is_not_implemented() -> None:
    with with_scripted() as lab:
        answer = lab.ask("POST", f"{QEMU}/agent/ping", nonsense=1)
        assert answer.status == 400
        assert list(answer.json["errors"]) == ["nonsense"]
        assert lab.ask("GET", "/no/such/path").status == 501


def test_a_connection_that_a_refused_call_used_is_closed() -> None:
    with with_scripted() as lab, Client(lab.node) as client:
        assert client.ask("GET", "/version").headers.get("Connection") != "close"
        assert client.ask("GET", "/no/such/path").headers.get("Connection") == "close"


def test_an_idle_connection_is_closed_whether_it_was_used_or_not() -> None:
    with with_scripted(idle_timeout=1.0) as lab, Client(lab.node) as used, Client(lab.node) as unused:
        unused._connection.connect()
        assert used.ask("GET", "/version").status == 200
        assert used._connection.sock is not None
        assert unused._connection.sock is not None
        assert used._connection.sock.recv(1) == b""
        assert unused._connection.sock.recv(1) == b""


def test_a_dead_guest_breaks_a_call_off() -> None:
    with with_scripted() as lab, Client(lab.node) as client:
        lab.guest.faults.delay[FREEZE] = math.inf
        client.send("POST", f"{QEMU}/agent/fsfreeze-freeze")
        lab.wait_began(FREEZE)
        lab.guest.stop()
        answer = client.receive()
        assert (answer.status, answer.reason) == (
            500,
            f"VM 100 qga command '{FREEZE}' failed - client closed connection",
        )
