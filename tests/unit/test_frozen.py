"""The look at the guests: who is asked, how often, at what price for PVE, and what is never taken for an answer."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from snapshot.config.settings import Config, LocalConfig
from snapshot.errors import ApiDeniedError, ApiFailureError, ApiUnreachableError
from snapshot.journal.looks import GuestLook, Why
from snapshot.pve.access import Access
from snapshot.recovery.frozen import PVE_SECONDS, Round, look_at_guests
from tests.unit.kit import VirtualClock

SILENT = ApiFailureError("QEMU guest agent is not running", status=500)


class Cluster:
    """As much of PVE as a look asks. An agent's answer is a status, or an error that takes PVE's 3 s."""

    name = "https://pve1:8006"

    def __init__(self, clock: VirtualClock, *vmids: int) -> None:
        self.clock = clock
        self.rows: dict[int, dict[str, Any]] = {
            vmid: {"type": "qemu", "vmid": vmid, "node": "pve1", "name": "", "status": "running", "diskwrite": 0}
            for vmid in vmids
        }
        self.agents: dict[int, object] = dict.fromkeys(vmids, "thawed")
        self.asked: list[int] = []
        self.agent_option: object = "1"
        self.listing: Exception | None = None

    def request(
        self, method: str, path: str, params: Mapping[str, object] | None = None, *, timeout_seconds: float = 10.0
    ) -> object:
        if path == "cluster/resources":
            if self.listing is not None:
                raise self.listing
            return list(self.rows.values())
        vmid = int(path.split("/")[3])
        if path.endswith("/config"):
            return {"agent": self.agent_option}
        assert path.endswith("/agent/fsfreeze-status"), path
        self.asked.append(vmid)
        answer = self.agents[vmid]
        if isinstance(answer, Exception):
            self.clock.now += 3.0
            raise answer
        self.clock.now += 0.03
        return {"result": answer}


class Looker:
    """Round after round, as the minute's timer makes them."""

    def __init__(self, tmp_path: Path, *vmids: int) -> None:
        self.clock = VirtualClock()
        self.pve = Cluster(self.clock, *vmids)
        self.access = Access(Config(local=LocalConfig(node="", socket_folder=tmp_path)), self.clock, self.pve, "")  # type: ignore[arg-type]
        self.earlier: dict[str, GuestLook] = {}

    def look(self, **how: Any) -> Round:
        self.pve.asked.clear()
        found = look_at_guests(self.access, self.earlier, **how)
        self.earlier = {row.id: row for row in found.looks}
        self.clock.now += 60.0 - found.pve_seconds
        return found

    def row(self, vmid: int) -> GuestLook:
        return self.earlier[f"qemu/{vmid}"]


@pytest.fixture
def one(tmp_path: Path) -> Looker:
    looker = Looker(tmp_path, 100)
    looker.look()
    return looker


def test_a_guest_that_was_never_seen_is_asked_by_the_first_look_alone(tmp_path: Path) -> None:
    looker = Looker(tmp_path, 100)
    looker.look()
    assert looker.pve.asked == []
    assert looker.row(100).why == Why.NOT_ASKED.value
    looker = Looker(tmp_path, 100)
    looker.look(is_first=True)
    assert looker.pve.asked == [100]


def test_who_writes_is_well_and_not_asked(one: Looker) -> None:
    one.pve.agents[100] = SILENT
    for counter in range(1, 5):
        one.pve.rows[100]["diskwrite"] = counter
        assert not one.look().unknown
        assert one.pve.asked == []
        assert one.row(100).is_well


def test_who_stands_still_is_asked_and_found_frozen(one: Looker) -> None:
    one.pve.agents[100] = "frozen"
    assert [guest.vmid for guest in one.look().frozen] == [100]
    assert one.row(100).frozen_since_at is not None


def test_a_guest_that_was_well_and_stands_still_unheard_is_not_known(one: Looker) -> None:
    one.look()
    assert one.row(100).is_well
    one.pve.agents[100] = SILENT
    for _ in range(20):
        assert [row.vmid for row in one.look().unknown] == [100]
        assert one.row(100).why == Why.AGENT_SILENT.value


def test_an_agent_that_is_silent_is_asked_ever_more_seldom_and_never_forgotten(one: Looker) -> None:
    one.pve.agents[100] = SILENT
    rounds = [bool(one.look() and one.pve.asked) for _ in range(60)]
    assert rounds[:2] == [True, True], "one that was busy for a moment is asked again at once"
    assert 6 <= sum(rounds) <= 10
    assert any(rounds[-11:])


def test_a_clock_that_was_set_back_does_not_keep_an_agent_from_being_asked(one: Looker) -> None:
    one.pve.agents[100] = SILENT
    for _ in range(8):
        one.look()
    one.clock.now -= 7200.0
    one.look()
    assert one.pve.asked == [100]


def test_questions_over_the_api_have_a_budget(tmp_path: Path) -> None:
    looker = Looker(tmp_path, *range(100, 300))
    looker.pve.agents.update(dict.fromkeys(range(100, 120), SILENT))
    looker.look()
    heard: set[int] = set()
    for _ in range(40):
        found = looker.look()
        assert found.pve_seconds <= PVE_SECONDS
        heard |= {row.vmid for row in found.looks if row.is_well}
    assert heard == set(range(120, 300)), "the silent ones kept others from being asked"


def test_a_guest_that_stands_still_is_well_only_in_the_round_that_asked_it(tmp_path: Path) -> None:
    looker = Looker(tmp_path, *range(100, 300))
    for _ in range(4):
        found = looker.look()
        assert {row.vmid for row in found.looks if row.is_well} == set(looker.pve.asked)
        assert len(found.unknown) == 200 - len(looker.pve.asked)


def test_a_frozen_guest_whose_agent_falls_silent_stays_frozen(one: Looker) -> None:
    one.pve.agents[100] = "frozen"
    one.look()
    one.pve.agents[100] = SILENT
    for _ in range(3):
        assert [guest.vmid for guest in one.look().frozen] == [100]


def test_writes_that_were_counted_after_a_freeze_do_not_make_it_well(one: Looker) -> None:
    one.pve.agents[100] = "frozen"
    one.look()
    one.pve.rows[100]["diskwrite"] = 4096
    assert [guest.vmid for guest in one.look().frozen] == [100]
    assert one.pve.asked == [100]


def test_a_guest_that_was_started_again_is_another(one: Looker) -> None:
    one.pve.agents[100] = "frozen"
    one.look()
    one.pve.agents[100] = "thawed"
    one.pve.rows[100]["uptime"] = 5
    found = one.look()
    assert not found.frozen


def test_a_guest_that_was_started_again_and_is_silent_is_not_known(one: Looker) -> None:
    """That it was frozen was said of another QEMU."""
    one.pve.agents[100] = "frozen"
    one.look()
    one.pve.agents[100] = SILENT
    one.pve.rows[100]["uptime"] = 5
    found = one.look()
    assert not found.frozen
    assert [row.vmid for row in found.unknown] == [100]


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (ApiDeniedError("Permission check failed", status=403), Why.DENIED),
        (SILENT, Why.AGENT_SILENT),
        (
            {"error": {"class": "CommandNotFound", "desc": "Command guest-fsfreeze-status has been disabled"}},
            Why.REFUSED,
        ),
        ("molten", Why.AGENT_SILENT),
        (None, Why.AGENT_SILENT),
    ],
)
def test_what_is_no_answer_is_not_known(one: Looker, answer: object, why: Why) -> None:
    one.pve.agents[100] = answer
    assert [row.why for row in one.look().unknown] == [why.value]


def test_a_guest_whose_agent_is_switched_off_is_not_known_and_no_matter(one: Looker) -> None:
    one.pve.agents[100] = SILENT
    one.pve.agent_option = "0"
    found = one.look()
    assert one.row(100).why == Why.AGENT_OFF.value
    assert not one.row(100).is_well
    assert not found.unknown


def test_a_guest_of_a_node_that_is_offline_is_not_known(one: Looker) -> None:
    one.pve.rows[100]["status"] = "unknown"
    assert [row.why for row in one.look().unknown] == [Why.NODE_OFFLINE.value]
    assert one.pve.asked == []


@pytest.mark.parametrize("trouble", ["nothing listed", "not reachable"])
def test_a_list_of_guests_that_cannot_be_had_is_no_word_on_them(one: Looker, trouble: str) -> None:
    if trouble == "nothing listed":
        one.pve.rows.clear()
    else:
        one.pve.listing = ApiUnreachableError("no route")
    found = one.look()
    assert found.is_blind
    assert found.problem is not None


def test_a_guest_in_a_window_of_ours_is_left_to_it(one: Looker) -> None:
    one.pve.agents[100] = "frozen"
    found = one.look(leave_out={100})
    assert one.pve.asked == []
    assert not found.frozen
    assert not found.unknown
