"""Who may begin: never over a limit, nobody for ever, no slot empty that somebody could use."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping

from hypothesis import given, settings
from hypothesis import strategies as st

from snapshot.fleet.limits import RUN, AtOnce, Ledger, Resource, needs_of, node_of, storage_of
from snapshot.model import Node

NODES = [Node(f"pve{number}") for number in range(1, 4)]
NAMES = ["local", "ceph", "nfs"]
LIMITS = st.builds(AtOnce, *(st.integers(1, 4) for _ in range(3)))


@st.composite
def single(draw: st.DrawFn) -> Mapping[Resource, int]:
    """What one guest needs, of everything at once."""
    node = draw(st.sampled_from(NODES))
    names = draw(st.sets(st.sampled_from(NAMES), max_size=3))
    return needs_of([node]) | {storage_of(name, "" if name == "ceph" else node): 1 for name in names}


GROUP = st.lists(st.sampled_from(NODES), min_size=2, max_size=5).map(needs_of)


def drain(limits: AtOnce, queue: list[Mapping[Resource, int]], seed: int) -> None:
    """Everything is begun and ends, in an order that nobody knows; what must hold is looked at after each step."""
    ledger, waiting, running = Ledger(limits), list(enumerate(queue)), {}
    choose = random.Random(seed)
    steps = 0
    while waiting or running:
        steps += 1
        assert steps <= 2 * len(queue) + 1, "somebody waits for ever"
        begun = set(ledger.admit(waiting))
        running |= {key: needs for key, needs in waiting if key in begun}
        waiting = [(key, needs) for key, needs in waiting if key not in begun]
        used: Counter[Resource] = sum((Counter(needs) for needs in running.values()), Counter())
        for resource, count in used.items():
            holders = [needs for needs in running.values() if resource in needs]
            assert count <= limits.of(resource) or len(holders) == 1, "over a limit"
            assert ledger.used(resource) == count
        if all(count == 1 for needs in queue for count in needs.values()):
            assert not any(ledger.fits(needs) for _, needs in waiting), "a slot is empty that somebody could use"
        assert running, "nobody is at work, and somebody waits"
        done = choose.choice(sorted(running))
        ledger.give_back(done)
        del running[done]
    assert not any(ledger.used(resource) for resource in [RUN, *map(node_of, NODES)])


@given(LIMITS, st.lists(single(), max_size=30), st.integers(0, 10**6))
@settings(max_examples=150, deadline=None)
def test_single_guests_begin_whenever_they_can_and_never_over_a_limit(
    limits: AtOnce, queue: list[Mapping[Resource, int]], seed: int
) -> None:
    drain(limits, queue, seed)


@given(LIMITS, st.lists(st.one_of(single(), GROUP), max_size=30), st.integers(0, 10**6))
@settings(max_examples=150, deadline=None)
def test_groups_begin_as_a_whole_and_none_of_them_waits_for_ever(
    limits: AtOnce, queue: list[Mapping[Resource, int]], seed: int
) -> None:
    drain(limits, queue, seed)


def test_they_begin_in_the_order_in_which_they_came() -> None:
    ledger = Ledger(AtOnce(2, 9, 9))
    assert list(ledger.admit((number, needs_of([NODES[0]])) for number in range(5))) == [0, 1]
    ledger.give_back(1)
    assert list(ledger.admit((number, needs_of([NODES[0]])) for number in range(2, 5))) == [2]


def test_one_that_does_not_fit_keeps_nobody_from_another_node() -> None:
    ledger = Ledger(AtOnce(9, 1, 9))
    waiting = [(number, needs_of([NODES[number % 2]])) for number in range(4)]
    assert list(ledger.admit(waiting)) == [0, 1]


def test_single_guests_do_not_overtake_a_group_for_ever() -> None:
    ledger = Ledger(AtOnce(9, 2, 9))
    one, group = needs_of([NODES[0]]), needs_of([NODES[0]] * 2)
    assert list(ledger.admit([("first", one), ("group", group), ("late", one)])) == ["first"]
    ledger.give_back("first")
    assert list(ledger.admit([("group", group), ("late", one)])) == ["group"]


def test_a_group_larger_than_a_limit_begins_when_it_is_alone() -> None:
    ledger = Ledger(AtOnce(2, 2, 2))
    group = needs_of([NODES[0]] * 3)
    assert list(ledger.admit([("one", needs_of([NODES[0]])), ("group", group)])) == ["one"]
    ledger.give_back("one")
    assert list(ledger.admit([("group", group)])) == ["group"]
    assert not ledger.fits(needs_of([NODES[1]]))


def test_a_storage_that_is_not_shared_is_another_one_on_each_node() -> None:
    assert storage_of("local", "pve1") != storage_of("local", "pve2")
    assert storage_of("ceph") == storage_of("ceph")
