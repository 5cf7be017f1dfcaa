"""Foreign text becomes nouns, or a ValueError for the operator; never anything else."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from snapshot.model import (
    VMID_MAX,
    VMID_MIN,
    Check,
    CheckResult,
    Guest,
    GuestKind,
    Health,
    Node,
    Upid,
    Verdict,
    VerdictKind,
    Vmid,
    WindowTimes,
    check_snapshot_name,
    parse_vmid,
)
from tests.unit.kit import raised

UPID = "UPID:pve1:0003A5F1:00C4D9E2:68F0A1B7:qmsnapshot:100:root@pam!safe:"
ALPHABET = "".join(chr(c) for c in range(32, 127))
FIELD = st.text(ALPHABET.replace(":", "").replace("/", "").replace(" ", ""), min_size=1, max_size=20)
HEX = "0123456789ABCDEFabcdef"


@given(st.text() | st.from_regex(r"-?\d{0,12}", fullmatch=True))
def test_a_vmid_is_parsed_or_refused_with_a_value_error(text: str) -> None:
    if raised(lambda: parse_vmid(text), ValueError) is None:
        assert VMID_MIN <= parse_vmid(text) <= VMID_MAX
        assert text.isascii()


@given(st.integers(VMID_MIN, VMID_MAX))
def test_every_vmid_of_pves_range_is_parsed(number: int) -> None:
    assert parse_vmid(str(number)) == number


@pytest.mark.parametrize(
    "text",
    ["", "99", "1000000000", "+100", "-100", " 100", "100\n", "1_00", "0x64", "1e2", "٣٠٠", "²³⁴", "1.0"],
)
def test_a_vmid_that_is_none_is_refused_in_words(text: str) -> None:
    with pytest.raises(ValueError, match="is not a vmid"):
        parse_vmid(text)


@given(st.text())
def test_a_snapshot_name_is_taken_as_it_is_or_refused_with_a_value_error(text: str) -> None:
    if raised(lambda: check_snapshot_name(text), ValueError) is None:
        assert check_snapshot_name(text) == text
        assert 2 <= len(text) <= 40
        assert text.isascii()


@given(st.from_regex(r"[A-Za-z][A-Za-z0-9_-]{1,39}", fullmatch=True))
def test_every_name_that_pve_takes_is_taken(name: str) -> None:
    assume(name.lower() not in ("current", "pending"))
    assert check_snapshot_name(name) == name


@pytest.mark.parametrize("name", ["current", "pending", "Current", "PENDING"])
def test_a_name_that_pve_keeps_for_itself_is_called_reserved(name: str) -> None:
    with pytest.raises(ValueError, match="reserved"):
        check_snapshot_name(name)


@pytest.mark.parametrize("name", ["", "a", "a" * 41, "1a", "-a", "a b", "a\n", "aé", "a/b", "a;b", "../a"])
def test_a_name_that_pve_refuses_is_refused_here(name: str) -> None:
    with pytest.raises(ValueError, match="is not a snapshot name"):
        check_snapshot_name(name)


def test_a_upid_is_taken_apart() -> None:
    upid = Upid.parse(UPID)
    assert (upid.node, upid.pid, upid.pstart, upid.started_at) == ("pve1", 0x3A5F1, 0xC4D9E2, 0x68F0A1B7)
    assert (upid.kind, upid.id, upid.user) == ("qmsnapshot", "100", "root@pam!safe")
    assert str(upid) == UPID


def test_a_upids_log_stands_in_the_folder_of_the_last_hex_digit_of_its_start() -> None:
    assert Upid.parse(UPID).log_folder == "7"
    assert Upid.parse(UPID.replace("68F0A1B7", "68F0A1BA")).log_folder == "A"


@given(st.text() | st.text(ALPHABET) | st.from_regex(r"UPID:([a-z0-9:]{0,12}:){0,9}", fullmatch=True))
def test_a_upid_is_parsed_or_refused_with_a_value_error(text: str) -> None:
    if raised(lambda: Upid.parse(text), ValueError) is None:
        assert str(Upid.parse(text)) == text


@given(
    node=st.from_regex(r"[A-Za-z0-9]([A-Za-z0-9-]{0,20}[A-Za-z0-9])?", fullmatch=True),
    pid=st.text(HEX, min_size=8, max_size=8),
    pstart=st.text(HEX, min_size=8, max_size=9),
    start=st.text(HEX, min_size=8, max_size=8),
    kind=FIELD,
    name=FIELD | st.just(""),
    user=FIELD,
)
def test_every_upid_of_pves_form_is_parsed(
    node: str, pid: str, pstart: str, start: str, kind: str, name: str, user: str
) -> None:
    upid = Upid.parse(f"UPID:{node}:{pid}:{pstart}:{start}:{kind}:{name}:{user}:")
    assert (upid.node, upid.pid, upid.pstart, upid.started_at) == (node, int(pid, 16), int(pstart, 16), int(start, 16))
    assert (upid.kind, upid.id, upid.user) == (kind, name, user)


@pytest.mark.parametrize(
    "text",
    [
        "",
        UPID[:-1],
        UPID + "\n",
        UPID + ":",
        " " + UPID,
        UPID.replace("pve1", "../../etc"),
        UPID.replace("pve1", "pve_1"),
        UPID.replace("pve1", "-pve"),
        UPID.replace("qmsnapshot", "qm/snapshot"),
        UPID.replace(":100:", ":1/0:"),
        UPID.replace("0003A5F1", "3A5F1"),
        UPID.replace("0003A5F1", "0003A5G1"),
    ],
)
def test_a_upid_that_could_lead_elsewhere_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a UPID"):
        Upid.parse(text)


def test_a_long_foreign_text_is_cut_in_the_refusal() -> None:
    with pytest.raises(ValueError, match="is not a UPID") as caught:
        Upid.parse("x" * 100_000)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("kind", VerdictKind)
def test_only_a_proven_an_offline_and_a_memory_verdict_count_as_consistent(kind: VerdictKind) -> None:
    frozen = {VerdictKind.APPLICATION_CONSISTENT, VerdictKind.FILESYSTEM_CONSISTENT}
    trusted = frozen | {VerdictKind.OFFLINE, VerdictKind.MEMORY}
    verdict = Verdict(kind, "because")
    assert verdict.is_consistent is (kind in trusted)
    assert kind.is_of_a_freeze is (kind in frozen)
    assert str(verdict) == f"{kind.value}: because"


def test_a_guest_knows_its_path_and_its_id() -> None:
    guest = Guest(Vmid(100), Node("pve1"), GuestKind.LXC)
    assert guest.path == "nodes/pve1/lxc/100"
    assert guest.id == "lxc/100"


def test_a_window_without_a_confirmed_thaw_has_no_length() -> None:
    assert WindowTimes().window_seconds is None
    assert WindowTimes(freezing_seconds=0.1, held_seconds=2.0).window_seconds is None
    assert WindowTimes(freezing_seconds=0.1, thawing_seconds=0.2).window_seconds == pytest.approx(0.3)
    assert WindowTimes(0.1, 2.0, 0.2).window_seconds == pytest.approx(2.3)


def test_the_obstacle_is_the_first_check_that_forbids_a_freeze_and_the_failure_the_first_that_forbids_all() -> None:
    checks = tuple(Check(result.value, result, "") for result in CheckResult)
    health = Health(None, checks)
    assert health.failure == checks[-1]
    assert health.obstacle == checks[-2]
    assert Health(None, checks[:2]).obstacle is None


def test_an_agent_that_we_may_not_ask_is_not_down() -> None:
    option = Check("agent-option", CheckResult.OK, "")
    silent = Check("agent", CheckResult.NO_FREEZE, "")
    denied = Check("privileges", CheckResult.NO_FREEZE, "")
    assert Health(None, (option, silent)).agent_up is False
    assert Health(None, (denied, option, silent)).agent_up is None
    assert Health(None, (denied, option, Check("agent", CheckResult.OK, ""))).agent_up is True


@pytest.mark.parametrize("cls", [Guest, Upid, Verdict, Check, Health, WindowTimes])
def test_the_nouns_are_frozen(cls: type) -> None:
    assert issubclass(cls, tuple)
    with pytest.raises(AttributeError):
        setattr(cls._make(cls._fields), cls._fields[0], "other")  # type: ignore[attr-defined]
