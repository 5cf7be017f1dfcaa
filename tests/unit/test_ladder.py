"""The order of the routes: what is nearest first, and who is silent does not keep the others waiting."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from snapshot.pve.agent import AgentChannel
from snapshot.pve.ladder import LONGEST_REST, Ladder
from tests.unit.kit import ScriptedChannel, VirtualClock


def channel(name: str) -> ScriptedChannel:
    return ScriptedChannel(VirtualClock(), name=name)


def names(ladder: Ladder, *silent: str) -> list[str]:
    """A round in which everybody is asked, and those in ``silent`` do not answer."""
    asked = []
    for route in ladder.round():
        asked.append(route.name)
        route.is_silent = route.name in silent  # type: ignore[misc]
    return asked


def test_nobody_looks_for_peers_before_the_first_request_has_failed() -> None:
    looked = []

    def find() -> Sequence[AgentChannel]:
        looked.append(1)
        return [channel("peer")]

    ladder = Ladder([channel("socket"), channel("host"), channel("pvesh")], find_peers=find, peers_at=2)
    asked = ladder.round()
    assert next(asked).name == "socket"
    assert next(asked).name == "host"
    assert looked == []
    assert [route.name for route in asked] == ["peer", "pvesh"]
    assert names(ladder) == ["socket", "host", "peer", "pvesh"]
    assert looked == [1], "they are remembered"


def test_peers_that_nobody_could_tell_are_looked_for_again_and_one_that_fails_ends_nothing() -> None:
    def fails() -> Sequence[AgentChannel]:
        raise RuntimeError("a bug")

    found: list[Sequence[AgentChannel] | None] = [None, [], [channel("late")]]
    ladder = Ladder([channel("host")], find_peers=lambda: found.pop(0))
    assert names(ladder) == ["host"]
    assert names(ladder) == ["host"]
    assert names(ladder) == ["host"], "none is an answer too"
    assert names(Ladder([channel("host")], find_peers=fails)) == ["host"]


def test_a_host_that_hangs_is_not_asked_in_each_round() -> None:
    ladder = Ladder([channel("host")], [channel("p1"), channel("p2")])
    rounds = [names(ladder, "host") for _ in range(16)]
    assert rounds[0] == ["host", "p1"]
    asked = [number for number, order in enumerate(rounds) if "host" in order]
    assert asked == [0, 2, 6, 14]
    assert all(order[-1] == "host" for order in rounds[1:] if "host" in order), "after those that answer"
    assert all(order[0] in ("p1", "p2") for order in rounds[1:])


def test_a_host_that_answers_again_has_its_old_place() -> None:
    ladder = Ladder([channel("host")], [channel("peer")])
    names(ladder, "host")
    assert names(ladder) == ["peer"]
    assert names(ladder) == ["peer", "host"]
    assert names(ladder) == ["host", "peer"]


def test_a_peer_that_hangs_lets_the_others_have_its_turns() -> None:
    ladder = Ladder([channel("host")], [channel("p1"), channel("p2"), channel("p3")])
    order = [names(ladder, "p1")[1] for _ in range(5)]
    assert order == ["p1", "p2", "p3", "p2", "p3"]


def test_where_everybody_is_silent_nobody_rests() -> None:
    ladder = Ladder([channel("host")], [channel("peer")])
    for _ in range(2 * LONGEST_REST):
        assert sorted(names(ladder, "host", "peer")) == ["host", "peer"]


def test_one_that_was_silent_for_long_is_asked_again_within_a_bound() -> None:
    ladder = Ladder([channel("host")], [channel("peer")])
    rounds = [names(ladder, "host") for _ in range(10 * LONGEST_REST)]
    asked = [number for number, order in enumerate(rounds) if "host" in order]
    assert max(b - a for a, b in itertools.pairwise(asked)) == LONGEST_REST


def test_one_that_did_not_answer_ahead_rests_from_the_start() -> None:
    host = channel("host")
    ladder = Ladder([host], [channel("peer")])
    ladder.let_rest(host)
    assert names(ladder) == ["peer"]
