"""safe_snapshot(): the protocol for one guest, top to bottom.

Do, then report: everything that happened is in the Result, also when it ended in an error. The caller renders it.
"""

from __future__ import annotations

import math
import signal
from collections.abc import Callable

from snapshot.base.clock import compact, duration
from snapshot.config.settings import ForeignFreeze
from snapshot.errors import (
    ApiError,
    Failure,
    ForeignFreezeError,
    FreezeUnclearError,
    GuardError,
    GuestUnfitError,
    InterruptedBySignalError,
    JournalError,
    NotConsistentError,
    ReplyLostError,
    SafeSnapshotError,
    SnapshotFailedError,
    StillFrozenError,
    UsageError,
)
from snapshot.journal.book import open_book, plain_record
from snapshot.journal.record import may_be_frozen
from snapshot.journal.silences import folder_lines
from snapshot.model import (
    Check,
    CheckResult,
    FreezeOutcome,
    FreezeReply,
    Guest,
    GuestKind,
    Health,
    Owner,
    Policy,
    Verdict,
    VerdictKind,
)
from snapshot.preflight.preflight import Preflight, Wish, with_windows
from snapshot.pve import remedies
from snapshot.pve.access import tasks_of
from snapshot.pve.agent import ApiChannel
from snapshot.pve.routes import build_ladder
from snapshot.recovery.heal import Healed, heal
from snapshot.take.pvesnapshot import PveSnapshot, not_recorded
from snapshot.take.request import Request, Result, Tools
from snapshot.thaw.pace import thawing_of
from snapshot.thaw.rescue import what_is_left
from snapshot.thaw.thawer import Thawer
from snapshot.window.parts import WindowBrokenError, WindowSpec, WindowTools
from snapshot.window.snapshot import SnapshotWindow
from snapshot.window.verdict import Evidence, Proof, broken_word, judge
from snapshot.words import Word

__all__ = ["Request", "Result", "Tools", "safe_snapshot"]


def safe_snapshot(request: Request, tools: Tools) -> Result:
    """Take a snapshot of one guest, frozen if it can be, and say what it is worth. Raises nothing of ours."""
    operation = _Operation(request, tools)
    try:
        operation.run()
    except (SafeSnapshotError, InterruptedBySignalError) as error:
        operation.result.error = error
    operation.report()
    return operation.result


class _Operation:
    """One run. The methods are the protocol's steps, in its order."""

    def __init__(self, request: Request, tools: Tools) -> None:
        config = tools.config
        name = request.name or f"{config.snapshot.name_prefix}-{compact(tools.clock.time())}"
        self.request = request
        self.tools = tools
        self.settings = config.for_guest(request.vmid)
        self.tasks = tasks_of(tools.access)
        self.book = open_book(tools.open_journal)
        self.result = Result(request.vmid, name, self._policy())
        self.snapshot: PveSnapshot | None = None
        self.failure: tuple[str, str] | tuple[None, None] = (None, None)
        """Stage and reason, where the guest was to be frozen and cannot be."""
        self.is_closed = self.is_finished = False
        self.pve_may_freeze = self.pve_option_off = False

    def run(self) -> None:
        try:
            self._take()
            self._let_signals_through()
        except InterruptedBySignalError as signalled:
            raise self._interrupted(signalled) from None

    def _take(self) -> None:
        guest, obstacle = self._preflight()
        if self.request.dry_run:
            self.result.plan = self._plan(guest, obstacle)
            return
        if obstacle is None:
            self._frozen_snapshot(guest)
        elif self.pve_may_freeze:
            self._watched_snapshot(guest, obstacle)
        else:
            self._plain_snapshot(guest, obstacle)

    # -- 1. preflight

    def _preflight(self) -> tuple[Guest, Verdict | None]:
        """The guest, and the verdict that is already certain because it will not be frozen (None: it will be)."""
        result, memory = self.result, self.request.memory
        health = self._look()
        if health.frozen:
            health = self._heal(health)
        result.guest, result.checks = health.guest, health.checks
        self.pve_may_freeze, self.pve_option_off = health.pve_may_freeze, health.freeze_disabled_by_option
        if health.guest is None or health.failure is not None:
            check = health.failure or health.checks[0]
            raise GuestUnfitError(check.message, remedy=check.remedy)
        guest = health.guest
        if memory and guest.kind is GuestKind.LXC:
            raise UsageError(f"--vmstate: {guest.vmid} is a container, its RAM cannot be saved", remedy="leave it out")
        known = self._verdict_without_freeze(guest)
        if known is not None:
            return guest, known
        if health.obstacle is None:
            return guest, None
        self.failure = ("preflight", health.obstacle.name)
        if result.policy is Policy.REQUIRE:
            self._record_refusal(guest, health.obstacle)
            raise NotConsistentError(
                f"guest {guest.vmid} cannot be frozen: {health.obstacle.message}",
                remedy=health.obstacle.remedy or "see the checks",
            )
        return guest, Verdict(VerdictKind.CRASH_CONSISTENT, health.obstacle.message)

    def _record_refusal(self, guest: Guest, obstacle: Check) -> None:
        """Policy require, and no snapshot: a failure that history and metrics shall know."""
        if self.request.dry_run:
            return
        record = plain_record(guest, self.result.name, self.tools.clock, self.tools.me)
        self.result.warnings += self.book.try_begin(record)
        verdict = Verdict(VerdictKind.UNKNOWN, f"no snapshot taken: {obstacle.message}")
        self.result.warnings += self.book.try_close(record.id, self.tools.clock, verdict, "preflight", obstacle.name)

    def _look(self) -> Health:
        with self.tools.gate.open():
            health = Preflight(self.tools.access).examine(
                self.request.vmid,
                snapshot_name=self.result.name,
                wish=self._wish,
                details=self.request.dry_run,
            )
        if self.request.dry_run:
            health = with_windows(health, self.tools.config, self.tools.me)
        for check in health.checks:
            if check.result is not CheckResult.OK:
                self.tools.say(f"check {check.name}: {check.message}")
        if not self.request.dry_run:
            self.book.agent_seen(health, self.tools.clock)
        return health

    def _wish(self, guest: Guest) -> Wish:
        """The settings for this guest, now that its tags and pool are known."""
        self.settings = self.tools.access.settings_for(guest)
        self.result.policy = self._policy()
        return Wish(self.result.policy, self.settings.ignore_freeze_option, self.request.memory)

    def _heal(self, health: Health) -> Health:
        """A guest found frozen: thaw it when the journal says that it is ours or the operator said so."""
        guest = health.guest
        assert guest is not None
        if self.request.dry_run:
            raise ForeignFreezeError(
                f"guest {guest.vmid} is frozen right now",
                remedy=f"`safe-snapshot status` tells whose freeze it is; `safe-snapshot thaw {guest.vmid}` thaws it",
            )
        # A guest that is locked is being worked on: whoever froze it may still need that.
        thaw_foreign = self.settings.foreign is ForeignFreeze.THAW and health.failure is None
        healed = heal(guest, self.tools.access, self.book, self.tools.me, thaw_foreign=thaw_foreign)
        if healed is Healed.LEFT_ALONE:
            if health.failure is not None:
                return health
            raise ForeignFreezeError(
                f"guest {guest.vmid} is frozen, and not by us: it was left alone",
                remedy=f"find out who froze it (another backup?); `safe-snapshot thaw {guest.vmid}` thaws it",
            )
        self.tools.say(f"thawed the guest, which {healed.value} had left frozen")
        return self._look()

    def _policy(self) -> Policy:
        return self.request.policy or self.settings.policy

    def _verdict_without_freeze(self, guest: Guest) -> Verdict | None:
        if not guest.running:
            return Verdict(VerdictKind.OFFLINE, "the guest was shut down")
        if guest.kind is GuestKind.LXC:
            if self.result.policy is Policy.REQUIRE:
                return None  # the container check is the obstacle
            why = "a container: PVE froze its processes and synced, nothing proves more"
            return Verdict(VerdictKind.CRASH_CONSISTENT, why)
        if self.request.memory:
            self._refuse_ram_of_a_frozen_guest(guest)
            return Verdict(VerdictKind.MEMORY, "RAM is part of the snapshot: a rollback continues where the guest was")
        if self.result.policy is Policy.NEVER:
            return Verdict(VerdictKind.CRASH_CONSISTENT, "policy never: not frozen by us, nothing proven")
        return None

    def _refuse_ram_of_a_frozen_guest(self, guest: Guest) -> None:
        """It would wake up frozen after a rollback. Where the agent did not say, what the journal knows counts."""
        if any(check.name == "thawed" for check in self.result.checks):
            return
        try:
            windows = self.book.journal.open_windows(guest.vmid)
        except JournalError:
            return  # said when this run is to be recorded
        if any(map(may_be_frozen, windows)):
            raise GuestUnfitError(
                f"guest {guest.vmid} may still be frozen by an earlier run, and its agent does not answer: saved with "
                "its RAM it would wake up frozen",
                remedy=f"`safe-snapshot thaw {guest.vmid}` first",
            )

    def _plan(self, guest: Guest, verdict: Verdict | None) -> str:
        kind = "with RAM " if self.request.memory else ""
        how = "arm a guard, freeze, snapshot, prove, thaw" if verdict is None else f"no freeze ({verdict})"
        if verdict is not None and self.pve_may_freeze and not self.pve_option_off:
            how += "; PVE freezes it by itself inside its snapshot task, and a guard watches that"
        proof = next((check for check in self.result.checks if check.name == "proof"), None)
        if verdict is None and proof is not None:
            how += f"; {proof.message}"
        return f"would take snapshot {self.result.name} {kind}of {guest.id} on {guest.node}: {how}"

    # -- 2 to 7. the window

    def _frozen_snapshot(self, guest: Guest) -> None:
        window = SnapshotWindow(self._spec(guest), self._window_tools(guest))
        self.snapshot = self._snapshot_of(guest, window.id)
        failed: Failure | None = None
        try:
            with self.tools.gate.unstoppable(), window:
                self.tools.say(f"guard armed (pid {window.guard_pid})")
                self._let_signals_through()
                if window.freeze().outcome is FreezeOutcome.ACKNOWLEDGED:
                    self._hold(self.snapshot, window)
                    if window.broken_by and window.leave_to_pve():
                        # The task may come to a freeze of PVE's own only now.
                        self._finish(self.snapshot, window)
                elif self.result.policy is not Policy.REQUIRE and window.leave_to_pve():
                    self._take_instead(guest, self.snapshot, window)
        except (JournalError, GuardError) as error:
            if window.reply is None:
                self._without_guard(guest, error)
                return
            failed = error
        except (SafeSnapshotError, InterruptedBySignalError) as error:
            failed = error
        self._take_over_from(window, failed)
        if failed is not None:
            self._close_failed(window, failed)
            raise failed
        try:
            self._after_the_window(guest, window)
        except InterruptedBySignalError as signalled:
            if not self.is_closed:
                self._close(window, Verdict(VerdictKind.UNKNOWN, signalled.message), "snapshot", "interrupted")
            raise

    def _close_failed(self, window: SnapshotWindow, failed: Failure) -> None:
        """There is no snapshot, or nobody knows."""
        stage, word, why = "snapshot", remedies.failure_word(failed), failed.message
        if isinstance(failed, SnapshotFailedError) and self.is_finished:
            word, why = "task", f"no snapshot: {failed.message}"
        reply = window.reply
        if reply is not None and reply.outcome is not FreezeOutcome.ACKNOWLEDGED:
            stage, word = "freeze", reply.outcome.value
        self._close(window, Verdict(VerdictKind.UNKNOWN, why), stage, word)

    def _finish(self, snapshot: PveSnapshot, window: SnapshotWindow | None) -> None:
        self.is_finished = True
        snapshot.finish(window)

    def _take_instead(self, guest: Guest, snapshot: PveSnapshot, window: SnapshotWindow) -> None:
        """Our freeze failed; the guard stays for the one that PVE may make by itself."""
        assert window.reply is not None
        self._take_plain(snapshot, judge(Evidence(freeze=window.reply)), window)

    def _hold(self, snapshot: PveSnapshot, window: SnapshotWindow) -> None:
        """The point in time: the snapshot's task, from its start to the end of its worker. Then the proof.

        What PVE refuses here ends the window first: the context thaws before any error goes on its way.
        """
        left = window.deadline - self.tools.clock.monotonic()
        limit = max(1.0, min(left, window.spec.freeze_timeout_seconds))
        try:
            with self.tools.gate.open():
                upid = snapshot.begin(limit)
                if not self.tasks.wait_for_end(upid, window.deadline, window.check):
                    window.check()
        except WindowBrokenError as broken:
            window.break_off(str(broken), broken.word)
        except ReplyLostError as error:
            window.break_off(f"the answer to the snapshot request was lost ({error.message})", Word.REPLY_LOST)
        except ApiError as error:
            why = f"PVE does not say any more how the snapshot goes ({error.message})"
            window.break_off(why, Word.REPLY_LOST)
        window.prove()

    def _take_over_from(self, window: SnapshotWindow, failed: Failure | None) -> None:
        result = self.result
        result.window_id, result.freeze, result.proof = window.id, window.reply, window.proof
        result.thaw, result.times = window.report, window.times
        result.warnings += window.noted
        if window.report is None:
            return
        self._say_window(window)
        if not window.report.confirmed:
            # Recorded by the window itself; the guard goes on. What else was on its way is told beside it.
            if failed is not None:
                result.warnings.append(str(failed))
            self._close(window, Verdict(VerdictKind.UNKNOWN, "the thaw is not confirmed"), "thaw", "not-confirmed")
            forbidden = window.report.forbidden
            limit = self.tools.config.thaw.owner_limit_seconds
            why = "its agent does not let us" if forbidden else f"no thaw was confirmed in {limit:g} s"
            left = what_is_left(window.spec.guest, self.tools.access, is_offline=False, is_forbidden=forbidden)
            raise StillFrozenError(
                f"GUEST {result.vmid} MAY STILL BE FROZEN: {why} ({window.report.detail})",
                remedy=f"the guard goes on trying; {left}",
            )

    def _say_window(self, window: SnapshotWindow) -> None:
        """The window's steps, each with its own time: nothing was printed while the guest was frozen."""
        report, reply, times = window.report, window.reply, window.times
        sent, answered, decided, confirmed = window.instants
        if reply is None and report is not None and report.confirmed:
            self.tools.say("PVE's own freeze in its snapshot task was seen to", at=decided)
        elif sent is not None:
            self.tools.say("freeze requested", at=sent)
        if reply is not None:
            detail = f": {reply.detail}" if reply.detail else f", {remedies.count(reply.filesystems)}"
            self.tools.say(f"freeze {reply.outcome.value}{detail} ({duration(times.freezing_seconds)})", at=answered)
        if self.result.upid is not None and times.held_seconds is not None:
            proof = f", guest {window.proof.value}" if window.proof is not Proof.NOT_ASKED else ""
            why = f": {window.broken_by}" if window.broken_by else ""
            self.tools.say(f"snapshot held for {duration(times.held_seconds)}{proof}{why}", at=decided)
        if report is not None and report.confirmed:
            count = "" if report.filesystems is None else f", {remedies.count(report.filesystems)}"
            how = "guest went off" if report.guest_gone else report.how if report.from_inside else f"thawed{count}"
            length = "" if times.window_seconds is None else f"; window {duration(times.window_seconds)}"
            self.tools.say(f"{how} ({duration(times.thawing_seconds)}){length}", at=confirmed)
            if report.hook_failed:
                self.result.warnings.append(
                    "the guest's own thaw hook failed (its filesystems are thawed): see the agent's log in the guest"
                )

    def _without_guard(self, guest: Guest, error: JournalError | GuardError) -> None:
        if self.result.policy is Policy.REQUIRE:
            raise error
        self.result.warnings.append(str(error))
        self.failure = ("guard", Word.NOT_STARTED.value)
        self._plain_snapshot(guest, Verdict(VerdictKind.CRASH_CONSISTENT, f"not frozen: {error.message}"))

    # -- 8. the verdict, and what it means

    def _after_the_window(self, guest: Guest, window: SnapshotWindow) -> None:
        result, reply, snapshot = self.result, window.reply, self.snapshot
        assert reply is not None
        assert snapshot is not None
        if reply.outcome is not FreezeOutcome.ACKNOWLEDGED:
            self._freeze_failed(guest, window, reply)
            return
        try:
            if not self.is_finished:
                self._finish(snapshot, None)
        except SnapshotFailedError as error:
            self._close(window, Verdict(VerdictKind.UNKNOWN, f"no snapshot: {error.message}"), "snapshot", "task")
            raise
        verdict = result.verdict = self._judge(window)
        consistent = verdict.kind is VerdictKind.FILESYSTEM_CONSISTENT
        word = None if consistent else broken_word(window.proof, window.broken_word).value
        self._close(window, verdict, None if consistent else "hold", word)
        if not consistent and result.policy is Policy.REQUIRE:
            snapshot.remove_unproven(verdict)
        snapshot.describe(verdict)

    def _judge(self, window: SnapshotWindow) -> Verdict:
        evidence = Evidence(freeze=window.reply, proof=window.proof, thaw=window.report, broken_by=window.broken_by)
        verdict = judge(evidence)
        if verdict.kind is VerdictKind.CRASH_CONSISTENT and not window.broken_by and self._pve_thawed(window):
            return Verdict(
                VerdictKind.UNKNOWN,
                "PVE thawed the guest itself at the end of its own snapshots, as it does before qemu-server 9.1.10: "
                "nothing proves that it was frozen until then",
            )
        return verdict

    def _pve_thawed(self, window: SnapshotWindow) -> bool:
        """Whether PVE did not leave our freeze alone (PVE::QemuServer::Agent, guest_fs_freeze_applicable).

        Before 9.1.10 it sends a freeze of its own, ignores the refusal, and thaws after the volume snapshots, without a
        word in the log when that goes well. So nobody can ask whether the guest was still frozen after the point in
        time, and a guest that was thawed from inside a moment before would look the same.
        """
        task = self.result.task
        if window.proof is not Proof.NOT_FROZEN or task is None:
            return False
        return not any("already frozen" in line for line in task.log)

    def _freeze_failed(self, guest: Guest, window: SnapshotWindow, reply: FreezeReply) -> None:
        result = self.result
        unclear = reply.outcome is FreezeOutcome.UNKNOWN
        stage, word = "freeze", reply.outcome.value
        if result.policy is Policy.REQUIRE:
            verdict = judge(Evidence(freeze=reply, thaw=window.report))
            self._close(window, Verdict(VerdictKind.UNKNOWN, f"no snapshot taken: {verdict.reason}"), stage, word)
            if unclear:
                raise self._unclear(guest, reply, window)
            raise NotConsistentError(
                f"guest {guest.vmid} could not be frozen: {reply.detail}", remedy=remedies.of_freeze(reply, guest)
            )
        self.tools.say(f"policy {result.policy.value}: went on without a freeze of ours")
        found = result.verdict
        assert found is not None
        assert self.snapshot is not None
        self._close(window, found, stage, word)
        self.snapshot.describe(found)
        if unclear:
            raise self._unclear(guest, reply, window)

    def _unclear(self, guest: Guest, reply: FreezeReply, window: SnapshotWindow) -> FreezeUnclearError:
        minutes = math.ceil(self.tools.config.freeze.late_freeze_seconds / 60)
        remedy = f"the guard watches for a late freeze for up to {minutes} min; see `safe-snapshot status`"
        if window.is_carried_out:
            remedy = "the freeze was carried out and is undone, so none can come late: try again"
        return FreezeUnclearError(
            f"the answer to the freeze of guest {guest.vmid} was lost ({reply.detail}); the guest is thawed",
            remedy=remedy,
        )

    # -- snapshots without a window

    def _watched_snapshot(self, guest: Guest, verdict: Verdict) -> None:
        """Not frozen by us. PVE may do so by itself inside its task: a guard sees to it that it is thawed."""
        window = SnapshotWindow(self._spec(guest), self._window_tools(guest))
        snapshot = self.snapshot = self._snapshot_of(guest, window.id)
        failed: Failure | None = None
        is_armed = False
        try:
            with self.tools.gate.unstoppable(), window:
                is_armed = True
                self.tools.say(f"guard armed (pid {window.guard_pid}) for the freeze that PVE may make by itself")
                self._let_signals_through()
                window.leave_to_pve()
                self._take_plain(snapshot, verdict, window)
        except (SafeSnapshotError, InterruptedBySignalError) as error:
            if not is_armed and isinstance(error, JournalError | GuardError):
                self.result.warnings.append(f"a freeze that PVE makes by itself is not guarded: {error}")
                self._plain_snapshot(guest, verdict)
                return
            failed = error
        self._take_over_from(window, failed)
        if failed is not None:
            self._close_failed(window, failed)
            raise failed
        self._conclude(snapshot, verdict, lambda found, *failure: self._close(window, found, *failure))

    def _plain_snapshot(self, guest: Guest, verdict: Verdict) -> None:
        """Without a freeze; the verdict is known and gets recorded."""
        record = plain_record(guest, self.result.name, self.tools.clock, self.tools.me)
        snapshot = self.snapshot = self._snapshot_of(guest, record.id)
        self.result.warnings += self.book.try_begin(record)

        def close(found: Verdict, stage: str | None, word: str | None) -> None:
            self.result.warnings += self.book.try_close(record.id, self.tools.clock, found, stage, word)

        try:
            self._take_plain(snapshot, verdict)
        except (SafeSnapshotError, InterruptedBySignalError) as error:
            interrupted = isinstance(error, InterruptedBySignalError)
            failed = Verdict(VerdictKind.UNKNOWN, error.message if interrupted else f"no snapshot: {error.message}")
            close(failed, "snapshot", "interrupted" if interrupted else "task")
            raise
        self._conclude(snapshot, verdict, close)

    def _conclude(
        self, snapshot: PveSnapshot, expected: Verdict, close: Callable[[Verdict, str | None, str | None], None]
    ) -> None:
        """A guest that should have been frozen and could not be is a failure; one that was not to be frozen is not."""
        found = self.result.verdict
        assert found is not None
        close(found, *(self.failure if found is expected else ("hold", "no-proof")))
        if self.result.policy is Policy.REQUIRE and not found.is_consistent:
            snapshot.remove_unproven(found)
        snapshot.describe(found)

    def _take_plain(self, snapshot: PveSnapshot, verdict: Verdict, window: SnapshotWindow | None = None) -> None:
        try:
            with self.tools.gate.open():
                snapshot.begin(self.tools.config.freeze.freeze_timeout_seconds)
        except ReplyLostError as error:
            if window is None:  # with one PVE may have frozen the guest by now: nothing is printed
                self.tools.say(f"the answer to the snapshot request was lost ({error.message}): looking for it")
        except SnapshotFailedError:
            if window is not None:
                window.pve_has_ended(is_thawed=True)  # it never began
            raise
        self._finish(snapshot, window)
        self.result.verdict = snapshot.confirm(verdict)

    # -- signals

    def _let_signals_through(self) -> None:
        """Where a signal that was held back may end the run."""
        with self.tools.gate.open():
            pass

    def _interrupted(self, signalled: InterruptedBySignalError) -> InterruptedBySignalError:
        """The guest is thawed. What the operator must know now: is there a snapshot, and what is it worth?"""
        result, number = self.result, signalled.signal_number
        if self.snapshot is not None and result.snapshot_exists is None:
            self.snapshot.settle()
        if self.snapshot is not None and result.snapshot_exists and result.verdict is None:
            result.verdict = Verdict(VerdictKind.UNKNOWN, f"the run was {signalled.message} before it was judged")
            self.snapshot.describe(result.verdict)
        thawed = "; the guest is thawed" if result.thaw is not None and result.thaw.confirmed else ""
        what = {
            True: f"the snapshot {result.name} is there",
            False: "there is no snapshot of this run",
            None: f"PVE may still be at work on the snapshot {result.name}",
        }[result.snapshot_exists]
        command = remedies.tool(result.guest) if result.guest else "qm"
        remedy = f"look at `{command} listsnapshot {result.vmid}`" if result.snapshot_exists is None else ""
        name = signal.Signals(number).name
        return InterruptedBySignalError(number, f"ended by signal {number} ({name}){thawed}; {what}", remedy=remedy)

    # -- helpers

    def _snapshot_of(self, guest: Guest, mark: str) -> PveSnapshot:
        return PveSnapshot(guest, mark, self.request, self.result, self.tools)

    def _spec(self, guest: Guest) -> WindowSpec:
        config, request, settings = self.tools.config, self.request, self.settings
        return WindowSpec(
            guest=guest,
            source="snapshot",
            owner=Owner.SNAPSHOT,
            freeze_timeout_seconds=request.freeze_timeout_seconds or settings.freeze_timeout_seconds,
            max_window_seconds=request.max_window_seconds or settings.max_window_seconds,
            late_freeze_seconds=config.freeze.late_freeze_seconds,
            owner_limit_seconds=config.thaw.owner_limit_seconds,
            snapshot_name=self.result.name,
        )

    def _window_tools(self, guest: Guest) -> WindowTools:
        access = self.tools.access
        return WindowTools(
            clock=self.tools.clock,
            me=self.tools.me,
            book=self.book,
            launcher=self.tools.launcher,
            thawer=Thawer(build_ladder(access, guest, ahead=True), thawing_of(self.tools.config), self.tools.clock),
            freezing=ApiChannel(access.main, guest),
            gate=self.tools.gate,
        )

    def _close(self, window: SnapshotWindow, verdict: Verdict, stage: str | None, word: str | None) -> None:
        window.close(verdict, stage, word)
        self.is_closed = True
        self.result.warnings += window.unrecorded
        window.unrecorded.clear()

    def report(self) -> None:
        """Metrics last: they change nothing."""
        if self.request.dry_run:
            return
        problems = self.book.publish(self.tools.publish)
        self.result.warnings += [*problems, *folder_lines(self.tools.config)]
        if problems or self.book.failed:
            not_recorded(self.result)
