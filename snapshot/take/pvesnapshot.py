"""One run's snapshot in PVE: begun, followed to its end, found again when the answer was lost, described, removed.

Everything here happens with the guest thawed, but ``begin``. What the run knows of its snapshot stands here.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from snapshot.config.naming import SnapshotName
from snapshot.errors import ApiError, NotConsistentError, ReplyLostError, SnapshotFailedError
from snapshot.model import DiskWord, FreezeState, Guest, GuestKind, Upid, Verdict, VerdictKind
from snapshot.pve import remedies
from snapshot.pve.access import tasks_of
from snapshot.pve.doors import off_by_another_door
from snapshot.pve.guests import GuestApi
from snapshot.pve.snapshots import description_of
from snapshot.pve.tasks import TaskEnd
from snapshot.recovery.frozen import guest_state
from snapshot.take import judging
from snapshot.take.request import Request, Tools
from snapshot.take.waiting import Waiting
from snapshot.thaw.rescue import thaw_now
from snapshot.window.parts import WindowBrokenError
from snapshot.window.snapshot import LEFT_FROZEN, HasEnded, SnapshotWindow

FIND_OUT_SECONDS = 5.0
"""After a signal: how long to find out whether there is a snapshot. The guest is thawed, the operator waits."""

REFUSED_TEXTS = ("is locked", "already used", "feature is not available")
"""How a task ends that has not begun (PVE::AbstractConfig, __snapshot_prepare)."""

DESCRIBE_SECONDS = 10.0
"""How long to wait for a guest that is locked by somebody else to write the description."""

PAUSE_SECONDS = 0.5
"""Between two questions for a snapshot whose request was never answered."""


class PveSnapshot:
    """The snapshot of one run. ``mark`` names the run: it stands in the description."""

    def __init__(
        self, guest: Guest, request: Request, tools: Tools, *, name: str, mark: str, warnings: list[str]
    ) -> None:
        self.name = name
        self.upid: Upid | None = None
        self.task: TaskEnd | None = None
        self.exists: bool | None = False
        """Whether the snapshot is there; None when PVE did not say."""
        self.has_begun = False
        """Whether PVE was asked for it."""
        self.is_finished = False
        """Whether the end of its task was waited for."""
        self.is_described = True
        """False when the verdict could not be written into its description."""
        self.asked_at: float | None = None
        self.over_at: float | None = None
        """When PVE was asked, and its task seen to be over (monotonic): its point in time lies between."""
        self.frozen_seconds: float | None = None
        """How long the guest was frozen for it, once it is thawed; None when it was not, or nobody knows."""
        self.disk: DiskWord | None = None
        """What it says of itself, where it was asked."""
        self.mark = mark
        """The run's id, also in the journal."""
        self._guest = guest
        self._request = request
        self._tools = tools
        self._warnings = warnings
        self._api = GuestApi(tools.access.main)
        self._tasks = tasks_of(tools.access)
        self._task: Upid | None = None
        """The task of ours that PVE worked on last."""
        self._is_being_removed = False

    def begin(self, timeout_seconds: float) -> Upid:
        """Start the task. ReplyLostError when nobody knows; SnapshotFailedError when PVE said no."""
        memory = self._request.memory and self._guest.running
        self.exists, self.has_begun = None, True
        self.asked_at = self._tools.clock.monotonic()
        try:
            self.upid = self._task = self._api.create_snapshot(
                self._guest, self.name, self._description(None), memory=memory, timeout_seconds=timeout_seconds
            )
        except ReplyLostError:
            raise
        except ApiError as error:
            self.exists = False
            message = f"PVE did not start the snapshot: {error.message}"
            raise SnapshotFailedError(message, remedy=error.remedy) from error
        return self.upid

    def finish(self, window: SnapshotWindow | None = None) -> None:
        """Wait for the end of the task, or look for the snapshot when the answer with the task was lost.

        ``window`` guards what PVE may freeze by itself meanwhile, and thaws what is left of it. SnapshotFailedError
        with PVE's text and what to do; StillFrozenError when PVE left the guest frozen for good.
        """
        self.is_finished = True
        limit = self._tools.clock.monotonic() + self._tools.config.snapshot.task_timeout_seconds
        try:
            if self.upid is None:
                self._find_lost(window)
            else:
                waiting = Waiting(self._tools, f"PVE's task {self.upid}", limit)
                if window is not None:
                    self._watch_task(self.upid, window, limit, waiting)
                self._follow(self.upid, limit, waiting)
        finally:
            if window is None:
                self._thaw_what_pve_left()
            else:
                self._tell_what_pve_left(window)
            if self.upid is None and self.exists is False:
                self.exists = None  # it may come yet: nobody knows for how long PVE keeps a request

    def _watch_task(self, upid: Upid, window: SnapshotWindow, limit: float, waiting: Waiting) -> None:
        def has_ended(deadline: float, alive: Callable[[], None]) -> bool:
            with self._tools.gate.open():
                ended = self._tasks.wait_for_end(upid, min(deadline, limit), lambda: waiting(alive))
                return ended or self._tools.clock.monotonic() >= limit

        with contextlib.suppress(ApiError):  # said by who follows the task
            self._watch(window, has_ended, lambda: judging.says_not_frozen(self._tasks.log(upid)))

    def _watch(self, window: SnapshotWindow, has_ended: HasEnded, is_harmless: Callable[[], bool]) -> None:
        """PVE freezes by itself in a task that finds the guest thawed: see to it that it is thawed by the deadline."""
        try:
            window.watch_pve(has_ended, is_harmless)
        except WindowBrokenError as broken:
            raise SnapshotFailedError(
                f"the snapshot task was not followed to its end: {broken}",
                remedy=f"look at `{remedies.tool(self._guest)} listsnapshot {self._guest.vmid}`",
            ) from broken

    def _tell_what_pve_left(self, window: SnapshotWindow) -> None:
        """What is known of PVE's own freeze once its task has ended; without a word the window takes it for frozen."""
        task = self.task
        if task is None and self._task is not None:
            with contextlib.suppress(ApiError):
                task = self._tasks.end(self._task, self._tools.clock.monotonic() + FIND_OUT_SECONDS)
        if task is None:
            # The answer was lost. The snapshot is whole, or there is none after all: a request that is carried out
            # later still is thawed by PVE, and no reason to keep others from freezing for an hour.
            if self.exists is not None:
                window.pve_has_ended(is_thawed=window.look() is FreezeState.THAWED)
            return
        if task.exitstatus == remedies.KILLED:
            window.pve_has_ended(is_thawed=None)
            return
        if any(text in task.exitstatus for text in REFUSED_TEXTS) or judging.says_not_frozen(task.log):
            window.pve_has_ended(is_thawed=True)
            return
        state = window.look()
        # An agent that is mute now was not so for PVE: a thaw that fails stands in the log, if that can be read.
        thawed = state is FreezeState.THAWED or (state is None and bool(task.log))
        window.pve_has_ended(is_thawed=thawed and not judging.thaw_failed(task.log))

    def _thaw_what_pve_left(self) -> None:
        """PVE freezes by itself in a task that finds the guest thawed, and thaws once: a killed worker, or a thaw that
        failed, leaves it frozen. StillFrozenError when it cannot be thawed. For a snapshot without a guard.

        A task that ended well has said so if its thaw did not work. One that still runs thaws by itself.
        """
        guest, task = self._guest, self.task
        if guest.kind is GuestKind.LXC or not guest.running or self._request.memory or task is None:
            return
        if task.succeeded and not judging.thaw_failed(task.log):
            return
        if any(text in task.exitstatus for text in REFUSED_TEXTS):
            return  # PVE has frozen nothing: a guest that is frozen is so by somebody else's work
        if guest_state(guest, self._tools.access) is FreezeState.FROZEN:
            thaw_now(guest, self._tools.access)
            self._warnings.append(LEFT_FROZEN)

    def remove_unproven(self, verdict: Verdict) -> None:
        """Policy require: no consistency, no snapshot. Always raises NotConsistentError."""
        guest, detail = self._guest, self.remove()
        message = f"the snapshot of guest {guest.vmid} is not proven consistent ({verdict})"
        if not detail:
            again = "upgrade PVE" if "PVE thawed" in verdict.reason else "try again"
            raise NotConsistentError(message, remedy=f"policy require: it was removed again; {again}")
        self.describe(verdict)
        raise NotConsistentError(
            f"{message} and could not be removed ({detail})",
            remedy=f"remove it: `{remedies.tool(guest)} delsnapshot {guest.vmid} {self.name}`",
        )

    def remove(self) -> str:
        """Take it away again; why that did not work, "" when it did."""
        limit = self._tools.config.snapshot.task_timeout_seconds
        try:
            with self._tools.gate.open():
                self._is_being_removed, self.exists = True, None
                self._task = self._api.delete_snapshot(self._guest, self.name)
                until = self._tools.clock.monotonic() + limit
                end = self._tasks.end(self._task, until, Waiting(self._tools, f"PVE's task {self._task}", until))
            self.exists = end is None or not end.succeeded
            return "still running" if end is None else end.exitstatus if self.exists else ""
        except ApiError as error:
            self.exists = True
            return error.message

    def describe(self, verdict: Verdict) -> None:
        """Write the verdict into the description; a failure is a warning and changes nothing else.

        Another snapshot of the guest holds its lock for a moment: that is waited for.
        """
        clock = self._tools.clock
        give_up = clock.monotonic() + DESCRIBE_SECONDS
        while True:
            try:
                self._api.describe_snapshot(self._guest, self.name, self._description(verdict))
                return
            except ApiError as error:
                if "is locked (" not in error.message or clock.monotonic() >= give_up:
                    self._warnings.append(f"the verdict could not be written into the description ({error})")
                    self.is_described = False
                    return
            clock.sleep(PAUSE_SECONDS)

    def confirm(self, verdict: Verdict) -> Verdict:
        """``verdict``, or what is left of it: `offline` and `memory` rest on how the guest was found at first."""
        why = ""
        if verdict.kind is VerdictKind.OFFLINE:
            runs = self.guest_runs()
            if runs is None:
                why = "the guest was shut down at first, and PVE does not say whether it stayed so"
            elif runs:
                why = "the guest was shut down at first but was started meanwhile"
        elif verdict.kind is VerdictKind.MEMORY and not self._holds_ram():
            why = "the guest was running at first, but PVE does not list the snapshot as one with RAM"
        return Verdict(VerdictKind.UNKNOWN, why) if why else verdict

    def guest_runs(self) -> bool | None:
        """Whether the guest runs now; None when PVE does not say, or its doors say different things."""
        try:
            status = self._api.current(self._guest).get("status")
            if status == "stopped" and off_by_another_door(self._tools.access, self._guest):
                return False
        except ApiError:
            return None
        return True if status == "running" else None

    def _holds_ram(self) -> bool:
        """Whether PVE says that the snapshot has the guest's RAM in it."""
        try:
            return self._api.snapshot_holds_ram(self._guest, self.name)
        except ApiError:
            return False

    def find_out(self) -> None:
        """After a signal: find out within seconds what became of what PVE was at work on."""
        clock = self._tools.clock
        deadline = clock.monotonic() + FIND_OUT_SECONDS
        if self._task is not None:
            try:
                self._tasks.end(self._task, deadline)
            except ApiError:
                return
        while not self._is_there() and self._task is None and clock.monotonic() < deadline:
            clock.sleep(PAUSE_SECONDS)
        if self._is_being_removed and self.exists:
            self.exists = None  # the removal may be on its way

    def _follow(self, upid: Upid, until: float, waiting: Waiting) -> None:
        config = self._tools.config.snapshot
        limit, is_chosen = config.task_timeout_seconds, SnapshotName.parse(self.name, config.name_prefix) is None
        try:
            with self._tools.gate.open():
                end = self.task = self._tasks.end(upid, until, waiting)
        except ApiError as error:
            raise SnapshotFailedError(
                f"PVE does not say any more how the snapshot task ended: {error.message}", remedy=error.remedy
            ) from error
        if end is None:
            raise SnapshotFailedError(
                f"the snapshot task did not end within {limit:g} s (the guest is thawed)",
                remedy=f"follow it: `pvesh get /nodes/{upid.node}/tasks/{upid}/log`",
            )
        if not end.succeeded:
            self.exists = None if end.exitstatus == remedies.KILLED else False
            raise SnapshotFailedError(
                f"PVE's snapshot task failed: {end.exitstatus}",
                remedy=remedies.of_task(end.exitstatus, self._guest, self.name, is_chosen=is_chosen),
            )
        self.exists = True
        if end.exitstatus != "OK":
            self._warnings.append(f"PVE's snapshot task ended with {end.exitstatus}")
        ours = self.frozen_seconds is not None
        for line in end.log:
            # Before 9.1.10 PVE's own freeze is refused because of ours: no trouble. Before 9.0.23 it has other words.
            has_failed = "unable to freeze" in line and not (ours and "has been disabled" in line)
            if has_failed or "freeze problems" in line or "thaw problems" in line:
                self._warnings.append(f"PVE's snapshot task says: {line}")

    def _find_lost(self, window: SnapshotWindow | None) -> None:
        """The POST's answer was lost: did the task run? Look for our snapshot, whole, for a while."""
        guest, clock = self._guest, self._tools.clock
        limit = self._tools.config.snapshot.lost_reply_seconds
        give_up = clock.monotonic() + limit
        waiting = Waiting(self._tools, "the snapshot, for the answer to its request was lost", give_up)

        def has_shown(deadline: float, alive: Callable[[], None]) -> bool:
            with self._tools.gate.open():
                while not self._is_there():
                    waiting(alive)
                    if clock.monotonic() >= min(deadline, give_up):
                        return clock.monotonic() >= give_up
                    clock.sleep(PAUSE_SECONDS)
            return True

        if window is None:
            has_shown(give_up, lambda: None)
        else:
            self._watch(window, has_shown, lambda: False)
        if not self.exists:
            seen = "no such snapshot has appeared" if self.exists is False else "PVE is silent on it"
            raise SnapshotFailedError(
                f"the answer to the snapshot request was lost and {seen} within {limit:g} s: it may come yet",
                remedy=f"check `{remedies.tool(guest)} listsnapshot {guest.vmid}` before you try again",
            )
        self._warnings.append("PVE's answer to the snapshot request was lost, but the snapshot is there")

    def _is_there(self) -> bool:
        """Whether the snapshot of this very run is there and whole; keeps what PVE says.

        The mark tells it from one of the same name that somebody else took.
        """
        try:
            found = self._api.snapshots(self._guest).get(self.name)
        except ApiError:
            self.exists = None
            return False
        ours = found is not None and self.mark in found.description
        in_preparation = found is not None and ours and not found.is_whole
        self.exists = None if in_preparation else ours
        return bool(self.exists)

    def _description(self, verdict: Verdict | None) -> str:
        at = self._tools.clock.time()
        return description_of(self._request.description, self.mark, verdict, self.frozen_seconds, at, disk=self.disk)
