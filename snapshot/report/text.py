"""What a command found, as lines for a person and for a log collector. Nothing is decided here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from snapshot.base import logfmt, streams
from snapshot.base.clock import duration
from snapshot.base.streams import Line
from snapshot.base.text import counted, named
from snapshot.journal.looks import Why
from snapshot.model import Check, CheckResult, Health, Owner
from snapshot.preflight.preflight import found_frozen
from snapshot.pve import remedies
from snapshot.recovery import foreign
from snapshot.recovery.overdue import in_vain
from snapshot.recovery.strangers import Recovered
from snapshot.recovery.survey import Survey
from snapshot.take.request import Result

_MARKS = {
    CheckResult.OK: "ok",
    CheckResult.WARNING: "warning",
    CheckResult.NO_FREEZE: "NO FREEZE",
    CheckResult.FAILED: "FAILED",
}


def result_lines(result: Result) -> list[str]:
    """The closing lines of a snapshot run: warnings, then the one line that says it all."""
    lines = [f"warning: {warning}" for warning in dict.fromkeys(result.warnings)]
    if result.plan:
        lines.append(result.plan)
    if result.verdict is not None and result.snapshot_exists:
        frozen = result.frozen_seconds
        span = f", frozen for {duration(frozen)}" if frozen is not None else ""
        name = f"{result.guest.kind.value}/{result.vmid}" if result.guest else str(result.vmid)
        disk = f"; disk: {result.disk.word.value}" if result.disk is not None else ""
        lines.append(f"snapshot {result.name} of {name}{span}: {result.verdict}{disk}")
    if result.error is not None:
        lines.append(f"ERROR: {result.error}")
    return lines


def result_details(result: Result) -> list[str]:
    """What is normal, for those who ask: every check, the window's id, the task and its log."""
    lines = [line for check in result.checks for line in check_lines(check)]
    if result.window_id:
        lines.append(f"window {result.window_id}")
    if result.upid is not None:
        lines.append(f"task {result.upid}")
    lines += [f"  {line}" for line in (result.task.log if result.task else ())]
    return lines


def result_logfmt(result: Result) -> Line:
    """The one closing line of a snapshot run for a log collector."""
    verdict, error = result.verdict, result.error
    line = logfmt.line(
        "snapshot",
        vmid=result.vmid,
        node=result.guest.node if result.guest else None,
        window=result.window_id[:8] if result.window_id else None,
        upid=result.upid.text if result.upid else None,
        snapshot=result.name,
        exists={True: "yes", False: "no", None: "unknown"}[result.snapshot_exists],
        policy=result.policy.value,
        verdict=verdict.kind.value if verdict else None,
        reason=verdict.reason if verdict else None,
        disk=result.disk.word.value if result.disk else None,
        window_seconds=result.times.window_seconds,
        plan=result.plan,
        warnings="; ".join(dict.fromkeys(result.warnings)),
        error=str(error) if error else None,
        exit_code=result.exit_code,
    )
    return Line(line, streams.ERROR if error else streams.WARNING if result.warnings else streams.NOTICE)


def recovered_lines(found: list[Recovered], warnings: list[str]) -> list[str]:
    """What `recover` found, and whether it needs somebody."""
    known = [r for r in found if r.outcome != _NOT_KNOWN]
    lines = [r.line for r in known]
    lines += _unknown_lines([Unknown(r.vmid, r.node, "", r.why) for r in found if r.outcome == _NOT_KNOWN])
    bad = sum(1 for r in known if not r.ok)
    seen = f"{counted(len(known), 'window')} looked at"
    lines.append(f"{seen}, {bad} need you" if known else "no window was left open")
    return lines + [f"warning: {warning}" for warning in warnings]


_NOT_KNOWN = "not-known"

_REASONS = {
    Why.NOT_ASKED.value: "its turn to be asked has not come",
    Why.AGENT_SILENT.value: "its agent does not answer",
    Why.REFUSED.value: "its agent refuses to tell: fsfreeze-status is blocked in the guest",
    Why.DENIED.value: "this token may not ask its agent (docs/privileges.md)",
    Why.NODE_OFFLINE.value: "its node is offline, or does not report",
}

MOST_LINES = 3
"""Guests of which nobody knows get a line each up to so many, and one line a reason beyond."""


class Unknown(NamedTuple):
    """A guest of which nobody knows whether it is frozen."""

    vmid: int
    node: str
    name: str
    why: str
    still_seconds: float | None = None


def _unknown_lines(guests: list[Unknown]) -> list[str]:
    lines: list[str] = []
    by_reason: dict[tuple[str, str], list[Unknown]] = {}
    for guest in guests:
        by_reason.setdefault((guest.node, guest.why), []).append(guest)
    for (node, why), some in by_reason.items():
        reason = _REASONS.get(why, why)
        if len(some) > MOST_LINES:
            vmids = ", ".join(str(guest.vmid) for guest in some)
            lines.append(f"{len(some)} guests on {node}: NOT KNOWN whether frozen, each: {reason}: {vmids}")
            continue
        for guest in some:
            still = guest.still_seconds
            quiet = f", and it has written nothing for {foreign.span(still)}" if still and still >= 60 else ""
            lines.append(f"guest {named(guest.vmid, guest.name)} on {node}: NOT KNOWN whether frozen: {reason}{quiet}")
    return lines


def survey_lines(found: Survey, now: float) -> list[str]:
    """What `status` shows."""
    lines: list[str] = []
    for w in found.windows:
        group = f" of group {w.group_id}" if w.group_id else ""
        head = f"guest {w.vmid} on {w.node}: window {w.id[:8]}{group} {w.state} since {foreign.span(now - w.intent_at)}"
        if w.is_foreign:
            head += " at most"
            what = f"GUEST {w.vmid} IS FROZEN by somebody else" if w.id in found.in_need else "frozen by somebody else"
        elif w.id not in found.in_need:
            what = "in progress"
        elif w.vmid in found.living:
            remedy = remedies.of_stuck(w.vmid, w.thaw_detail)
            what = f"GUEST {w.vmid} MAY STILL BE FROZEN: {in_vain(w, now)}; {remedy}"
        else:
            what = "LEFT OPEN: run `safe-snapshot recover`"
        lines.append(f"{head}, {what}")
    ours = {w.vmid: w.owner for w in found.windows if not w.is_foreign}
    for guest in found.frozen:
        work = found.works.get(guest.vmid)
        by = "by vzdump" if ours.get(guest.vmid) == Owner.VZDUMP.value else "by us"
        whose = by if guest.vmid in ours else f"not by us: `safe-snapshot thaw {guest.vmid}` thaws it"
        if work and guest.vmid not in ours:
            whose = f"not by us: PVE's {work} is at work on it"
        lines.append(f"guest {named(guest.vmid, guest.name)} on {guest.node} is FROZEN, {whose}")
    unknown = [
        Unknown(look.vmid, look.node, look.name, look.why, now - look.still_since_at if look.still_since_at else None)
        for look in found.round.unknown
    ]
    lines += _unknown_lines(unknown)
    lines += [
        f"window {name[:8]}: NOT KNOWN whose guest it may have left frozen: `safe-snapshot recover` looks at every one"
        for name in found.lost
    ]
    lines += [f"warning: {oddity}, so NOT KNOWN whether it is a frozen guest" for oddity in found.round.oddities]
    if not lines and found.problem is None:
        return [f"{'of these guests: ' if found.is_part else ''}no open window, no frozen guest"]
    if not found.windows and not found.frozen and unknown:
        lines.append(f"no open window; {counted(len(unknown), 'guest')} not known")
    if found.problem is not None:
        lines.append(f"ERROR: {found.problem}")
    elif found.blind_spot:
        lines.append(f"warning: {found.blind_spot}")
    return lines


_DONE = ("thawed", "watched", "was-thawed", "foreign")
"""Outcomes of `recover` that are worth a line in the journal. The rest may be so every minute, for hours."""


def recovered_logfmt(found: list[Recovered], warnings: list[str]) -> list[Line]:
    """The same for a log collector."""
    lines = []
    for r in found:
        window = r.window_id[:8] if r.window_id else None
        needs = "" if r.ok else "yes"
        line = logfmt.line(
            "recovered",
            vmid=r.vmid,
            node=r.node,
            window=window,
            outcome=r.outcome,
            detail=_REASONS.get(r.why, r.why) if r.outcome == _NOT_KNOWN else r.detail,
            needs_you=needs,
        )
        done = streams.NOTICE if r.outcome in _DONE else streams.INFO
        lines.append(Line(line, done if r.ok else streams.ERROR))
    return lines + [Line(logfmt.line("warning", detail=warning), streams.WARNING) for warning in warnings]


def health_lines(health: Health) -> list[str]:
    """Every check, what was learned about the guest, and one closing line."""
    lines = [line for check in health.checks for line in check_lines(check)]
    lines += fact_lines(health.facts)
    worst = health.failure or health.obstacle
    if health.frozen and health.failure is None and health.guest is not None:
        error = found_frozen(health)
        lines.append(f"FROZEN: {error.message}; {error.remedy}")
    elif worst is None and is_proof_missing(health):
        lines.append("ready: it can be frozen, but its snapshots are unknown at best: see proof")
    elif worst is None:
        lines.append("ready: this guest can be snapshotted consistently")
    elif worst.result is CheckResult.FAILED:
        lines.append(f"NOT POSSIBLE: {worst.message}")
    else:
        lines.append(f"NOT FREEZABLE: {worst.message}")
    return lines


def is_proof_missing(health: Health) -> bool:
    """Whether it is known beforehand that nothing of its freeze can be proven."""
    return any(check.name == "proof" and check.result is CheckResult.WARNING for check in health.checks)


def fact_lines(facts: Mapping[str, object]) -> list[str]:
    """What was learned about a guest, a line each."""
    lines = []
    for name, value in facts.items():
        shown = ", ".join(str(v) for v in value) if isinstance(value, list) else value
        lines.append(f"  {name.replace('_', ' ')}: {shown}")
    return lines


def check_lines(check: Check) -> list[str]:
    """One check, with what to do about it."""
    lines = [f"{_MARKS[check.result]:>10}  {check.name}: {check.message}"]
    if check.remedy and check.result is not CheckResult.OK:
        lines.append(f"{'':>10}  -> {check.remedy}")
    return lines
