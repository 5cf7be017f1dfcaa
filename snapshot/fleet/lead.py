"""The leader of a group: what the members say goes into the table (group.py), and its words go to them at once.

Between the first freeze and the last thaw nothing is written or printed here. The one decision, whether the snapshots
are kept, is put into the journal before anybody is told: a member whose leader dies asks there.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from typing import Any

from snapshot.base.clock import Clock
from snapshot.errors import JournalError
from snapshot.fleet import moment
from snapshot.fleet.group import GO, Group, Member, Resolution, Telling, Told
from snapshot.journal.store import Journal
from snapshot.take.fence import Milestone

NOTE = "group:"
"""Where a group's decision stands among the journal's notes, with the group's id behind it."""

KEPT_SECONDS = 86400.0

Tell = Callable[[str, Told], object]
"""Sends one member a word and its values; nothing happens when it is gone."""
Agree = Callable[[Resolution], Resolution]
"""Puts a decision where all look for it, unless there is one; returns the one that is there."""


class Leader:
    """One group, led. Members are numbered in their order."""

    def __init__(
        self,
        vmids: Sequence[int],
        tells: Sequence[Tell],
        clock: Clock,
        *,
        all_or_none: bool,
        max_window_seconds: float,
        agree: Agree,
    ) -> None:
        self.group = Group(
            tuple(vmids), all_or_none=all_or_none, max_window_seconds=max_window_seconds, words=moment.words
        )
        self._tells = tells
        self._clock = clock
        self._agree = agree
        self._agreed: Resolution | None = None

    def heard(self, number: int, said: Told) -> None:
        """A word of a member's fence."""
        now = self._clock.monotonic()
        if said["op"] == "left":
            self._deliver(self.group.left(number, str(said["why"]), now))
            return
        told: dict[str, Any] = {name: value for name, value in said.items() if name not in ("op", "step")}
        self._deliver(self.group.reached(number, Milestone(said["step"]), told, now))

    def ended(self, number: int, why: str) -> None:
        """A member's process has ended, whatever came of it."""
        self._deliver(self.group.left(number, why, self._clock.monotonic()))

    @property
    def decision(self) -> Resolution | None:
        """What becomes of the snapshots, once all were judged."""
        return self._agreed or self.group.decision

    def _deliver(self, words: Iterable[Telling]) -> None:
        for word in words:
            is_last = word.op == GO and word.values["step"] == Milestone.JUDGED
            values = {**word.values, **self._decided()._asdict()} if is_last else word.values
            self._tells[word.member](word.op, values)

    def _decided(self) -> Resolution:
        """The guests are thawed: now there is time to write."""
        decision = self.group.decision
        assert decision is not None
        if self._agreed is None:
            self._agreed = self._agree(decision) if self.group.all_or_none else decision
        return self._agreed

    @property
    def may_have_left_some(self) -> list[tuple[int, Member]]:
        """Members that PVE may have been asked for a snapshot of, which should not be."""
        if not self.group.all_or_none or (self.decision is not None and self.decision.keep):
            return []
        return [(number, member) for number, member in enumerate(self.group.members) if member.may_have_asked]


def agreed_in(open_journal: Callable[[], Journal], group_id: str, clock: Clock) -> Agree:
    """Agree by the journal. What cannot be written stays as it was wanted."""

    def agree(wanted: Resolution) -> Resolution:
        try:
            with closing(open_journal()) as journal:
                return first(journal, group_id, wanted, clock.time())
        except JournalError:
            return wanted

    return agree


def first(journal: Journal, group_id: str, wanted: Resolution, at: float) -> Resolution:
    """Put the decision there unless there is one: what is there. JournalError."""
    key = f"{NOTE}{group_id}"
    with journal.transaction("written") as db:
        db.execute("DELETE FROM notes WHERE key GLOB ? AND at < ?", (f"{NOTE}*", at - KEPT_SECONDS))
        db.execute("INSERT OR IGNORE INTO notes VALUES (?, ?, ?)", (key, json.dumps(wanted), at))
        found = db.execute("SELECT value FROM notes WHERE key = ?", (key,)).fetchone()
    return Resolution(*json.loads(found[0]))
