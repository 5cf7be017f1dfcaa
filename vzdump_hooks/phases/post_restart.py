"""post-restart, the last call before the archive: start the holder, wait for its word, return with the guest frozen.

Imports little: the holder does what needs PVE.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
from pathlib import Path

from snapshot.base import detached
from snapshot.base.clock import SystemClock
from snapshot.base.procfs import ProcessIdentity
from snapshot.config.settings import Config, FreezeOwner
from snapshot.errors import ApiError, JournalError
from snapshot.guard.launcher import uses_systemd
from snapshot.journal.file import PATIENCE_SECONDS
from snapshot.journal.record import WindowRecord
from snapshot.journal.series import local_name
from snapshot.model import Guest, GuestKind, Node, Owner, Policy, Vmid
from vzdump_hooks.call import Call
from vzdump_hooks.hold.order import HoldOrder, HoldReport
from vzdump_hooks.phases import backup_start
from vzdump_hooks.phases.plan import Plan, find_plan, leave_plan, plan_without_preflight
from vzdump_hooks.settings import load_config, open_journal
from vzdump_hooks.tasklog.worker import Worker, find_worker

MARGIN_SECONDS = 15.0
"""On top of guard, freeze and thaw: what the holder needs to start and to be believed lost."""


class HolderError(Exception):
    """A holder that gave no report. ``was_ordered``: it had its order by then, and may have frozen. Internal."""

    def __init__(self, text: str, *, was_ordered: bool) -> None:
        super().__init__(text)
        self.was_ordered = was_ordered


def run(call: Call) -> bool:
    """True when policy ``require`` wanted a freeze and there is none: this guest's backup fails."""
    invocation = call.invocation
    if not invocation.freezes or invocation.vmid is None:
        return False
    config = load_config(call.config_path)
    worker = find_worker(config)
    early = find_plan(config, worker, invocation.vmid)
    plan = early or _examine_again(call, config)
    if plan is None:
        return True
    is_required = plan.policy is Policy.REQUIRE
    if plan.obstacle and is_required:
        call.say(f"ERROR: policy require, and this guest cannot be frozen: {plan.obstacle}")
        return True
    if plan.left_alone:
        return False  # vzdump will not freeze it either
    if call.commands and _is_vetoed(call, config, plan, worker):
        return True
    report = _hold(call, config, worker, plan)
    call.say(_line(report, plan, was_said=early is not None))
    return is_required and not report.held


def _is_vetoed(call: Call, config: Config, plan: Plan, worker: Worker) -> bool:
    """By an own command of the administrator's; from here on none runs until the guest is thawed."""
    from vzdump_hooks import own  # noqa: PLC0415 - 2 ms and 8 modules, only where there are any

    return own.before_freeze(call, config, plan.policy, worker)


def _line(report: HoldReport, plan: Plan, *, was_said: bool) -> str:
    if report.held or (plan.chosen and report.watched):
        return report.message
    if was_said and plan.obstacle and report.watched:
        return "should vzdump come to freeze by itself, it is watched"  # what is wrong was said at backup-start
    unseen = "" if report.watched or plan.policy is Policy.REQUIRE else "vzdump may freeze by itself unseen: "
    return f"WARNING: {unseen}{report.message}"


def _examine_again(call: Call, config: Config) -> Plan | None:
    """backup-start could not examine the guest: its own option, or a rule by tag or pool, may say not to freeze it.

    None: policy ``require`` cannot be met, as was said. Where PVE still does not answer, vzdump's freeze is watched.
    """
    vmid = call.invocation.vmid or 0
    try:
        plan, failed = backup_start.prepare(call, config, vmid)
    except ApiError as error:
        plan = plan_without_preflight(config, vmid)
        return plan._replace(obstacle=plan.obstacle or f"not frozen by us: {error}")
    return None if failed else plan


def _hold(call: Call, config: Config, worker: Worker, plan: Plan) -> HoldReport:
    """Start the holder and wait for its one report; another one, and without systemd, when it gives none.

    Where none comes, and a guest may be frozen with nobody to see it, the journal has a window for `recover`.
    """
    order = _order(call, worker, plan)
    try:
        try:
            report = _ask_holder(call, config, order, by_systemd=uses_systemd(config))
        except HolderError as lost:
            if lost.was_ordered:
                why = f"the holder of the freeze did not report ({lost})"
                order = order._replace(not_ours_because=why, unclear=not order.not_ours_because)
                with contextlib.suppress(JournalError):  # without a journal no window in it can be closed too early
                    leave_plan(config, worker, order.vmid, plan._replace(unclear=True, at=SystemClock().time()))
            report = _ask_holder(call, config, order, by_systemd=False)
    except HolderError as lost:
        why = order.not_ours_because or "the holder of the freeze cannot be started"
        report = HoldReport(False, f"{why}, nor does another one ({lost})")
    if report.held or report.watched or order.required:
        return report
    return report._replace(message=f"{report.message}; {_leave_to_recover(config, worker, order)}")


def _order(call: Call, worker: Worker, plan: Plan) -> HoldOrder:
    return HoldOrder(
        vmid=call.invocation.vmid or 0,
        freezes_itself=plan.owner is FreezeOwner.HOOK,
        node=worker.upid.node if worker.upid else local_name(),
        upid=worker.upid.text if worker.upid else "",
        job=worker.job,
        log=str(worker.log) if worker.log else "",
        worker_pid=worker.pid,
        worker_start=worker.start,
        freeze_timeout_seconds=plan.freeze_timeout_seconds,
        max_window_seconds=plan.max_window_seconds,
        guest_name=call.invocation.guest_name,
        source=worker.source,
        required=plan.policy is Policy.REQUIRE,
        not_ours_because=f"not frozen by us ({plan.obstacle})" if plan.chosen else plan.obstacle,
        chosen=plan.chosen,
        found_frozen=plan.found_frozen,
        at_the_knock=plan.at_the_knock,
    )


def _ask_holder(call: Call, config: Config, order: HoldOrder, *, by_systemd: bool) -> HoldReport:
    """Start a holder, give it the order, and wait for its report. Raises HolderError."""
    patience = (
        2 * config.guard.arm_timeout_seconds  # the freeze's guard, and the watch's where that one cannot be armed
        + min(order.freeze_timeout_seconds, order.max_window_seconds)
        + config.thaw.owner_limit_seconds
        + PATIENCE_SECONDS  # the holder's, for the journal
        + MARGIN_SECONDS
    )
    was_ordered = False
    try:
        address = detached.new_address(f"{order.vmid}-{order.worker_pid}")
        with detached.listen(address) as listener:
            process = _start(call.config_path, config, order, address, by_systemd=by_systemd)
            with detached.accept_from(process, listener, config.guard.arm_timeout_seconds, SystemClock()) as connection:
                connection.settimeout(patience)
                was_ordered = True
                connection.sendall(order.to_json().encode() + b"\n")
                report = HoldReport.from_json(detached.read_line(connection))
                connection.sendall(b"k")  # taken: from here on our end does not end the window
                return report
    except (OSError, subprocess.SubprocessError, ValueError, TypeError, json.JSONDecodeError) as error:
        words: bytes = getattr(error, "stderr", None) or b""  # systemd-run's
        text = " ".join(words[:2000].decode(errors="replace").split()) or str(error)
        raise HolderError(text[:200], was_ordered=was_ordered) from error


def _leave_to_recover(config: Config, worker: Worker, order: HoldOrder) -> str:
    """A window of vzdump's in the journal, which `recover` looks at once its deadline has passed; what was done."""
    guest = Guest(Vmid(order.vmid), Node(order.node), GuestKind.QEMU, name=order.guest_name)
    # The worker freezes, and thaws as long as it lives.
    owner = ProcessIdentity.own()._replace(pid=worker.pid, start=worker.start)
    at, limit = SystemClock().time(), order.max_window_seconds
    record = WindowRecord.begun(guest, Owner.VZDUMP, worker.source, at, owner, limit_seconds=limit)._replace(
        upid=worker.job
    )
    try:
        with contextlib.closing(open_journal(config)) as journal:
            journal.begin(record)
    except JournalError as error:
        return f"`safe-snapshot recover` does not know of it either ({error})"
    return f"`safe-snapshot recover` looks at the guest after {order.max_window_seconds:g} s"


def _start(
    config_path: str | None, config: Config, order: HoldOrder, address: str, *, by_systemd: bool
) -> subprocess.Popen[bytes] | None:
    arguments = ["vzdump_hooks.hold", "--socket", address]
    if config_path is not None:
        arguments += ["--config", str(Path(config_path).absolute())]
    if not by_systemd:
        return detached.start_process(arguments)
    detached.start_unit(
        arguments,
        unit=f"vzdump-hooks-hold-{order.vmid}-{order.worker_pid}",
        description=f"Holds the freeze window of the backup of guest {order.vmid}",
        properties={"SyslogIdentifier": "vzdump-hooks-holder", "OOMScoreAdjust": "-900"},
        timeout_seconds=config.guard.arm_timeout_seconds,
    )
    return None
