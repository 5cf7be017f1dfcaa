"""``safe-snapshot take``, and without the word: the snapshot of one guest."""

from __future__ import annotations

from contextlib import closing

import click

from snapshot.base.signals import SignalGate
from snapshot.cli.line import (
    EXIT_CODES,
    Seconds,
    Session,
    common,
    description_option,
    logfmt_option,
    name_option,
    pass_session,
    vmid_argument,
)
from snapshot.commands import folder
from snapshot.config.settings import DEFAULT_PATH, Config
from snapshot.errors import GuestUnfitError, JournalError
from snapshot.journal.families import CONSISTENT_VERDICTS
from snapshot.journal.jobs import pings_file, run_ended
from snapshot.journal.record import new_id
from snapshot.journal.store import Journal
from snapshot.metrics.publish import publish
from snapshot.model import Policy, Vmid
from snapshot.pve.neighbours import remember
from snapshot.pve.turns import Turns
from snapshot.report import text
from snapshot.report.envelope import result_data
from snapshot.take.operation import safe_snapshot
from snapshot.take.request import Request, Result, Tools


@click.command(epilog=EXIT_CODES, short_help="Take a snapshot of guest VMID.")
@vmid_argument()
@click.option("--name", callback=name_option, help="The snapshot's name [default: safe-<date>-<time>].")
@click.option(
    "--description", default="", callback=description_option, help="Its description; the verdict is added to it."
)
@click.option(
    "--policy",
    type=click.Choice([p.value for p in Policy]),
    help="require: no consistency, no snapshot. prefer: take it and say so. never: do not freeze. "
    "[default: the configuration's, else prefer]",
)
@click.option("--freeze-timeout", type=Seconds(), help="How long the agent may take to freeze [default: 25].")
@click.option("--max-window", type=Seconds(), help="The guest is thawed after so long in any case [default: 30].")
@click.option("--vmstate", is_flag=True, help="Include RAM; then nothing is frozen.")
@click.option("--dry-run", "-n", is_flag=True, help="Run the checks, say what would be done, change nothing.")
@logfmt_option
@common()
@pass_session
def take(
    session: Session,
    *,
    vmid: Vmid,
    name: str | None,
    description: str,
    policy: str | None,
    freeze_timeout: float | None,
    max_window: float | None,
    vmstate: bool,
    dry_run: bool,
) -> None:
    """Take a snapshot of guest VMID; the word `take` may be left out.

    \b
    safe-snapshot 100
    safe-snapshot 100 --policy require --name before-upgrade
    safe-snapshot 100 --dry-run
    safe-snapshot --json 100
    """
    session.vmid = vmid
    access = session.access()
    config = access.config
    gate = session.gate = SignalGate()
    tools = Tools(
        config=config,
        access=access._replace(turns=Turns(config, session.clock)),
        clock=session.clock,
        me=session.me,
        open_journal=lambda: Journal(config.journal.path),
        launcher=session.launcher(config),
        gate=gate,
        publish=lambda journal: publish(config, journal, session.clock),
        say=session.say,
        commands=folder.beside(session.config_path or DEFAULT_PATH),
    )
    result = safe_snapshot(
        Request(
            vmid=vmid,
            name=name,
            description=description,
            policy=Policy(policy) if policy else None,
            freeze_timeout_seconds=freeze_timeout,
            max_window_seconds=max_window,
            memory=vmstate,
            dry_run=dry_run,
        ),
        tools,
    )
    if not dry_run and result.guest is not None:
        remember(access, tools.open_journal)
    warnings = [*result.warnings, *([] if dry_run else _leave_ping(session, config, result))]
    session.explain(text.result_details(result))
    lines = [text.result_logfmt(result)] if session.as_logfmt else text.result_lines(result)
    session.finish(lines, result_data(result), warnings=warnings, error=result.error)


def _leave_ping(session: Session, config: Config, result: Result) -> list[str]:
    """Write down how the run ended, for the minute's recovery to tell. What cannot be written, as lines."""
    is_no_run = result.guest is None and isinstance(result.error, GuestUnfitError)  # there is no such guest
    if pings_file(config) is None or is_no_run:
        return []
    try:
        with closing(Journal(config.journal.path)) as journal:
            is_well = result.error is None and not _has_fallen_back(journal, result)
            run_ended(journal, new_id(), session.clock.time(), is_well=is_well)
    except JournalError as error:
        return [f"notify: {error}"]
    return []


def _has_fallen_back(journal: Journal, result: Result) -> bool:
    """Whether the guest should have been frozen and was not, as the journal has it."""
    windows = journal.history(vmid=result.vmid, limit=10)
    window = next((w for w in windows if w.snapshot_name == result.name), None)
    return window is not None and window.failure_stage is not None and window.verdict not in CONSISTENT_VERDICTS
