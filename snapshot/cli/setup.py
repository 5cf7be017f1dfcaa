"""``safe-snapshot setup``: from the installed package to guarded backups on this node, and back."""

from __future__ import annotations

import sys
from collections.abc import Container, Mapping, Sequence
from typing import NoReturn

import click

from snapshot.base import streams
from snapshot.base.streams import Line
from snapshot.base.text import counted
from snapshot.cli.line import Session, common, pass_session
from snapshot.config import reading
from snapshot.doctor.examine import Surroundings, examine
from snapshot.errors import ApiError, InterruptedBySignalError, SafeSnapshotError, UsageError
from snapshot.notify import tell
from snapshot.report import console
from snapshot.report import doctor as report
from snapshot.report.folded import folded
from snapshot.setup import back, plan, record
from snapshot.setup.node import Places, node_name
from snapshot.setup.pve import Pve
from snapshot.setup.step import Planned, SetupStep, TakenBack

PLACES = Places()
NOTHING: Mapping[str, object] = {
    "steps": [],
    "notes": [],
    "taken_back": [],
    "guests": [],
    "installation": [],
    "counts": {},
}
"""What every outcome has, in JSON."""
EXAMINE_SECONDS = 30.0
"""For how long the doctor asks: by itself it takes the time it needs."""
NEXT = "try it: vzdump <vmid> --mode snapshot --storage <storage>, and read its log"


@click.command(short_help="Set this node up: from the package to guarded backups.")
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@click.option("--dry-run", is_flag=True, help="Print every command and every change of a file, and do nothing.")
@click.option("--jobs", "with_jobs", is_flag=True, help="Mend backup jobs that have a script of their own, too.")
@click.option("--undo", is_flag=True, help="Take back what setup has done on this node, byte for byte.")
@common()
@pass_session
def setup(session: Session, *, yes: bool, dry_run: bool, with_jobs: bool, undo: bool) -> None:
    """Set this node up, as root: show the plan, ask once, then do it. Run again, it does what is missing.

    \b
    In PVE:       a role, a user and a token of this node's own, with the
                  least privileges that do.
    On the node:  the token's file, the configuration, `script:` in
                  /etc/vzdump.conf, and a script that is there already as one
                  of your own commands in hooks.d.

    See docs/install.md.
    """
    if session.config_path not in (None, PLACES.config):
        raise UsageError(f"setup sets up {PLACES.config}, the one that backups read: leave --config out")
    if undo and with_jobs:
        raise UsageError("--undo takes the jobs' scripts back by itself: leave --jobs out")
    node = node_name(PLACES)
    if not (yes or dry_run) and (session.as_json or not sys.stdin.isatty()):
        raise UsageError("setup asks, and there is nobody to ask: see --dry-run, then run it with --yes")
    with record.turn(PLACES.state.parent, session.clock) as lock:
        pve, known = Pve(PLACES.pvesh, lock), record.Record.open(PLACES.record)
        if undo:
            _take_back(session, pve, known, node, yes=yes, dry_run=dry_run)
        _set_up(session, pve, known, node, yes=yes, dry_run=dry_run, with_jobs=with_jobs)


def _set_up(
    session: Session, pve: Pve, known: record.Record, node: str, *, yes: bool, dry_run: bool, with_jobs: bool
) -> NoReturn:
    session.say("asking Proxmox VE")
    try:
        found = plan.make(PLACES, pve, known, node, with_jobs=with_jobs)
    except ApiError as error:
        error.remedy = error.remedy or f"nothing was changed; does `{pve.shown('GET', 'access/roles')}` answer?"
        raise
    steps = [Planned(step.what, step.shows()) for step in found.steps]
    lines: list[str | Line] = [f"on {node}, setup would:" if dry_run else f"on {node}, setup will:"] if steps else []
    lines += _plan_lines(found.steps, dry_run=dry_run)
    notes = [
        *found.notes,
        *([found.timer_note] if found.timer_note and (dry_run or not steps) else []),
        *(f"job {job.id} has a script of its own ({job.script}): --jobs mends it" for job in found.jobs),
    ]
    lines += [line for note in notes for line in folded(note, "note: ")]
    data = {**NOTHING, "node": node, "steps": steps, "notes": notes}
    if not steps:
        _end(session, found, lines, [f"{node} is set up: nothing to do"], data)
    if dry_run:
        session.finish(lines, data)
    _show(session, lines)
    if not yes:
        _ask("Go on? `safe-snapshot setup --undo` takes all of it back")
        if found.jobs and click.confirm(f"Mend {counted(len(found.jobs), 'job')} with a script of their own, too?"):
            found = plan.make(PLACES, pve, known, node, with_jobs=True)
            _show(session, ["with them, too:", *_plan_lines(found.steps, told={step.what for step in steps})])
    done = 0
    try:
        for one in found.steps:
            session.say(f"step {done + 1} of {len(found.steps)}")
            _do(one, known)
            done += 1
    except (SafeSnapshotError, InterruptedBySignalError):
        console.err(f"{done} of {len(found.steps)} steps are done: run setup again to go on, or with --undo")
        raise
    session.warnings += _tried(session)
    looked = examine(PLACES.config, Surroundings(session.clock, session.me), within_seconds=EXAMINE_SECONDS)
    lines = [*report.lines(looked, named=False, verbose=session.is_verbose, terse=session.is_quiet)]
    data |= {"installation": looked.looks, "counts": report.counts(looked)}
    _end(session, found, lines, [f"{node} is set up: {counted(done, 'step')} done", NEXT], data)


def _plan_lines(steps: Sequence[SetupStep], *, dry_run: bool = False, told: Container[str] = ()) -> list[str | Line]:
    """The steps by their numbers, but for those that were told before. What would be done is not cut."""
    lines: list[str | Line] = []
    for number, step in enumerate(steps, 1):
        if step.what not in told:
            lines += folded(step.what, f"{number:>3}. ", 7)
            lines += [Line(f"       {line}", streams.INFO) for line in step.shows() if dry_run]
    return lines


def _do(step: SetupStep, known: record.Record) -> None:
    """SafeSnapshotError also where a disk, or who may write to it, does not allow it."""
    try:
        step.do(known)
    except OSError as error:
        raise SafeSnapshotError(
            f"this step failed: {step.what} ({error.strerror})",
            remedy=f"look at {PLACES.state} and at what the step names: room, `mount`, `lsattr`",
        ) from None


def _end(
    session: Session,
    found: plan.SetupPlan,
    lines: Sequence[str | Line],
    closing: Sequence[str],
    data: Mapping[str, object],
) -> NoReturn:
    """Set up is a node whose backups call us, and no other."""
    if not found.unguarded:
        session.finish([*lines, *closing], data)
    error = SafeSnapshotError(
        f"no backup of {node_name(PLACES)} is guarded yet: {found.unguarded}",
        remedy=f"put `script: {PLACES.hook}` there by hand: docs/install.md",
    )
    session.finish([*lines, f"ERROR: {error}"], data, error=error)


def _take_back(session: Session, pve: Pve, known: record.Record, node: str, *, yes: bool, dry_run: bool) -> NoReturn:
    config, problems = reading.load_lenient(PLACES.config if PLACES.config.exists() else None)
    session.warnings += problems
    back.check_quiet(config)
    data = {**NOTHING, "node": node}
    if not known.entries:
        back.take_back(PLACES, pve, known, session.say)
        session.finish([f"setup has changed nothing on {node}: nothing to take back"], data)
    names = [
        line
        for kind, name in dict.fromkeys((e.kind, e.name) for e in reversed(known.entries))
        for line in folded(f"{kind} {name}", "  ", 6)
    ]
    lines = [f"on {node}, setup --undo {'would take' if dry_run else 'takes'} back:", *names]
    if dry_run:
        session.finish(lines, data)
    _show(session, lines)
    if not yes:
        _ask("Go on?")
    guests: list[str] = []
    try:
        guests = back.unfrozen_guests(config, pve, PLACES, node)
    except ApiError as error:
        session.warnings.append(f"which guests nobody freezes any more cannot be asked: {error}")
    done = back.take_back(PLACES, pve, known, session.say)
    data |= {"taken_back": done, "guests": guests}
    session.finish([*_left_lines(done, guests), _closing_line(node, done)], data)


def _closing_line(node: str, done: Sequence[TakenBack]) -> str:
    if any(found.left for found in done):
        return f"{node} is as it was before setup, but for what was left"
    return f"{node} is as it was before setup"


def _left_lines(done: Sequence[TakenBack], guests: Sequence[str]) -> list[str]:
    lines = [f"left: {found.what}: {found.left}" for found in done if found.left]
    if guests:
        lines.append(f"nobody freezes these guests now, freeze-fs=0 stands in their agent option: {', '.join(guests)}")
    return [piece for line in lines for piece in folded(line, further=6)]


def _show(session: Session, lines: Sequence[str | Line]) -> None:
    """What is asked about stands on standard output; with --json and --quiet the outcome is all."""
    if not session.as_json and not session.is_quiet:
        for line in lines:
            console.out(line if isinstance(line, str) else line.text)


def _ask(question: str) -> None:
    if not click.confirm(question):
        raise SafeSnapshotError("nothing was changed", remedy="run it again when you like")


def _tried(session: Session) -> list[str]:
    """One message on each way of [notify]: what is found out now need not be found out in the night."""
    config = reading.load(PLACES.config)
    if not config.notify.is_wanted:
        return []
    found = tell.test(config, session.clock)
    for done in found:
        session.say(f"{done.way} to {done.place}: {'' if done.ok else 'FAILED: '}{done.detail}")
    return [f"alarms cannot be sent by {done.way}: {done.detail}" for done in found if not done.ok]
