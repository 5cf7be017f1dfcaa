"""backup-start: the preflight. Heals a guest that was left frozen; with ``require`` fails before any work."""

from __future__ import annotations

from contextlib import closing

from snapshot.base.clock import SystemClock
from snapshot.config.settings import Config
from snapshot.errors import JournalError
from snapshot.model import Check, Policy
from vzdump_hooks import trouble
from vzdump_hooks.call import Call, Mode, Phase
from vzdump_hooks.phases.plan import Plan, leave_plan
from vzdump_hooks.settings import load, open_journal
from vzdump_hooks.tasklog.worker import find_worker


def run(call: Call) -> bool:
    """True when policy ``require`` cannot be met: nothing has been done yet."""
    invocation = call.invocation
    if not invocation.is_qemu or invocation.vmid is None:
        return False  # a container is never frozen
    found = load(call.config_path)
    config = found.config
    trouble.broken(invocation.phase, found, call.say)
    if invocation.mode is Mode.STOP and not _may_be_frozen(config, invocation.vmid):
        return False  # off: no freeze is needed
    _, failed = prepare(call, config, invocation.vmid)
    return failed


def prepare(call: Call, config: Config, vmid: int) -> tuple[Plan, bool]:
    """Examine the guest, and leave the plan for later phases; the plan, and whether ``require`` cannot be met.

    Raises ApiError, ConfigError, and, where ``require`` needs the journal, JournalError.
    """
    from vzdump_hooks.phases.planning import examine  # noqa: PLC0415 - 94 ms, and a guest that is off needs none of it

    invocation = call.invocation
    plan, obstacle = examine(config, vmid, invocation.mode, call.say)
    if invocation.mode is Mode.STOP:  # no freeze is needed, but the shutdown of a frozen guest hangs
        if obstacle is not None and obstacle.name == "thawed":
            call.say(f"WARNING: {obstacle.message}; {obstacle.remedy}")
        return plan, False
    needs_freeze = plan.policy is Policy.REQUIRE
    if needs_freeze and obstacle is None and call.commands:
        from vzdump_hooks import own  # noqa: PLC0415 - 37 ms and 68 modules, only where there are any

        obstacle = own.obstacle(call)
        if obstacle is not None:
            plan = plan._replace(obstacle=obstacle.message, obstacle_name=obstacle.name)
    try:
        leave_plan(config, find_worker(config), vmid, plan._replace(at=SystemClock().time()))
    except JournalError as error:
        if needs_freeze:
            raise  # nothing will be frozen without the journal: better now than in post-restart
        if invocation.phase is Phase.BACKUP_START:  # post-restart says so itself
            call.say(f"WARNING: {error}; without the journal we do not freeze")
    if obstacle is None or plan.policy is Policy.NEVER:
        return plan, False
    call.say(_line(obstacle, plan))
    return plan, needs_freeze


def _may_be_frozen(config: Config, vmid: int) -> bool:
    """Whether the guest runs here with an agent's channel, or an earlier run may have left it frozen."""
    if (config.local.socket_folder / f"{vmid}.qga").exists():
        return True
    with closing(open_journal(config)) as journal:
        return bool(journal.open_windows(vmid))


def _line(obstacle: Check, plan: Plan) -> str:
    remedy = f"; {obstacle.remedy}" if obstacle.remedy else ""
    if plan.policy is Policy.REQUIRE:
        other = "; or give this guest policy prefer or never" if plan.chosen else ""
        return f"ERROR: policy require, and this guest cannot be frozen: {obstacle.message}{remedy}{other}"
    if plan.chosen:
        return f"left alone: {obstacle.message}" if plan.left_alone else f"not frozen by us: {obstacle.message}{remedy}"
    return f"WARNING: this backup will be crash-consistent: {obstacle.message}{remedy}"
