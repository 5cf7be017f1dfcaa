"""OwnRow: what a window does with its row in the journal, from the intent to the verdict."""

from __future__ import annotations

from collections.abc import Mapping

from snapshot.base.slots import Slot
from snapshot.errors import JournalError
from snapshot.journal.file import patiently
from snapshot.journal.living import is_manned
from snapshot.journal.record import WindowRecord, is_plain
from snapshot.states import State
from snapshot.window.parts import WindowSpec, WindowTools

READY_SECONDS = 8.0
"""How long the freeze may follow the record of the armed guard: the deadline in it is what a recovery goes by, and it
allows for 10 s (journal/living.ALIVE_MARGIN_SECONDS)."""

WORN_SECONDS = 2.0
"""How long after it a group that begins has it written anew: its members' guards are armed at different times."""


class OwnRow:
    """A window's own row. Strict before the freeze (JournalError), lenient afterwards."""

    def __init__(self, window_id: str, spec: WindowSpec, tools: WindowTools) -> None:
        self._id = window_id
        self._spec = spec
        self._tools = tools
        self._intended_at = self._armed_at = 0.0
        self.is_first = True
        """Whether no earlier window of ours is open for this guest that nobody has in hand any more."""
        self.unrecorded: list[str] = []
        """What could not be written, for the operator; the guest is not concerned."""

    def begin(self) -> WindowRecord:
        """Commit the intent. JournalError, WindowTakenError."""
        return patiently(self._commit_intent, self._tools.clock)

    def armed(self, columns: Mapping[str, object]) -> None:
        """Commit who guards the window, and its deadline. JournalError."""
        patiently(lambda: self._commit_armed(columns), self._tools.clock)

    def turn(self, columns: Mapping[str, object]) -> Slot:
        """The turn of the freeze; the record is kept young while it is waited for, and written anew behind that: on a
        busy machine it may be old by then. Past its deadline it is left as it is: a recovery may have given us up.
        JournalError, TimeoutError.
        """

        def renew() -> None:
            age = self._tools.clock.monotonic() - self._armed_at
            if WORN_SECONDS < age <= self._spec.max_window_seconds:
                self.armed(columns)

        if self.is_too_old():
            return Slot()  # nothing will be sent
        slot = self._tools.turn(renew)
        try:
            renew()
        except JournalError:
            slot.release()
            raise
        return slot

    def is_worn(self) -> bool:
        """Whether the record of the armed guard is some time old already."""
        return self._tools.clock.monotonic() - self._armed_at > WORN_SECONDS

    def is_too_old(self, began: float | None = None) -> bool:
        """Whether a recovery may have given up a process that stood still, and closed its window.

        ``began``: when the first freeze of a group was sent (monotonic), whose deadline is this one's too.
        """
        now = self._tools.clock.monotonic() if began is None else began
        given_up = self._spec.max_window_seconds + self._spec.owner_limit_seconds
        return now - self._armed_at > READY_SECONDS or now - self._intended_at > given_up

    def record(self, values: Mapping[str, object], *, is_urgent: bool) -> None:
        """Commit new values. ``is_urgent``: the guest may be frozen, a journal that others hold is not waited for."""

        def update() -> object:
            return self._tools.book.update(self._id, **values)

        try:
            if is_urgent:
                update()
            else:
                patiently(update, self._tools.clock)
        except JournalError as error:
            if str(error) not in self.unrecorded:
                self.unrecorded.append(str(error))

    def _commit_intent(self) -> WindowRecord:
        self._intended_at = self._tools.clock.monotonic()
        record = self._spec.intent(self._id, self._tools.clock.time(), self._tools.me)
        self._tools.book.begin(record, self._is_rival)
        return record

    def _is_rival(self, other: WindowRecord) -> bool:
        if is_manned(other, self._tools.me):
            return True
        is_over = other.state == State.THAWED.value or other.is_foreign or is_plain(other)
        self.is_first = self.is_first and is_over
        return False

    def _commit_armed(self, columns: Mapping[str, object]) -> None:
        self._armed_at = self._tools.clock.monotonic()
        self._tools.book.update(
            self._id,
            **columns,
            state=State.ARMED.value,
            deadline_at=self._tools.clock.time() + self._spec.max_window_seconds,
        )
