"""``safe-snapshot list`` and ``prune``: our snapshots, what a rule keeps of them, and the rest removed."""

from __future__ import annotations

import sys
from contextlib import closing

import click

from snapshot.cli.guests import guests_options, resolve
from snapshot.cli.keeping import keep_options, label_option
from snapshot.cli.line import EXIT_CODES, Session, common, logfmt_option, pass_session
from snapshot.config.selection import Selection
from snapshot.errors import InterruptedBySignalError, NotPrunedError, SafeSnapshotError, UsageError
from snapshot.journal.reader import JournalReader
from snapshot.journal.store import Journal
from snapshot.model import Guest
from snapshot.report import retention as report
from snapshot.report.retention import Retained
from snapshot.retention.keep import Rule
from snapshot.retention.prune import Pruned, PruneTools, look, prune
from snapshot.retention.rules import overruled, rules_of


@click.command("list", epilog=EXIT_CODES, short_help="List our snapshots, and what a rule keeps of them.")
@guests_options()
@label_option("Only the snapshots with this label.")
@keep_options()
@common()
@pass_session
def list_snapshots(session: Session, *, selection: Selection, label: str, rule: Rule | None) -> None:
    """List the snapshots of GUEST, or of all guests: label, age, verdict, and what would become of each in a prune.

    What is to be kept say the options, for one label or for the snapshots without one, or the guests' own tags
    (`snap-daily-7`). label:daily names the guests with such a tag, and all their
    snapshots; --label daily the snapshots. Changes nothing.
    """
    access = session.access()
    guests = resolve(session, access, selection).guests
    with closing(JournalReader(session.config().journal.path)) as journal:
        tools = PruneTools(access, session.clock, journal, session.say)
        found = [
            Retained(rules := _rules(session, tools, guest, rule, label), look(guest, rules, tools)) for guest in guests
        ]
    if label:
        found = [Retained(rules, _only(pruned, label)) for rules, pruned in found]
    now = session.clock.time()
    session.finish(
        report.list_lines(found, now, heads=sys.stdout.isatty()),
        {"guests": report.retained_data(found, now)},
        error=next((pruned.error for _, pruned in found if pruned.error is not None), None),
    )


@click.command("prune", epilog=EXIT_CODES, short_help="Remove our snapshots that no rule keeps.")
@guests_options(required=True)
@label_option("Of the snapshots with this label; else of those without one, or as the guests' tags say.")
@keep_options()
@click.option("--dry-run", "-n", is_flag=True, help="Say what would be removed, change nothing.")
@logfmt_option
@common()
@pass_session
def prune_snapshots(session: Session, *, selection: Selection, label: str, rule: Rule | None, dry_run: bool) -> None:
    """Remove snapshots of GUEST that we made and that no rule keeps; the options count as PVE's prune-backups does.

    \b
    safe-snapshot prune 100 --keep 7
    safe-snapshot prune all --label daily --keep-daily 7 --keep-weekly 4
    safe-snapshot prune label:daily            as the tags snap-daily-7 say
    safe-snapshot prune all --keep 7 --dry-run

    A snapshot that is not ours by its description, its name and the journal is named and left. A consistent one never
    makes room for newer ones that are not.
    """
    access = session.access()
    guests = resolve(session, access, selection).guests
    path = session.config().journal.path
    with closing(JournalReader(path) if dry_run else Journal(path)) as journal:
        tools = PruneTools(access, session.clock, journal, session.say)
        try:
            found = _prune(session, tools, guests, rule, label, dry_run=dry_run)
        except InterruptedBySignalError as signalled:
            remedy = "what PVE was asked for goes on: the next prune finds out what came of it"
            raise InterruptedBySignalError(signalled.signal_number, remedy=remedy) from None
    now = session.clock.time()
    lines = report.logfmt_lines if session.as_logfmt else report.prune_lines
    session.finish(
        lines(found, dry_run=dry_run),
        {"dry_run": dry_run, "guests": report.retained_data(found, now)},
        warnings=[f"guest {pruned.guest.vmid}: {text}" for _, pruned in found for text in pruned.warnings],
        error=_error_of([pruned for _, pruned in found]),
    )


def _prune(
    session: Session, tools: PruneTools, guests: tuple[Guest, ...], rule: Rule | None, label: str, *, dry_run: bool
) -> list[Retained]:
    """Guest by guest; UsageError where nothing says what is to be kept of any."""
    ruled = [(guest, rules) for guest in guests if (rules := _rules(session, tools, guest, rule, label))]
    if not ruled:
        what = f"label {label}" if label else "any label"
        raise UsageError(
            f"nothing says what is to be kept: no --keep, and no guest of these has a tag for {what}",
            remedy="give --keep N, or tag the guests in PVE, e.g. snap-daily-7",
        )
    return [
        Retained(rules, look(guest, rules, tools) if dry_run else prune(guest, rules, tools)) for guest, rules in ruled
    ]


def _rules(session: Session, tools: PruneTools, guest: Guest, rule: Rule | None, label: str) -> dict[str, Rule]:
    folds_tags = tools.access.folds_tags
    rules = dict(rules_of(guest, rule, label, folds_tags))
    session.warnings += [f"guest {guest.vmid}: {line}" for line in overruled(guest, rules, folds_tags)]
    return rules


def _only(pruned: Pruned, label: str) -> Pruned:
    rows = tuple(row for row in pruned.rows if row.found.label == label)
    return Pruned(pruned.guest, rows, error=pruned.error)


def _error_of(found: list[Pruned]) -> SafeSnapshotError | None:
    """That of the one guest that has one, or one that names them all."""
    bad = [(pruned.guest.vmid, pruned.error) for pruned in found if pruned.error is not None]
    if len(bad) < 2:
        return bad[0][1] if bad else None
    vmids = ", ".join(str(vmid) for vmid, _ in bad)
    return NotPrunedError(f"not everything was removed that should be, of guests {vmids}", remedy="see their lines")
