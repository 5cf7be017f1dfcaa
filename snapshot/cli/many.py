"""``safe-snapshot`` with many guests: whom it means, as many at once as may be, and what came of each."""

from __future__ import annotations

import shutil
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import closing
from typing import Any, NoReturn

from snapshot.base import terminal
from snapshot.base.signals import NoGate
from snapshot.base.streams import Line
from snapshot.cli.guests import resolve
from snapshot.cli.line import QUIET, Session
from snapshot.cli.ping import has_fallen_back, leave_ping
from snapshot.cli.together import Grouped, rule_of
from snapshot.cli.wishes import GroupWish
from snapshot.commands import folder
from snapshot.config.groups import in_order
from snapshot.config.naming import SnapshotName
from snapshot.config.selection import Selection
from snapshot.config.settings import DEFAULT_PATH, Config
from snapshot.errors import JournalError, UsageError
from snapshot.fleet import worker
from snapshot.fleet.crew import Crew
from snapshot.fleet.fate import fate_of
from snapshot.fleet.groupunit import HeldBoard
from snapshot.fleet.guestwork import GuestWork
from snapshot.fleet.hiring import Hiring
from snapshot.fleet.job import Board, Job, Unit
from snapshot.fleet.limits import AtOnce
from snapshot.fleet.outcome import GuestOutcome
from snapshot.fleet.room import Room
from snapshot.fleet.worker import GuestWorker
from snapshot.journal.labelruns import note_run
from snapshot.journal.store import Journal
from snapshot.metrics.publish import publish
from snapshot.model import Guest, Say, check_snapshot_name
from snapshot.pve.access import Access, open_access
from snapshot.pve.neighbours import remember, with_neighbours
from snapshot.pve.turns import WINDOWS_AT_ONCE, Turns
from snapshot.report import fleet, text
from snapshot.report.boards import LiveBoard, LogfmtBoard, PlainBoard, SilentBoard
from snapshot.report.envelope import plain, result_data
from snapshot.retention.keep import Rule
from snapshot.take.request import Request, Result, Tools

PUBLISH_EACH = 50
"""After so many guests the metrics go out; what is not published then the minute's recovery publishes."""


class Voice(threading.local):
    """Who hears what is said of the ways to PVE: the operator, and in a worker's thread its parent."""

    def __init__(self, to: Say) -> None:
        self.to = to

    def __call__(self, line: str) -> None:
        self.to(line)


def take_many(
    session: Session,
    selection: Selection,
    request: Request,
    *,
    label: str,
    rule: Rule | None,
    at_once: int | None,
    wait_seconds: float | None,
    wish: GroupWish,
) -> NoReturn:
    """Take them, say what came of each, and end with the exit code of the worst."""
    session.command = "take"
    config, voice = session.config(), Voice(session.say)
    _check_name(config, label, request)
    group, selection = rule_of(wish, config, selection) if wish.is_there else (None, selection)
    access = open_access(with_neighbours(config), session.clock, voice)
    choice = resolve(session, access, selection)
    access.main.close()  # no connection is inherited
    windows = max(WINDOWS_AT_ONCE, config.fleet.at_once_per_node)
    access = access._replace(turns=Turns(config, session.clock, windows))
    tools = _tools(session, access, wait_seconds, is_dry=request.dry_run)
    render, grouped = _render(session), None
    if group is not None and not request.dry_run:
        grouped = Grouped.begun(group, in_order(selection, choice.guests), request, label, tools)
        request = grouped.request
    units = [grouped.unit] if grouped else [Unit([Job(guest)]) for guest in choice.guests]
    fence = grouped.together.fence if grouped else None
    board = _board(session, len(choice.guests))

    def work_of(guest: Guest, is_last: bool, known: Room | None) -> GuestWork:
        is_last, ours = is_last or request.dry_run, grouped is not None and guest.vmid in grouped.alone
        return GuestWork(request, tools, guest, label, rule, render, voice, is_last, fence, known, ours)

    hire = Hiring(work_of, choice.guests)

    def fate(guest: Guest, dead: GuestWorker, is_last: bool) -> GuestOutcome | None:
        if grouped and grouped.unit.is_holding() and not is_last:
            return None  # it reads the journal
        return fate_of(guest, dead, is_last_look=is_last, open_journal=tools.open_journal)

    publishing = Publishing(session, config, label, is_dry=request.dry_run)
    crew = Crew(
        units,
        AtOnce(at_once or config.fleet.at_once, config.fleet.at_once_per_node, config.fleet.at_once_per_storage),
        tools.wait_seconds or 0.0,
        hire,
        fate,
        HeldBoard(board, grouped.unit.is_holding) if grouped else board,
        session.clock,
        heard=publishing.heard,
    )
    worker.prepare()
    outcomes = crew.run()
    hire.dismiss()
    if not request.dry_run:
        remember(access, tools.open_journal)
    told = grouped.told(outcomes) if grouped else None
    publishing.at_the_end(outcomes)
    _finish(session, fleet.FleetResult(outcomes, choice.left_out, request.dry_run, told))


def _tools(session: Session, access: Access, wait_seconds: float | None, *, is_dry: bool) -> Tools:
    """What each worker works with, but for what is its own."""
    config = access.config
    launcher = session.launcher(config)
    if not is_dry and (problem := launcher.preload()):
        session.warnings.append(problem)
    return Tools(
        config=config,
        access=access,
        clock=session.clock,
        me=session.me,
        open_journal=lambda: Journal(config.journal.path),
        launcher=launcher,
        gate=NoGate(),
        publish=lambda journal: [],
        say=session.say,
        commands=folder.beside(session.config_path or DEFAULT_PATH),
        wait_seconds=config.fleet.wait_seconds if wait_seconds is None else wait_seconds,
    )


def _check_name(config: Config, label: str, request: Request) -> None:
    """A name that PVE would refuse, for every guest, is refused before anything begins."""
    if label and request.name is not None:
        raise UsageError("--label makes the name: leave --name out", remedy="or leave --label out")
    try:
        check_snapshot_name(str(SnapshotName(config.snapshot.name_prefix, label, "20260131-030005", 99)))
    except ValueError as error:
        raise UsageError(f"with the label {label!r}: {error}", remedy="take a shorter label") from None


def _render(session: Session) -> Callable[[Result], Mapping[str, Any]]:
    """What the parent will print of a guest beside what it always wants: no more is sent."""

    def render(result: Result) -> dict[str, Any]:
        found: dict[str, Any] = {}
        if session.as_json:
            found["result"] = plain(result_data(result))
        if session.as_logfmt:
            found["logfmt"] = list(text.result_logfmt(result))
        return found

    return render


def _board(session: Session, total: int) -> Board:
    if session.as_json:
        return SilentBoard()
    if session.as_logfmt:
        return LogfmtBoard(session.clock, is_quiet=session.is_quiet)
    if session.is_quiet:
        return SilentBoard()
    if sys.stderr.isatty() and not terminal.is_dumb() and not session.is_verbose:
        return LiveBoard(session.clock, in_colour=not terminal.refuses_colour(), total=total)
    return PlainBoard(session.say, is_verbose=session.is_verbose)


class Publishing:
    """The metrics go out from here alone: workers that all rewrite one file would wait for each other."""

    def __init__(self, session: Session, config: Config, label: str, *, is_dry: bool) -> None:
        self._session = session
        self._config = config
        self._label = label
        self._is_dry = is_dry
        self._heard = 0

    def heard(self, _outcome: GuestOutcome) -> None:
        """One more guest is done."""
        self._heard += 1
        if self._heard % PUBLISH_EACH == 0:
            self._publish()  # what goes wrong here goes wrong at the end too

    def at_the_end(self, outcomes: list[GuestOutcome]) -> None:
        """The metrics, and one ping for the whole run; what cannot be written is a warning."""
        if self._is_dry:
            return
        if self._label:
            self._session.warnings += self._note_run(outcomes)
        self._session.warnings += self._publish()

        def is_well(journal: Journal) -> bool:
            return not any(
                one.error is not None or has_fallen_back(journal, one.guest.vmid, one.snapshot) for one in outcomes
            )

        self._session.warnings += leave_ping(self._config, self._session.clock, is_well)

    def _note_run(self, outcomes: list[GuestOutcome]) -> list[str]:
        """Whom the label's run has come to, for the alarms about labels."""
        taken = [one.guest for one in outcomes if one.snapshot_exists]
        missed = [(one.guest, one.error.message) for one in outcomes if one.error and not one.snapshot_exists]
        try:
            with closing(Journal(self._config.journal.path)) as journal:
                note_run(journal, self._label, self._session.clock.time(), taken, missed)
        except JournalError as error:
            return [f"the run of the label {self._label} was not written down: {error}"]
        return []

    def _publish(self) -> list[str]:
        if self._is_dry:
            return []
        try:
            with closing(Journal(self._config.journal.path)) as journal:
                return publish(self._config, journal, self._session.clock)
        except JournalError as error:
            return [str(error)]


def _finish(session: Session, result: fleet.FleetResult) -> NoReturn:
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    error = result.error
    lines: list[str | Line]
    if session.as_logfmt:
        lines = [fleet.logfmt_summary(result)]
    else:
        lines = [*fleet.closing_lines(result, width=width, is_quiet=session.verbosity == QUIET)]
        lines += [f"ERROR: {error}"] if error else []
    session.finish(lines, fleet.fleet_data(result), error=error)
