"""The window's own rules: protect before you act, one window a guest, a deadline, and time that was lost."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from snapshot.base.procfs import ProcessIdentity, process_start
from snapshot.base.slots import Slot
from snapshot.errors import JournalBusyError, WindowTakenError
from snapshot.guard.link import GuardSpec, Op
from snapshot.journal.record import WindowRecord, new_id
from snapshot.journal.store import Journal
from snapshot.model import FreezeOutcome, Guest, GuestKind, Node, Owner, Verdict, VerdictKind, Vmid
from snapshot.pve.agent import AgentRefusedError, AgentReplyLostError
from snapshot.thaw.thawer import CARRIED_OUT_SECONDS
from snapshot.window.knock import Knock
from snapshot.window.parts import WindowBrokenError, WindowSpec, WindowTools
from snapshot.window.snapshot import SnapshotWindow
from snapshot.window.verdict import Proof
from snapshot.window.window import Window
from tests.campaign.kit import ManualClock, ScriptedChannel, thawer

GUEST = Guest(Vmid(100), Node("a"), GuestKind.QEMU, name="guest", running=True)


@dataclass
class QuietGuard:
    """guard.link.Guard that is there."""

    pid: int = field(default_factory=os.getpid)
    heard: list[Op] = field(default_factory=list)
    lives: bool = True

    def tell(self, op: Op, **values: float) -> None:
        self.heard.append(op)

    def is_alive(self) -> bool:
        return self.lives

    def release(self) -> None:
        """Nothing to close."""


@dataclass
class QuietLauncher:
    """guard.link.Launcher; arming takes ``seconds``."""

    clock: ManualClock
    guard: QuietGuard
    seconds: float = 0.3

    on_arm: Callable[[GuardSpec], None] = lambda spec: None

    def arm(self, spec: GuardSpec) -> QuietGuard:
        self.on_arm(spec)
        self.clock.sleep(self.seconds)
        return self.guard


class OpenGate:
    """signals.Gate without signals."""

    def open(self) -> AbstractContextManager[None]:
        return nullcontext()


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    with closing(Journal(tmp_path / "journal.sqlite")) as opened:
        yield opened


def window(
    journal: Journal,
    route: ScriptedChannel,
    *,
    arming: float = 0.3,
    limit: float = 10.0,
    guard: QuietGuard | None = None,
    on_arm: Callable[[GuardSpec], None] = lambda spec: None,
    nearest: ScriptedChannel | None = None,
    kind: type[Window] = Window,
    turn: Callable[[Callable[[], object]], Slot] = lambda still_waits: Slot(),
) -> Window:
    """A window on ``route``'s clock with a real journal. The thaw goes over ``nearest``, if there is another one."""
    spec = WindowSpec(
        guest=GUEST,
        source="snapshot",
        owner=Owner.SNAPSHOT,
        freeze_timeout_seconds=5.0,
        max_window_seconds=limit,
        late_freeze_seconds=3600.0,
        owner_limit_seconds=30.0,
    )
    tools = WindowTools(
        clock=route.clock,
        me=ProcessIdentity.own(),
        book=journal,
        launcher=QuietLauncher(route.clock, guard or QuietGuard(), arming, on_arm),
        thawer=thawer(route.clock, [nearest or route]),
        freezing=route,
        gate=OpenGate(),
        turn=turn,
    )
    return kind(spec, tools)


def frozen_guest() -> ScriptedChannel:
    """A guest that does as it is told."""
    state = {"frozen": False}

    def answer(command: str) -> object:
        if command == "fsfreeze-status":
            return "frozen" if state["frozen"] else "thawed"
        state["frozen"] = command == "fsfreeze-freeze"
        return 1

    return ScriptedChannel(ManualClock(), [answer])


def test_the_intent_is_on_disk_before_the_guard_is_armed(journal: Journal) -> None:
    known: list[WindowRecord | None] = []
    with window(journal, frozen_guest(), on_arm=lambda spec: known.append(journal.get(spec.window_id))):
        assert known[0] is not None


def test_a_freeze_that_waits_long_for_its_turn_is_still_sent_for_its_row_is_kept_young(journal: Journal) -> None:
    route = frozen_guest()
    seen: list[float] = []

    def turn(still_waits: Callable[[], object]) -> Slot:
        for _ in range(5):
            route.clock.sleep(4.0)
            still_waits()
            seen.append(journal.open_windows(GUEST.vmid)[0].deadline_at - route.clock.time())
        return Slot()

    with window(journal, route, turn=turn) as mine:
        assert mine.freeze().outcome is FreezeOutcome.ACKNOWLEDGED
    assert seen == pytest.approx([10.0] * 5)


def test_a_turn_that_never_comes_is_no_freeze_and_leaves_nothing_to_thaw(journal: Journal) -> None:
    def turn(_still_waits: Callable[[], object]) -> Slot:
        raise TimeoutError("two others are unanswered")

    route = frozen_guest()
    with window(journal, route, turn=turn) as mine:
        reply = mine.freeze()
    assert reply.outcome is FreezeOutcome.REFUSED
    assert reply.detail == "two others are unanswered"
    assert mine.report is None


def test_a_journal_that_others_hold_is_waited_for_while_the_guest_is_not_frozen(journal: Journal) -> None:
    """Before the freeze, and for the record after the thaw."""
    route = frozen_guest()
    turns = Turns(journal, route.clock)
    with window(turns, route) as mine:  # type: ignore[arg-type] - a journal that others hold for a while
        mine.freeze()
        turns.held_until = route.clock.now + 30
        assert mine.prove() is Proof.STILL_FROZEN
    mine.close(Verdict(VerdictKind.FILESYSTEM_CONSISTENT, "proven"), None, None)
    assert turns.refused > 3
    record = journal.get(mine.id)
    assert record is not None
    assert record.deadline_at - record.intent_at < 12  # of the try that worked
    assert (record.verdict, record.closed_at is not None) == ("filesystem-consistent", True)
    assert not mine.unrecorded


class Turns:
    """window.Book over a journal that others hold, and that says so after 5 s."""

    def __init__(self, journal: Journal, clock: ManualClock) -> None:
        self._journal, self._clock = journal, clock
        self.held_until = clock.now + 30
        self.refused = 0

    def _wait(self) -> None:
        if self._clock.now < self.held_until:
            self._clock.sleep(5)
            self.refused += 1
            raise JournalBusyError("database is locked")

    def begin(self, record: WindowRecord, rival: Callable[[WindowRecord], bool]) -> None:
        self._wait()
        self._journal.begin(record, rival)

    def update(self, window_id: str, **values: object) -> bool:
        self._wait()
        return self._journal.update(window_id, **values)


def test_the_guard_hears_of_the_freeze_before_it_is_sent(journal: Journal) -> None:
    guard, route = QuietGuard(), frozen_guest()
    heard: list[list[Op]] = []
    answer = route.answers[0]
    assert callable(answer)
    route.answers[0] = lambda command: (heard.append(list(guard.heard)), answer(command))[1]
    with window(journal, route, guard=guard) as mine:
        mine.freeze()
    assert heard[0] == [Op.FREEZING]
    assert guard.heard == [Op.FREEZING, Op.FROZEN, Op.THAWING, Op.THAWING, Op.DISARM]


def test_no_freeze_is_sent_without_a_living_guard(journal: Journal) -> None:
    guard, route = QuietGuard(), frozen_guest()
    with window(journal, route, guard=guard) as mine:
        guard.lives = False
        assert mine.freeze().outcome is FreezeOutcome.REFUSED
    assert route.commands == []


def test_a_window_is_broken_when_its_guard_dies(journal: Journal) -> None:
    guard = QuietGuard()
    with window(journal, frozen_guest(), guard=guard) as mine:
        mine.freeze()
        mine.check()
        guard.lives = False
        with pytest.raises(WindowBrokenError, match="guard"):
            mine.check()


def test_a_window_is_broken_at_its_deadline(journal: Journal) -> None:
    route = frozen_guest()
    with window(journal, route) as mine:
        mine.freeze()
        route.clock.now = mine.deadline
        with pytest.raises(WindowBrokenError, match="deadline"):
            mine.check()


def test_a_guest_is_thawed_whatever_ends_the_window(journal: Journal) -> None:
    route = frozen_guest()

    def fail() -> None:
        with window(journal, route) as mine:
            mine.freeze()
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert route.commands == ["freeze", "thaw", "status"]


def test_a_second_window_of_a_guest_is_refused_while_the_first_one_is_manned(journal: Journal) -> None:
    """Found by the campaign as a false verdict: thawed by one run, frozen again by PVE for it, proven by the other."""
    route = frozen_guest()
    with window(journal, route) as first:
        first.freeze()
        with pytest.raises(WindowTakenError), window(journal, route):
            pass
        assert first.prove() is Proof.STILL_FROZEN


def test_a_second_window_is_refused_while_a_guard_watches_for_a_late_freeze(journal: Journal) -> None:
    with window(journal, frozen_guest()) as first:
        pass
    record = journal.get(first.id)
    assert record is not None
    journal.update(first.id, owner_pid=1, owner_pid_start=0)  # the owner is gone, its guard (this process) lives
    assert record.closed_at is None
    with pytest.raises(WindowTakenError), window(journal, frozen_guest()):
        pass


def test_a_window_whose_freeze_may_still_come_stays_open_behind_its_verdict(journal: Journal) -> None:
    with window(journal, ScriptedChannel(ManualClock(), [AgentReplyLostError("cut"), 0, "thawed"])) as first:
        assert first.freeze().outcome is FreezeOutcome.UNKNOWN
    first.close(Verdict(VerdictKind.CRASH_CONSISTENT, "the answer to the freeze was lost"), "freeze", "unknown")
    record = journal.get(first.id)
    assert record is not None
    assert record.closed_at is None
    assert record.quiet_until_at == pytest.approx(record.intent_at + 3600, abs=2)
    with pytest.raises(WindowTakenError, match="an earlier freeze whose answer was lost may still come"):
        window(journal, frozen_guest()).__enter__()


def test_a_lost_answer_costs_nobody_anything_once_its_freeze_was_thawed_with_a_count(journal: Journal) -> None:
    guard = QuietGuard()
    route = ScriptedChannel(ManualClock(), [AgentReplyLostError("cut"), 1, "thawed"])
    with window(journal, route, guard=guard) as first:
        assert first.freeze().outcome is FreezeOutcome.UNKNOWN
    assert 0 < first.late_seconds <= CARRIED_OUT_SECONDS
    route.clock.sleep(CARRIED_OUT_SECONDS)
    first.close(Verdict(VerdictKind.CRASH_CONSISTENT, "the answer to the freeze was lost"), "freeze", "unknown")
    record = journal.get(first.id)
    assert record is not None
    assert (record.closed_at is not None, record.quiet_until_at, record.state) == (True, None, "thawed")
    with window(journal, frozen_guest()) as second:
        assert second.freeze().outcome is FreezeOutcome.ACKNOWLEDGED


def test_however_long_ago_the_thaw_was_the_guard_looks_once_more(journal: Journal) -> None:
    """Another's freeze may have been the one that it counted, and ours behind it in the agent's queue."""
    guard = QuietGuard()
    route = ScriptedChannel(ManualClock(), [AgentReplyLostError("cut"), 1, "thawed"])
    with window(journal, route, kind=SnapshotWindow, guard=guard) as mine:
        assert isinstance(mine, SnapshotWindow)
        assert mine.freeze().outcome is FreezeOutcome.UNKNOWN
        assert mine.leave_to_pve()
        route.clock.sleep(10 * CARRIED_OUT_SECONDS)
        mine.pve_has_ended(is_thawed=True)
    assert route.commands == ["freeze", "thaw", "status"]
    assert 0 < mine.late_seconds <= CARRIED_OUT_SECONDS
    mine.close(Verdict(VerdictKind.CRASH_CONSISTENT, "the answer to the freeze was lost"), "freeze", "unknown")
    record = journal.get(mine.id)
    assert record is not None
    assert record.closed_at is None, "the guard closes it, behind its look"


FROZEN_ALREADY = AgentRefusedError(
    "CommandNotFound", "Command guest-fsfreeze-freeze has been disabled: the agent is in frozen state"
)


NOBODYS: dict[str, object] = {"owner_pid": 1, "owner_pid_start": 0, "guard_pid": None}


def test_a_freeze_that_is_refused_since_another_one_holds_the_guest_thaws_nothing(journal: Journal) -> None:
    """A thaw would break the other one's consistency, and both would call theirs good."""
    for values in ({"deadline_at": 1.0, "intent_at": 1.0}, {"state": "thawed"}, {"owner": "foreign"}):
        journal.begin(_record(journal, **NOBODYS, id=new_id(), **values))
    route = ScriptedChannel(ManualClock(), [FROZEN_ALREADY])
    with window(journal, route) as mine:
        assert mine.freeze().outcome is FreezeOutcome.REFUSED
    assert route.commands == ["freeze"]
    assert mine.report is None


def test_what_an_earlier_window_of_ours_may_have_frozen_late_is_thawed(journal: Journal) -> None:
    """Its answer was lost, its guard is dead, and its freeze comes between our look and our own: ours is refused."""
    journal.begin(_record(journal, **NOBODYS, state="unknown"))
    route = ScriptedChannel(ManualClock(), [FROZEN_ALREADY, 1, "thawed"])
    with window(journal, route) as mine:
        assert mine.freeze().outcome is FreezeOutcome.FAILED
    assert route.commands == ["freeze", "thaw", "status"]


def test_windows_of_the_dead_and_of_other_guests_are_no_rivals(journal: Journal) -> None:
    dead = _record(journal, owner_pid=1, owner_pid_start=0, guard_pid=None)
    other = _record(journal, id="w2", vmid=101)
    judged = _record(journal, id="w5", verdict="unknown", guard_pid=None)
    plain = _record(journal, id="w3", deadline_at=1.0, intent_at=1.0)
    earlier_boot = _record(journal, id="w4", boot_id="another")
    for record in (dead, other, judged, plain, earlier_boot):
        journal.begin(record)
    with window(journal, frozen_guest()) as mine:
        assert mine.freeze().outcome is FreezeOutcome.ACKNOWLEDGED


def test_no_freeze_is_sent_by_a_run_that_stood_still_while_its_guard_was_armed(journal: Journal) -> None:
    """Found by the campaign: `recover` had closed its window for dead meanwhile."""
    route = frozen_guest()
    with window(journal, route, arming=50.0) as late:
        assert late.freeze().outcome is FreezeOutcome.REFUSED
    assert "freeze" not in route.commands


def test_no_freeze_is_sent_by_a_run_that_stood_still_after_its_guard_was_armed(journal: Journal) -> None:
    route = frozen_guest()
    with window(journal, route) as late:
        route.clock.sleep(9.0)
        assert late.freeze().outcome is FreezeOutcome.REFUSED
    assert "freeze" not in route.commands


def test_a_run_whose_turn_comes_late_freezes_still(journal: Journal) -> None:
    """A busy machine: the turn came, and the row was too old by then."""
    route = frozen_guest()

    def turn(still_waits: Callable[[], object]) -> Slot:
        route.clock.sleep(9.0)
        return Slot()

    with window(journal, route, turn=turn) as late:
        assert late.freeze().outcome is FreezeOutcome.ACKNOWLEDGED
        row = journal.get(late.id)
        assert row is not None
        assert row.deadline_at > route.clock.time() + 9.0


def test_a_run_that_stood_still_while_it_waited_for_its_turn_does_not_freeze(journal: Journal) -> None:
    route = frozen_guest()

    def turn(still_waits: Callable[[], object]) -> Slot:
        route.clock.sleep(11.0)
        return Slot()

    with window(journal, route, turn=turn) as late:
        assert late.freeze().outcome is FreezeOutcome.REFUSED
    assert "freeze" not in route.commands


@pytest.mark.parametrize(
    ("said", "proof"),
    [
        ("frozen", Proof.STILL_FROZEN),
        ("thawed", Proof.NOT_FROZEN),
        (AgentReplyLostError("silent"), Proof.NO_ANSWER),
    ],
)
def test_the_proof_is_what_the_agent_says_after_the_point_in_time(
    journal: Journal, said: str | Exception, proof: Proof
) -> None:
    route = ScriptedChannel(ManualClock(), [1, said, 1, "thawed"])
    with window(journal, route) as mine:
        assert mine.freeze().outcome is FreezeOutcome.ACKNOWLEDGED
        assert mine.prove() is proof


def test_proof_thaw_and_status_share_a_connection_and_nothing_keeps_it(journal: Journal) -> None:
    """Each change of clients may cost the agent's 100 ms, and whoever keeps a connection keeps all others out."""
    route = frozen_guest()
    with window(journal, route) as mine:
        mine.freeze()
        assert not route.kept_open
        mine.prove()
        assert route.connections == 2
    assert route.commands == ["freeze", "status", "thaw", "status"]
    assert route.connections == 2
    assert not route.kept_open


@pytest.mark.parametrize("is_refused", [False, True])
def test_the_seat_is_taken_before_the_freeze_and_left_behind_the_thaw(journal: Journal, is_refused: bool) -> None:
    route, seen = frozen_guest(), []
    nearest = ScriptedChannel(route.clock, route.answers[:])

    def freeze(command: str) -> object:
        seen.append(nearest.is_seated)
        return AgentRefusedError("CommandNotFound", "no") if is_refused else nearest.answers[0](command)  # type: ignore[operator]

    route.answers = [freeze]
    with window(journal, route, nearest=nearest) as mine:
        assert not nearest.is_seated
        mine.freeze()
        assert nearest.is_seated
        mine.prove()
    assert seen == [True]
    assert not nearest.is_seated
    assert nearest.commands == ([] if is_refused else ["status", "thaw", "status"])


def test_at_the_knock_the_freeze_goes_over_the_seat_and_is_no_longer_waited_for_than_pve_waits(
    journal: Journal,
) -> None:
    route, seat = frozen_guest(), frozen_guest()
    seat.clock = route.clock
    guard = QuietGuard()
    with window(journal, route, nearest=seat, guard=guard) as mine:
        assert mine.sit() is seat
        assert guard.heard == [Op.ASKING], "who stands still in the seat is ended"
        reply = mine.freeze(Knock(seat, route.clock.monotonic() + 2.5))
        assert reply.outcome is FreezeOutcome.ACKNOWLEDGED
        assert seat.is_seated, "PVE is let pass"
        assert mine.prove() is Proof.STILL_FROZEN
    assert route.commands == []
    assert seat.commands == ["freeze", "status", "thaw", "status"]
    assert seat.calls[0][2] == 2.5


def test_an_answer_that_is_read_when_pve_may_have_gone_on_proves_nothing(journal: Journal) -> None:
    """Found by the campaign: an owner that was stopped found the answer, long after PVE had given up its ping."""
    route, seat = frozen_guest(), frozen_guest()
    seat.clock = route.clock
    with window(journal, route, nearest=seat) as mine:
        assert mine.sit() is seat
        seat.seconds = 2.6
        reply = mine.freeze(Knock(seat, route.clock.monotonic() + 2.5))
        assert reply.outcome is FreezeOutcome.UNKNOWN
        assert not seat.is_seated
    assert mine.report is not None
    assert mine.report.confirmed


def test_a_guest_that_is_left_to_pve_has_its_agents_seat_free(journal: Journal) -> None:
    """PVE freezes by itself in what follows, and nobody of ours looks at who waits."""
    route = ScriptedChannel(ManualClock(), [AgentRefusedError("CommandNotFound", "no")])
    nearest = ScriptedChannel(route.clock, ["thawed"])
    with window(journal, route, nearest=nearest, kind=SnapshotWindow) as mine:
        assert isinstance(mine, SnapshotWindow)
        mine.freeze()
        assert mine.leave_to_pve()
        assert not nearest.is_seated
        mine.pve_has_ended(is_thawed=True)


def test_a_guard_that_was_let_go_is_seen_until_its_process_has_ended(journal: Journal) -> None:
    process = subprocess.Popen(["sleep", "600"])
    guard = QuietGuard()
    guard.pid = process.pid
    with window(journal, frozen_guest(), guard=guard) as mine:
        mine.freeze()
    assert mine.is_watched
    process.kill()
    process.wait()
    assert not mine.is_watched


@pytest.mark.parametrize(("counted", "is_thawed"), [(0, False), (0, None), (1, None)])
def test_a_freeze_that_may_come_still_is_watched_for_behind_pves_own(
    journal: Journal, counted: int, is_thawed: bool | None
) -> None:
    """Ours, whose answer was lost and that no thaw has counted, or PVE's, whose worker was killed."""
    route = ScriptedChannel(ManualClock(), [AgentReplyLostError("cut"), counted, "thawed", 1, "thawed"])
    with window(journal, route, kind=SnapshotWindow) as mine:
        assert isinstance(mine, SnapshotWindow)
        assert mine.freeze().outcome is FreezeOutcome.UNKNOWN
        assert mine.leave_to_pve()
        mine.pve_has_ended(is_thawed=is_thawed)
    assert mine.report is not None
    assert mine.report.confirmed
    assert mine.late_seconds > CARRIED_OUT_SECONDS


def test_a_guard_that_stands_in_for_one_that_died_is_armed_with_the_freeze_on_its_way(journal: Journal) -> None:
    """It may be the only one left a moment later, before its owner could tell it."""
    armed: list[GuardSpec] = []
    first = QuietGuard()
    route = ScriptedChannel(ManualClock(), [AgentReplyLostError("silent"), 0, "thawed"])
    with window(journal, route, guard=first, on_arm=armed.append) as mine:
        mine.freeze()
        first.lives = False
    assert mine.late_seconds > 0
    assert [spec.at_risk for spec in armed] == [False, True]


@pytest.mark.parametrize(("left", "limit"), [(9.9, 8.0), (7.0, 4.0), (3.0, 2.0), (0.5, 1.0)])
def test_the_proof_is_bounded_by_the_deadline(journal: Journal, left: float, limit: float) -> None:
    route = frozen_guest()
    with window(journal, route) as mine:
        mine.freeze()
        route.clock.now = mine.deadline - left
        assert mine.prove() is Proof.STILL_FROZEN
        assert route.calls[-1][2] == limit


def test_past_the_deadline_the_guest_is_thawed_and_nothing_is_asked_before(journal: Journal) -> None:
    route = frozen_guest()
    with window(journal, route) as mine:
        mine.freeze()
        route.clock.now = mine.deadline + 0.1
        assert mine.prove() is Proof.NOT_ASKED
    assert route.commands == ["freeze", "thaw", "status"]
    assert "deadline" in mine.broken_by


def test_a_closed_window_is_not_reopened_by_whoever_comes_late(journal: Journal) -> None:
    """Found by the campaign: a guard that was slower than its owner told the journal that the window was unknown."""
    record = _record(journal)
    journal.begin(record)
    journal.update(record.id, closed_at=2.0, state="thawed")
    journal.update(record.id, state="unknown", quiet_until_at=9.0, thaw_attempts=3)
    after = journal.get(record.id)
    assert after is not None
    assert (after.state, after.quiet_until_at, after.thaw_attempts) == ("thawed", None, 3)


def _record(journal: Journal, **values: object) -> WindowRecord:
    """An open window of this very process."""
    with window(journal, frozen_guest()) as mine:
        record = journal.get(mine.id)
    journal.update(mine.id, closed_at=1.0)
    assert record is not None
    assert record.owner_pid_start == process_start(os.getpid())
    return record._replace(**({"id": "w1", "state": "armed"} | values))  # type: ignore[arg-type]


def test_a_window_of_a_group_ends_with_the_group(journal: Journal) -> None:
    clock = ManualClock()
    route = ScriptedChannel(clock, [1])
    with window(journal, route, limit=30.0, kind=SnapshotWindow) as open_window:
        assert isinstance(open_window, SnapshotWindow)
        open_window.joins(clock.now, clock.now + 3.0)
        clock.sleep(1.0)
        open_window.freeze()
        assert route.calls[0][2] == pytest.approx(2.0), "no freeze is waited for past the deadline of all"
        assert open_window.deadline == pytest.approx(103.3)
        clock.now = 103.4
        with pytest.raises(WindowBrokenError, match="deadline"):
            open_window.check()


def test_a_group_whose_time_is_over_freezes_nobody_more(journal: Journal) -> None:
    clock = ManualClock()
    route = ScriptedChannel(clock, [1])
    with window(journal, route, kind=SnapshotWindow) as open_window:
        assert isinstance(open_window, SnapshotWindow)
        open_window.joins(clock.now, clock.now + 3.0)
        clock.sleep(3.0)
        assert open_window.freeze().outcome is FreezeOutcome.REFUSED
    assert not route.calls


def test_a_turn_that_comes_late_is_no_reason_not_to_freeze(journal: Journal) -> None:
    """A recovery goes by the deadline of the row, which is that of the group: the others freeze first."""
    clock = ManualClock()
    route = ScriptedChannel(clock, [1])
    with window(journal, route, limit=30.0, kind=SnapshotWindow) as open_window:
        assert isinstance(open_window, SnapshotWindow)
        open_window.joins(clock.now, clock.now + 30.0)
        clock.sleep(20.0)
        assert open_window.freeze().outcome is FreezeOutcome.ACKNOWLEDGED


def test_the_row_is_written_anew_when_the_others_took_long_to_arm(journal: Journal) -> None:
    clock = ManualClock()
    with window(journal, ScriptedChannel(clock, [1]), kind=SnapshotWindow) as open_window:
        assert isinstance(open_window, SnapshotWindow)
        first = journal.open_windows()[0].deadline_at
        open_window.renew()
        assert journal.open_windows()[0].deadline_at == first, "it is young"
        clock.sleep(9.0)
        open_window.renew()
        assert journal.open_windows()[0].deadline_at == pytest.approx(first + 9.0)
        assert open_window.freeze().outcome is FreezeOutcome.ACKNOWLEDGED


def test_what_is_said_behind_a_confirmed_thaw_comes_ahead_of_every_record(journal: Journal) -> None:
    clock, said = ManualClock(), list[str]()
    plain = window(journal, ScriptedChannel(clock, [1, 1, "thawed"]))
    told = plain._tools._replace(thawed=lambda: said.append(journal.open_windows()[0].state))
    with Window(plain.spec, told) as open_window:
        open_window.freeze()
        assert not said
    assert said == ["armed"], "the journal does not know of the freeze yet"
    assert open_window.report is not None
    assert open_window.report.confirmed
