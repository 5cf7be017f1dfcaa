"""post-restart, the last call before the archive: start the holder, wait for its word, return with the guest frozen.

Imports little: the holder does what needs PVE.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
from pathlib import Path

from snapshot.clock import SystemClock
from snapshot.config import Config
from snapshot.errors import ApiError, JournalError
from snapshot.journal import PATIENCE_SECONDS
from snapshot.model import Policy
from snapshot.window import detached
from snapshot.window.launcher import uses_systemd
from vzdump_hooks import notes
from vzdump_hooks.dispatch import Call
from vzdump_hooks.order import HoldOrder, HoldReport
from vzdump_hooks.settings import load_config
from vzdump_hooks.worker import Worker, find_worker

MARGIN_SECONDS = 15.0
"""On top of guard, freeze and thaw: what the holder needs to start and to be believed lost."""

LOOK_SECONDS = 0.25
"""How often a holder that has not connected yet is looked at: one that died at once is noticed at once."""


def run(call: Call) -> bool:
    """True when policy ``require`` wanted a freeze and there is none: this guest's backup fails."""
    invocation = call.invocation
    if not invocation.freezes or invocation.vmid is None:
        return False
    config = load_config(call.config_path)
    worker = find_worker(config)
    early = notes.find(config, worker, invocation.vmid)
    plan = early or _second_look(call, config)
    if plan is None:
        return True
    is_required = plan.policy is Policy.REQUIRE and not plan.left_alone
    if plan.obstacle and (is_required or not plan.watch):
        return is_required
    if worker.upid is None:
        report = HoldReport(False, "the task of this backup was not found, so its log cannot be followed")
    else:
        report = _hold(call, config, worker, plan)
    if report.held:
        call.say(report.message)
    elif early and plan.obstacle and report.watched:
        call.say("should vzdump come to freeze by itself, it is watched")  # what is wrong was said at backup-start
    else:
        rest = "" if report.watched or is_required else "; vzdump may still freeze by itself, and nobody watches it"
        call.say(f"WARNING: {report.message}{rest}")
    return is_required and not report.held


def _second_look(call: Call, config: Config) -> notes.Plan | None:
    """backup-start could not look at the guest: its own option, or a rule by tag or pool, may say not to freeze it.

    None: policy ``require`` cannot be met, as was said. Where PVE still does not answer, vzdump's freeze is watched.
    """
    from vzdump_hooks.phases import backup_start  # noqa: PLC0415 - heavy, and hardly ever needed

    vmid = call.invocation.vmid or 0
    try:
        plan, failed = backup_start.prepare(call, config, vmid)
    except ApiError as error:
        plan = notes.plan_without_preflight(config, vmid)
        return plan._replace(obstacle=plan.obstacle or f"not frozen by us: {error}", watch=not plan.obstacle)
    return None if failed else plan


def _hold(call: Call, config: Config, worker: Worker, plan: notes.Plan) -> HoldReport:
    """Start the holder and wait for its one report."""
    vmid, clock = call.invocation.vmid or 0, SystemClock()
    order = HoldOrder(
        vmid=vmid,
        owner=plan.owner.value,
        node=worker.upid.node if worker.upid else "",
        upid=worker.upid.text if worker.upid else "",
        log=str(worker.log) if worker.log else "",
        worker_pid=worker.pid,
        worker_start=worker.start,
        freeze_timeout_seconds=plan.freeze_timeout_seconds,
        max_window_seconds=plan.max_window_seconds,
        guest_name=call.invocation.guest_name,
        required=plan.policy is Policy.REQUIRE,
        not_ours_because=plan.obstacle,
    )
    patience = (
        config.guard.arm_timeout_seconds
        + min(plan.freeze_timeout_seconds, plan.max_window_seconds)
        + config.thaw.owner_limit_seconds
        + PATIENCE_SECONDS  # the holder's, for the journal
        + MARGIN_SECONDS
    )
    address = detached.new_address(f"{vmid}-{worker.pid}")
    try:
        with detached.listen(address) as listener:
            process = _start(config, call.config_path, vmid, worker, address)
            deadline = clock.monotonic() + config.guard.arm_timeout_seconds
            while True:
                try:
                    connection = detached.accept(listener, LOOK_SECONDS, clock)
                    break
                except TimeoutError:
                    if process is not None and process.poll() is not None:
                        raise ChildProcessError(f"it ended with {process.returncode}") from None
                    if clock.monotonic() >= deadline:
                        raise
            with connection:
                connection.settimeout(patience)
                connection.sendall(order.to_json().encode() + b"\n")
                report = HoldReport.from_json(detached.read_line(connection))
                connection.sendall(b"k")  # taken: from here on our end does not end the window
                return report
    except (OSError, subprocess.SubprocessError, ValueError, TypeError, json.JSONDecodeError) as error:
        words: bytes = getattr(error, "stderr", None) or b""  # systemd-run's
        why = words.decode(errors="replace").strip() or str(error)
        with contextlib.suppress(JournalError):  # without a journal there is no window in it that could be closed early
            notes.leave(config, worker, vmid, plan._replace(unclear=True, at=clock.time()))
        return HoldReport(False, f"the holder of the freeze did not report ({why}); its guard thaws what it froze")


def _start(
    config: Config, config_path: str | None, vmid: int, worker: Worker, address: str
) -> subprocess.Popen[bytes] | None:
    arguments = ["vzdump_hooks.holder", "--socket", address]
    if config_path is not None:
        arguments += ["--config", str(Path(config_path).absolute())]
    if not uses_systemd(config):
        return detached.start_process(arguments)
    detached.start_unit(
        arguments,
        unit=f"vzdump-hooks-hold-{vmid}-{worker.pid}",
        description=f"Holds the freeze window of the backup of guest {vmid}",
        properties={"SyslogIdentifier": "vzdump-hooks-holder", "OOMScoreAdjust": "-900"},
        timeout_seconds=config.guard.arm_timeout_seconds,
    )
    return None
