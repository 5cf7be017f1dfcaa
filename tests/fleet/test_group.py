"""The table of a group, a member's fence, and what may be called one point in time: without processes or clocks."""

from __future__ import annotations

import itertools
import random
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from snapshot.errors import GroupEndedError
from snapshot.fleet import member as fences
from snapshot.fleet import moment
from snapshot.fleet.group import ENDED, GATES, GO, TURN, Group, Member, Passage, Resolution, Telling, Told
from snapshot.fleet.groupunit import HeldBoard
from snapshot.fleet.lead import KEPT_SECONDS, Leader, Tell, agreed_in
from snapshot.fleet.member import GONE, TURN_SECONDS, Bounds, MemberFence
from snapshot.journal.store import Journal
from snapshot.model import Guest, GuestKind, Node, Vmid
from snapshot.report.boards import PlainBoard
from snapshot.take.fence import Milestone
from snapshot.window.parts import WindowBrokenError
from snapshot.words import Word as Reason
from tests.campaign.kit import ManualClock

BEFORE_JUDGED = [step for step in Milestone if step is not Milestone.JUDGED]


def group(count: int = 3, *, all_or_none: bool = True) -> Group:
    return Group(tuple(range(100, 100 + count)), all_or_none=all_or_none, max_window_seconds=30.0, words=lambda _: "w")


def reach(found: Group, number: int, step: Milestone, **told: object) -> list[Telling]:
    """A member comes to a step, as frozen guests do."""
    values = {Milestone.FROZEN: {"is_frozen": True}, Milestone.JUDGED: {"follows": True}}.get(step, {}) | told
    return found.reached(number, step, values, 50.0)


def let(words: list[Telling]) -> list[int]:
    """Who may go on."""
    return [word.member for word in words if word.op == GO]


def test_every_step_has_a_gate() -> None:
    assert set(GATES) == set(Milestone)


@pytest.mark.parametrize("step", [step for step, gate in GATES.items() if gate is Passage.TOGETHER])
def test_nobody_goes_on_before_all_have_come(step: Milestone) -> None:
    found = group()
    assert not let(reach(found, 0, step))
    assert not let(reach(found, 2, step))
    assert sorted(let(reach(found, 1, step))) == [0, 1, 2]


def test_one_freezes_at_a_time_and_in_order() -> None:
    found = group()
    reach(found, 1, Milestone.READY)
    reach(found, 2, Milestone.READY)
    assert let(reach(found, 0, Milestone.READY)) == [0]
    assert let(reach(found, 0, Milestone.FROZEN)) == [1]
    assert let(reach(found, 1, Milestone.FROZEN)) == [2]
    assert let(reach(found, 2, Milestone.FROZEN)) == [0, 1, 2], "only now the first point in time"


def test_who_is_the_first_at_its_node_and_how_many_are_there_is_told() -> None:
    found = group(4, all_or_none=False)
    found.left(0, "it is locked", 40.0)
    reach(found, 1, Milestone.EXAMINED, node="pve1")
    reach(found, 2, Milestone.EXAMINED, node="pve2")
    words = reach(found, 3, Milestone.EXAMINED, node="pve1")
    told = {word.member: (word.values["beside"], word.values["is_first"]) for word in words}
    assert told == {1: (2, True), 2: (1, True), 3: (2, False)}


@pytest.mark.parametrize("step", BEFORE_JUDGED)
def test_one_that_left_while_it_waited_is_let_through_no_more(step: Milestone) -> None:
    """Its process has ended, say: nobody hears, and it is none of those that are counted."""
    found = group(all_or_none=False)
    for earlier in [earlier for earlier in Milestone if earlier < step]:
        for number in range(3):
            reach(found, number, earlier, node="a")
    reach(found, 0, step, node="a")
    found.left(0, "it ended", 0.0)
    told = [*reach(found, 1, step, node="a"), *reach(found, 2, step, node="a")]
    assert 0 not in let(told)


def test_all_have_one_deadline_from_the_first_freeze_on() -> None:
    found = group(2)
    reach(found, 0, Milestone.READY)
    first = found.reached(1, Milestone.READY, {}, 70.0)
    assert [word.values for word in first if word.op == GO] == [
        {"step": Milestone.READY, "began": 70.0, "ends_by": 100.0},
    ]
    second = found.reached(0, Milestone.FROZEN, {"is_frozen": True}, 95.0)
    assert second[0].values == {"step": Milestone.READY, "began": 70.0, "ends_by": 100.0}


def test_they_are_thawed_in_reverse_order() -> None:
    found = group()
    for number in range(3):
        reach(found, number, Milestone.FROZEN)
    reach(found, 0, Milestone.TAKEN)
    reach(found, 2, Milestone.TAKEN)
    words = reach(found, 1, Milestone.TAKEN)
    assert let(words) == [2]
    assert {word.member: word.values["behind"] for word in words if word.op == TURN} == {0: 2, 1: 1, 2: 0}
    assert let(reach(found, 2, Milestone.THAWED)) == [1]
    assert let(reach(found, 1, Milestone.THAWED)) == [0]
    assert sorted(let(reach(found, 0, Milestone.THAWED))) == [0, 1, 2]


def test_who_is_not_frozen_has_no_place_in_the_turns() -> None:
    found = group()
    reach(found, 1, Milestone.FROZEN, is_frozen=False)
    reach(found, 0, Milestone.READY)
    assert let(reach(found, 2, Milestone.READY)) == [0], "it has come further already"
    assert let(reach(found, 0, Milestone.FROZEN)) == [2]
    reach(found, 2, Milestone.FROZEN)
    reach(found, 0, Milestone.TAKEN)
    reach(found, 1, Milestone.TAKEN)
    assert sorted(let(reach(found, 2, Milestone.TAKEN))) == [1, 2], "it waits for all, and for nobody's thaw"
    assert let(reach(found, 2, Milestone.THAWED)) == [0]


@pytest.mark.parametrize("step", BEFORE_JUDGED)
def test_one_that_cannot_follow_ends_it_for_all(step: Milestone) -> None:
    found = group()
    reach(found, 0, step)
    reach(found, 1, step)
    words = found.left(2, "it is locked", 60.0)
    assert [(word.member, word.op) for word in words[:2]] == [(0, ENDED), (1, ENDED)]
    assert words[0].values["why"] == "guest 102 could not follow: it is locked"
    judged = reach(found, 0, Milestone.JUDGED)
    assert judged[-1].values["keep"] is False, "nobody is waited for"


@pytest.mark.parametrize("step", BEFORE_JUDGED)
def test_with_best_effort_the_others_go_on(step: Milestone) -> None:
    found = group(all_or_none=False)
    reach(found, 0, step)
    reach(found, 1, step)
    words = found.left(2, "it is locked", 60.0)
    assert not [word for word in words if word.op == ENDED]
    assert let(words)
    for number in (0, 1):
        last = reach(found, number, Milestone.JUDGED)
    assert last[-1].values["keep"] is True


def test_one_that_is_not_what_it_should_be_ends_it_for_all_at_the_last_step() -> None:
    found = group(2)
    assert not let(reach(found, 0, Milestone.JUDGED))
    words = reach(found, 1, Milestone.JUDGED, follows=False, verdict="crash-consistent", why="the guard died")
    assert [word.values["keep"] for word in words if word.op == GO] == [False, False]
    assert found.ended == "guest 101 is crash-consistent (the guard died)"


def test_what_was_decided_stays_so() -> None:
    found = group(2)
    reach(found, 0, Milestone.JUDGED)
    words = reach(found, 1, Milestone.JUDGED)
    assert [word.values for word in words] == [{"step": Milestone.JUDGED, "keep": True, "words": "w"}] * 2
    assert not found.left(0, "its process has ended", 60.0)
    assert found.decision == Resolution(True, "w")
    assert not found.ended


def test_a_member_that_goes_back_is_taken_for_one_that_could_not_follow() -> None:
    found = group(2)
    reach(found, 0, Milestone.TAKEN)
    words = reach(found, 0, Milestone.FROZEN)
    assert [word.op for word in words] == [ENDED]
    assert "it said frozen after taken" in found.ended


@pytest.mark.parametrize("seed", range(300))
def test_whatever_the_order_nobody_is_frozen_at_a_point_alone(seed: int) -> None:
    """Members that go on when they are let, in any order, and leave at any step."""
    rng = random.Random(seed)
    count = rng.randint(1, 5)
    found = group(count, all_or_none=rng.random() < 0.5)
    at: dict[int, Milestone] = {}
    free = set(range(count))
    frozen: list[int] = []
    thawed: list[int] = []
    while free:
        number = rng.choice(sorted(free))
        free.discard(number)
        if rng.random() < 0.03:
            words = found.left(number, "chance", 60.0)
            at[number] = Milestone.JUDGED
        else:
            step = Milestone(at.get(number, 0) + 1)
            at[number] = step
            if step is Milestone.FROZEN:
                frozen.append(number)
            if step is Milestone.THAWED:
                thawed.append(number)
            words = reach(found, number, step)
        for word in words:
            gone = found.members[word.member].left
            if word.op == GO and not gone:
                step = Milestone(word.values["step"])
                assert at[word.member] is step
                others = [n for n in range(count) if not found.members[n].left]
                if step >= Milestone.FROZEN and not found.ended:
                    assert all(at[n] >= step for n in others), "one went on before another had come"
                if step < Milestone.JUDGED:
                    free.add(word.member)
        if found.ended:
            break
    assert frozen == sorted(frozen)
    if not found.ended:
        assert thawed == sorted(thawed, reverse=True)
        assert found.decision is not None or all(member.left for member in found.members)


class Script:
    """member.Wire: what comes when, and what was said."""

    def __init__(self, clock: ManualClock, *messages: tuple[float, Mapping[str, Any] | None]) -> None:
        self._clock = clock
        self.messages = deque(messages)
        self.said: list[tuple[str, dict[str, object]]] = []

    def tell(self, op: str, **values: object) -> bool:
        self.said.append((op, values))
        return True

    def wait(self, seconds: float | None = None) -> Mapping[str, Any] | None:
        until = self._clock.now + (seconds or 0.0)
        if self.messages and self.messages[0][0] <= until:
            at, message = self.messages.popleft()
            self._clock.now = max(self._clock.now, at)
            if message is None:
                raise EOFError
            return message
        self._clock.now = until
        return None


def fence(
    *messages: tuple[float, Mapping[str, Any] | None], all_or_none: bool = True, kept: Resolution | None = None
) -> tuple[MemberFence, Script, ManualClock]:
    """A member's, at 100 s; ``kept``: what the journal says already."""
    clock = ManualClock()
    wire = Script(clock, *messages)
    found = MemberFence(
        wire,
        clock,
        group_id="shop-0a1b2c3d",
        all_or_none=all_or_none,
        max_window_seconds=30.0,
        agree=lambda wanted: kept or wanted,
        bounds=Bounds(examined=10.0, armed=5.0, judged=60.0),
    )
    return found, wire, clock


def nothing() -> None:
    """There is nothing to be watched."""


def go(step: Milestone, **values: object) -> dict[str, object]:
    return {"op": GO, "step": int(step), **values}


def test_a_member_waits_until_it_is_let() -> None:
    found, wire, clock = fence((103.0, go(Milestone.READY, began=102.0, ends_by=132.0)))
    told = found.reach(Milestone.READY, nothing)
    assert (told.began, told.ends_by, clock.now) == (102.0, 132.0, 103.0)
    assert wire.said == [("at", {"step": Milestone.READY})]


def test_what_was_let_through_by_its_own_bound_is_not_let_through_twice() -> None:
    found, _, clock = fence(
        (100.0, {"op": TURN, "behind": 1}), (105.0, go(Milestone.TAKEN)), (106.0, go(Milestone.THAWED))
    )
    found.reach(Milestone.TAKEN, nothing)
    assert clock.now == pytest.approx(100.0 + TURN_SECONDS, abs=0.1)
    clock.now = 105.5
    found.reach(Milestone.THAWED, nothing)
    assert clock.now == 106.0


@pytest.mark.parametrize("behind", [1, 2, 4])
def test_no_thaw_waits_for_others_longer_than_their_turns(behind: int) -> None:
    found, _, clock = fence((101.0, {"op": TURN, "behind": behind}))
    found.reach(Milestone.TAKEN, nothing)
    assert clock.now <= 101.0 + behind * TURN_SECONDS + fences.LOOK_SECONDS


def test_a_turn_leaves_time_for_the_proof() -> None:
    found, _, clock = fence(
        (100.0, go(Milestone.READY, began=100.0, ends_by=103.0)), (100.5, {"op": TURN, "behind": 4})
    )
    found.reach(Milestone.READY, nothing)
    found.reach(Milestone.TAKEN, nothing)
    assert clock.now <= 103.0 - fences.PROOF_SECONDS + fences.LOOK_SECONDS


@pytest.mark.parametrize("step", [Milestone.FROZEN, Milestone.TAKEN])
def test_a_guard_that_dies_or_a_deadline_ends_the_wait(step: Milestone) -> None:
    found, _, clock = fence()

    def check() -> None:
        if clock.now >= 102.0:
            raise WindowBrokenError("the guard died", Reason.GUARD_DIED)

    with pytest.raises(WindowBrokenError):
        found.reach(step, check)
    assert clock.now <= 102.0 + fences.LOOK_SECONDS


@pytest.mark.parametrize("step", BEFORE_JUDGED)
def test_the_end_of_the_group_or_of_its_leader_ends_the_wait(step: Milestone) -> None:
    found, _, clock = fence((101.0, {"op": ENDED, "why": "guest 101 could not follow: locked"}))
    with pytest.raises(GroupEndedError, match="guest 101 could not follow: locked"):
        found.reach(step, nothing)
    assert clock.now == 101.0
    found, _, clock = fence((101.0, None))
    with pytest.raises(GroupEndedError, match=GONE):
        found.reach(step, nothing)
    assert clock.now == 101.0


def test_while_pve_takes_the_snapshot_the_end_is_seen_at_once() -> None:
    found, _, _ = fence((99.0, {"op": ENDED, "why": "x"}))
    with pytest.raises(GroupEndedError):
        found.look()
    found, _, _ = fence((200.0, {"op": ENDED, "why": "x"}))
    found.look()


@pytest.mark.parametrize(
    ("messages", "kept", "keeps"),
    [
        ([(101.0, {"op": ENDED, "why": "x"})], Resolution(True, "w"), False),
        ([(101.0, None)], None, False),
        ([(101.0, None)], Resolution(True, "w"), True),
        ([], None, False),
        ([], Resolution(True, "w"), True),
        ([(101.0, go(Milestone.JUDGED, keep=True, words="w"))], None, True),
        ([(101.0, go(Milestone.JUDGED, keep=False, words="w"))], None, False),
    ],
)
def test_whether_a_snapshot_is_kept_is_the_leaders_word_or_the_journals(
    messages: list[tuple[float, Mapping[str, Any] | None]], kept: Resolution | None, *, keeps: bool
) -> None:
    found, _, _ = fence(*messages, kept=kept)
    assert found.reach(Milestone.JUDGED, nothing).keep is keeps


def test_with_best_effort_a_leader_that_dies_costs_no_snapshot() -> None:
    found, _, _ = fence((101.0, None), all_or_none=False)
    told = found.reach(Milestone.JUDGED, nothing)
    assert told.keep
    assert told.words == f"not one point in time: {GONE}"


def test_who_has_left_waits_for_nobody() -> None:
    found, wire, clock = fence()
    found.leave("it could not be frozen")
    found.leave("another word")
    for step in BEFORE_JUDGED:
        found.reach(step, nothing)
    found.look()
    assert clock.now == 100.0
    assert wire.said == [("left", {"why": "it could not be frozen"})]


def of(
    vmid: int,
    still: tuple[float | None, float | None] = (10.0, 20.0),
    point: tuple[float, float] = (12.0, 13.0),
    **values: object,
) -> Member:
    told: dict[str, Any] = {"verdict": "filesystem-consistent", "still": still, "point": point, "kind": "qemu"}
    return Member(vmid, step=Milestone.JUDGED, told=told | values)


def test_those_that_stood_still_over_all_points_are_of_one() -> None:
    words = moment.words([of(100), of(101, (11.0, 20.0), (12.5, 19.0))])
    assert words == (
        "one point in time of guests 100, 101 (freezes 1.00 s apart, points in time within 7.00 s; in seconds: "
        "100 frozen at 0.00, taken 2.00 to 3.00; 101 frozen at 1.00, taken 2.50 to 9.00)"
    )


@pytest.mark.parametrize(
    ("other", "why"),
    [
        (of(101, (12.5, 20.0), (14.0, 15.0)), "guest 101 did not stand still over every other one's"),
        (of(101, (11.0, 12.9), (12.0, 12.5)), "guest 101 did not stand still over every other one's"),
        (of(101, point=(9.0, 13.0)), "guest 100 did not stand still over every other one's"),
        (of(101, point=(12.0, 20.5)), "guest 100 did not stand still over every other one's"),
        (of(101, (None, None)), "guest 101 does not say when it was frozen"),
        (of(101, verdict="crash-consistent"), "guest 101 is crash-consistent"),
        (of(101, (None, None), verdict="unknown"), "guest 101 is unknown"),
        (of(101, (None, None), kind="lxc", verdict="crash-consistent"), "guest 101 is a container"),
        (Member(101, left="locked"), "guest 101 could not follow"),
        (Member(101, step=Milestone.TAKEN), "guest 101 could not follow"),
    ],
)
def test_one_that_did_not_takes_the_words_away(other: Member, why: str) -> None:
    words = moment.words([of(100), other])
    assert words.startswith("not one point in time: ")
    assert why in words


def test_a_guest_that_is_off_stands_still() -> None:
    words = moment.words([of(100), of(101, (1.0, 30.0), verdict="offline")])
    assert words.startswith("one point in time of guests 100, 101")
    assert "101 off, taken" in words


@pytest.mark.parametrize("seed", range(200))
def test_no_words_for_a_guest_that_could_have_moved(seed: int) -> None:
    """Against the rule written out: for each pair."""
    rng = random.Random(seed)

    def span() -> tuple[float, float]:
        first, last = sorted(rng.uniform(0.0, 10.0) for _ in range(2))
        return first, last

    members = [of(n, (rng.uniform(0, 4), rng.uniform(6, 10)), span()) for n in range(rng.randint(1, 4))]
    is_one = all(
        a.told["still"][0] <= b.told["point"][0] and b.told["point"][1] <= a.told["still"][1]
        for a, b in itertools.product(members, repeat=2)
    )
    assert moment.words(members).startswith(moment.ONE) is is_one


class Log:
    """What a leader did, in order."""

    def __init__(self, agreed: Resolution | None = None) -> None:
        self.done: list[str] = []
        self._agreed = agreed

    def agree(self, wanted: Resolution) -> Resolution:
        self.done.append("agreed")
        return self._agreed or wanted

    def teller(self, number: int) -> Tell:
        def tell(op: str, values: Told) -> None:
            self.done.append(f"{number} {op} {values.get('keep', '')}".rstrip())

        return tell


def leader(log: Log, *, all_or_none: bool = True) -> Leader:
    tells = [log.teller(number) for number in range(2)]
    clock = ManualClock()
    return Leader((100, 101), tells, clock, all_or_none=all_or_none, max_window_seconds=30.0, agree=log.agree)


def judged(found: Leader) -> None:
    for number in range(2):
        found.heard(number, {"op": "at", "step": int(Milestone.JUDGED), "follows": True, "kind": "qemu"})


def test_what_becomes_of_the_snapshots_is_in_the_journal_before_anybody_is_told() -> None:
    log = Log()
    judged(leader(log))
    assert log.done == ["agreed", "0 pass True", "1 pass True"]


def test_what_the_journal_says_already_holds_for_all() -> None:
    log = Log(Resolution(False, "a member had waited for too long"))
    found = leader(log)
    judged(found)
    assert log.done == ["agreed", "0 pass False", "1 pass False"]
    assert found.decision == Resolution(False, "a member had waited for too long")


def test_with_best_effort_nothing_needs_to_be_agreed() -> None:
    log = Log()
    judged(leader(log, all_or_none=False))
    assert "agreed" not in log.done


def test_the_first_decision_in_the_journal_stays(tmp_path: Path) -> None:
    clock = ManualClock()
    path = tmp_path / "journal.sqlite"
    kept, removed = Resolution(True, "w"), Resolution(False, "x")
    assert agreed_in(lambda: Journal(path), "shop-1", clock)(kept) == kept
    assert agreed_in(lambda: Journal(path), "shop-1", clock)(removed) == kept
    assert agreed_in(lambda: Journal(path), "shop-2", clock)(removed) == removed
    clock.now += KEPT_SECONDS + 1.0
    agreed_in(lambda: Journal(path), "shop-3", clock)(kept)
    assert agreed_in(lambda: Journal(path), "shop-1", clock)(removed) == removed, "long forgotten"
    nowhere = tmp_path / "none"
    nowhere.write_text("no folder")
    assert agreed_in(lambda: Journal(nowhere / "x"), "shop-1", clock)(kept) == kept


def test_nothing_is_shown_while_a_guest_may_be_frozen() -> None:
    shown: list[str] = []
    holding = [True]
    board = HeldBoard(PlainBoard(shown.append, is_verbose=True), lambda: holding[0])
    guest = Guest(Vmid(100), Node("a"), GuestKind.QEMU, name="db")
    board.begins(guest)
    board.says(guest, "guard armed", 1.0)
    board.draw()
    assert not shown
    holding[0] = False
    board.note("the end")
    assert shown == ["100 db: begun", "100 db: guard armed", "the end"]


def test_a_group_holds_from_its_first_freeze_to_its_last_thaw() -> None:
    found = group(2)
    reach(found, 0, Milestone.ARMED)
    assert not found.is_holding
    reach(found, 0, Milestone.READY)
    assert found.is_holding
    for step in (Milestone.FROZEN, Milestone.TAKEN, Milestone.THAWED):
        reach(found, 0, step)
        reach(found, 1, step)
        assert found.is_holding is (step is not Milestone.THAWED)
