"""What the guest agent answers, and what becomes of requests that nobody waits for."""

from __future__ import annotations

import errno
import json
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.contract.conftest import Extras
from tests.lab.guest.agentfacts import ENABLED_WHILE_FROZEN, WINDOWS
from tests.lab.guest.agentmodel import VSS_TEXT, AgentModel, Faults
from tests.lab.guest.base import Guest, vm_running
from tests.lab.guest.oracle import block_statistics_move
from tests.lab.guest.qga import AgentError
from tests.lab.guest.qmp import QmpClient, QmpError
from tests.lab.guest.real import RealGuest
from tests.lab.guest.scripted import ScriptedGuest

FREEZE = "guest-fsfreeze-freeze"
THAW = "guest-fsfreeze-thaw"
STATUS = "guest-fsfreeze-status"
SYNC_6 = b'{"execute":"guest-sync-delimited","arguments":{"id":6}}\n'
# How long "no answer" is waited for; a scripted or a real guest answers within milliseconds.
SILENCE_SECONDS = 0.4
SLOW_SECONDS = 30.0


def generic(desc: str) -> dict[str, Any]:
    return {"error": {"class": "GenericError", "desc": desc}}


def bad_json(desc: str) -> dict[str, Any]:
    return generic(f"JSON parse error, {desc}")


WIRE: list[tuple[bytes, list[Any]]] = [
    (b'{"execute":"guest-ping"}\n', [{"return": {}}]),
    (b'{"execute":"guest-ping"}', [{"return": {}}]),
    (b"{'execute':'guest-ping'}\n", [{"return": {}}]),
    (b"\n", []),
    (b'{"execute":"guest-ping","id":7}\n', [{"return": {}, "id": 7}]),
    (b'{"execute":"guest-ping"}{"execute":"guest-ping"}\n', [{"return": {}}, {"return": {}}]),
    (b'{"execute":"guest-sync","arguments":{"id":5}}\n', [{"return": 5}]),
    (b'{"execute":"guest-sync"}\n', [generic("Parameter 'id' is missing")]),
    (
        b'{"execute":"guest-sync","arguments":{"id":"x"}}\n',
        [generic("Invalid parameter type for 'id', expected: integer")],
    ),
    (
        b'{"execute":"guest-sync","arguments":{"id":1.5}}\n',
        [generic("Invalid parameter type for 'id', expected: integer")],
    ),
    (b'{"execute":"guest-ping","arguments":{"x":1}}\n', [generic("Parameter 'x' is unexpected")]),
    (b'{"execute":"guest-ping","arguments":5}\n', [generic("QMP input member 'arguments' must be an object")]),
    (b'{"execute":"guest-ping","foo":1}\n', [generic("QMP input member 'foo' is unexpected")]),
    (b'{"execute":1}\n', [generic("QMP input member 'execute' must be a string")]),
    (b"{}\n", [generic("QMP input lacks member 'execute'")]),
    (b'{"id":6}\n', [{"id": 6, **generic("QMP input lacks member 'execute'")}]),
    (b"[]\n", [generic("QMP input must be a JSON object")]),
    (b"5\n", [generic("QMP input must be a JSON object")]),
    (b"null\n", [generic("QMP input must be a JSON object")]),
    (b"garbage\n", [bad_json("invalid keyword 'garbage'")]),
    (b"}\n", [bad_json("expecting value")]),
    (b'{"a":}\n', [bad_json("expecting value")]),
    (b"\xff\n", [bad_json("stray '\ufffd'")]),
    (b"\xff\xff\n", [bad_json("stray '\ufffd'"), bad_json("stray '\ufffd'")]),
    (b"\xff" + SYNC_6, [bad_json("stray '\ufffd'"), {"return": 6}]),
    (
        b'{"execute":"guest-bogus"}\n',
        [{"error": {"class": "CommandNotFound", "desc": "The command guest-bogus has not been found"}}],
    ),
    (
        b'{"execute":"guest-get-devices"}\n',
        [{"error": {"class": "CommandNotFound", "desc": "Command guest-get-devices has been disabled"}}],
    ),
    (
        b'{"execute":"guest-fsfreeze-freeze"}{"execute":"guest-fsfreeze-status"}{"execute":"guest-fsfreeze-thaw"}'
        b'{"execute":"guest-fsfreeze-status"}\n',
        [{"return": 1}, {"return": "frozen"}, {"return": 1}, {"return": "thawed"}],
    ),
]


def replies_to(guest: Guest, data: bytes) -> list[Any]:
    """The replies to ``data``: all that stands before the answer to a sync that follows it."""
    replies = []
    with guest.agent() as client:
        client.send(data + b'{"execute":"guest-sync","arguments":{"id":99}}\n')
        while (reply := json.loads(client.read_line().removeprefix(b"\xff"))) != {"return": 99}:
            replies.append(reply)
    return replies


def eventually(condition: Callable[[], bool]) -> bool:
    """Whether the condition comes true within a generous time."""
    deadline = time.monotonic() + SLOW_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def ask_in_vain(guest: Guest, *requests: bytes) -> None:
    """Send requests, wait long enough for them to reach the guest, and leave without an answer."""
    with guest.agent() as client:
        for request in requests:
            client.send(request)
        with pytest.raises(TimeoutError):
            client.read_line(SILENCE_SECONDS)


def request(command: str) -> bytes:
    return json.dumps({"execute": command}).encode() + b"\n"


# -- answers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("data", "expected"), WIRE, ids=[repr(data)[2:60] for data, _ in WIRE])
def test_every_request_gets_the_real_agents_answer_to_the_letter(
    guest: Guest, data: bytes, expected: list[Any]
) -> None:
    assert replies_to(guest, data) == expected


def test_only_the_delimited_syncs_answer_is_preceded_by_0xff(guest: Guest) -> None:
    with guest.agent() as client:
        client.send(SYNC_6)
        assert client.read_line() == b'\xff{"return": 6}'
        client.send(b'{"execute":"guest-sync","arguments":{"id":7}}\n')
        assert client.read_line() == b'{"return": 7}'


def test_a_freeze_and_a_thaw_answer_the_number_of_file_systems(guest: Guest) -> None:
    assert guest.ask(STATUS) == "thawed"
    assert not guest.is_frozen()
    assert guest.ask(FREEZE) == 1
    assert guest.ask(STATUS) == "frozen"
    assert guest.is_frozen()
    assert not block_statistics_move(guest, 0.3)
    assert guest.ask(THAW) == 1
    assert guest.ask(STATUS) == "thawed"
    assert not guest.is_frozen()
    assert block_statistics_move(guest, SLOW_SECONDS)


def test_a_thaw_of_a_thawed_guest_answers_0_and_no_error(guest: Guest) -> None:
    assert guest.ask(THAW) == 0


def test_a_frozen_guest_refuses_everything_but_six_commands_and_says_why(guest: Guest) -> None:
    commands = [entry["name"] for entry in guest.ask("guest-info")["supported_commands"] if entry["enabled"]]
    guest.ask(FREEZE)
    for command in (FREEZE, "guest-fsfreeze-freeze-list", "guest-get-fsinfo", "guest-get-osinfo", "guest-get-time"):
        assert command in commands
        with pytest.raises(AgentError) as raised:
            guest.ask(command)
        assert raised.value.class_ == "CommandNotFound"
        assert raised.value.desc == f"Command {command} has been disabled: the agent is in frozen state"
    enabled = {entry["name"] for entry in guest.ask("guest-info")["supported_commands"] if entry["enabled"]}
    assert enabled == ENABLED_WHILE_FROZEN
    assert guest.ask("guest-ping") == {}


def test_an_unknown_command_has_the_class_of_a_disabled_one_and_another_text(guest: Guest) -> None:
    guest.ask(FREEZE)
    with pytest.raises(AgentError) as raised:
        guest.ask("guest-bogus")
    assert (raised.value.class_, raised.value.desc) == (
        "CommandNotFound",
        "The command guest-bogus has not been found",
    )


def test_a_freeze_list_freezes_what_it_names_and_nothing_else(guest: Guest) -> None:
    assert guest.ask("guest-fsfreeze-freeze-list", {"mountpoints": ["/nope"]}) == 0
    assert guest.ask(STATUS) == "thawed"
    assert guest.ask("guest-fsfreeze-freeze-list", {"mountpoints": ["/data"]}) == 1
    assert guest.ask(STATUS) == "frozen"
    assert guest.ask(THAW) == 1


def test_a_freeze_hook_that_fails_leaves_nothing_frozen(guest: Guest) -> None:
    guest.set_knob("freeze_exit", 3)
    with pytest.raises(AgentError) as raised:
        guest.ask(FREEZE)
    assert (raised.value.class_, raised.value.desc) == ("GenericError", "fsfreeze hook has failed with status 3")
    assert guest.ask(STATUS) == "thawed"
    assert not guest.is_frozen()


def test_a_thaw_hook_that_fails_hides_a_thaw_that_worked_and_fails_again_on_every_repeat(guest: Guest) -> None:
    guest.ask(FREEZE)
    guest.set_knob("thaw_exit", 4)
    for _ in range(2):
        with pytest.raises(AgentError) as raised:
            guest.ask(THAW)
        assert (raised.value.class_, raised.value.desc) == ("GenericError", "fsfreeze hook has failed with status 4")
        assert guest.ask(STATUS) == "thawed"
        assert not guest.is_frozen()


def test_the_guests_own_record_shows_one_window_and_a_hook_for_every_thaw(guest: Guest) -> None:
    guest.ask(FREEZE)
    time.sleep(0.2)
    guest.ask(THAW)
    guest.ask(THAW)
    assert [event for _, event in guest.hook_log()] == ["freeze", "thaw", "thaw"]
    (window,) = guest.windows()
    assert 0.2 <= window < SLOW_SECONDS


def test_a_slow_thaw_hook_runs_after_the_thaw(guest: Guest) -> None:
    guest.ask(FREEZE)
    guest.set_knob("thaw_sleep", 3)
    with guest.agent() as client:
        client.send(request(THAW))
        assert eventually(lambda: not guest.is_frozen())
        with pytest.raises(TimeoutError):
            client.read_line(SILENCE_SECONDS)
        assert client.read_line(SLOW_SECONDS) == b'{"return": 1}'


def test_an_agent_without_a_hook_leaves_no_record(extras: Extras) -> None:
    with extras.without_hook() as guest:
        assert guest.ask(FREEZE) == 1
        assert guest.ask(THAW) == 1
        assert guest.hook_log() == []


def test_a_blocked_thaw_leaves_the_guest_frozen_until_it_is_thawed_from_inside(extras: Extras) -> None:
    with extras.with_blocked(THAW) as guest:
        listing = {entry["name"]: entry["enabled"] for entry in guest.ask("guest-info")["supported_commands"]}
        assert listing[THAW] is False
        assert guest.ask(FREEZE) == 1
        with pytest.raises(AgentError) as raised:
            guest.ask(THAW)
        assert (raised.value.class_, raised.value.desc) == ("CommandNotFound", f"Command {THAW} has been disabled")
        assert guest.is_frozen()
        guest.thaw_from_inside()
        assert not guest.is_frozen()


# -- the status is a memory -------------------------------------------------------------------------------------------


def test_a_guest_thawed_from_inside_still_says_frozen_and_its_thaw_counts_0(guest: Guest) -> None:
    guest.ask(FREEZE)
    guest.thaw_from_inside()
    assert not guest.is_frozen()
    assert guest.ask(STATUS) == "frozen"
    assert guest.ask(THAW) == 0
    assert guest.ask(STATUS) == "thawed"


def test_a_guest_frozen_by_somebody_else_says_thawed_and_a_thaw_really_thaws_it(guest: Guest) -> None:
    guest.freeze_from_inside()
    assert guest.is_frozen()
    assert guest.ask(STATUS) == "thawed"
    assert guest.ask(FREEZE) == 0
    assert guest.ask(STATUS) == "thawed"
    assert guest.ask(THAW) == 1
    assert not guest.is_frozen()


def test_an_agent_that_lost_its_memory_says_thawed_while_the_disk_is_frozen(guest: Guest) -> None:
    guest.ask(FREEZE)
    guest.kill_agent()
    guest.start_agent(keep_state=False)
    assert guest.ask(STATUS) == "thawed"
    assert guest.is_frozen()
    assert guest.ask(FREEZE) == 0
    assert guest.ask(THAW) == 1
    assert not guest.is_frozen()


def test_an_agent_that_is_restarted_remembers_that_it_is_frozen(guest: Guest) -> None:
    guest.ask(FREEZE)
    guest.kill_agent()
    assert guest.is_frozen()
    guest.start_agent(keep_state=True)
    assert guest.ask(STATUS) == "frozen"
    assert guest.ask(THAW) == 1
    assert not guest.is_frozen()


def test_an_agent_killed_inside_its_freeze_hook_has_frozen_nothing(guest: Guest) -> None:
    guest.set_knob("freeze_sleep", 1)
    with guest.agent() as client:
        client.send(request(FREEZE))
        assert eventually(lambda: bool(guest.hook_log()))
        guest.kill_agent()
    guest.start_agent()
    assert guest.ask(STATUS) == "thawed"
    assert not guest.is_frozen()


# -- requests and answers that outlive their client -------------------------------------------------------------------


def test_a_freeze_that_a_stopped_agent_finds_later_freezes_the_guest_with_nobody_there(guest: Guest) -> None:
    guest.stop_agent()
    ask_in_vain(guest, request(FREEZE))
    assert not guest.is_frozen()
    guest.continue_agent()
    assert eventually(guest.is_frozen)
    with guest.agent() as client:
        stale = client.sync()
        assert stale[0] == b'{"return": 1}'
    assert guest.ask(STATUS) == "frozen"
    assert guest.ask(THAW) == 1


def test_a_late_freeze_behind_a_sync_waits_until_somebody_connects(guest: Guest) -> None:
    guest.stop_agent()
    ask_in_vain(guest, b"\xff" + SYNC_6 + request(FREEZE))
    guest.continue_agent()
    time.sleep(0.3)
    assert not guest.is_frozen()
    with guest.agent() as client:
        assert eventually(guest.is_frozen)
        stale = client.sync()
        assert [json.loads(line.removeprefix(b"\xff")) for line in stale[:3]] == [
            bad_json("stray '\ufffd'"),
            {"return": 6},
            {"return": 1},
        ]
    assert guest.ask(THAW) == 1


def test_the_stale_answer_of_a_late_freeze_looks_like_a_good_thaw_without_a_sync(guest: Guest) -> None:
    guest.set_knob("freeze_sleep", 1)
    ask_in_vain(guest, request(FREEZE))
    assert eventually(guest.is_frozen)
    with guest.agent() as client:
        client.send(request(STATUS))
        assert client.read_line() == b'{"return": 1}'
        assert client.read_line() == b'{"return": "frozen"}'


def test_an_answer_goes_to_the_client_that_is_there_when_it_is_ready(guest: Guest) -> None:
    guest.set_knob("freeze_sleep", 1)
    with guest.agent() as second:
        pass
    first = guest.agent()
    first.send(request(FREEZE))
    assert eventually(lambda: bool(guest.hook_log()))
    with guest.agent() as second:
        first.close()
        assert second.read_line(SLOW_SECONDS) == b'{"return": 1}'
    assert guest.ask(THAW) == 1


def test_a_busy_agent_answers_nobody_until_its_freeze_is_done(guest: Guest) -> None:
    guest.set_knob("freeze_sleep", 1)
    with guest.agent() as client:
        client.send(request(FREEZE) + request("guest-ping"))
        with pytest.raises(TimeoutError):
            client.read_line(SILENCE_SECONDS)
        assert client.read_line(SLOW_SECONDS) == b'{"return": 1}'
        assert client.read_line(SLOW_SECONDS) == b'{"return": {}}'


def test_half_a_request_swallows_the_next_plain_sync(guest: Guest) -> None:
    with guest.agent() as client:
        client.send(b'{"execute":"gue')
        with pytest.raises(TimeoutError):
            client.read_line(SILENCE_SECONDS)
    assert replies_to(guest, SYNC_6) == [
        bad_json("stray '-s'"),
        bad_json("expecting value"),
        generic("QMP input must be a JSON object"),
        bad_json("expecting value"),
        {"id": 6, **generic("QMP input lacks member 'execute'")},
        bad_json("expecting value"),
    ]
    assert replies_to(guest, SYNC_6) == [{"return": 6}]


def test_0xff_before_a_sync_clears_half_a_request_for_one_line_of_error(guest: Guest) -> None:
    with guest.agent() as client:
        client.send(b'{"execute":"gue')
        with pytest.raises(TimeoutError):
            client.read_line(SILENCE_SECONDS)
    assert replies_to(guest, b"\xff" + SYNC_6) == [bad_json("stray '\"gue\ufffd'"), {"return": 6}]


def test_a_request_in_portions_is_one_request(guest: Guest) -> None:
    with guest.agent() as client:
        for portion in (b'{"exec', b'ute":"guest-', b'ping"}'):
            client.send(portion)
            time.sleep(0.05)
        assert client.read_line() == b'{"return": {}}'


def test_a_second_client_connects_and_waits_and_a_fourth_is_turned_away(guest: Guest) -> None:
    with guest.agent() as first:
        assert first.command("guest-ping") == {}
        with guest.agent() as second, guest.agent():
            second.send(request("guest-ping"))
            with pytest.raises(TimeoutError):
                second.read_line(SILENCE_SECONDS)
            with pytest.raises(BlockingIOError) as raised:
                guest.agent()
            assert raised.value.errno == errno.EAGAIN
            first.close()
            assert second.read_line(SLOW_SECONDS) == b'{"return": {}}'


# -- guests that are not there ----------------------------------------------------------------------------------------


def test_without_an_agent_a_connection_is_accepted_and_what_its_client_sent_is_lost(extras: Extras) -> None:
    with extras.without_agent() as guest:
        ask_in_vain(guest, request(FREEZE))
        guest.start_agent()
        assert guest.ask(STATUS) == "thawed"
        assert not guest.is_frozen()


def test_an_agent_that_starts_finds_the_request_of_a_client_that_stayed(guest: Guest) -> None:
    guest.kill_agent()
    with guest.agent() as client:
        client.send(request(FREEZE))
        with pytest.raises(TimeoutError):
            client.read_line(SILENCE_SECONDS)
        if isinstance(guest, RealGuest):
            guest.shell("start_agent")
        else:
            guest.start_agent()
        assert client.read_line(SLOW_SECONDS) == b'{"return": 1}'
    assert guest.ask(THAW) == 1


def test_a_killed_agent_loses_what_waited_in_the_guest(guest: Guest) -> None:
    guest.stop_agent()
    ask_in_vain(guest, request(FREEZE))
    guest.kill_agent()
    guest.start_agent()
    assert guest.ask(STATUS) == "thawed"
    assert not guest.is_frozen()


def test_a_paused_guest_loses_the_request_of_a_client_that_left(guest: Guest) -> None:
    guest.pause()
    ask_in_vain(guest, request(FREEZE))
    guest.resume()
    assert guest.ask(STATUS) == "thawed"
    assert not guest.is_frozen()


def test_a_qemu_stopped_by_a_signal_carries_the_request_out_later(guest: Guest) -> None:
    guest.suspend_qemu()
    ask_in_vain(guest, request(FREEZE))
    guest.continue_qemu()
    assert eventually(guest.is_frozen)
    assert guest.ask(THAW) == 1


def test_a_reset_ends_a_freeze(guest: Guest) -> None:
    guest.ask(FREEZE)
    guest.reset()
    guest.wait_agent()
    assert guest.ask(STATUS) == "thawed"
    assert not guest.is_frozen()
    assert guest.ask(THAW) == 0


def test_a_killed_guest_ends_its_clients_and_refuses_new_ones_on_the_file_that_stays(guest: Guest) -> None:
    guest.ask(FREEZE)
    assert vm_running(guest.run, guest.vmid)
    with guest.agent() as client:
        client.sync()
        guest.kill()
        with pytest.raises(ConnectionError):
            client.read_line()
    assert guest.agent_socket.exists()
    assert not vm_running(guest.run, guest.vmid)
    with pytest.raises(ConnectionRefusedError):
        guest.agent()


# -- QMP --------------------------------------------------------------------------------------------------------------


def test_snapshots_are_made_and_deleted_once_in_qemus_words(guest: Guest) -> None:
    one = {"device": guest.drive_node, "name": "s1"}
    with guest.monitor() as monitor:
        assert monitor.execute("blockdev-snapshot-internal-sync", one) == {}
        with pytest.raises(QmpError) as taken:
            monitor.execute("blockdev-snapshot-internal-sync", one)
        assert taken.value.desc == "Snapshot with name 's1' already exists on device 'drive0'"
        assert monitor.execute("blockdev-snapshot-delete-internal-sync", one)["name"] == "s1"
        with pytest.raises(QmpError) as gone:
            monitor.execute("blockdev-snapshot-delete-internal-sync", one)
        assert gone.value.desc == "Snapshot with id 'null' and name 's1' does not exist on device 'drive0'"
        with pytest.raises(QmpError) as unknown:
            monitor.execute("blockdev-snapshot-internal-sync", {"device": "x", "name": "s1"})
        assert unknown.value.desc == "Cannot find device='x' nor node-name='x'"
        with pytest.raises(QmpError) as bogus:
            monitor.execute("bogus")
        assert (bogus.value.class_, bogus.value.desc) == ("CommandNotFound", "The command bogus has not been found")


def test_a_paused_guest_says_so_and_every_monitor_hears_of_it(guest: Guest) -> None:
    with guest.monitor() as one, QmpClient(guest.qmp_api) as other:
        assert one.execute("query-status")["status"] == "running"
        one.execute("stop")
        other.wait_event("STOP")
        assert other.execute("query-status") == {"status": "paused", "singlestep": False, "running": False}
        other.execute("cont")
        one.wait_event("RESUME")


def test_a_monitor_serves_one_client_at_a_time(guest: Guest) -> None:
    with guest.monitor():
        with pytest.raises(TimeoutError):
            QmpClient(guest.qmp_tests, timeout=SILENCE_SECONDS)
        with QmpClient(guest.qmp_driver) as another:
            assert another.execute("query-status")["running"] is True


def test_the_keyboard_thaws_only_where_the_guests_kernel_lets_it(extras: Extras) -> None:
    with extras.with_sysrq() as guest, guest.monitor() as monitor:
        guest.ask(FREEZE)
        monitor.human("sendkey alt-sysrq-j")
        assert eventually(lambda: not guest.is_frozen())
        assert guest.ask(STATUS) == "frozen"
        assert guest.ask(THAW) == 0


def test_debians_default_lets_the_keyboard_thaw_nothing(guest: Guest) -> None:
    guest.ask(FREEZE)
    with guest.monitor() as monitor:
        monitor.human("sendkey alt-sysrq-j")
    time.sleep(0.5)
    assert guest.is_frozen()


# -- both guests side by side -----------------------------------------------------------------------------------------


def shape(value: Any) -> Any:
    """Keys and types, without the values."""
    if isinstance(value, dict):
        return {key: shape(item) for key, item in value.items()}
    if isinstance(value, list):
        return [shape(item) for item in value]
    return type(value).__name__


@pytest.mark.real
@pytest.mark.parametrize(
    "command",
    [
        "guest-info",
        "guest-get-osinfo",
        "guest-get-fsinfo",
        "guest-network-get-interfaces",
        "guest-get-host-name",
        "guest-get-time",
        "guest-get-timezone",
        "guest-get-users",
        "guest-get-vcpus",
    ],
)
def test_the_scripted_guest_describes_itself_in_the_real_ones_form(
    session_guest: RealGuest, run: Any, command: str
) -> None:
    if not session_guest.running:
        session_guest.start()
    with ScriptedGuest(100, run) as scripted:
        ours, theirs = scripted.ask(command), session_guest.ask(command)
    assert shape(ours) == shape(theirs)
    if command == "guest-info":
        assert [entry["name"] for entry in ours["supported_commands"]] == [
            entry["name"] for entry in theirs["supported_commands"]
        ]
        assert ours["supported_commands"] == theirs["supported_commands"]


# -- what only a scripted guest can do --------------------------------------------------------------------------------


def test_a_windows_guest_lets_go_by_itself_still_says_frozen_and_its_thaw_fails_once() -> None:
    model = AgentModel(facts=WINDOWS, hook=False, faults=Faults(self_thaw_after=10.0))
    assert model.exchange(FREEZE, now=0.0, timeout=5.0).value == 1
    assert model.exchange(STATUS, now=9.9, timeout=5.0).value == "frozen"
    assert model.exchange(STATUS, now=10.1, timeout=5.0).value == "frozen"
    assert model.transitions == [(0.0, 1), (10.0, 0)]
    assert model.exchange(THAW, now=11.0, timeout=5.0).error == {"class": "GenericError", "desc": VSS_TEXT}
    assert model.exchange(STATUS, now=12.0, timeout=5.0).value == "thawed"
    assert model.exchange(THAW, now=13.0, timeout=5.0).value == 0


def test_a_freeze_of_two_hours_outlives_every_client_in_no_time_at_all() -> None:
    model = AgentModel(faults=Faults(freeze_sleep=7200.0))
    assert model.exchange(FREEZE, now=0.0, timeout=3600.0).reply is None
    assert model.exchange(THAW, now=3600.0, timeout=180.0).reply is None
    assert not model.frozen
    answer = model.exchange(STATUS, now=7000.0, timeout=1000.0)
    # The thaw of the client that gave up was carried out right behind the freeze.
    assert (answer.value, answer.at) == ("thawed", 7200.0)
    assert model.transitions == [(7200.0, 1), (7200.0, 0)]


def test_a_thaw_of_fewer_file_systems_than_were_frozen_shows_in_the_count() -> None:
    model = AgentModel(mounts=3)
    assert model.exchange(FREEZE, now=0.0, timeout=5.0).value == 3
    model.thaw_from_inside(1.0, mounts=1)
    assert not model.all_frozen
    assert model.exchange(THAW, now=2.0, timeout=5.0).value == 2


def test_a_lost_reply_leaves_the_command_done() -> None:
    model = AgentModel(faults=Faults(lose_replies={FREEZE: 1}))
    assert model.exchange(FREEZE, now=0.0, timeout=5.0).reply is None
    assert model.frozen
    assert model.exchange(THAW, now=6.0, timeout=5.0).value == 1


def test_the_counter_stands_still_while_the_guest_is_frozen() -> None:
    model = AgentModel(writer_period=0.5)
    model.exchange(FREEZE, now=10.0, timeout=5.0)
    assert (model.counter(10.0), model.counter(60.0)) == (20, 20)
    model.exchange(THAW, now=60.0, timeout=5.0)
    assert model.counter(61.0) == 22
    assert model.all_frozen_at(30.0)
    assert not model.all_frozen_at(60.5)


def test_a_file_that_is_not_there_is_told_in_the_c_librarys_words(guest: Guest) -> None:
    with pytest.raises(AgentError) as raised:
        guest.ask("guest-file-open", {"path": "/run/none"})
    assert (raised.value.class_, raised.value.desc) == (
        "GenericError",
        "failed to open file '/run/none' (mode: 'r'): No such file or directory",
    )
