"""backup-start: the preflight. Heals a guest that was left frozen; with ``require`` fails before any work."""

from __future__ import annotations

from contextlib import closing

from snapshot.clock import SystemClock
from snapshot.config import Config
from snapshot.errors import JournalError
from snapshot.journal import Journal
from snapshot.model import Check, Policy
from vzdump_hooks import notes
from vzdump_hooks.dispatch import Call
from vzdump_hooks.invocation import Mode
from vzdump_hooks.settings import load_config
from vzdump_hooks.worker import find_worker


def run(call: Call) -> bool:
    """True when policy ``require`` cannot be met: nothing has been done yet."""
    invocation = call.invocation
    if not invocation.is_qemu or invocation.vmid is None:
        return False  # a container is never frozen
    config = load_config(call.config_path)
    if invocation.mode is Mode.STOP and not _may_be_ours(config, invocation.vmid):
        return False  # off, or shut down before its backup: no freeze is needed
    from vzdump_hooks.preflight import look  # noqa: PLC0415 - requests is slow to import

    found = look(config, invocation.vmid, invocation.mode, call.say)
    if invocation.mode is Mode.STOP:
        return False
    plan, obstacle = found.plan, found.obstacle
    try:
        notes.leave(config, find_worker(config), invocation.vmid, plan._replace(at=SystemClock().time()))
    except JournalError as error:
        if plan.policy is Policy.REQUIRE and not plan.left_alone:
            raise  # nothing will be frozen without the journal: better now than in post-restart
        call.say(f"WARNING: {error}; without the journal we do not freeze")
    if obstacle is None or plan.policy is Policy.NEVER:
        return False
    call.say(_line(obstacle, plan))
    return plan.policy is Policy.REQUIRE and not plan.left_alone


def _may_be_ours(config: Config, vmid: int) -> bool:
    """Whether an earlier run may have left this guest frozen: shutting it down would hang."""
    with closing(Journal(config.journal.path)) as journal:
        return bool(journal.open_windows(vmid))


def _line(obstacle: Check, plan: notes.Plan) -> str:
    remedy = f"; {obstacle.remedy}" if obstacle.remedy else ""
    if plan.left_alone:
        return f"left alone: {obstacle.message}"
    if plan.policy is Policy.REQUIRE:
        return f"ERROR: policy require, and this guest cannot be frozen: {obstacle.message}{remedy}"
    return f"WARNING: this backup will be crash-consistent: {obstacle.message}{remedy}"
