"""What `status` shows: windows that are open, guests that are frozen, guests of which nobody knows.

It changes nothing, and leaves no trace.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import closing
from typing import NamedTuple

from snapshot.base.procfs import ProcessIdentity
from snapshot.errors import JournalError, SafeSnapshotError, StillFrozenError
from snapshot.journal.file import is_absent
from snapshot.journal.living import is_in_progress
from snapshot.journal.looks import GuestLook
from snapshot.journal.record import WindowRecord
from snapshot.journal.store import Journal
from snapshot.model import Guest
from snapshot.pve.access import Access
from snapshot.pve.atwork import at_work
from snapshot.recovery.frozen import Round, look_at_guests
from snapshot.recovery.overdue import needs_help


class Survey(NamedTuple):
    """One look at everything."""

    windows: tuple[WindowRecord, ...]
    round: Round
    living: frozenset[int]
    """Vmids of guests in a window that somebody of ours sees to."""
    in_need: frozenset[str]
    """Ids of windows that need somebody."""
    works: Mapping[int, str]
    """Of frozen guests: which work of PVE's is at them right now."""
    problem: SafeSnapshotError | None
    lost: tuple[str, ...] = ()
    """Ids of open windows that do not say whose they are."""
    is_part: bool = False
    """Only of some guests: the rest was looked at, and is not told."""

    def of(self, means: Callable[[int], bool]) -> Survey:
        """What was seen of these guests. Where none of them was looked at for PVE could not be asked, that stays."""
        windows = tuple(window for window in self.windows if means(window.vmid))
        looks = tuple(look for look in self.round.looks if means(look.vmid))
        in_need = frozenset(window.id for window in windows) & self.in_need
        seen = self._replace(windows=windows, round=self.round._replace(looks=looks), in_need=in_need, is_part=True)
        return seen if looks else seen._replace(problem=self.problem or self.round.problem)

    @property
    def frozen(self) -> tuple[Guest, ...]:
        """Guests whose agent says frozen."""
        return self.round.frozen

    @property
    def alarms(self) -> tuple[Guest, ...]:
        """Frozen guests that nobody sees to."""
        return tuple(g for g in self.frozen if g.vmid not in self.living and not self.works.get(g.vmid))

    @property
    def error(self) -> SafeSnapshotError | None:
        """A guest that needs help; else what could not be looked at."""
        if self.in_need or self.alarms:
            vmids = {w.vmid for w in self.windows if w.id in self.in_need} | {g.vmid for g in self.alarms}
            return StillFrozenError(
                f"these guests need you: {', '.join(map(str, sorted(vmids)))}",
                remedy="docs/runbooks/guest-still-frozen.md says what to do, in order",
            )
        return self.problem

    @property
    def blind_spot(self) -> str:
        """Which guests were not looked at, and why, where some could be."""
        if self.problem is not None or self.round.problem is None:
            return ""
        return f"PVE cannot be asked for its guests, so only those of this node were: {self.round.problem}"

    @property
    def warnings(self) -> tuple[str, ...]:
        """What could not be looked at, or made no sense, beside the error."""
        is_beside = self.problem is not None and self.error is not self.problem
        beside = str(self.problem) if is_beside else self.blind_spot
        return (*([beside] if beside else []), *self.round.oddities)


def survey(access: Access, me: ProcessIdentity) -> Survey:
    """Look at the journal and at every guest. Never raises for what either may say."""
    now = access.clock.time()
    windows: list[WindowRecord] = []
    looks: dict[str, GuestLook] = {}
    lost: tuple[str, ...] = ()
    problem: SafeSnapshotError | None = None
    path = access.config.journal.path
    try:
        if not is_absent(path):  # one that is not there yet has no windows, and a look must not make it
            with closing(Journal(path, read_only=True)) as journal:
                windows = journal.open_windows()
                lost = tuple(journal.lost_windows())
                looks = journal.looks()
    except JournalError as error:
        problem = error
    living = frozenset(w.vmid for w in windows if is_in_progress(w, access.config, now, me))
    in_need = frozenset(w.id for w in windows if needs_help(w, access.config, now, me))
    stuck = {w.vmid for w in windows if w.id in in_need and not w.is_foreign}
    found = look_at_guests(
        access,
        looks,
        leave_out=living - stuck,
        must_ask={w.vmid for w in windows if w.vmid not in living},
        is_first=True,
        is_eager=True,
    )
    works: dict[int, str] = {guest.vmid: at_work(access, guest) for guest in found.frozen if guest.vmid not in living}
    if found.is_blind:
        problem = problem or found.problem
    return Survey(tuple(windows), found, living, in_need, works, problem, lost)
