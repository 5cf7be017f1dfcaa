"""When pvesh takes the API's place on a node, and which request it may repeat."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from snapshot.errors import ApiDeniedError, ApiError, ApiFailureError, ApiUnreachableError, ReplyLostError
from snapshot.pve.standby import STANDBY_SECONDS, UNPROVEN_SECONDS, Standby, WithStandby
from tests.unit.kit import VirtualClock

FREEZE = "nodes/pve1/qemu/100/agent/fsfreeze-freeze"
UNREACHABLE = ApiUnreachableError("https://pve1:8006: the certificate was not accepted", remedy="set [api] ca_file")
REFUSED = ApiDeniedError("the credentials were refused", status=401)
SILENT = ReplyLostError("https://pve1:8006 did not answer in time")


class Answering:
    """A transport that gives ``answer``, or raises it."""

    def __init__(self, name: str, answer: object) -> None:
        self.name = name
        self.answer = answer
        self.asked: list[tuple[str, str]] = []
        self.limits: list[float] = []

    def request(
        self, method: str, path: str, params: Mapping[str, object] | None = None, *, timeout_seconds: float = 10.0
    ) -> object:
        self.asked.append((method, path))
        self.limits.append(timeout_seconds)
        if isinstance(self.answer, ApiError):
            raise self.answer
        return self.answer

    def close(self) -> None:
        """Nothing."""


class Both:
    """An API that fails with ``error``, pvesh beside it, and what was said."""

    def __init__(self, error: object) -> None:
        self.clock = VirtualClock()
        self.api, self.pvesh = Answering("api", error), Answering("pvesh", "by pvesh")
        self.said: list[str] = []
        self.standby = Standby([self.pvesh], self.clock, self.said.append, node="pve1")

    def ask(self, method: str = "GET", path: str = "cluster/resources") -> object:
        return WithStandby(self.api, self.standby).request(method, path)


@pytest.mark.parametrize("error", [UNREACHABLE, REFUSED], ids=["unreachable", "refused"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_what_was_certainly_not_carried_out_goes_over_pvesh(error: ApiError, method: str) -> None:
    both = Both(error)
    assert both.ask(method, FREEZE) == "by pvesh"


def test_a_question_that_was_not_answered_in_time_goes_over_pvesh() -> None:
    both = Both(SILENT)
    assert both.ask("GET", "cluster/resources") == "by pvesh"
    assert both.ask("GET", "nodes/pve1/qemu/100/config") == "by pvesh"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", FREEZE),
        ("POST", "nodes/pve1/qemu/100/snapshot"),
        ("PUT", "nodes/pve1/qemu/100/config"),
        ("DELETE", "nodes/pve1/qemu/100/snapshot/s1"),
        ("GET", "nodes/pve1/qemu/100/agent/get-fsinfo"),
        ("GET", "nodes/pve2/qemu/101/config"),
    ],
)
def test_what_may_have_been_carried_out_or_waits_for_others_is_not_repeated(method: str, path: str) -> None:
    both = Both(SILENT)
    with pytest.raises(ReplyLostError):
        both.ask(method, path)
    assert both.pvesh.asked == []
    assert both.said == []


@pytest.mark.parametrize(
    "error",
    [
        ApiDeniedError("Permission check failed", status=403),
        ApiFailureError("500", status=500),
        ReplyLostError("596", is_answered=True),
    ],
    ids=["privilege", "failure", "gateway"],
)
def test_an_api_that_says_no_is_not_gone_around(error: ApiError) -> None:
    both = Both(error)
    with pytest.raises(type(error)):
        both.ask()
    assert both.pvesh.asked == []


def test_a_dead_api_costs_once_and_is_tried_again_after_a_while() -> None:
    both = Both(UNREACHABLE)
    for _ in range(10):
        both.ask()
    assert len(both.api.asked) == 1
    both.clock.now += STANDBY_SECONDS
    both.api.answer = "by the API"
    assert both.ask() == "by the API"


def test_it_is_said_once_with_what_to_do() -> None:
    both = Both(UNREACHABLE)
    for _ in range(3):
        both.ask()
        both.clock.now += STANDBY_SECONDS
    (line,) = both.said
    assert "pvesh" in line
    assert UNREACHABLE.message in line
    assert UNREACHABLE.remedy in line


def test_an_api_that_has_not_answered_yet_is_not_waited_for_as_long_as_one_that_has() -> None:
    both = Both("fine")
    both.ask("GET", "nodes/pve1/qemu/100/agent/get-fsinfo")  # an agent has time of its own
    both.standby.is_proven = False
    both.ask()
    both.ask()
    both.ask("POST", FREEZE)
    assert both.api.limits == [10.0, UNPROVEN_SECONDS, 10.0, 10.0]


def test_the_peers_take_their_turns_where_there_is_no_pvesh() -> None:
    both = Both(UNREACHABLE)
    dead = Answering("peer1", UNREACHABLE)
    standby = Standby([dead, both.pvesh], both.clock, both.said.append, same_token=True)
    assert WithStandby(both.api, standby).request("POST", FREEZE) == "by pvesh"
    assert dead.asked == [("POST", FREEZE)]
    dead.answer = SILENT
    standby.turn = 0  # as in a process that begins
    with pytest.raises(ReplyLostError):
        WithStandby(both.api, standby).request("POST", FREEZE)
    assert WithStandby(both.api, standby).request("GET", "cluster/resources") == "by pvesh"


def test_a_token_that_one_host_refuses_is_not_shown_to_the_next() -> None:
    both = Both(REFUSED)
    standby = Standby([both.pvesh], both.clock, both.said.append, same_token=True)
    with pytest.raises(ApiDeniedError):
        WithStandby(both.api, standby).request("GET", "cluster/resources")
    assert both.pvesh.asked == []


def test_one_that_did_not_answer_is_not_asked_first_again() -> None:
    """A node that is off costs its whole time limit with each request."""
    clock, said = VirtualClock(), list[str]()
    api, off, good = Answering("api", UNREACHABLE), Answering("off", UNREACHABLE), Answering("good", "by the good one")
    both = WithStandby(api, Standby([off, good], clock, said.append, same_token=True))
    assert [both.request("GET", "cluster/resources") for _ in range(3)] == ["by the good one"] * 3
    assert len(off.asked) == 1
    assert len(said) == 1
    good.answer, off.answer = UNREACHABLE, "by the other"
    assert both.request("POST", FREEZE) == "by the other"
