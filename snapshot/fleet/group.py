"""A group as its leader knows it: where each member stands, and whom that lets go on. Without I/O, clocks or processes.

The rules, all of them:

1. A member says what it has reached (Milestone), in the order of the steps; it may leave some out. Then it waits.
2. GATES says when those who wait go on. All count but those who have left. In turn: when those before it have come to
   the next step. In reverse turn: when those behind it have.
3. Only who was frozen has a place in the turns.
4. Who leaves before it is judged could not follow. Where the group is all or none that ends it: everybody is told, and
   what follows from it (thaw, remove) is each member's own.
5. At JUDGED one decision holds for all. It is made once.

A worker that breaks a rule is taken for one that could not follow.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, NamedTuple

from snapshot.take.fence import Milestone


class Passage(Enum):
    """When a member goes on."""

    TOGETHER = "when all have come so far"
    IN_TURN = "when all have come so far, and those before it have come further"
    IN_REVERSE = "when all have come so far, and those behind it have come further"


GATES: Mapping[Milestone, Passage] = {
    Milestone.EXAMINED: Passage.TOGETHER,
    Milestone.ARMED: Passage.TOGETHER,
    Milestone.READY: Passage.IN_TURN,
    Milestone.FROZEN: Passage.TOGETHER,
    Milestone.TAKEN: Passage.IN_REVERSE,
    Milestone.THAWED: Passage.TOGETHER,
    Milestone.JUDGED: Passage.TOGETHER,
}
"""Each step's gate: docs/groups.md shows this table."""

Told = Mapping[str, Any]

GO, TURN, ENDED = "pass", "turn", "ended"
"""What a member is told: it may go on; how many thaw ahead of it; the group has ended, and why."""


class Telling(NamedTuple):
    """Something to be told to one member."""

    member: int
    op: str
    values: Told


class BrokenRuleError(Exception):
    """A member said what it cannot say. Internal."""


@dataclass
class Member:
    """One guest of the group."""

    vmid: int
    step: Milestone | None = None
    """The last that it has reached."""
    waits: bool = False
    is_frozen: bool = False
    left: str = ""
    """Why it could not follow."""
    has_turn: bool = False
    """Whether it knows that all points in time are over."""
    told: dict[str, Any] = field(default_factory=dict)
    """All that it said with its steps."""

    @property
    def is_in(self) -> bool:
        """Whether the others wait for it."""
        return not self.left

    @property
    def may_have_asked(self) -> bool:
        """Whether PVE may have been asked for its snapshot: nobody asks before all are frozen."""
        return (
            self.step is not None
            and self.step >= Milestone.FROZEN
            and not (self.step is Milestone.FROZEN and self.waits)
        )

    def has_come_to(self, step: Milestone) -> bool:
        """Whether nobody needs to wait for it at ``step``."""
        return self.left != "" or (self.step is not None and self.step >= step)


class Resolution(NamedTuple):
    """What becomes of the snapshots, for all of them."""

    keep: bool
    words: str


class Group:
    """The members in their order. Each method returns what is to be told to whom, in that order."""

    def __init__(
        self,
        vmids: tuple[int, ...],
        *,
        all_or_none: bool,
        max_window_seconds: float,
        words: Callable[[list[Member]], str] = lambda members: "",
    ) -> None:
        self.members = [Member(vmid) for vmid in vmids]
        self.all_or_none = all_or_none
        self.ended = ""
        """Why the group has ended for all; "" while it has not."""
        self.began: float | None = None
        self.decision: Resolution | None = None
        self._max_window_seconds = max_window_seconds
        self._words = words

    def reached(self, number: int, step: Milestone, told: Told, now: float) -> list[Telling]:
        """A member has come to ``step``."""
        member = self.members[number]
        if not member.is_in and step is not Milestone.JUDGED:
            return []
        if member.step is not None and step <= member.step:
            return self.left(number, f"it said {step.name.lower()} after {member.step.name.lower()}", now)
        member.step, member.waits = step, True
        member.is_frozen = bool(told.get("is_frozen", member.is_frozen))
        member.told |= told
        if step is Milestone.JUDGED and not told.get("follows", False) and self.all_or_none and not self.ended:
            return [*self._end(f"guest {member.vmid} is {told.get('verdict')} ({told.get('why')})"), *self._pass(now)]
        return list(self._pass(now))

    def left(self, number: int, why: str, now: float) -> list[Telling]:
        """A member cannot follow: it said so, or its process has ended."""
        member = self.members[number]
        if not member.is_in or self.decision is not None:
            return []
        member.left = why or "it ended"
        words: list[Telling] = []
        if self.all_or_none and not self.ended:
            words = self._end(f"guest {member.vmid} could not follow: {member.left}")
        return [*words, *self._pass(now)]

    @property
    def is_holding(self) -> bool:
        """Whether a guest may be frozen: then its leader writes nothing."""
        return any(
            m.is_in and m.step is not None and Milestone.READY <= m.step < Milestone.THAWED for m in self.members
        )

    def _end(self, why: str) -> list[Telling]:
        self.ended = why
        return [Telling(n, ENDED, {"why": why}) for n, member in enumerate(self.members) if member.is_in]

    def _pass(self, now: float) -> Iterator[Telling]:
        """Whoever may go on now. Once the group has ended, or it has left it, nobody does but who is judged."""
        for number, member in enumerate(self.members):
            if member.waits and member.step is not None and self._all_have_come_to(member.step, member):
                yield from self._let(number, member, member.step, now)

    def _all_have_come_to(self, step: Milestone, member: Member) -> bool:
        if self.ended:
            return step is Milestone.JUDGED
        if member.left and step is not Milestone.JUDGED:
            return False
        return all(other.has_come_to(step) for other in self.members if other is not member)

    def _let(self, number: int, member: Member, step: Milestone, now: float) -> Iterator[Telling]:
        gate = GATES[step]
        if gate is Passage.IN_REVERSE and not member.has_turn:
            member.has_turn = True
            yield Telling(number, TURN, {"behind": len(self._in_the_way(number, step))})
        if gate is not Passage.TOGETHER and self._in_the_way(number, step):
            return
        member.waits = False
        if step is Milestone.READY and self.began is None:
            self.began = now
        yield Telling(number, GO, {"step": int(step), **self._with(step, member)})

    def _in_the_way(self, number: int, step: Milestone) -> list[Member]:
        """Whose turn comes first."""
        member, following = self.members[number], Milestone(step + 1)
        if GATES[step] is Passage.IN_TURN:
            return [m for m in self.members[:number] if not m.has_come_to(following)]
        behind = [m for m in self.members[number + 1 :] if m.is_frozen and not m.has_come_to(following)]
        return behind if member.is_frozen else []

    def _with(self, step: Milestone, member: Member) -> Told:
        if step is Milestone.EXAMINED:
            beside = [m for m in self.members if m.is_in and m.told.get("node") == member.told.get("node")]
            return {"beside": len(beside), "is_first": beside[0] is member}
        if step is Milestone.READY:
            assert self.began is not None
            return {"began": self.began, "ends_by": self.began + self._max_window_seconds}
        if step is Milestone.JUDGED:
            return self._decided()._asdict()
        return {}

    def _decided(self) -> Resolution:
        if self.decision is None:
            self.decision = Resolution(not self.ended, self.ended or self._words(self.members))
        return self.decision
