"""The window of a snapshot that we take. PVE may freeze the guest by itself in the task that takes it, too.

That freeze is watched, has the window's deadline, and is thawed if PVE does not thaw it. The order of a window's steps
is in window.py.
"""

from __future__ import annotations

from collections.abc import Callable

from snapshot.guard.link import Op
from snapshot.model import FreezeOutcome, FreezeState
from snapshot.states import State, WindowMachine
from snapshot.window.ownguard import OwnGuard
from snapshot.window.parts import WindowBrokenError, WindowSpec, WindowTools
from snapshot.window.window import Window
from snapshot.words import Word

LEFT_FROZEN = "PVE's snapshot task had left the guest frozen: it was thawed"

HasEnded = Callable[[float, Callable[[], None]], bool]
"""Waits for the end of a task until an instant (monotonic), calling the second argument between its looks."""


class SnapshotWindow(Window):
    """See Window. Used only for snapshots: a backup's own freeze is vzdump's, and watched by who holds that window."""

    def __init__(self, spec: WindowSpec, tools: WindowTools) -> None:
        super().__init__(spec, tools)
        self._pve_since: float | None = None
        self._pve_left: State | None = None
        """Where a freeze of PVE's own stands: THAWED when nothing is left of it. None: nobody knows."""
        self.noted: list[str] = []
        """What was done about PVE's own freeze, for the operator."""

    @property
    def deadline(self) -> float:
        """See Window: counted from the start of PVE's task, once it may freeze."""
        return super().deadline if self._pve_since is None else self._pve_since + self.spec.max_window_seconds

    def renew(self) -> None:
        """Say anew that the guard stands, if the others of a group let us wait. JournalError."""
        if self._row.is_worn():
            self._row.armed(self._armed_guard().columns)

    def joins(self, began: float, ends_by: float) -> None:
        """The freezes of a group have begun, one after the other, and all of it has one deadline (both monotonic)."""
        self._group_began, self._group_ends_by = began, ends_by

    def _obstacle(self, guard: OwnGuard) -> str:
        if self._tools.clock.monotonic() >= self._group_ends_by:
            return "the group's time is over: the others before it took too long"
        return super()._obstacle(guard)

    def leave_to_pve(self) -> bool:
        """In the task that follows PVE may freeze the guest by itself, and it thaws once: the deadline runs from now.

        What may be left of a freeze of ours is thawed first; False when that is not confirmed. Leaving the context
        thaws, unless ``pve_has_ended`` has said by then that nothing is left frozen.
        """
        if self.may_be_frozen:
            if not self._make_sure().confirmed:
                return False
            self._record({key: value for key, value in self._outcome().items() if key != "state"})
        self._tools.thawer.get_up()
        if self._freeze_sent is None:
            self._replace_dead_guard()  # before anything may be frozen: it writes
        self._restart_deadline()
        return True

    def watch_pve(self, has_ended: HasEnded, is_harmless: Callable[[], bool]) -> None:
        """Wait for the end of PVE's task. At each deadline the guest is looked at, and thawed unless its agent says
        thawed; WindowBrokenError when that is not confirmed. A guard that dies is replaced.

        ``is_harmless``: whether the task has said that it does not freeze; then the window is over.
        """
        while not self._waited(has_ended):
            self._tell_thawing()
            if not is_harmless() and self._tools.thawer.look() is not FreezeState.THAWED:
                self.break_off(self._past_deadline, Word.DEADLINE)
                if not self._thaw_pves_freeze(is_harmless):
                    raise WindowBrokenError("a freeze of PVE's own could not be thawed at its deadline", Word.DEADLINE)
            if is_harmless():
                self.pve_has_ended(is_thawed=True)
                self.thaw()
                return
            self._restart_deadline()
            now = self._tools.clock.time()
            self._record({"thawed_at": now, "deadline_at": now + self.spec.max_window_seconds})

    def _thaw_pves_freeze(self, is_harmless: Callable[[], bool]) -> bool:
        """A mute agent is tried no longer than until the task says that it has not frozen."""
        thawer, limit = self._tools.thawer, self.spec.owner_limit_seconds
        thawer.start_over()
        report = thawer.until_confirmed(limit, between=lambda _: is_harmless(), ahead=self._tell_thawing)
        if report.filesystems:
            self.noted.append(f"PVE's task held the guest frozen past {self.spec.max_window_seconds:g} s: thawed")
        return report.confirmed or is_harmless()

    def _waited(self, has_ended: HasEnded) -> bool:
        alive = self.check if self._armed_guard().is_alive() else _nothing
        try:
            return has_ended(self.deadline, alive)
        except WindowBrokenError:
            return False

    def look(self) -> FreezeState | None:
        """What the guest's agent says, with the guard standing back; None when it does not."""
        self._tell_thawing()
        return self._tools.thawer.look()

    def pve_has_ended(self, *, is_thawed: bool | None) -> None:
        """PVE's task has ended: its own freeze was answered, and no other one can come of it.

        None: its worker was killed. The one freeze that it may have sent may come still, unless a thaw counts it.
        """
        self._pve_left = State.UNKNOWN if is_thawed is None else State.THAWED if is_thawed else State.THAWING

    def _restart_deadline(self) -> None:
        self._pve_since = self._tools.clock.monotonic()
        self._armed_guard().tell(Op.FREEZING)
        self._replace_dead_guard()  # the new one takes the guest for one that may be frozen

    def _freeze_of_others(self) -> None:
        """What PVE froze, or may freeze still, is another freeze than ours: it has a state of its own."""
        if self._pve_since is None or self._pve_left is State.THAWED:
            return
        # A freeze of ours whose answer was lost, and PVE's, would be two: a thaw counts one of them.
        self._is_one_freeze = self._pve_left is not None and not self._machine.late_freeze_possible
        ours_may_come = self._machine.late_freeze_possible and not self.is_carried_out
        self._machine = WindowMachine(State.UNKNOWN if ours_may_come else self._pve_left or State.UNKNOWN)
        self.is_carried_out = False
        self._freeze_sent, self._freeze_answered, self.report = self._pve_since, None, None
        self._tools.thawer.start_over()
        report = self._make_sure()
        if report.confirmed and report.filesystems:
            self.noted.append(LEFT_FROZEN)

    def _outcome(self) -> dict[str, object]:
        values = super()._outcome()
        is_unclear = self._pve_since is not None and self._pve_left in (None, State.UNKNOWN)
        if is_unclear and self.report is not None and self.late_seconds > 0:
            values |= {
                "freeze_outcome": FreezeOutcome.UNKNOWN.value,
                "freeze_detail": "PVE may have frozen the guest by itself, or may do so yet: its task's end is unknown",
            }
        return values


def _nothing() -> None:
    """A guard that is dead and cannot be replaced ends no wait."""
