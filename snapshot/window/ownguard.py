"""A window's guard as its owner has it: armed, told, replaced when it has died, let go."""

from __future__ import annotations

from snapshot.base.procfs import process_start
from snapshot.guard.link import AnotherGuardError, GuardSpec, Launcher, Op


class OwnGuard:
    """Armed when it is made, which raises GuardError."""

    def __init__(self, launcher: Launcher, order: GuardSpec) -> None:
        self._launcher = launcher
        self._order = order
        self._guard = launcher.arm(order)

    @property
    def pid(self) -> int:
        """See Guard."""
        return self._guard.pid

    @property
    def columns(self) -> dict[str, object]:
        """Who it is, for the window's row."""
        return {"guard_pid": self.pid, "guard_pid_start": process_start(self.pid)}

    def is_alive(self) -> bool:
        """See Guard."""
        return self._guard.is_alive()

    def tell(self, op: Op, **values: float) -> None:
        """See Guard."""
        self._guard.tell(op, **values)

    def let_go(self, op: Op, **values: float) -> None:
        """Its owner's last word."""
        self._guard.tell(op, **values)
        self._guard.release()

    def replace_if_dead(self) -> dict[str, object]:
        """A window that stays open when its owner ends needs a guard that lives. What the row is told of another one;
        GuardError when none can be armed.
        """
        if self._guard.is_alive():
            return {}
        self._guard.release()
        try:
            self._guard = self._launcher.arm(self._order._replace(at_risk=True))
        except AnotherGuardError as other:
            return {"guard_pid": other.pid, "guard_pid_start": other.pid_start} if other.pid else {}
        return self.columns
