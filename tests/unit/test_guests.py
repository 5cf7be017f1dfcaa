"""What PVE may answer about guests, and what is made of it: a wrong value costs itself and nothing beside it."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from snapshot.base.text import clean
from snapshot.errors import ApiError, GuestRemovedError
from snapshot.model import Guest, GuestKind, Node, Upid, Vmid
from snapshot.pve.guests import AgentOption, GuestApi, number_of, vmid_of

GUEST = Guest(Vmid(100), Node("pve1"), GuestKind.QEMU)
ROW: Mapping[str, object] = {"vmid": 100, "type": "qemu", "node": "pve1", "status": "running", "name": "db"}
ODD = ["²", "1" * 5000, 10**400, True, None, [], {}, 99, -1, "0100", "100\n", 1e300, float("nan"), "\uff11\uff10\uff10"]


class Answers:
    """A transport that answers everything with ``answer``."""

    name = "test"

    def __init__(self, answer: object) -> None:
        self.answer = answer
        self.asked: list[tuple[str, str, Mapping[str, object] | None]] = []

    def request(
        self, method: str, path: str, params: Mapping[str, object] | None = None, *, timeout_seconds: float = 10.0
    ) -> object:
        self.asked.append((method, path, params))
        return self.answer

    def close(self) -> None:
        """Nothing."""


def test_the_configuration_that_is_asked_for_is_the_one_pve_goes_by_now() -> None:
    answers = Answers({"agent": "1"})
    assert GuestApi(answers).config(GUEST) == {"agent": "1"}
    assert answers.asked == [("GET", "nodes/pve1/qemu/100/config", {"current": 1})]


def test_a_listing_has_the_guest_and_its_counters_for_one_request() -> None:
    answers = Answers([{**ROW, "diskwrite": 4711, "uptime": "33"}, {**ROW, "vmid": "101", "status": "unknown"}])
    first, second = GuestApi(answers).listing()
    assert (first.guest.vmid, first.status, first.diskwrite, first.uptime) == (100, "running", 4711, 33)
    assert (second.guest.vmid, second.status, second.diskwrite, second.uptime) == (101, "unknown", None, None)
    assert len(answers.asked) == 1


@pytest.mark.parametrize("vmid", ODD, ids=lambda value: f"{value!r:.20}")
def test_a_guest_whose_vmid_is_none_is_left_out_with_a_word_and_the_others_are_there(vmid: object) -> None:
    api = GuestApi(Answers([{**ROW, "vmid": vmid}, ROW]))
    assert [guest.vmid for guest in api.list()] == [100]
    assert len(api.oddities) == 1
    assert api.oddities[0].isprintable()
    assert len(api.oddities[0]) < 200
    assert api.find(Vmid(100)).name == "db"


@pytest.mark.parametrize(
    "row",
    [
        "text",
        None,
        {**ROW, "vmid": 101, "type": "\x1b[2J"},
        {**ROW, "vmid": 101, "node": "../pve2"},
        {**ROW, "vmid": 101, "node": 5},
    ],
)
def test_a_row_that_makes_no_sense_is_left_out_with_a_word(row: object) -> None:
    api = GuestApi(Answers([row, ROW]))
    assert [guest.vmid for guest in api.list()] == [100]
    assert api.oddities
    assert api.oddities[0].isprintable()


def test_a_guest_is_looked_for_beside_odd_rows() -> None:
    api = GuestApi(Answers([{**ROW, "vmid": "²"}, None, {**ROW, "type": "odd"}]))
    with pytest.raises(GuestRemovedError):
        api.find(Vmid(101))
    with pytest.raises(ApiError):
        api.find(Vmid(100))


@pytest.mark.parametrize("value", [*ODD[:7], -1, 2**64, 1e300, float("nan"), float("inf"), "1.5", "-1"])
def test_what_is_no_number_is_none(value: object) -> None:
    assert number_of(value) is None


@pytest.mark.parametrize(("value", "number"), [(0, 0), (7, 7), ("7", 7), (7.9, 7), (2**40, 2**40)])
def test_a_number_is_one_also_in_quotes(value: object, number: int) -> None:
    assert number_of(value) == number


@pytest.mark.parametrize("value", ODD)
def test_what_is_no_vmid_is_none(value: object) -> None:
    assert vmid_of(value) is None


@pytest.mark.parametrize("address", ["h:²", "192.0.2.7:8006", "pve2", "", None, 5, True, "2001:db8::7]"])
def test_an_address_that_is_none_is_left_out_with_a_word(address: object) -> None:
    rows = [
        {"type": "node", "name": "pve1", "ip": address, "online": 1},
        {"type": "node", "name": "pve2", "ip": "2001:db8::7", "online": 1},
        {"type": "node", "name": "pve3", "ip": "192.0.2.7", "online": 0},
        {"type": "cluster", "name": "c"},
    ]
    api = GuestApi(Answers(rows))
    assert api.node_addresses() == {"pve2": "2001:db8::7"}
    assert api.oddities


@pytest.mark.parametrize("text", ["\x1b[31mred", "a\u202eb", "a\u2066b", "a\ud800b", "a\rb", "x" * 9000])
def test_a_lock_that_somebody_set_is_shown_clean_and_short(text: str) -> None:
    (listed,) = GuestApi(Answers([{**ROW, "lock": text, "tags": text, "pool": text, "name": text}])).list()
    for shown in (listed.lock, listed.pool, listed.name, *listed.tags):
        assert shown.isprintable()
        assert len(shown) <= 80
    for answer in (GuestApi(Answers({"lock": text})).config(GUEST), GuestApi(Answers({"lock": text})).current(GUEST)):
        assert str(answer["lock"]).isprintable()
        assert len(str(answer["lock"])) <= 4096
    assert clean(text).isprintable()


@pytest.mark.parametrize("user", ["root@pam\x1b[2J", "root\u202e@pam", "r" * 400, "root@pam\u2066"])
def test_a_upid_that_would_not_be_shown_as_it_is_is_none(user: str) -> None:
    with pytest.raises(ValueError, match="not a UPID") as caught:
        Upid.parse(f"UPID:pve1:0000AAAA:0000BBBB:65A4F300:qmsnapshot:100:{user}:")
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("options", "folds"),
    [
        ({}, True),
        ({"tag-style": {"case-sensitive": 1}}, False),
        ({"tag-style": {"case-sensitive": 0, "shape": "dense"}}, True),
        ({"tag-style": "shape=dense,case-sensitive=1"}, False),
        ({"tag-style": "case-sensitive=0"}, True),
        ({"tag-style": None}, True),
    ],
)
def test_tags_know_no_case_unless_the_datacenters_style_says_so(options: object, folds: bool) -> None:
    assert GuestApi(Answers(options)).folds_tags() is folds


OPTIONS = {
    "on": ("1", "ON", "enabled=1", "1,type=isa", ",1,", "1,fstrim_cloned_disks=No"),
    "does not freeze": ("1,freeze-fs=0", "1,freeze-fs=No", "1,freeze-fs-on-backup=0", "1,,guest-fsfreeze=off"),
    "off": ("", "0", "enabled=0", "freeze-fs=0", "type=isa"),
    "makes no sense": (
        *(
            " 1",
            "1 ",
            "2",
            "enabled",
            "enabled=",
            "=1",
            "a=b=c,1",
            "1,freeze-fs=0 ",
            "1, freeze-fs=0",
            "yes,FREEZE-FS=0",
        ),
        *("1,type=", "1,type=usb", "1,type=ISA", "1,fstrim=1", "1,fstrim_cloned_disks=maybe", "1,freeze-fs=2"),
        *("1,1", "0,1", "1,enabled=1", "0,enabled=1", "1,freeze-fs", "1,freeze-fs=0,freeze-fs-on-backup=1"),
    ),
}
"""What qemu-server 9.2.6 (parse_guest_agent, should_fs_freeze) makes of each, asked of its own code."""


@pytest.mark.parametrize(("kind", "value"), [(kind, value) for kind, values in OPTIONS.items() for value in values])
def test_the_agents_option_is_read_as_pve_reads_it(kind: str, value: str) -> None:
    option = AgentOption.parse(value)
    assert option.enabled == (kind in ("on", "does not freeze"))
    assert (option.enabled and option.freeze) == (kind == "on")


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([{"node": "pve1", "status": "offline"}], True),
        ([{"node": "pve1", "status": "online"}], False),
        ([{"node": "pve1", "status": "unknown"}], False),
        ([{"node": "pve1"}], False),
        ([{"node": "pve2", "status": "offline"}], False),
        ([{"node": "pve2", "status": "online"}], False),
        ([], False),
    ],
)
def test_a_node_is_offline_where_pve_says_so_and_not_where_its_list_lacks_it(rows: object, expected: bool) -> None:
    assert GuestApi(Answers(rows)).is_offline(Node("pve1")) is expected
