"""``safe-snapshot take``, and without the word: the snapshot of one guest; of several: many.py."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NoReturn

import click

from snapshot.base.aloud import Aloud
from snapshot.base.late import late
from snapshot.base.signals import SignalGate
from snapshot.cli.guests import MISSING, guests_options, word_behind
from snapshot.cli.keeping import keep_options, label_option
from snapshot.cli.line import (
    EXIT_CODES,
    Seconds,
    Session,
    common,
    description_option,
    logfmt_option,
    name_option,
    pass_session,
)
from snapshot.cli.ping import has_fallen_back, leave_ping
from snapshot.cli.wishes import GroupWish, group_options, refuse_odd, span_option
from snapshot.commands import folder
from snapshot.config.reading import MOST_AT_ONCE
from snapshot.config.selection import Selection
from snapshot.config.settings import DEFAULT_PATH, Config
from snapshot.errors import GuestUnfitError, UsageError
from snapshot.journal.store import Journal
from snapshot.metrics.publish import publish
from snapshot.model import Policy, Vmid
from snapshot.pve.guests import GuestApi
from snapshot.pve.neighbours import remember
from snapshot.pve.turns import Turns
from snapshot.report import text
from snapshot.report.envelope import result_data
from snapshot.retention.keep import Rule
from snapshot.take.operation import safe_snapshot
from snapshot.take.request import Request, Result, Tools
from snapshot.take.trace import leave_trace

if TYPE_CHECKING:
    from snapshot.cli.many import take_many
else:  # one guest needs nothing of the fleet
    take_many = late("snapshot.cli.many:take_many")


@click.command(epilog=EXIT_CODES, short_help="Take a snapshot of one guest, or of many.")
@guests_options()
@click.option(
    "--name",
    callback=name_option,
    help="The snapshot's name, as a word behind a vmid is too [default: safe-<date>-<time>].",
)
@label_option("A label: the name is safe-<label>-<date>-<time>, and what the guest's tag or --keep does not keep goes.")
@keep_options()
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
@click.option("--verify", is_flag=True, help="Then ask the disk in the snapshot whether it was at rest.")
@click.option("--dry-run", "-n", is_flag=True, help="Run the checks, say what would be done, change nothing.")
@group_options
@click.option(
    "--at-once", type=click.IntRange(1, MOST_AT_ONCE), metavar="N", help="At most so many guests at once [default: 8]."
)
@click.option(
    "--wait",
    callback=span_option,
    metavar="TIME",
    help="How long a locked guest is tried again [default: 10m].",
)
@logfmt_option
@common()
@pass_session
def take(
    session: Session,
    *,
    selection: Selection,
    name: str | None,
    label: str,
    rule: Rule | None,
    description: str,
    policy: str | None,
    freeze_timeout: float | None,
    max_window: float | None,
    vmstate: bool,
    verify: bool,
    dry_run: bool,
    at_once: int | None,
    wait: float | None,
    group: str | None,
    together: bool,
    best_effort: bool,
) -> None:
    """Take a snapshot of one guest, or of many at once; the word `take` may be left out.

    \b
    safe-snapshot 100
    safe-snapshot 100 before-upgrade           as `qm snapshot` has it
    safe-snapshot 100 --policy require --name before-upgrade
    safe-snapshot 100 --dry-run
    safe-snapshot --json 100
    safe-snapshot all --tag prod --exclude 105 --label daily --keep 7
    safe-snapshot 100 101 200-299 --at-once 4
    safe-snapshot 100 101 102 --together
    safe-snapshot --group shop
    """
    wish = GroupWish(group, together, best_effort)
    refuse_odd(wish, selection, vmstate=vmstate)
    if selection.is_empty and group is None:
        raise click.UsageError(MISSING)
    if not (name or label or wish.is_there) and (word := word_behind(selection)):
        selection, name = _named(session, selection, word), word
    request = Request(
        vmid=selection.single or NO_GUEST,
        name=name,
        description=description,
        policy=Policy(policy) if policy else None,
        freeze_timeout_seconds=freeze_timeout,
        max_window_seconds=max_window,
        memory=vmstate,
        dry_run=dry_run,
        verify=verify or None,
    )
    is_of_many = bool(label) or rule is not None or at_once is not None or wait is not None or wish.is_there
    if selection.single is None or is_of_many:
        take_many(session, selection, request, label=label, rule=rule, at_once=at_once, wait_seconds=wait, wish=wish)
    _take_one(session, request)


NO_GUEST = Vmid(0)
"""In a request for many: each worker puts its own."""


def _named(session: Session, selection: Selection, word: str) -> Selection:
    """The one guest of a line whose last word names its snapshot. UsageError where that may be meant otherwise: a run
    with fewer guests than were meant, or one in place of a rescue, would be worse than a question.
    """
    vmid = selection.guests[0]
    commands = click.get_current_context().find_root().command
    if isinstance(commands, click.Group) and word in commands.commands:
        hint = f"`safe-snapshot {word} {vmid}`, or for a snapshot of that name `--name {word}`"
        raise UsageError(f"{word!r} behind a guest is the name of a command", remedy=hint)
    access = session.access()
    guest = next((g for g in GuestApi(access.main).list() if g.name.lower() == word.lower()), None)
    access.main.close()
    if guest is not None:
        hint = f"for a snapshot of that name `{vmid} --name {word}`, for both guests `{vmid},{word}`"
        raise UsageError(f"{word!r} is the name of guest {guest.vmid} too", remedy=hint)
    return Selection((vmid,))


def _take_one(session: Session, request: Request) -> NoReturn:
    session.vmid = request.vmid
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
        wait_seconds=config.fleet.wait_seconds,
    )
    began_at = session.clock.time()
    with Aloud(session.say, session.clock) as tell:
        result = safe_snapshot(request, replace(tools, tell=tell))
    left: list[str] = []
    if not request.dry_run and result.guest is not None:
        left = leave_trace(result.guest, result, tools, began_at)
        remember(access, tools.open_journal)
    is_no_run = request.dry_run or (result.guest is None and isinstance(result.error, GuestUnfitError))
    result = replace(result, warnings=(*result.warnings, *left))
    warnings = [*result.warnings, *([] if is_no_run else _leave_ping(session, config, result))]
    session.explain(text.result_details(result))
    lines = [text.result_logfmt(result)] if session.as_logfmt else text.result_lines(result)
    session.finish(lines, result_data(result), warnings=warnings, error=result.error)


def _leave_ping(session: Session, config: Config, result: Result) -> list[str]:
    def is_well(journal: Journal) -> bool:
        return result.error is None and not has_fallen_back(journal, result.vmid, result.name)

    return leave_ping(config, session.clock, is_well)
