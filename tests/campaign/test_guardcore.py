"""What a guard does with what it hears, in virtual time."""

from __future__ import annotations

from collections.abc import Callable

from snapshot.pve.agent import AgentRefusedError, AgentReplyLostError, CommandNotSentError
from snapshot.window.guardcore import Cause, GuardCore, Happening, Message
from snapshot.window.guardlink import Op
from tests.campaign.kit import ManualClock, Notes, ScriptedChannel, ScriptedInbox, guard_spec, thawer

BUSY = CommandNotSentError("QEMU guest agent is not running", busy_or_gone=True)
START = 100.0


def guard(
    route: ScriptedChannel, script: list[tuple[float, Message]], notes: Notes | None = None, **spec: object
) -> tuple[GuardCore, Notes]:
    """A guard on ``route``'s clock; instants of ``script`` are seconds after START."""
    notes = notes or Notes()
    inbox = ScriptedInbox(route.clock, [(START + at, message) for at, message in script])
    return GuardCore(guard_spec(**spec), inbox, thawer(route.clock, [route]), route.clock, notes), notes


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
    core, notes = guard(route, [(0, says(Op.FREEZING)), (0.5, Message(Happening.OWNER_GONE))], late_freeze_seconds=60.0)
    core.run()
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
    route = ScriptedChannel(ManualClock(), [1, "thawed"])
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
