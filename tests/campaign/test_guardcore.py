"""What a guard does with what it hears, in virtual time."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from snapshot.guard.__main__ import unknown_orphan
from snapshot.guard.core import GuardCore
from snapshot.guard.link import Op
from snapshot.guard.seams import Happening, Inbox, Message, Recorder
from snapshot.guard.turn import DEADLINE_MARGIN_SECONDS, OwnerLife
from snapshot.journal.record import Cause
from snapshot.pve.agent import AgentRefusedError, AgentReplyLostError, CommandNotSentError
from tests.campaign.kit import ManualClock, Notes, ScriptedChannel, ScriptedInbox, guard_spec, thawer

BUSY = CommandNotSentError("QEMU guest agent is not running", busy_or_gone=True)
START = 100.0


def guard(
    route: ScriptedChannel,
    script: list[tuple[float, Message]],
    notes: Notes | None = None,
    owner: OwnerLife | None = None,
    **spec: object,
) -> tuple[GuardCore, Notes]:
    """A guard on ``route``'s clock; instants of ``script`` are seconds after START."""
    notes = notes or Notes()
    inbox = ScriptedInbox(route.clock, [(START + at, message) for at, message in script])
    return GuardCore(guard_spec(**spec), inbox, thawer(route.clock, [route]), route.clock, notes, owner), notes


@dataclass
class Owner:
    """guard.turn.OwnerLife: stopped from ``stopped_at`` on, and in the agent's seat as long as it lives."""

    clock: ManualClock
    stopped_at: float = float("inf")
    ended_at: float | None = None

    def is_gone(self) -> bool:
        return self.ended_at is not None

    def end_if_it_stands_still(self, *, is_silent: bool) -> bool:
        if self.ended_at is None and (is_silent or self.clock.now >= self.stopped_at):
            self.ended_at = self.clock.now
            return True
        return False

    def answer(self, command: str) -> object:
        """What the agent says to others."""
        if self.ended_at is None:
            return BUSY
        return 1 if command == "fsfreeze-thaw" else "thawed"


def says(op: Op, **values: float) -> Message:
    return Message(op, values)


def freezing_late(clock: ManualClock, at: float) -> Callable[[str], object]:
    """An agent that carries a freeze out at ``at``, and the next thaw after it."""
    left = [1]

    def answer(command: str) -> object:
        held = left[0] if clock.now >= at else 0
        if command == "fsfreeze-status":
            return "frozen" if held else "thawed"
        left[0] -= held
        return held

    return answer


def test_an_owner_that_dies_is_answered_with_a_thaw_at_once() -> None:
    route = ScriptedChannel(ManualClock(), [1, "thawed"])
    core, notes = guard(route, [(0, says(Op.FREEZING)), (0.1, says(Op.FROZEN)), (1.0, Message(Happening.OWNER_GONE))])
    core.run()
    assert route.calls[0][:2] == (START + 1.0, "fsfreeze-thaw")
    assert notes.told == ["intervened owner-died", "thawed", "closed"]


def test_an_owner_that_hangs_is_overtaken_at_the_deadline() -> None:
    route = ScriptedChannel(ManualClock(), [1, "thawed"])
    core, _ = guard(route, [(0, says(Op.FREEZING)), (0.1, says(Op.FROZEN)), (500, Message(Happening.OWNER_GONE))])
    core.run()
    assert route.calls[0][0] == START + 12.0


def test_a_guard_that_stands_in_for_one_that_died_thaws_though_its_owner_dies_before_a_word() -> None:
    """The freeze was sent under the first one: without a word the second one would take the guest for untouched."""
    clock = ManualClock()
    route = ScriptedChannel(clock, [freezing_late(clock, START + 2.0)])
    core, notes = guard(route, [(0.1, Message(Happening.OWNER_GONE))], at_risk=True, late_freeze_seconds=60.0)
    core.run()
    assert route.calls[0][:2] == (START + 0.1, "fsfreeze-thaw")
    assert notes.told == ["intervened owner-died", "thawed, watching", "late freeze", "closed"]


def test_a_guest_that_is_off_and_on_again_may_still_be_frozen_by_what_pve_holds() -> None:
    """The freeze waits in PVE, the guest is shut down and started: its freeze comes with nobody's window open."""
    clock = ManualClock()
    late = freezing_late(clock, START + 20.0)

    def answer(command: str) -> object:
        if clock.now < START + 10.0:
            raise CommandNotSentError("VM 100 is not running", guest_off=True)
        return late(command)

    route = ScriptedChannel(clock, [answer])
    notes = Notes()
    inbox = ScriptedInbox(clock, [(START, says(Op.FREEZING)), (START + 0.5, Message(Happening.OWNER_GONE))])
    routes = thawer(clock, [route], is_off=lambda: clock.now < START + 10.0)
    GuardCore(guard_spec(late_freeze_seconds=60.0), inbox, routes, clock, notes).run()
    assert notes.told == ["intervened owner-died", "thawed, watching", "late freeze", "closed"]


def test_a_disarmed_guard_asks_nothing() -> None:
    route = ScriptedChannel(ManualClock(), [AssertionError("asked")])
    core, notes = guard(route, [(0, says(Op.FREEZING)), (0.2, says(Op.FROZEN)), (1, says(Op.DISARM))])
    core.run()
    assert notes.told == ["closed by owner"]


def test_an_owner_that_thaws_is_not_disturbed_as_long_as_it_shows_that_it_lives() -> None:
    route = ScriptedChannel(ManualClock(), [AssertionError("asked")])
    thaws = [(9.0 + 15.0 * n, says(Op.THAWING)) for n in range(8)]
    core, notes = guard(route, [(0, says(Op.FREEZING)), (0.1, says(Op.FROZEN)), *thaws, (120.0, says(Op.DISARM))])
    core.run()
    assert notes.told == ["closed by owner"]


def test_an_owner_that_falls_silent_in_its_thaw_is_overtaken_within_20_seconds() -> None:
    route = ScriptedChannel(ManualClock(), [1, "thawed"])
    core, _ = guard(
        route,
        [
            (0, says(Op.FREEZING)),
            (0.1, says(Op.FROZEN)),
            (2.0, says(Op.THAWING)),
            (500, Message(Happening.OWNER_GONE)),
        ],
    )
    core.run()
    assert START + 2.0 < route.calls[0][0] <= START + 22.0


def test_an_owner_that_comes_back_past_its_deadline_is_given_way() -> None:
    route = ScriptedChannel(ManualClock(), [BUSY], seconds=3.0)
    core, notes = guard(
        route,
        [
            (0, says(Op.FREEZING)),
            (0.1, says(Op.FROZEN)),
            (13.0, says(Op.THAWING)),
            (20.0, says(Op.THAWING)),
            (33.0, says(Op.DISARM)),
        ],
    )
    core.run()
    assert [at for at, _, _ in route.calls] == [START + 12.0], "one round that had begun, and no more"
    assert notes.told == ["intervened deadline", "closed by owner"]


def test_nothing_is_recorded_before_the_first_thaw_request() -> None:
    route = ScriptedChannel(ManualClock(), [1, "thawed"])
    core, notes = guard(route, [(0, says(Op.FREEZING)), (0.1, says(Op.FROZEN)), (0.5, Message(Happening.OWNER_GONE))])
    told_at_first: list[list[str]] = []
    route.answers[0] = lambda command: (told_at_first.append(list(notes.told)), 1)[1]
    core.run()
    assert told_at_first == [[]]
    assert notes.told[0] == "intervened owner-died"


def test_a_late_freeze_is_thawed_as_soon_as_it_shows() -> None:
    clock = ManualClock()
    thaws: list[float] = []

    def answer(command: str) -> object:
        frozen = clock.now > START + 30.0 and not (thaws and thaws[-1] > START + 30.0)
        if command == "fsfreeze-thaw":
            thaws.append(clock.now)
            return int(frozen)
        return "frozen" if frozen else "thawed"

    route = ScriptedChannel(clock, [answer])
    core, notes = guard(route, [(0, says(Op.FREEZING)), (0.5, Message(Happening.OWNER_GONE))], late_freeze_seconds=60.0)
    core.run()
    assert notes.told == ["intervened owner-died", "thawed, watching", "late freeze", "closed"]
    assert any(START + 30.0 < at < START + 35.0 for at in thaws)


def test_the_watch_ends_with_the_thaw_of_the_late_freeze_so_that_others_may_freeze_again() -> None:
    """A window sends one freeze. To take each later one for it cost the backups of an hour theirs."""
    clock = ManualClock()
    route = ScriptedChannel(clock, [freezing_late(clock, START + 30.0)])
    core, notes = guard(
        route, [(0, says(Op.FREEZING)), (0.5, Message(Happening.OWNER_GONE))], late_freeze_seconds=3600.0
    )
    core.run()
    assert notes.told == ["intervened owner-died", "thawed, watching", "late freeze", "closed"]
    assert clock.now < START + 40.0


def test_a_thaw_that_counts_the_freeze_whose_answer_nobody_heard_ends_the_window() -> None:
    clock = ManualClock()
    route = ScriptedChannel(clock, [freezing_late(clock, START + 0.3)])
    core, notes = guard(route, [(0, says(Op.FREEZING)), (0.5, Message(Happening.OWNER_GONE))])
    core.run()
    assert notes.told == ["intervened owner-died", "thawed, watching", "closed"]
    assert clock.now < START + 6.0


def frozen_at(clock: ManualClock, *instants: float) -> tuple[list[float], Callable[[str], object]]:
    """Freezes that come at these instants, and an agent whose thaw counts those that have come."""
    held = list(instants)

    def answer(command: str) -> object:
        frozen = [at for at in held if at <= clock.now]
        if command == "fsfreeze-status":
            return "frozen" if frozen else "thawed"
        held[:] = [at for at in held if at > clock.now]
        return len(frozen)

    return held, answer


def test_a_freeze_of_ours_behind_somebody_elses_in_the_agents_queue_is_thawed_too() -> None:
    """The thaw counts the other's, and ours follows as soon as we leave the agent."""
    clock = ManualClock()
    held, answer = frozen_at(clock, START, START + 1.5)
    route = ScriptedChannel(clock, [answer])
    core, notes = guard(
        route, [(0, says(Op.FREEZING)), (0.5, Message(Happening.OWNER_GONE))], late_freeze_seconds=3600.0
    )
    core.run()
    assert not held
    assert notes.told == ["intervened owner-died", "thawed, watching", "late freeze", "closed"]


@pytest.mark.parametrize(
    ("others_freeze", "freezes"), [(False, (0.0, 1.0)), (True, (0.0,))], ids=["ours and PVE's", "vzdump's"]
)
def test_a_thaw_that_counts_one_freeze_does_not_end_the_watch_where_there_may_be_two(
    others_freeze: bool, freezes: tuple[float, ...]
) -> None:
    clock = ManualClock()
    held, answer = frozen_at(clock, START + 1.0, START + 30.0)
    script = [*((at, says(Op.FREEZING)) for at in freezes), (1.5, Message(Happening.OWNER_GONE))]
    core, notes = guard(ScriptedChannel(clock, [answer]), script, others_freeze=others_freeze, late_freeze_seconds=60.0)
    core.run()
    assert not held
    assert notes.told == ["intervened owner-died", "thawed, watching", "late freeze", "closed"]


def test_the_watch_ends_only_after_the_late_period_and_an_answer() -> None:
    clock = ManualClock()
    route = ScriptedChannel(clock, [0, "thawed"])
    silent_until = START + 500.0

    def answer(command: str) -> object:
        if clock.now < silent_until:
            return AgentReplyLostError("silent")
        return 0 if command == "fsfreeze-thaw" else "thawed"

    route.answers.append(answer)
    core, notes = guard(route, [(0, says(Op.FREEZING)), (0.5, Message(Happening.OWNER_GONE))], late_freeze_seconds=60.0)
    core.run()
    assert clock.now >= silent_until
    assert notes.told[-1] == "closed"


def test_the_watch_ends_with_a_thaw_since_an_agent_that_was_restarted_may_say_thawed_of_a_frozen_guest() -> None:
    """Found by the campaign: a late freeze, the agent killed and its state file lost, and the watch saw nothing."""
    route = ScriptedChannel(ManualClock(), [lambda command: 0 if command == "fsfreeze-thaw" else "thawed"])
    core, _ = guard(route, [(0, says(Op.FREEZING)), (0.5, Message(Happening.OWNER_GONE))], late_freeze_seconds=60.0)
    core.run()
    thaws = [at - START for at, command, _ in route.calls if command == "fsfreeze-thaw"]
    assert len(thaws) == 3, "at once, when the looks have become sparse, and at the end"
    assert 5.0 < thaws[1] < 12.0
    assert thaws[2] >= 60.0


def test_an_agent_that_was_silent_in_the_watch_is_not_believed_without_a_thaw() -> None:
    clock = ManualClock()

    def answer(command: str) -> object:
        if START + 20.0 < clock.now < START + 30.0:
            return AgentReplyLostError("killed")
        return 0 if command == "fsfreeze-thaw" else "thawed"

    route = ScriptedChannel(clock, [answer])
    core, _ = guard(route, [(0, says(Op.FREEZING)), (0.5, Message(Happening.OWNER_GONE))], late_freeze_seconds=90.0)
    core.run()
    thaws = [at - START for at, command, _ in route.calls if command == "fsfreeze-thaw"]
    assert any(30.0 <= at < 36.0 for at in thaws)


def test_a_signal_makes_the_guard_thaw_first() -> None:
    route = ScriptedChannel(ManualClock(), [0, "thawed"])
    core, notes = guard(route, [(0, says(Op.FREEZING)), (0.4, Message(Happening.SIGNAL))])
    core.run()
    assert route.calls[0][0] == START + 0.4
    assert notes.told == ["intervened signal", "thawed, watching", "left open"]


def test_a_worker_that_dies_before_the_freeze_is_nothing_to_the_guard() -> None:
    route = ScriptedChannel(ManualClock(), [AssertionError("asked")])
    core, notes = guard(route, [(0, Message(Happening.WATCHED_DIED)), (1, says(Op.DISARM))])
    core.run()
    assert notes.told == ["closed by owner"]


def test_a_worker_that_dies_in_the_window_has_the_guest_thawed_when_the_owner_does_not() -> None:
    route = ScriptedChannel(ManualClock(), [1, "thawed"])
    core, notes = guard(
        route,
        [
            (0, says(Op.FREEZING)),
            (0.1, says(Op.FROZEN)),
            (1, Message(Happening.WATCHED_DIED)),
            (500, says(Op.DISARM)),
        ],
    )
    core.run()
    assert route.calls[0][0] == START + 1.5
    assert notes.told[0] == f"intervened {Cause.WORKER_DIED.value}"


def test_a_guard_that_cannot_thaw_raises_the_alarm_and_goes_on() -> None:
    clock = ManualClock()
    route = ScriptedChannel(clock, [lambda command: BUSY if clock.now < START + 60.0 else answer(command)], seconds=0.5)

    def answer(command: str) -> object:
        return 1 if command == "fsfreeze-thaw" else "thawed"

    core, notes = guard(route, [(0, says(Op.FREEZING)), (0.1, says(Op.FROZEN)), (1, Message(Happening.OWNER_GONE))])
    core.run()
    assert notes.told == ["intervened owner-died", "stuck", "thawed", "closed"]
    assert clock.now < START + 63.0


def test_a_late_freeze_that_cannot_be_thawed_raises_the_alarm_too() -> None:
    """Its guest was thawed once: to the journal it holds nothing any more, and nobody would hear of it."""
    clock = ManualClock()
    is_over = False

    def answer(command: str) -> object:
        nonlocal is_over
        is_frozen = clock.now > START + 30.0 and not is_over
        if command == "fsfreeze-status":
            return "frozen" if is_frozen else "thawed"
        if is_frozen and clock.now < START + 70.0:
            return AgentRefusedError("CommandNotFound", "Command guest-fsfreeze-thaw has been disabled")
        is_over = is_over or is_frozen
        return int(is_frozen)

    route = ScriptedChannel(clock, [answer])
    core, notes = guard(route, [(0, says(Op.FREEZING)), (0.5, Message(Happening.OWNER_GONE))], late_freeze_seconds=90.0)
    core.run()
    assert notes.told == [
        "intervened owner-died",
        "thawed, watching",
        "stuck",
        "late freeze",
        "thawed, watching",
        "closed",
    ]


def test_a_doubt_that_the_agent_does_not_settle_is_no_alarm() -> None:
    """A silent agent after a good thaw is nothing new; whether its guest is frozen, nobody can tell."""
    clock = ManualClock()

    def answer(command: str) -> object:
        if clock.now > START + 20.0 and command == "fsfreeze-thaw" and clock.now < START + 60.0:
            return BUSY
        return 0 if command == "fsfreeze-thaw" else "thawed"

    route = ScriptedChannel(clock, [answer])
    core, notes = guard(route, [(0, says(Op.FREEZING)), (0.5, Message(Happening.OWNER_GONE))], late_freeze_seconds=25.0)
    core.run()
    assert notes.told == ["intervened owner-died", "thawed, watching", "closed"]


# -------------------------------------------------------------------------------------- who stands still loses its turn


@pytest.mark.parametrize("said", [Op.ASKING, Op.THAWING])
def test_an_owner_that_was_stopped_in_the_agents_seat_is_ended_at_the_deadline(said: Op) -> None:
    clock = ManualClock()
    owner = Owner(clock, stopped_at=START + 9.6)
    route = ScriptedChannel(clock, [owner.answer])
    script = [(0, says(Op.FREEZING)), (0.1, says(Op.FROZEN)), (9.5, says(said))]
    core, notes = guard(route, script, owner=owner)
    core.run()
    assert owner.ended_at == START + 12.0
    assert route.calls[0][:2] == (START + 12.0, "fsfreeze-thaw")
    assert notes.told == ["intervened owner-stopped", "thawed", "closed"]


def test_an_owner_that_has_kept_the_agents_seat_since_its_freeze_and_was_stopped_is_ended_at_the_deadline() -> None:
    clock = ManualClock()
    owner = Owner(clock, stopped_at=START + 9.6)
    route = ScriptedChannel(clock, [owner.answer])
    script = [(0, Message(Op.FREEZING, {"sits": 1.0})), (0.1, says(Op.FROZEN))]
    core, notes = guard(route, script, owner=owner)
    core.run()
    assert owner.ended_at == START + 12.0
    assert route.calls[0][:2] == (START + 12.0, "fsfreeze-thaw")
    assert notes.told == ["intervened owner-stopped", "thawed", "closed"]


def test_an_owner_that_was_stopped_is_ended_as_soon_as_a_request_is_in_vain_whatever_it_said() -> None:
    clock = ManualClock()
    owner = Owner(clock, stopped_at=START + 9.6)
    route = ScriptedChannel(clock, [owner.answer], seconds=3.0)
    core, notes = guard(route, [(0, says(Op.FREEZING)), (0.1, says(Op.FROZEN))], owner=owner)
    core.run()
    assert owner.ended_at is not None
    assert owner.ended_at <= START + 12.0 + 3.0 + 0.5
    assert notes.told == ["intervened deadline", "thawed", "closed"]


def test_an_owner_that_was_stopped_and_is_in_nobodys_way_may_go_on_when_it_is_continued() -> None:
    clock = ManualClock()
    owner = Owner(clock, stopped_at=START + 1.0)
    route = ScriptedChannel(clock, [1, "thawed"])
    script = [(0, says(Op.FREEZING)), (0.1, says(Op.FROZEN)), (60.0, says(Op.DISARM))]
    core, notes = guard(route, script, owner=owner)
    core.run()
    assert owner.ended_at is None
    assert notes.told == ["intervened deadline", "thawed", "closed by owner"]


def test_an_owner_that_is_stopped_while_the_guard_stays_back_for_it_is_ended_within_a_second() -> None:
    clock = ManualClock()
    owner = Owner(clock, stopped_at=START + 15.3)
    route = ScriptedChannel(clock, [owner.answer])
    thaws = [(at, says(Op.THAWING)) for at in (11.0, 14.0)]
    core, notes = guard(route, [(0, says(Op.FREEZING)), (0.1, says(Op.FROZEN)), *thaws], owner=owner)
    core.run()
    assert owner.ended_at is not None
    assert START + 15.3 <= owner.ended_at <= START + 16.4
    assert notes.told == ["intervened owner-stopped", "thawed", "closed"]


def test_an_owner_that_is_stopped_in_the_middle_of_the_guards_thaw_is_ended_before_its_next_request() -> None:
    clock = ManualClock()
    owner = Owner(clock, stopped_at=START + 13.0)
    route = ScriptedChannel(clock, [owner.answer], seconds=3.0)
    core, _ = guard(route, [(0, says(Op.FREEZING)), (0.1, says(Op.FROZEN))], owner=owner)
    core.run()
    assert owner.ended_at is not None
    assert owner.ended_at <= START + 12.0 + 3.0 + 1.0


@pytest.mark.parametrize(
    ("words", "heard_at"), [([], 12.0), ([(12.5, says(Op.THAWING))], 12.5)], ids=["none", "a thaw"]
)
def test_an_owner_that_hangs_without_a_word_is_ended_after_its_longest_silence_and_not_before(
    words: list[tuple[float, Message]], heard_at: float
) -> None:
    """In state D, or in swap: nothing but its silence tells. It may be at its last request until then."""
    clock = ManualClock()
    owner = Owner(clock)
    route = ScriptedChannel(clock, [owner.answer], seconds=0.5)
    core, notes = guard(route, [(0, says(Op.FREEZING)), (0.1, says(Op.FROZEN)), *words], owner=owner)
    core.run()
    silence = thawer(clock, [route]).longest_silence_seconds
    assert owner.ended_at is not None
    assert START + heard_at + silence < owner.ended_at < START + heard_at + silence + 5.0
    assert notes.told[0] == "intervened deadline"
    assert notes.told[-1] == "closed"


def test_an_owner_that_moves_is_never_ended() -> None:
    clock = ManualClock()
    owner = Owner(clock)
    route = ScriptedChannel(clock, [lambda command: BUSY if clock.now < START + 100.0 else owner.answer(command)])
    thaws = [(9.0 + 9.0 * n, says(Op.THAWING)) for n in range(12)]
    core, _ = guard(
        route, [(0, says(Op.FREEZING)), (0.1, says(Op.FROZEN)), *thaws, (120.0, says(Op.DISARM))], owner=owner
    )
    core.run()
    assert owner.ended_at is None


def test_an_owner_that_has_handed_over_or_whose_guest_is_thawed_may_be_silent() -> None:
    clock = ManualClock()
    owner = Owner(clock)

    def answer(command: str) -> object:
        if clock.now < START + 90.0:
            return BUSY
        return 1 if command == "fsfreeze-thaw" else "thawed"

    route = ScriptedChannel(clock, [answer])
    core, _ = guard(route, [(0, says(Op.FREEZING)), (0.1, says(Op.FROZEN)), (20.0, says(Op.ABANDON))], owner=owner)
    core.run()
    assert owner.ended_at is None
    route = ScriptedChannel(ManualClock(), [1, "thawed"])
    owner = Owner(route.clock)
    core, notes = guard(route, [(0, says(Op.FREEZING)), (0.1, says(Op.FROZEN)), (300.0, says(Op.DISARM))], owner=owner)
    core.run()
    assert owner.ended_at is None
    assert notes.told[-1] == "closed by owner"


def test_before_the_deadline_a_stopped_owner_is_left_alone() -> None:
    """Also where it keeps a guard that was told to end from the agent."""
    clock = ManualClock()
    owner = Owner(clock, stopped_at=START + 1.0)
    route = ScriptedChannel(clock, [owner.answer])
    script = [(0, says(Op.FREEZING)), (0.1, says(Op.FROZEN)), (5.0, Message(Happening.SIGNAL))]
    core, notes = guard(route, script, owner=owner)
    core.run()
    assert owner.ended_at is not None
    assert owner.ended_at >= START + 12.0
    assert notes.told[0] == "intervened signal"


# ---------------------------------------------------------------------------------------------- whatever a guard meets


class Faulty:
    """Anything, whose calls fail: the ``number``-th, or all from there on."""

    def __init__(self, behind: object, number: int, *, once: bool) -> None:
        self._behind = behind
        self._number = number
        self._once = once
        self._calls = itertools.count(1)

    def __getattr__(self, name: str) -> Callable[..., object]:
        method = getattr(self._behind, name)

        def call(*args: object, **values: object) -> object:
            count = next(self._calls)
            if count == self._number or (count > self._number and not self._once):
                raise OverflowError("Python int too large to convert to C int")
            found: object = method(*args, **values)
            return found

        return call


@pytest.mark.parametrize("once", [True, False])
@pytest.mark.parametrize("number", range(1, 16))
@pytest.mark.parametrize("seam", ["inbox", "clock", "recorder", "owner"])
@pytest.mark.parametrize("late", [0.05, 20.0])
def test_whatever_a_seam_raises_a_guest_that_may_be_frozen_is_thawed(
    late: float, seam: str, number: int, once: bool
) -> None:
    """Also of a freeze that comes in the middle of the watch for it: nobody ends with the guest frozen."""
    clock = ManualClock()
    is_thawed = False

    def answer(command: str) -> object:
        nonlocal is_thawed
        frozen = clock.now >= START + late and not is_thawed
        if command == "fsfreeze-thaw":
            is_thawed = is_thawed or frozen
            return int(frozen)
        return "frozen" if frozen else "thawed"

    route = ScriptedChannel(clock, [answer])
    script = [(0.0, says(Op.FREEZING)), (3.0, says(Op.THAWING)), (25.0, Message(Happening.OWNER_GONE))]
    inbox = ScriptedInbox(clock, [(START + at, message) for at, message in script])
    seams: dict[str, object] = {
        "inbox": inbox,
        "clock": clock,
        "recorder": Notes(),
        "owner": Owner(clock, ended_at=0.0),
    }
    faulty = seams[seam] = Faulty(seams[seam], number, once=once)
    core = GuardCore(
        guard_spec(late_freeze_seconds=60.0),
        seams["inbox"],  # type: ignore[arg-type]
        thawer(clock if seam != "clock" else faulty, [route]),  # type: ignore[arg-type]
        seams["clock"],  # type: ignore[arg-type]
        seams["recorder"],  # type: ignore[arg-type]
        seams["owner"],  # type: ignore[arg-type]
    )
    failed = False
    try:
        core.run()
    except OverflowError:
        failed = True
    heard_of_the_freeze = len(inbox.script) < len(script)
    if not heard_of_the_freeze:
        assert failed, "a guard that ends before any freeze does so as a failure that its owner sees"
        assert not route.calls
    else:
        # Without a clock it cannot wait for what may come.
        assert is_thawed or (seam == "clock" and late > 1.0)


def test_a_guard_that_fails_before_any_freeze_asks_nothing() -> None:
    route = ScriptedChannel(ManualClock(), [AssertionError("asked")])
    inbox = Faulty(ScriptedInbox(route.clock, []), 1, once=True)
    core = GuardCore(guard_spec(), inbox, thawer(route.clock, [route]), route.clock, Notes())  # type: ignore[arg-type]
    with pytest.raises(OverflowError):
        core.run()


def test_a_guard_that_fails_hangs_up_so_that_its_owner_knows() -> None:
    route = ScriptedChannel(ManualClock(), [1, "thawed"])
    closed: list[float] = []

    class Broken(ScriptedInbox):
        def wait(self, seconds: float | None) -> Message | None:
            if not self.script:
                raise OverflowError
            return super().wait(seconds)

        def close(self) -> None:
            closed.append(self.clock.now)

    inbox: Inbox = Broken(route.clock, [(START, says(Op.FREEZING)), (START + 1, says(Op.FROZEN))])
    notes: Recorder = Notes()
    core = GuardCore(guard_spec(), inbox, thawer(route.clock, [route]), route.clock, notes)
    with pytest.raises(OverflowError):
        core.run()
    assert closed == [START + 1]
    assert notes.told == ["intervened guard-fault", "thawed"]  # type: ignore[attr-defined]


# ------------------------------------------------------------------------------------- a freeze of somebody else's


def test_a_guard_of_vzdumps_freeze_whose_owner_dies_before_a_word_thaws_the_freeze_that_comes() -> None:
    """vzdump goes on by itself, and nobody would tell this guard that it has begun to freeze."""
    clock = ManualClock()
    route = ScriptedChannel(clock, [freezing_late(clock, START + 20.0)])
    script = [(0.1, Message(Happening.OWNER_GONE)), (100.0, Message(Happening.WATCHED_DIED))]
    core, notes = guard(route, script, others_freeze=True, late_freeze_seconds=3600.0)
    core.run()
    thawed_at = next(at for at, command, *_ in route.calls if command == "fsfreeze-thaw" and at >= START + 20.0)
    assert thawed_at - (START + 20.0) <= 5.0
    assert notes.told == ["late freeze", "closed"]
    assert clock.now < START + 130.0  # a dead worker asks for nothing any more


def test_a_guard_of_vzdumps_freeze_whose_worker_dies_under_a_standing_owner_thaws_at_the_deadline() -> None:
    clock = ManualClock()
    route = ScriptedChannel(clock, [freezing_late(clock, START)])
    script = [(1.0, Message(Happening.WATCHED_DIED)), (500.0, Message(Happening.OWNER_GONE))]
    core, notes = guard(route, script, others_freeze=True)
    core.run()
    assert route.calls[0][:2] == (START + 13.0, "fsfreeze-thaw")
    assert notes.told[:2] == ["intervened deadline", "thawed, watching"]


def test_a_guard_of_vzdumps_freeze_asks_nothing_while_its_owner_follows_it() -> None:
    route = ScriptedChannel(ManualClock(), [AssertionError("asked")])
    script = [(50, says(Op.FREEZING)), (55, says(Op.FROZEN)), (60, says(Op.DISARM))]
    core, notes = guard(route, script, others_freeze=True)
    core.run()
    assert notes.told == ["closed by owner"]


def test_an_owner_is_given_way_to_the_latest_deadline_where_its_window_cannot_be_looked_up() -> None:
    """And no longer: it may stand still in the agent's seat."""
    spec, clock = guard_spec(), ManualClock()
    found = unknown_orphan(spec, clock)
    assert found.due == clock.monotonic() + spec.deadline_seconds + DEADLINE_MARGIN_SECONDS
    assert (found.late_seconds, found.cause) == (spec.late_freeze_seconds, Cause.GUARD_FAULT)


def test_a_guard_goes_by_the_deadline_that_a_group_shares() -> None:
    route = ScriptedChannel(ManualClock(), [1, "thawed"])
    core, _ = guard(
        route,
        [(0, says(Op.FREEZING, deadline_seconds=4.0)), (0.1, says(Op.FROZEN)), (500, Message(Happening.OWNER_GONE))],
        deadline_seconds=30.0,
    )
    core.run()
    assert route.calls[0][:2] == (START + 4.0 + DEADLINE_MARGIN_SECONDS, "fsfreeze-thaw")
