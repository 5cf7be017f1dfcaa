"""What a worker does: one look at its guest, and then the snapshot as a run of this guest alone takes it.

The look costs the guest nothing: is there quorum, is its node there, is it locked, is there room, which name is free.
Then the worker says where the guest's disks are and waits until so many storages may be in use. What the look has found
the run does not ask again. Last, behind a good snapshot, it removes the older ones that the rule of its label does not
keep.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any, Protocol

from snapshot.base.interruption import MindingClock
from snapshot.base.procfs import ProcessIdentity
from snapshot.base.slots import Slot
from snapshot.config.naming import described, free_name
from snapshot.errors import (
    ApiError,
    ApiFailureError,
    Failure,
    GroupEndedError,
    GuestUnfitError,
    InterruptedBySignalError,
    JournalError,
    SafeSnapshotError,
    SnapshotFailedError,
)
from snapshot.fleet import room
from snapshot.fleet.group import ENDED
from snapshot.fleet.link import Link, Stage
from snapshot.fleet.room import Room
from snapshot.fleet.worker import WorkerGate
from snapshot.journal.file import is_absent
from snapshot.journal.store import Journal
from snapshot.model import CheckResult, Guest, Say
from snapshot.preflight.preflight import FoundAhead
from snapshot.pve import locks
from snapshot.pve.guests import GuestApi, as_configured
from snapshot.retention.keep import Rule
from snapshot.retention.prune import Pruned, PruneTools
from snapshot.retention.rules import Coming, look_ahead, prune_after
from snapshot.take.fence import Fence
from snapshot.take.operation import safe_snapshot
from snapshot.take.request import Request, Result, Tools
from snapshot.take.trace import leave_trace

LOCKED_TEXT = "is locked ("
"""PVE's words for a lock that was set after our look (PVE::AbstractConfig, check_lock)."""

Render = Callable[[Result], Mapping[str, Any]]
"""A result as the parent wants to have it: ``result``, ``logfmt``."""


class Speaking(Protocol):
    """Who hears what is said of the ways to PVE."""

    to: Say


class _LaterError(Exception):
    """The guest is locked, or another run's: it is tried again. Internal."""

    def __init__(self, lock: str, why: str) -> None:
        super().__init__(why)
        self.lock = lock


IN_USE_SECONDS = 0.5
"""How long another run of the guest is waited for without coming again: more than who waits takes to look."""


@dataclass(frozen=True)
class GuestWork:
    """One guest, once. Called in the worker."""

    request: Request
    """For any guest: its vmid and name are this one's."""
    tools: Tools
    guest: Guest
    label: str
    rule: Rule | None
    """What the command line says is kept; None: what the guest's tag of the label says."""
    render: Render
    voice: Speaking
    """What the ways to PVE have to say: to the parent from here on."""
    is_last: bool = True
    """A lock is no reason to come again: the run says what it says of a guest that it is asked for alone."""
    fence: Callable[[Link, Tools], Fence] | None = None
    """Of a member of a group."""
    room: Room | None = None
    """What another worker was told of the cluster."""
    is_ours: bool = False
    """Whether its group has it for this run alone already."""

    def __call__(self, link: Link, gate: WorkerGate) -> None:
        """Do it, and tell the parent."""

        def say(line: str, at: float | None = None) -> None:
            link.tell("say", line=line, at=self.tools.clock.monotonic() if at is None else at)

        self.voice.to = say
        tools = replace(self.tools, me=ProcessIdentity.own(), gate=gate, say=say, wait_seconds=None, **self._timed())
        if self.fence is not None:
            tools = replace(tools, gate=gate.fenced(), fence=self.fence(link, tools))
        since, look = tools.clock.time(), LookAhead(self, tools, link)
        pruned = Pruned(self.guest)
        try:
            with self._alone(tools):
                name, found = look.look()
                link.tell("stage", stage=Stage.CHECKING.value)
                result = safe_snapshot(replace(self._own_request(), name=name), replace(tools, found=found))
                if not self.is_last and (lock := _lock_of(result)) is not None:
                    raise _LaterError(*lock)
                is_newest = result.snapshot_exists or result.expected is not None
                if is_newest and result.error is None and gate.pending is None:
                    pruned = self._prune(tools, result)
        except _LaterError as later:
            link.tell_whole("later", lock=later.lock, why=str(later))
            return
        except TimeoutError:
            check = locks.in_use()
            if not self.is_last:
                link.tell_whole("later", lock="", why=check.message)
                return
            refused = self._refused(GuestUnfitError(check.message, remedy=check.remedy))
            result = replace(refused, checks=(check,))
        except (SafeSnapshotError, InterruptedBySignalError) as error:
            result = self._refused(error)
        left = [] if self.request.dry_run else leave_trace(self.guest, result, tools, since)
        warnings = (*look.warnings, *result.warnings, *pruned.warnings, *left)
        result = replace(result, warnings=warnings, error=result.error or pruned.error)
        self._tell(link, result, pruned)

    def _alone(self, tools: Tools) -> Slot:
        """The guest for this run alone, until older snapshots are removed too. TimeoutError: it is another one's."""
        if self.is_ours or self.request.dry_run or tools.access.turns is None:
            return Slot()
        return tools.access.turns.guest(self.guest.vmid, IN_USE_SECONDS)

    def _timed(self) -> dict[str, Any]:
        """The clock whose sleeps a signal ends, and the ways to PVE that wait by it."""
        clock, access = MindingClock(self.tools.clock), self.tools.access
        turns = access.turns.timed_by(clock) if access.turns is not None else None
        return {"clock": clock, "access": access._replace(clock=clock, turns=turns)}

    def _prune(self, tools: Tools, result: Result) -> Pruned:
        """What the rule does not keep goes, now that there is a newer one; in a dry run what would."""
        path, expected = tools.config.journal.path, result.expected
        try:
            if expected is not None and is_absent(path):
                return Pruned(self.guest)  # there is none of ours
            with closing(Journal(path, read_only=True) if expected is not None else tools.open_journal()) as journal:
                with_it = PruneTools(tools.access, tools.clock, journal, tools.say)
                if expected is not None:
                    coming = Coming(result.name, self.label, expected)
                    return look_ahead(self.guest, coming, self.rule, with_it)
                return prune_after(self.guest, self.label, self.rule, with_it)
        except JournalError as error:
            return Pruned(self.guest, error=error)

    def _own_request(self) -> Request:
        text = described(self.request.description, self.label)
        return replace(self.request, vmid=self.guest.vmid, description=text)

    def _refused(self, error: Failure) -> Result:
        if isinstance(error, InterruptedBySignalError):
            message = f"guest {self.guest.vmid} was not begun: {error.message}"
            error = InterruptedBySignalError(error.signal_number, message, remedy="run again for it")
        settings = self.tools.config.for_guest(self.guest.vmid, self.guest.tags, self.guest.pool)
        policy = self.request.policy or settings.policy
        return Result(self.guest.vmid, self.request.name or "", policy, guest=self.guest, error=error)

    def _tell(self, link: Link, result: Result, pruned: Pruned) -> None:
        error, verdict = result.error, result.verdict
        values = {
            "snapshot": result.name or None,
            "snapshot_exists": result.snapshot_exists,
            "verdict": verdict.kind.value if verdict else None,
            "reason": verdict.reason if verdict else "",
            "plan": result.plan,
            "removed": [row.name for row in pruned.removed],
            "would_remove": [row.name for row in pruned.pending] if result.expected is not None else [],
            "frozen_seconds": result.frozen_seconds,
            "error": (error.code, error.message, error.remedy, error.exit_code) if error else None,
            "warnings": list(dict.fromkeys(result.warnings)),
        }
        if not link.tell_whole("result", **values, **self.render(result)):
            link.tell_whole("result", **values)  # too long as a whole


class LookAhead:
    """The look at one guest."""

    def __init__(self, work: GuestWork, tools: Tools, link: Link) -> None:
        self.work = work
        self.tools = tools
        self.link = link
        self.warnings: list[str] = []
        self._main = tools.access.main
        self._api = GuestApi(self._main)
        self._known = work.room

    def look(self) -> tuple[str, FoundAhead]:
        """The snapshot's name, and the guest. Raises what keeps the guest from being done, and _LaterError."""
        work, tools = self.work, self.tools
        with tools.gate.open():
            self._room(work.guest)
            at = tools.clock.monotonic()
            guest, config = self._config()
            lock = str(config.get("lock") or "")
            if lock and lock != locks.HIBERNATED and not work.is_last:
                raise _LaterError(lock, locks.check_of(guest._replace(lock=lock)).message)
            self._wait_for_storages(guest, config)
            found = FoundAhead(as_configured(guest, config), at, config)
            if work.request.name:
                return work.request.name, found
            taken, prefix = self._api.snapshots(guest), tools.config.snapshot.name_prefix
            return free_name(prefix, work.label, tools.clock.time(), taken), found._replace(snapshots=taken)

    def _config(self) -> tuple[Guest, Mapping[str, object]]:
        """The guest where it is now, and its configuration. NodeOfflineError where that is why PVE does not say."""
        guest = self.work.guest
        try:
            return guest, self._api.config(guest)
        except ApiFailureError:
            guest = self._api.find(guest.vmid)  # it was migrated since it was listed, or is gone
            return guest, self._api.config(guest)
        except ApiError:
            self._known = None
            self._room(guest)  # its node may have died since the cluster was asked
            raise

    def _wait_for_storages(self, guest: Guest, config: Mapping[str, object]) -> None:
        bound = self.tools.config.fleet.storage_full_percent
        names = room.storages_of(guest, config)
        places = room.places_of(names, guest.node, self._room(guest).uses)
        self.link.tell("stage", stage=Stage.WAITING.value)
        if not self.link.tell_whole("storages", places=places) or (said := self.link.wait()) is None:
            raise EOFError
        if said["op"] == ENDED:
            raise GroupEndedError(f"its group has ended: {said['why']}", remedy="mend that, and try again")
        known = self._room(guest)
        self.warnings += [known.warning] if known.warning else []
        self.warnings += room.refuse_by_use(guest, names, known.uses, bound)

    def _room(self, guest: Guest) -> Room:
        """What may be decided by now: asked, and told to the others, where what is known has grown old. NoQuorumError,
        NodeOfflineError.
        """
        clock = self.tools.clock
        if self._known is None or not self._known.is_fresh(clock.monotonic()):
            self._known = room.ask(self._main, clock)
            if self._known.is_whole:
                self.link.tell("room", **self._known.told())
        room.refuse_by_state(guest, self._known.state)
        return self._known


def _lock_of(result: Result) -> tuple[str, str] | None:
    """The lock that kept a run from its snapshot, and PVE's or our words for it; None when it was anything else."""
    error = result.error
    if isinstance(error, GuestUnfitError):
        locked = next((c for c in result.checks if c.code == "guest-locked" and c.result is CheckResult.FAILED), None)
        if locked is not None and locked.message == error.message:
            return (result.guest.lock if result.guest else ""), locked.message
    if isinstance(error, SnapshotFailedError) and LOCKED_TEXT in error.message and result.snapshot_exists is False:
        return error.message.partition(LOCKED_TEXT)[2].partition(")")[0], error.message
    return None
