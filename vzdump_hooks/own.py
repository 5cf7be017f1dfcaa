"""The administrator's own commands in a backup: vzdump's phases as vzdump calls them, ours beside them, and what a
failure means. How one is run, and which count, is snapshot/commands/.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from snapshot.base.signals import SignalGate
from snapshot.commands.document import BEFORE_FREEZE, OURS_UNKNOWN, VERDICT, Source, Told, ToldGuest
from snapshot.commands.folder import find
from snapshot.commands.runner import Outcome, run_commands
from snapshot.config.settings import Config
from snapshot.errors import ConfigError, InterruptedBySignalError
from snapshot.journal.record import WindowRecord, may_be_frozen
from snapshot.journal.series import local_name
from snapshot.model import Check, CheckResult, GuestKind, Policy, VerdictKind
from vzdump_hooks import trouble
from vzdump_hooks.call import Call, Mode, Phase
from vzdump_hooks.settings import load_config
from vzdump_hooks.tasklog.worker import Worker

FAILS_BACKUP = "this guest's backup fails"
WARNS = "vzdump warns of it, and goes on"
MEANS: Mapping[Phase, str] = {
    Phase.JOB_INIT: "this job fails",
    Phase.JOB_START: "this job fails",
    Phase.BACKUP_START: FAILS_BACKUP,
    Phase.PRE_STOP: FAILS_BACKUP,
    Phase.PRE_RESTART: FAILS_BACKUP,
    Phase.POST_RESTART: FAILS_BACKUP,
    Phase.BACKUP_END: "this guest is reported as failed, its backup is kept",
    Phase.BACKUP_ABORT: WARNS,
    Phase.LOG_END: WARNS,
    Phase.JOB_END: "this job is reported as failed",
    Phase.JOB_ABORT: WARNS,
}
"""What vzdump makes of exit status 1 (PVE/VZDump.pm); the first that fails before a backup ends its phase."""

BEFORE_BACKUP = frozenset({
    Phase.JOB_INIT, Phase.JOB_START, Phase.BACKUP_START, Phase.PRE_STOP, Phase.PRE_RESTART, Phase.POST_RESTART,
})  # fmt: skip
CLEAN_UP = frozenset({Phase.PRE_RESTART, Phase.POST_RESTART})
"""Behind the archive in the modes that stop a guest: a failure is only warned of."""


def vzdumps_phase(call: Call, arguments: Sequence[str], *, is_known: bool = True) -> bool:
    """One of vzdump's phases; True when a command failed, which vzdump is to be told by exit status 1.

    One that is refused is told once in the job's log and once in each guest's. Whether it fails one: see obstacle.
    """
    phase = call.invocation.phase if is_known else None
    outcomes = _run(call, arguments[0], arguments[1:], until_failure=phase in BEFORE_BACKUP)
    if outcomes is None:
        return True
    means = MEANS[phase] if phase else "vzdump says what that means"
    if phase in CLEAN_UP and call.invocation.mode in (Mode.STOP, Mode.SUSPEND) and call.invocation.is_qemu:
        means = WARNS
    failed = [outcome for outcome in outcomes if outcome.problem and not outcome.is_refused]
    for outcome in failed:
        call.say(f"{'WARNING' if means == WARNS else 'ERROR'}: own command {outcome}; {means}")
    for outcome in outcomes:
        if outcome.is_refused and phase in trouble.SAID_IN:
            call.say(f"WARNING: own command {outcome}")
    return bool(failed)


def obstacle(call: Call) -> Check | None:
    """One that is refused keeps a guest whose policy is ``require`` from being backed up: found in backup-start, before
    any work, once PVE has told which rules hold for the guest.
    """
    found = next((one for one in find(Path(call.commands), os.geteuid()) if one.refused), None)
    if found is None:
        return None
    return Check(BEFORE_FREEZE, CheckResult.NO_FREEZE, f"own command {found.name} is not run: {found.refused}")


def before_freeze(call: Call, config: Config, policy: Policy, worker: Worker) -> bool:
    """The last moment before the freeze, ours or vzdump's own. True when policy ``require`` makes a failure a veto."""
    told = _told(call, policy, worker)
    is_required = policy is Policy.REQUIRE
    outcomes = _run(call, BEFORE_FREEZE, (), told, config, until_failure=is_required)
    if outcomes is None:
        return True
    failed = [outcome for outcome in outcomes if outcome.problem and not outcome.is_refused]
    for outcome in failed:
        means = f"policy require: {FAILS_BACKUP}" if is_required else "the backup goes on"
        level = "ERROR" if is_required else "WARNING"
        call.say(f"{level}: own command {outcome} in {BEFORE_FREEZE}; {means} ({OURS_UNKNOWN})")
    return is_required and bool(failed)


def verdict(call: Call, config: Config, policy: Policy, worker: Worker, window: WindowRecord) -> None:
    """The backup's verdict stands, and its guest is thawed. A failure is told, and changes nothing."""
    told = _told(call, policy, worker)._replace(
        verdict=VerdictKind(window.verdict) if window.verdict else VerdictKind.UNKNOWN,
        reason=window.reason or "its window is still open",
        window_seconds=window.window_seconds,
        may_still_be_frozen=may_be_frozen(window),
    )
    for outcome in _run(call, VERDICT, (), told, config) or ():
        if outcome.problem and not outcome.is_refused:
            call.say(f"WARNING: own command {outcome} in {VERDICT}; the verdict stands ({OURS_UNKNOWN})")


def _told(call: Call, policy: Policy, worker: Worker) -> Told:
    invocation = call.invocation
    kind = GuestKind.QEMU if invocation.is_qemu else GuestKind.LXC
    node = worker.upid.node if worker.upid else local_name()
    guest = ToldGuest(invocation.vmid or 0, invocation.guest_name, node, kind)
    return Told(Source.BACKUP, guest, policy, task=worker.upid.text if worker.upid else None)


def _run(
    call: Call,
    phase: str,
    arguments: Sequence[str],
    told: Told | None = None,
    config: Config | None = None,
    *,
    until_failure: bool = False,
) -> list[Outcome] | None:
    """None: a signal ended us, and the command with us. vzdump sends one when its job is stopped."""
    gate = SignalGate()
    try:
        with gate.open():
            return run_commands(
                Path(call.commands),
                phase,
                arguments,
                call.environment,
                told.as_json() if told else None,
                say=call.say,
                timeout_seconds=(config or _config(call)).commands.timeout_seconds,
                until_failure=until_failure,
            )
    except InterruptedBySignalError as signalled:
        call.say(f"ERROR: {signalled.message} in phase {phase}, and with us the own command that was running")
        return None
    finally:
        gate.restore()


def _config(call: Call) -> Config:
    try:
        return load_config(call.config_path)
    except ConfigError:
        return Config()  # trouble says so
