"""The administrator's own commands around a snapshot: before the freeze, and when the verdict stands."""

from __future__ import annotations

from contextlib import nullcontext

from snapshot.commands.document import BEFORE_FREEZE, ENVIRONMENT, OURS_UNKNOWN, VERDICT, Source, Told, ToldGuest
from snapshot.commands.runner import Outcome, run_commands
from snapshot.errors import Failure, InterruptedBySignalError, NotConsistentError
from snapshot.model import Check, CheckResult, Guest, Policy, VerdictKind
from snapshot.take.examine import record_refusal
from snapshot.take.request import frozen_seconds
from snapshot.take.run import Run


def before_freeze(run: Run, guest: Guest) -> None:
    """The last moment before a freeze, ours or PVE's own. With policy ``require`` a failure, and one that is refused,
    is a veto: NotConsistentError. Otherwise it is a warning.
    """
    is_required = run.policy is Policy.REQUIRE
    with run.tools.gate.open():
        outcomes = _call(run, BEFORE_FREEZE, _told(run, guest), until_failure=is_required)
    problems = [outcome for outcome in outcomes if outcome.problem]
    if is_required and problems:
        last = problems[-1]
        when, hint = ("", "") if last.is_refused else (f" in {BEFORE_FREEZE}", f" ({OURS_UNKNOWN})")
        obstacle = Check(BEFORE_FREEZE, CheckResult.NO_FREEZE, f"own command {last}", hint.strip(" ()"))
        record_refusal(run, guest, obstacle)
        raise NotConsistentError(
            f"guest {guest.vmid} is not frozen, {obstacle.message}{when}",
            remedy=f"mend it, or take it out of the folder {run.tools.commands}{hint}",
        )
    run.warnings += [outcome.line(BEFORE_FREEZE) for outcome in problems]


def verdict(run: Run, error: Failure | None) -> None:
    """The run is over, and its guest thawed. A failure is a warning, and changes nothing."""
    guest, window = run.guest, run.window
    if guest is None or run.request.dry_run:
        return
    known = run.verdict
    told = _told(run, guest)._replace(
        verdict=known.kind if known else VerdictKind.UNKNOWN,
        reason=known.reason if known else error.message if error else "",
        window_seconds=frozen_seconds(window.reply, window.times) if window else None,
        may_still_be_frozen=window is not None and window.may_be_frozen,
    )
    # A signal that has ended the run must not keep them from bringing back what they had stopped.
    is_interrupted = isinstance(error, InterruptedBySignalError)
    try:
        with nullcontext() if is_interrupted else run.tools.gate.open():
            outcomes = _call(run, VERDICT, told)
    except InterruptedBySignalError as signalled:
        run.warnings.append(f"{signalled.message} while own commands ran")
        return
    run.warnings += [one.line(VERDICT) for one in outcomes if one.problem and not _is_told(run, one)]


def _is_told(run: Run, outcome: Outcome) -> bool:
    return outcome.is_refused and outcome.line(BEFORE_FREEZE) in run.warnings


def _told(run: Run, guest: Guest) -> Told:
    upid = run.snapshot.upid if run.snapshot else None
    return Told(
        Source.SNAPSHOT,
        ToldGuest(guest.vmid, guest.name, guest.node, guest.kind),
        run.policy,
        task=upid.text if upid else None,
        snapshot=run.name,
    )


def _call(run: Run, phase: str, told: Told, *, until_failure: bool = False) -> list[Outcome]:
    tools = run.tools
    if tools.commands is None:
        return []
    return run_commands(
        tools.commands,
        phase,
        (),
        ENVIRONMENT,
        told.as_json(),
        say=tools.say,
        timeout_seconds=tools.config.commands.timeout_seconds,
        until_failure=until_failure,
    )
