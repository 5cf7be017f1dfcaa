"""OwnGuard: what a window does with its guard, from arming it to replacing one that has died and letting it go."""

from __future__ import annotations

from snapshot.base.procfs import process_lives, process_start
from snapshot.guard.link import AnotherGuardError, GuardSpec, Launcher, Op


class OwnGuard:
    """A window's own guard. Making one arms it, and raises GuardError where that fails."""

    def __init__(self, launcher: Launcher, order: GuardSpec) -> None:
        self._launcher = launcher
        self._order = order
        self._guard = launcher.arm(order)
        self._process = self.pid, process_start(self.pid)

    @property
    def pid(self) -> int:
        """See Guard."""
        return self._guard.pid

    @property
    def columns(self) -> dict[str, object]:
        """Who it is, for the window's row."""
        pid, start = self._process
        return {"guard_pid": pid, "guard_pid_start": start}

    def is_alive(self) -> bool:
        """See Guard."""
        return self._guard.is_alive()

    def has_ended(self) -> bool:
        """Whether its process has: one that was let go may watch for a late freeze still."""
        return not process_lives(*self._process)

    def tell(self, op: Op, **values: float) -> None:
        """See Guard."""
        self._guard.tell(op, **values)

    def let_go(self, op: Op, **values: float) -> None:
        """Send the last message and close the connection."""
        self._guard.tell(op, **values)
        self._guard.release()

    def replace_if_dead(self) -> dict[str, object]:
        """Arm another guard if this one has died: a window that its owner leaves open needs one.

        The columns of the row that change, if any. GuardError when no guard can be armed.
        """
        if self._guard.is_alive():
            return {}
        self._guard.release()
        try:
            self._guard = self._launcher.arm(self._order._replace(at_risk=True))
        except AnotherGuardError as other:
            if not other.pid:
                return {}
            self._process = other.pid, other.pid_start
            return self.columns
        self._process = self.pid, process_start(self.pid)
        return self.columns
