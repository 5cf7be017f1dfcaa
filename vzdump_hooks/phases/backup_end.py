"""backup-end and backup-abort: make sure of the thaw, close the window, and with ``require`` fail what was not held."""

from __future__ import annotations

import os
import signal
from contextlib import closing, suppress

from snapshot.base.clock import SystemClock, duration
from snapshot.base.procfs import ProcessIdentity, process_lives
from snapshot.config.settings import Config
from snapshot.errors import JournalError, SafeSnapshotError, StillFrozenError
from snapshot.journal.book import JournalBook
from snapshot.journal.families import CONSISTENT_VERDICTS
from snapshot.journal.record import WindowRecord, was_never_armed
from snapshot.journal.series import local_name
from snapshot.journal.store import Journal
from snapshot.metrics.publish import publish
from snapshot.model import FreezeOutcome, FreezeState, Guest, GuestKind, Node, Owner, Policy, VerdictKind, Vmid
from snapshot.pve import remedies
from snapshot.states import State
from vzdump_hooks.call import Call, Mode, Phase
from vzdump_hooks.phases.plan import (
    Plan,
    end_backup,
    find_plan,
    note_failed,
    plan_without_preflight,
    windows_of_backup,
)
from vzdump_hooks.settings import load_config, open_journal
from vzdump_hooks.tasklog.worker import Worker, find_worker

VERDICT_SECONDS = 20.0
"""How long the holder may take to write its verdict after the backup's end; it has nothing else to do by then."""

HINT_SECONDS = 1.0
"""After how long a process that only follows vzdump's freeze is told: one that has a log to follow needs it not."""

NO_BACKUP = "backup-failed"
"""The failure of a window whose backup came to nothing in the end."""


def run(call: Call) -> bool:
    """True when policy ``require`` wanted a window that held, and it did not. The archive is kept by vzdump."""
    if call.invocation.vmid is None:
        return False
    config = load_config(call.config_path)
    try:
        return _end(call, config, call.invocation.vmid)
    except JournalError:
        if call.invocation.freezes:
            _ask_without_journal(call, config, call.invocation.vmid)
        raise


def _end(call: Call, config: Config, vmid: int) -> bool:
    invocation = call.invocation
    worker = find_worker(config)
    plan = find_plan(config, worker, vmid)
    known = plan or plan_without_preflight(config, vmid)
    is_unclear = plan is None or plan.unclear
    aborted = invocation.phase is Phase.BACKUP_ABORT
    with closing(open_journal(config)) as journal:
        window = _closed_by_holder(journal, worker, vmid)
        for earlier in windows_of_backup(journal, worker, vmid)[1:]:
            if _still_open(earlier) and not process_lives(earlier.owner_pid, earlier.owner_pid_start):
                _thaw(call, config, earlier, is_unclear=is_unclear)
        if aborted:
            _note_failed(call, journal, worker)
        is_refused = aborted and plan is not None and _is_refused(call, plan)
        is_new = window is None and (not aborted or is_refused)
        if is_new:
            window = _without_window(call, journal, worker, known)
        elif window is not None and _still_open(window):
            window = _thaw(call, config, window, is_unclear=is_unclear) or window
        elif window is not None and aborted and plan is not None:
            window = _without_backup(journal, window)
            is_new = True
        if plan is not None or window is not None:
            _done(call, journal, worker, window if window is None or not _still_open(window) else None)
        if is_new:
            _publish(config, journal, call)
    if window is None or (aborted and plan is None and not _still_open(window)):
        return False  # said at backup-end, which failed this backup
    call.say(describe(window))
    if call.commands:
        from vzdump_hooks import own  # noqa: PLC0415 - 5 ms and 18 modules, only where there are any

        own.verdict(call, config, known.policy, worker, window)
    missed = known.policy is Policy.REQUIRE and invocation.is_qemu and has_failed(window)
    if missed and not aborted:
        call.say("ERROR: policy require: the backup is kept, but reported as failed, for it is not proven consistent")
        return True
    return False


def _ask_without_journal(call: Call, config: Config, vmid: int) -> None:
    """Whoever held or watched the window has thawed the guest, or could not: nothing but the guest tells us."""
    # 80 ms and 247 modules, only when the journal fails
    from snapshot.pve.access import open_access  # noqa: PLC0415
    from snapshot.recovery.frozen import guest_state  # noqa: PLC0415

    with suppress(SafeSnapshotError):
        access = open_access(config, SystemClock())
        guest = Guest(Vmid(vmid), Node(access.local_node), GuestKind.QEMU, running=True)
        if guest_state(guest, access) is FreezeState.FROZEN:
            call.say(f"WARNING: guest {vmid} MAY STILL BE FROZEN: run `safe-snapshot thaw {vmid}`")


def describe(window: WindowRecord) -> str:
    """The one line about a backup. An alarm comes first: a long line is cut at its end."""
    verdict = f"{worth(window)}: {window.reason}" if window.verdict else "no verdict: its window is still open"
    if window.closed_at is None and window.state == State.STUCK.value:
        remedy = remedies.of_stuck(window.vmid, window.thaw_detail)
        return f"WARNING: guest {window.vmid} MAY STILL BE FROZEN: {remedy}; {verdict}"
    span = window.window_seconds if _may_have_been_frozen(window) else None
    held = "frozen for" if _was_frozen(window) else "window"
    frozen = f", {held} {duration(span)}" if span is not None else ""
    level = "WARNING: " if has_failed(window) else ""  # what the operator chose is no failure
    return f"{level}guest {window.vmid}{frozen}: {verdict}"


def worth(window: WindowRecord) -> str:
    """What the backup may be called. One that failed has no archive, so nothing that could be consistent."""
    return "no backup" if is_without_backup(window) else window.verdict or VerdictKind.UNKNOWN.value


def is_without_backup(window: WindowRecord) -> bool:
    """Whether nothing came of the backup: it failed after its point in time, or ``require`` refused it before."""
    was_refused = window.failure_stage == "preflight" and window.verdict == VerdictKind.UNKNOWN.value
    return was_refused or window.failure_reason == NO_BACKUP


def _was_frozen(window: WindowRecord) -> bool:
    """Whether an agent said so. vzdump's log tells that it asked for a freeze, not what came of it."""
    said = window.freeze_outcome == FreezeOutcome.ACKNOWLEDGED.value and window.owner != Owner.VZDUMP.value
    return said or bool(window.filesystems_thawed) or window.verdict in CONSISTENT_VERDICTS


def _may_have_been_frozen(window: WindowRecord) -> bool:
    """Whether anything was frozen in the window, or may have been, by whoever."""
    return bool(window.filesystems_thawed) or window.freeze_outcome in (
        FreezeOutcome.ACKNOWLEDGED.value,
        FreezeOutcome.UNKNOWN.value,
    )


def has_failed(window: WindowRecord) -> bool:
    """Whether the backup is not what was wanted. One that was not to be frozen, or has no disks, has not."""
    return window.verdict is None or (window.verdict not in CONSISTENT_VERDICTS and window.failure_stage is not None)


def _closed_by_holder(journal: Journal, worker: Worker, vmid: int) -> WindowRecord | None:
    """This backup's window, once its holder has written its verdict or is dead."""
    clock = SystemClock()
    now = clock.monotonic()
    deadline, hint_at = now + VERDICT_SECONDS, now + HINT_SECONDS
    while True:
        window = next(iter(windows_of_backup(journal, worker, vmid)), None)
        if window is None or not _still_open(window) or clock.monotonic() >= deadline:
            return window
        if window.owner_pid == worker.pid:
            return window  # nobody followed it: see post_restart
        if not process_lives(window.owner_pid, window.owner_pid_start):
            return journal.get(window.id)  # its last word may have come just now
        if window.owner == Owner.VZDUMP.value and clock.monotonic() >= hint_at:
            # It follows no log: nothing but this tells it that the backup is over.
            hint_at = deadline
            with suppress(ProcessLookupError):
                os.kill(window.owner_pid, signal.SIGTERM)
        clock.sleep(0.05)


def _still_open(window: WindowRecord) -> bool:
    """No verdict yet. A window that only waits for a late freeze has one."""
    return window.closed_at is None and window.verdict is None


def _thaw(call: Call, config: Config, window: WindowRecord, *, is_unclear: bool) -> WindowRecord | None:
    """The holder is gone or hangs: thaw here. ``is_unclear``: its freeze may still come, so the window stays."""
    # 98 ms and 264 modules, only when a window was left open
    from snapshot.pve.access import open_access  # noqa: PLC0415
    from snapshot.recovery.settle import close_recovered, settle  # noqa: PLC0415
    from snapshot.thaw.rescue import thaw_now  # noqa: PLC0415

    access = open_access(config, SystemClock())
    book = JournalBook(lambda: open_journal(config))
    try:
        report = None if was_never_armed(window) else thaw_now(window.guest, access)
        how = (f"thawed, {report.how}") if report else "it had not frozen anything"
        if report is not None and is_unclear and settle(book, window, report, access, ProcessIdentity.own()) > 0:
            how += "; a freeze whose answer was lost may still come: `safe-snapshot recover` watches for it"
        else:
            close_recovered(book, window, report, access.clock)
        is_unmanned = window.owner == Owner.VZDUMP.value and window.guard_pid is None
        who = "nobody followed vzdump's freeze" if is_unmanned else "the holder of its window died"
        call.say(f"guest {window.vmid}: {who}; {how}")
    except StillFrozenError as error:
        call.say(f"ERROR: {error}")
        with suppress(JournalError):
            stuck = {"failure_stage": "thaw", "failure_reason": "no-answer", "thaw_detail": error.message}
            book.update(window.id, state=State.STUCK.value, **stuck)
    except SafeSnapshotError as error:
        call.say(f"ERROR: {error}")
    else:
        _send_home(window)
    return book.journal.get(window.id)


def _send_home(window: WindowRecord) -> None:
    """vzdump's freeze is over: a guard that went on looking for it would only thaw other people's."""
    guard = window.guard_pid
    if window.owner == Owner.VZDUMP.value and guard and process_lives(guard, window.guard_pid_start):
        with suppress(ProcessLookupError):
            os.kill(guard, signal.SIGTERM)


def _without_backup(journal: Journal, window: WindowRecord) -> WindowRecord:
    """The backup failed after its point in time: whatever the window was worth, there is no backup to be worth it."""
    if window.verdict not in CONSISTENT_VERDICTS:
        return window
    journal.update(
        window.id,
        verdict=VerdictKind.UNKNOWN.value,
        reason="there is no backup: it failed after its point in time, whose window had been good",
        failure_stage="snapshot",
        failure_reason=NO_BACKUP,
    )
    return journal.get(window.id) or window


def _is_refused(call: Call, plan: Plan) -> bool:
    """Whether policy ``require`` failed this backup before it began: a failure that history and metrics shall know."""
    is_wanted = call.invocation.is_qemu and call.invocation.mode is not Mode.STOP
    return is_wanted and plan.policy is Policy.REQUIRE and bool(plan.obstacle)


def _without_window(call: Call, journal: Journal, worker: Worker, plan: Plan) -> WindowRecord:
    """A backup without a window gets its verdict recorded too: history and metrics shall be whole.

    One that should have been frozen and could not be is a failure, as it is for safe-snapshot.
    """
    invocation, now = call.invocation, SystemClock().time()
    stage = word = None
    if invocation.phase is Phase.BACKUP_ABORT:
        kind, reason = VerdictKind.UNKNOWN, f"policy require, and it could not be frozen: {plan.obstacle}"
        stage, word = "preflight", plan.obstacle_name
    elif invocation.mode is Mode.STOP:
        kind, reason = VerdictKind.OFFLINE, "the guest was shut down, or had been, when the backup began"
    elif not invocation.is_qemu and invocation.vm_type != GuestKind.LXC.value:
        kind, reason = VerdictKind.UNKNOWN, "vzdump did not say what kind of guest it is (VMTYPE): it was left alone"
        stage, word = "guard", "not-started"
    elif not invocation.is_qemu:
        kind, reason = VerdictKind.CRASH_CONSISTENT, "a container: nothing proves more"
    elif invocation.mode is Mode.SUSPEND:
        kind, reason = VerdictKind.CRASH_CONSISTENT, "mode suspend: paused, not frozen"
    else:
        kind = VerdictKind.CRASH_CONSISTENT
        reason = f"not frozen by us: {plan.obstacle}" if plan.obstacle else "not frozen by us"
        if plan.obstacle_name and not plan.chosen:
            stage, word = "preflight", plan.obstacle_name
        elif not plan.obstacle:
            stage, word = "guard", "not-started"  # post-restart said why
    guest = Guest(
        vmid=Vmid(invocation.vmid or 0),
        node=Node(worker.upid.node if worker.upid else local_name()),
        kind=GuestKind.QEMU if invocation.is_qemu else GuestKind.LXC,
        name=invocation.guest_name,
    )
    record = WindowRecord.begun(guest, Owner.VZDUMP, worker.source, now, ProcessIdentity.own())._replace(
        state=State.THAWED.value,
        upid=worker.job,
        verdict=kind.value,
        reason=reason,
        failure_stage=stage,
        failure_reason=word,
        closed_at=now,
    )
    try:
        journal.begin(record)
    except JournalError as error:
        call.say(f"WARNING: {error}")
    return record


def _done(call: Call, journal: Journal, worker: Worker, window: WindowRecord | None) -> None:
    try:
        end_backup(journal, worker, call.invocation.vmid or 0, window, SystemClock().time())
    except JournalError as error:
        call.say(f"WARNING: {error}")


def _note_failed(call: Call, journal: Journal, worker: Worker) -> None:
    """For the job's last word; a container's backup too, and one that failed before ours began."""
    try:
        note_failed(journal, worker, call.invocation.vmid or 0, SystemClock().time())
    except JournalError as error:
        call.say(f"WARNING: {error}")


def _publish(config: Config, journal: Journal, call: Call) -> None:
    for problem in publish(config, journal, SystemClock()):
        call.say(f"metrics: {problem}")
