"""A group among the units of a crew: its members begin together, and what their fences say goes to the leader."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from snapshot.base.clock import Clock
from snapshot.config.groups import GroupPolicy
from snapshot.fleet import leftover
from snapshot.fleet.group import Told
from snapshot.fleet.job import Board, Job, Unit
from snapshot.fleet.lead import Leader, Tell, agreed_in
from snapshot.fleet.link import Link, Said, Stage
from snapshot.fleet.member import Bounds, MemberFence
from snapshot.fleet.outcome import GuestOutcome
from snapshot.journal.record import new_id
from snapshot.journal.store import Journal
from snapshot.model import Guest
from snapshot.take.fence import Fence
from snapshot.take.request import Tools

ID_DIGITS = 8


@dataclass(frozen=True)
class Together:
    """One run of a group."""

    name: str
    policy: GroupPolicy
    max_window_seconds: float
    id: str

    @classmethod
    def begun(cls, name: str, policy: GroupPolicy, max_window_seconds: float) -> Together:
        """With an id of its own."""
        return cls(name, policy, max_window_seconds, f"{name}-{new_id()[:ID_DIGITS]}")

    @property
    def all_or_none(self) -> bool:
        """Whether one that cannot follow ends it for all."""
        return self.policy is GroupPolicy.ALL_OR_NONE

    def fence(self, link: Link, tools: Tools) -> Fence:
        """A member's, in its own process."""
        judged = 2 * (tools.config.snapshot.task_timeout_seconds + tools.config.thaw.owner_limit_seconds)
        return MemberFence(
            link,
            tools.clock,
            group_id=self.id,
            all_or_none=self.all_or_none,
            max_window_seconds=self.max_window_seconds,
            agree=agreed_in(tools.open_journal, self.id, tools.clock),
            bounds=Bounds(judged=judged),
        )


@dataclass(eq=False)
class GroupUnit(Unit):
    """See Unit. Made by ``unit_of``."""

    leader: Leader

    def heard(self, job: Job, said: Said) -> None:
        """See Unit."""
        self.leader.heard(list(self.jobs).index(job), said)

    def ended(self, job: Job) -> None:
        """See Unit."""
        error = (job.told or {}).get("error")
        self.leader.ended(list(self.jobs).index(job), str(error[1]) if error else "its process has ended")

    def is_holding(self) -> bool:
        """Whether a guest of it may be frozen."""
        return self.leader.group.is_holding

    def clear(self, outcomes: Sequence[GuestOutcome], tools: Tools) -> list[str]:
        """Behind the end of all: remove what should have gone with the group. What is left of it, as lines."""
        of = {outcome.guest.vmid: outcome for outcome in outcomes}
        found: list[str] = []
        for number, member in self.leader.may_have_left_some:
            outcome = of[self.jobs[number].guest.vmid]
            exists = leftover.of_member(outcome.snapshot_exists, outcome.exit_code)
            found.append(leftover.remove(member, tools, exists=exists))
        return [line for line in found if line]


def unit_of(
    together: Together, guests: Sequence[Guest], clock: Clock, open_journal: Callable[[], Journal]
) -> GroupUnit:
    """The unit of a group, whose members are frozen in the order of ``guests``."""
    jobs = [Job(guest) for guest in guests]

    def teller(job: Job) -> Tell:
        def tell(op: str, values: Told) -> None:
            if job.worker is not None:
                job.worker.link.tell(op, **values)

        return tell

    leader = Leader(
        [guest.vmid for guest in guests],
        [teller(job) for job in jobs],
        clock,
        all_or_none=together.all_or_none,
        max_window_seconds=together.max_window_seconds,
        agree=agreed_in(open_journal, together.id, clock),
    )
    return GroupUnit(jobs, leader)


class HeldBoard:
    """A board that shows nothing while a guest of the group may be frozen, and all of it afterwards."""

    def __init__(self, board: Board, is_holding: Callable[[], bool]) -> None:
        self._board = board
        self._is_holding = is_holding
        self._later: list[Callable[[], None]] = []
        self.pace_seconds = board.pace_seconds

    def _show(self, what: Callable[[], None]) -> None:
        self._later.append(what)
        if not self._is_holding():
            later, self._later = self._later, []
            for one in later:
                one()

    def begins(self, guest: Guest) -> None:
        """See Board."""
        self._show(lambda: self._board.begins(guest))

    def says(self, guest: Guest, line: str, at: float) -> None:
        """See Board."""
        self._show(lambda: self._board.says(guest, line, at))

    def stands(self, guest: Guest, stage: Stage) -> None:
        """See Board."""
        self._show(lambda: self._board.stands(guest, stage))

    def waits(self, guest: Guest, why: str, seconds: float) -> None:
        """See Board."""
        self._show(lambda: self._board.waits(guest, why, seconds))

    def ends(self, outcome: GuestOutcome) -> None:
        """See Board."""
        self._show(lambda: self._board.ends(outcome))

    def note(self, line: str) -> None:
        """See Board."""
        self._show(lambda: self._board.note(line))

    def draw(self) -> None:
        """See Board. What was missed need not be drawn."""
        if not self._is_holding():
            self._show(self._board.draw)
