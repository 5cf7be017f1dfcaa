"""One guest's snapshots: looked at, judged by the rules; what no rule keeps is removed, one task after the other.

Each removal: the guest's lock is waited for, everything is read again and must still say the same, the intent is in the
journal, then PVE is asked; the outcome is written down when its task has ended. Whoever is killed in between leaves an
open row, and the next prune finds out what became of it. What PVE left half removed is removed again once the guest is
unlocked, since the journal knows that we began it; PVE's lock is never taken away by us.

Only one prune of this machine removes anything of a guest at a time. PVE looks for a snapshot before it locks the guest
for its removal, and again behind that: a second removal of the same one that comes in between ends in an error, and the
guest stays locked for good (PVE::AbstractConfig, snapshot_delete). Another machine's journal has other snapshots.

Between the last reading and PVE's own lock lies the time of one request: PVE has no removal on a condition.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from snapshot.base.clock import Clock
from snapshot.base.slots import FOLDER, Slot, Slots
from snapshot.errors import ApiError, JournalError, NotPrunedError, ReplyLostError, SafeSnapshotError
from snapshot.journal.record import has_ended
from snapshot.journal.removals import FAILED, NOT_BEGUN, REMOVED, Removal, Removals
from snapshot.journal.store import Journal
from snapshot.model import Guest, Say, Upid
from snapshot.pve import locks, remedies
from snapshot.pve.access import Access, tasks_of
from snapshot.pve.guests import GuestApi
from snapshot.pve.snapshots import Tree
from snapshot.retention.keep import Rule
from snapshot.retention.known import known_of
from snapshot.retention.ours import Left, find
from snapshot.retention.plan import Outlook, plan

LOCK_SECONDS = 60.0
"""How long a locked guest is waited for, in one prune of it."""

PAUSE_SECONDS = 0.5

HARMLESS = (Left.CHANGED, Left.KEPT, Left.ROLLED_BACK)
"""Reasons for which a snapshot that was to go stays, and that are no failure."""

Rules = Mapping[str, Rule]


@dataclass(frozen=True)
class PruneTools:
    """What a prune works with."""

    access: Access
    clock: Clock
    journal: Journal
    say: Say
    lock_seconds: float = LOCK_SECONDS


@dataclass(frozen=True)
class Pruned:
    """What became of one guest's snapshots. ``removed``: the rows that PVE has removed."""

    guest: Guest
    rows: tuple[Outlook, ...] = ()
    removed: tuple[Outlook, ...] = ()
    error: SafeSnapshotError | None = None
    warnings: tuple[str, ...] = ()

    @property
    def lines(self) -> list[str]:
        """What was done, for a run that prunes behind its snapshot."""
        return [f"removed {row.name} ({row.why})" for row in self.removed]

    @property
    def pending(self) -> tuple[Outlook, ...]:
        """Those that are still there and that no rule keeps: all of them, in a dry run."""
        return tuple(row for row in self.rows if not row.keeps)


def look(guest: Guest, rules: Rules, tools: PruneTools) -> Pruned:
    """What would become of the guest's snapshots. Changes nothing; what goes wrong stands in ``error``."""
    try:
        return Pruned(guest, tuple(_Prune(guest, rules, tools).plan()))
    except SafeSnapshotError as error:
        return Pruned(guest, error=error)


def prune(guest: Guest, rules: Rules, tools: PruneTools) -> Pruned:
    """Remove what no rule keeps. Raises nothing of ours; what goes wrong stands in ``error``."""
    return _Prune(guest, rules, tools).run()


class _Prune:
    """One prune of one guest."""

    def __init__(self, guest: Guest, rules: Rules, tools: PruneTools) -> None:
        self._guest, self._rules, self._tools = guest, rules, tools
        self._clock = tools.clock
        self._api = GuestApi(tools.access.main)
        self._tasks = tasks_of(tools.access)
        self._removals = Removals(tools.journal, tools.clock)
        self._patience = tools.lock_seconds
        """What is left of it: removals themselves do not use it up."""
        self._is_over = False
        """Something went wrong: nothing more is tried of this guest."""
        self._removed: list[Outlook] = []
        self._left: dict[str, Outlook] = {}
        """Rows that were to go and are still there, by name."""
        self._warnings: list[str] = []

    def plan(self) -> list[Outlook]:
        """All snapshots as they are now, and what becomes of each. ApiError, JournalError."""
        tree = self._api.snapshot_tree(self._guest)
        return self._plan_of(tree)

    def _plan_of(self, tree: Tree) -> list[Outlook]:
        prefix = self._tools.access.config.snapshot.name_prefix
        found = find(self._guest, tree, known_of(self._tools.journal), prefix)
        rows = plan(self._guest, tree, found, self._rules)
        return [self._begun(row) if row.left is Left.NOT_WHOLE else row for row in rows]

    def _begun(self, row: Outlook) -> Outlook:
        """One that PVE left half removed goes on being removed, where it was we who began that."""
        is_ours = self._removals.began(self._guest, row.name, row.found.run)
        if row.found.snapshot.state != "delete" or not is_ours:
            return row
        return Outlook(row.found, keeps=False, why="its removal was begun")

    def run(self) -> Pruned:
        """See ``prune``."""
        rows: list[Outlook] = []
        error: SafeSnapshotError | None = None
        try:
            with self._turn():
                rows = self._remove_all()
        except SafeSnapshotError as failure:
            error = failure
        gone = {row.name for row in self._removed}
        left = tuple(self._left.get(row.name, row) for row in rows if row.name not in gone)
        return Pruned(self._guest, left, tuple(self._removed), error or self._error(), tuple(self._warnings))

    def _turn(self) -> Slot:
        """Of this guest's prunes. NotPrunedError when another one does not end."""
        config, vmid = self._tools.access.config, self._guest.vmid
        slots = Slots(config.journal.path.parent / FOLDER, f"prune-{vmid}", 1, self._clock)
        limit = config.snapshot.task_timeout_seconds
        try:
            turn = slots.take(limit, waits=lambda: self._tools.say(f"guest {vmid}: waiting for another prune of it"))
        except TimeoutError:
            raise NotPrunedError(
                f"guest {vmid} was not pruned: another prune of it was at work for {limit:g} s",
                remedy="run again when that one has ended",
            ) from None
        if turn.problem:
            self._warnings.append(f"do not prune it twice at once, nobody could wait for the other: {turn.problem}")
        return turn

    def _remove_all(self) -> list[Outlook]:
        """All rows, as they were at first. ApiError, JournalError, NotPrunedError."""
        self._settle()
        rows = self.plan()
        for row in [row for row in rows if not row.keeps]:
            if self._is_over:
                self._leave(row, Left.NOT_TRIED)
            else:
                self._remove(row)
        return rows

    def _error(self) -> NotPrunedError | None:
        bad = [row for row in self._left.values() if row.left not in HARMLESS]
        if not bad:
            return None
        rest = f", and {len(bad) - 1} more" if len(bad) > 1 else ""
        where = f"snapshot {bad[0].name} of guest {self._guest.vmid} was not removed{rest}"
        return NotPrunedError(f"{where}: {bad[0].why}", remedy=bad[0].remedy)

    def _leave(self, row: Outlook, left: Left, detail: str = "", remedy: str = "") -> None:
        why = f"{left.sentence} ({detail})" if detail else left.sentence
        self._left[row.name] = row._replace(keeps=True, left=left, why=why, remedy=remedy)
        self._is_over = self._is_over or left not in HARMLESS
        self._tools.say(f"guest {self._guest.vmid}: {row.name} is left: {why}")

    def _remove(self, row: Outlook) -> None:
        """Remove one; it is in ``_removed`` or in ``_left`` afterwards, or somebody else has removed it."""
        while True:
            guest = self._free()
            if guest.lock:
                self._leave(row, Left.LOCKED, guest.lock, _of_lock(guest, row.name))
                return
            if self._is_in_window():
                self._leave(row, Left.IN_WINDOW, remedy="`safe-snapshot status` shows it")
                return
            now = next((other for other in self.plan() if other.name == row.name), None)
            if now is None:
                self._removed.append(row)  # by another prune, or by hand: it is gone as it should be
                return
            if now.left is Left.NOT_WHOLE and self._waits():
                continue  # another prune is at work on it
            if now.found.identity != row.found.identity:
                self._leave(row, Left.CHANGED)
                return
            if now.keeps:
                self._leave(row, now.left or Left.KEPT, remedy=now.remedy)
                return
            if self._ask(row):
                return

    def _ask(self, row: Outlook) -> bool:
        """The intent, the request, the outcome. False: PVE has found the guest locked, and nothing has happened."""
        number = self._removals.begin(self._guest, row.name, row.found.run, row.found.snapshot.taken_at)
        try:
            upid = self._api.delete_snapshot(self._guest, row.name)
        except ReplyLostError as error:
            self._find_lost(row, number, error)
            return True
        except ApiError as error:
            self._end(number, NOT_BEGUN, error.message)
            self._leave(row, Left.NOT_DONE, error.message, error.remedy or _look(self._guest))
            return True
        self._try(lambda: self._removals.asked(number, upid.text))
        return self._follow(row, number, upid)

    def _follow(self, row: Outlook, number: int, upid: Upid) -> bool:
        """The task's end; False as for ``_ask``."""
        guest, limit = self._guest, self._tools.access.config.snapshot.task_timeout_seconds
        try:
            end = self._tasks.end(upid, self._clock.monotonic() + limit)
        except ApiError as error:
            self._leave(row, Left.NOT_SAID, error.message, _look(guest))
            return True
        if end is None:
            self._leave(row, Left.NOT_SAID, f"its task did not end within {limit:g} s", _look(guest))
        elif end.succeeded or row.name not in self._api.snapshot_tree(guest).snapshots:
            self._is_removed(row, number)
        elif "is locked (" in end.exitstatus and remedies.KILLED not in end.exitstatus:
            self._end(number, NOT_BEGUN, end.exitstatus)
            return False
        else:
            self._end(number, FAILED, end.exitstatus)
            self._leave(row, Left.NOT_DONE, end.exitstatus, self._remedy(row, end.exitstatus))
        return True

    def _find_lost(self, row: Outlook, number: int, error: ReplyLostError) -> None:
        """Nobody knows whether PVE has the request: the snapshot goes within a while, or it is left open."""
        give_up = self._clock.monotonic() + self._tools.access.config.snapshot.lost_reply_seconds
        while True:
            try:
                if row.name not in self._api.snapshot_tree(self._guest).snapshots:
                    self._is_removed(row, number)
                    return
            except ApiError:
                pass
            if self._clock.monotonic() >= give_up:
                self._leave(row, Left.NOT_SAID, error.message, "the next prune finds out")
                return
            self._clock.sleep(PAUSE_SECONDS)

    def _is_removed(self, row: Outlook, number: int) -> None:
        self._removed.append(row)
        self._end(number, REMOVED)
        self._tools.say(f"guest {self._guest.vmid}: removed {row.name} ({row.why})")

    def _settle(self) -> None:
        """What became of removals that an earlier prune left open. ApiError, JournalError, NotPrunedError."""
        for removal in self._removals.open(self._guest):
            self._await_task(removal)
            guest = self._free()
            found = self._api.snapshot_tree(guest).snapshots.get(removal.name)
            if found is None or found.taken_at != removal.taken_at:
                self._end(removal.number, REMOVED)
            elif found.is_whole and not guest.lock:
                self._end(removal.number, NOT_BEGUN)
            elif not guest.lock:
                self._end(removal.number, FAILED, "PVE left it half removed")
            else:
                raise NotPrunedError(
                    f"the removal of snapshot {removal.name} of guest {guest.vmid} is not over: the guest is locked "
                    f"({guest.lock})",
                    remedy=_of_lock(guest, removal.name),
                )

    def _await_task(self, removal: Removal) -> None:
        """A task that still runs is waited for; one that PVE does not know any more has ended."""
        if removal.upid is None:
            return
        try:
            self._tasks.end(Upid.parse(removal.upid), self._clock.monotonic() + self._patience)
        except (ApiError, ValueError):
            return

    def _free(self) -> Guest:
        """The guest with its lock of now, waited for until nobody is at work on it or the patience is used up."""
        while True:
            guest = self._guest._replace(lock=str(self._api.current(self._guest).get("lock") or ""))
            if not (guest.lock or self._is_in_window()) or not self._waits():
                return guest

    def _is_in_window(self) -> bool:
        """Whether a run of this machine has the guest in hand: PVE's lock for a removal would cost it its snapshot."""
        return any(not has_ended(window) for window in self._tools.journal.open_windows(self._guest.vmid))

    def _waits(self) -> bool:
        """Wait for a moment; False when the patience is used up."""
        if self._patience <= 0:
            return False
        self._clock.sleep(PAUSE_SECONDS)
        self._patience -= PAUSE_SECONDS
        return True

    def _remedy(self, row: Outlook, exitstatus: str) -> str:
        guest, name = self._guest, row.name
        lock = str(self._api.current(guest).get("lock") or "")
        if "needed by replication" in exitstatus:
            return "run the replication job, then prune again: `pvesr status` names it, `pvesr run --id <job>` runs it"
        if lock != "snapshot-delete":
            return remedies.of_task(exitstatus, guest, name)
        tool = locks.tool(guest)
        return (
            f"PVE keeps the guest locked; once the cause is gone: `{tool} unlock {guest.vmid}`, then prune again or "
            f"`{tool} delsnapshot {guest.vmid} {name}` (--force only where the disk's own snapshot is gone already)"
        )

    def _end(self, number: int, outcome: str, detail: str = "") -> None:
        self._try(lambda: self._removals.end(number, outcome, detail))

    def _try(self, write: Callable[[], None]) -> None:
        """After the request nothing depends on the journal: the next prune finds out what it does not say."""
        try:
            write()
        except JournalError as error:
            self._warnings.append(f"the removal's outcome was not written down: {error}")


def _of_lock(guest: Guest, name: str) -> str:
    return locks.remedy_of(guest).replace("<name>", name)


def _look(guest: Guest) -> str:
    return f"look at `{locks.tool(guest)} listsnapshot {guest.vmid}`; the next prune finds out"
