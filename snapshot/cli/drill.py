"""``safe-snapshot drill``: a guest is frozen on purpose, and seen to be thawed. What is done: snapshot/drill/."""

from __future__ import annotations

import os
import sys

import click

from snapshot.base.signals import SignalGate
from snapshot.cli.guests import guest_argument, one_of
from snapshot.cli.line import Seconds, Session, common, pass_session
from snapshot.config.selection import Term
from snapshot.doctor.examine import Surroundings, examine
from snapshot.drill.drill import DrillReport, DrillTools, examined, held, question
from snapshot.drill.ready import UNHEARD
from snapshot.errors import SafeSnapshotError
from snapshot.model import CheckResult
from snapshot.pve.access import open_access
from snapshot.report import text


@click.command(short_help="Freeze a guest on purpose, and see it thawed.")
@guest_argument()
@click.option("--yes", "-y", "is_agreed", is_flag=True, help="Do not ask.")
@click.option(
    "--max-window",
    type=Seconds(),
    default=10.0,
    help="The drill itself thaws after so long [default: 10].",
)
@common()
@pass_session
def drill(session: Session, *, vmid: Term, is_agreed: bool, max_window: float) -> None:
    """Freeze GUEST (vmid or name) on purpose, kill what froze it, and see by its disks that it is thawed in time.

    Three times: the process that froze it is killed; again, and its guard has no API; again, and its guard is killed
    too. Then every path of an alarm is used once, marked as a drill. Run it on the guest's node: docs/drill.md.
    """
    config, access = session.config(), session.access()
    number = session.vmid = one_of(session, access, vmid)
    around = Surroundings(session.clock, session.me, is_root=os.geteuid() == 0)
    report = examined(number, access, session.me, examine(session.config_path, around, [number]).looks)
    session.explain([line for check in report.checks for line in text.check_lines(check)])
    guest = report.guest
    if report.error is None and guest is not None:
        if not is_agreed:
            _ask(session, question(guest, config, max_window))
        gate = session.gate = SignalGate()
        tools = DrillTools(
            config=config,
            config_path=session.config_path,
            access=access,
            disk_access=open_access(config, session.clock),
            clock=session.clock,
            me=session.me,
            gate=gate,
            say=session.say,
            max_window_seconds=max_window,
            adopt=session.launcher(config).adopt,
        )
        report = held(report, tools)
    told = (check for check in report.checks if check.code not in UNHEARD or not report.alarms)
    warnings = [f"{check.name}: {check.message}" for check in told if check.result is CheckResult.WARNING]
    session.finish(_lines(report, warnings), _data(report), warnings=warnings, error=report.error)


def _ask(session: Session, what: str) -> None:
    """SafeSnapshotError when that is not wanted."""
    if session.as_json or not sys.stdin.isatty():
        raise click.UsageError("nobody can be asked here: say --yes to freeze the guest on purpose")
    if not click.confirm(what, err=True):
        raise SafeSnapshotError("not wanted: nothing was frozen")


def _lines(report: DrillReport, warnings: list[str]) -> list[str]:
    lines = [f"warning: {warning}" for warning in warnings]
    broken = (check for check in report.checks if check.result is CheckResult.FAILED)
    lines += [f"{check.name}: BROKEN: {check.message}; {check.remedy}".removesuffix("; ") for check in broken]
    for found in report.rounds:
        lines += found.lines
    lines += [f"{a.way} to {a.place}: {'' if a.ok else 'BROKEN: '}{a.detail}" for a in report.alarms]
    if report.error is not None:
        return [*lines, f"ERROR: {report.error}"]
    closing = f"the drill of guest {report.guest.vmid if report.guest else ''}: every bound kept"
    if report.not_played:
        names = ", ".join(kind.name for kind in report.not_played)
        closing += f" that was tried; NOT SHOWN: {names} (see the warning)"
    return [*lines, closing]


def _data(report: DrillReport) -> dict[str, object]:
    return {
        "guest": report.guest,
        "checks": report.checks,
        "rounds": report.rounds,
        "alarms": report.alarms,
    }
