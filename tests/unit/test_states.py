"""The table of a freeze window's states: every legal transition, and nothing else."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from snapshot.states import TABLE, Event, IllegalTransitionError, State, WindowMachine, check_step, may_follow

ILLEGAL = [pair for pair in itertools.product(State, Event) if pair not in TABLE]
MAY_BE_FROZEN = (State.FREEZING, State.FROZEN, State.THAWING, State.UNKNOWN, State.STUCK)


def machine(state: State) -> WindowMachine:
    return WindowMachine(state)


@pytest.mark.parametrize(("state", "event"), TABLE, ids=lambda part: part.name)
def test_a_legal_transition_goes_where_the_table_says(state: State, event: Event) -> None:
    window = machine(state)
    assert window.on(event) is TABLE[state, event]
    assert window.state is TABLE[state, event]


@pytest.mark.parametrize(("state", "event"), ILLEGAL, ids=lambda part: part.name)
def test_an_illegal_transition_raises_and_changes_nothing(state: State, event: Event) -> None:
    window = machine(state)
    late = window.late_freeze_possible
    with pytest.raises(IllegalTransitionError, match=state.value) as caught:
        window.on(event)
    assert event.value in str(caught.value)
    assert (window.state, window.late_freeze_possible) == (state, late)


def test_the_table_cannot_be_changed() -> None:
    with pytest.raises(TypeError):
        TABLE[State.IDLE, Event.FREEZE_SENT] = State.FREEZING  # type: ignore[index]


def test_a_freeze_is_only_ever_requested_from_armed() -> None:
    assert [state for state, event in TABLE if event is Event.FREEZE_SENT] == [State.ARMED]


def test_armed_is_only_ever_reached_by_arming_the_guard() -> None:
    assert [pair for pair, target in TABLE.items() if target is State.ARMED] == [(State.IDLE, Event.GUARD_ARMED)]


def test_thawed_is_an_end() -> None:
    assert not [pair for pair in TABLE if pair[0] is State.THAWED]
    assert machine(State.THAWED).is_closed


@pytest.mark.parametrize("state", MAY_BE_FROZEN, ids=lambda state: state.name)
def test_every_state_in_which_the_guest_may_be_frozen_has_a_way_to_thawed(state: State) -> None:
    reached, frontier = {state}, [state]
    while frontier:
        here = frontier.pop()
        for (source, _), target in TABLE.items():
            if source is here and target not in reached:
                reached.add(target)
                frontier.append(target)
    assert State.THAWED in reached


@pytest.mark.parametrize("state", MAY_BE_FROZEN, ids=lambda state: state.name)
def test_a_guest_that_went_off_ends_a_window_unless_pve_may_hold_its_freeze_still(state: State) -> None:
    doubtful = state in (State.UNKNOWN, State.STUCK)
    assert machine(state).on(Event.GUEST_GONE) is (State.UNKNOWN if doubtful else State.THAWED)


def test_unknown_is_left_for_thawed_only_by_a_quiet_period() -> None:
    ways = {event for (state, event), target in TABLE.items() if state is State.UNKNOWN and target is State.THAWED}
    assert ways == {Event.QUIET}


@pytest.mark.parametrize(
    ("before", "after", "legal"),
    [
        (State.IDLE, State.FREEZING, True),  # vzdump's own freeze, watched: nobody wrote that a guard was armed
        (State.IDLE, State.THAWED, True),
        (State.ARMED, State.STUCK, True),
        (State.FROZEN, State.FROZEN, True),
        (State.STUCK, State.THAWED, True),
        (State.FROZEN, State.FREEZING, False),
        (State.THAWING, State.FROZEN, False),
        (State.STUCK, State.THAWING, False),
        (State.UNKNOWN, State.ARMED, False),
        *((State.THAWED, state, state is State.THAWED) for state in State),
        *((state, State.IDLE, state is State.IDLE) for state in State),
    ],
    ids=lambda part: part.name if isinstance(part, State) else str(part),
)
def test_what_is_written_of_a_state_follows_from_what_was_written_before(
    before: State, after: State, legal: bool
) -> None:
    assert may_follow(before, after) is legal
    if legal:
        check_step(before, after)
        return
    with pytest.raises(IllegalTransitionError, match=f"{before.value} cannot be {after.value}"):
        check_step(before, after)


def test_a_confirmed_thaw_does_not_end_a_window_whose_freeze_reply_was_lost() -> None:
    window = WindowMachine()
    for event in (Event.GUARD_ARMED, Event.FREEZE_SENT, Event.FREEZE_UNCLEAR, Event.THAW_DECIDED, Event.THAW_CONFIRMED):
        window.on(event)
    assert window.state is State.UNKNOWN
    assert window.late_freeze_possible
    assert not window.is_closed
    window.on(Event.LATE_FREEZE_SEEN)
    window.on(Event.THAW_CONFIRMED)
    assert window.late_freeze_possible
    window.on(Event.QUIET)
    assert window.is_closed
    assert not window.late_freeze_possible


def test_a_stuck_guest_whose_thaw_is_confirmed_still_waits_for_its_quiet_period() -> None:
    window = machine(State.STUCK)
    assert window.on(Event.THAW_CONFIRMED) is State.UNKNOWN
    assert window.on(Event.QUIET) is State.THAWED


def test_an_answered_freeze_leaves_no_late_freeze_behind() -> None:
    window = WindowMachine()
    for event in (Event.GUARD_ARMED, Event.FREEZE_SENT, Event.FREEZE_ACKNOWLEDGED, Event.THAW_DECIDED):
        window.on(event)
        assert not window.late_freeze_possible
    assert window.on(Event.THAW_CONFIRMED) is State.THAWED


@pytest.mark.parametrize("state", State, ids=lambda state: state.name)
def test_a_window_resumed_as_unknown_may_still_freeze_late(state: State) -> None:
    assert machine(state).late_freeze_possible is (state is State.UNKNOWN)


@given(st.lists(st.sampled_from(Event), max_size=30))
def test_no_walk_ends_a_window_early_after_a_lost_freeze_reply(events: list[Event]) -> None:
    window, reply_lost = WindowMachine(), False
    for event in events:
        before = window.state
        try:
            after = window.on(event)
        except IllegalTransitionError:
            assert window.state is before
            continue
        reply_lost = reply_lost or event is Event.FREEZE_UNCLEAR
        if after is State.THAWED and reply_lost:
            assert event is Event.QUIET
        assert window.late_freeze_possible is (reply_lost and after is not State.THAWED)
