"""The command ``safe-snapshot``: click, and nothing that click is not needed for."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import traceback
from contextlib import closing, suppress
from types import FrameType
from typing import NoReturn

import click

from snapshot.base import streams
from snapshot.base.signals import SIGNALS, SignalGate
from snapshot.cli import history as cli_history
from snapshot.cli.line import (
    Seconds,
    State,
    VmidFirstGroup,
    adopt,
    common,
    description_option,
    logfmt_option,
    name_option,
    pass_state,
    vmid_argument,
)
from snapshot.errors import (
    Failure,
    ForeignFreezeError,
    GuardError,
    GuestRemovedError,
    GuestUnfitError,
    InterruptedBySignalError,
    JournalError,
    NotConsistentError,
    SafeSnapshotError,
    StillFrozenError,
    UsageError,
)
from snapshot.guard.launcher import ProcessLauncher
from snapshot.guard.link import spec_of
from snapshot.journal import silences
from snapshot.journal.book import JournalBook
from snapshot.journal.living import is_in_progress
from snapshot.journal.store import Journal, WindowRecord
from snapshot.metrics.publish import publish
from snapshot.model import CheckResult, Guest, GuestKind, Health, Node, Policy, ThawReport, Vmid
from snapshot.preflight.preflight import Preflight, Wish
from snapshot.pve import remedies
from snapshot.pve.access import Access
from snapshot.pve.guests import GuestApi
from snapshot.recovery import foreign
from snapshot.recovery.recover import end_who_stands_still, recover, settle
from snapshot.recovery.survey import survey
from snapshot.report import text
from snapshot.take.operation import Request, Tools, safe_snapshot
from snapshot.thaw.rescue import thaw_now

INTERNAL_ERROR = 1

EXIT_CODES = """\b
Exit codes:
  0   done                          8   A GUEST MAY STILL BE FROZEN
  1   failed, see the message       9   the journal cannot be used
  2   wrong command line            10  done, but not all of it recorded
  3   wrong configuration           11  the freeze's answer was lost
  4   guest not fit for it          12  the guard cannot be started
  5   PVE API                       13  the guest is frozen by somebody else
  6   not consistent (require)      128+n  ended by signal n
  7   PVE could not take it         docs/exit-codes.md has more
"""


@click.group(
    cls=VmidFirstGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    no_args_is_help=True,
    epilog=EXIT_CODES,
)
@common(envvar="VZDUMP_HOOKS_CONFIG")
@click.version_option(package_name="vzdump-hooks")
@click.pass_context
def main_group(ctx: click.Context) -> None:
    """Consistent live snapshots on Proxmox VE, with a guaranteed thaw.

    \b
    safe-snapshot 100                     take a snapshot of guest 100
    safe-snapshot 100 --policy require    only if it is proven consistent
    safe-snapshot check 100               can guest 100 be frozen? what is missing?
    safe-snapshot status                  open windows and frozen guests
    safe-snapshot thaw 100                the rescue: thaw guest 100 now
    """
    ctx.ensure_object(State)


@main_group.command(epilog=EXIT_CODES, short_help="Take a snapshot of guest VMID.")
@vmid_argument
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
@pass_state
def take(
    state: State,
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
    state.vmid = vmid
    config, access = state.config(), state.access()
    gate = SignalGate()
    tools = Tools(
        config=config,
        access=access,
        clock=state.clock,
        me=state.me,
        open_journal=lambda: Journal(config.journal.path),
        launcher=ProcessLauncher(config, state.config_path, state.clock),
        gate=gate,
        publish=lambda journal: publish(config, journal, state.clock),
        say=state.say,
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
    state.explain(text.result_details(result))
    lines = [text.result_logfmt(result)] if state.as_logfmt else text.result_lines(result)
    state.finish(lines, text.result_json(result), result.exit_code)


@main_group.command(short_help="Can guest VMID be frozen, and what is missing?")
@vmid_argument
@common()
@pass_state
def check(state: State, vmid: Vmid) -> None:
    """Look at guest VMID: can it be frozen, and what is missing? Changes nothing.

    Exit code 0: ready, or a container, or shut down. 6: it cannot be frozen. 4: it cannot be snapshotted at all. 13: it
    is frozen right now.
    """
    access = state.access()

    def wish(guest: Guest) -> Wish:
        return Wish(ignore_freeze_option=access.settings_for(guest).ignore_freeze_option)

    health = Preflight(access).examine(vmid, details=True, wish=wish)
    exit_code = _exit_code_of(health)
    lines = text.health_lines(health)
    state.warnings += silences.folder_lines(access.config)
    as_json = text.health_json(health, exit_code, state.warnings)
    state.finish(lines[-1:] if state.is_quiet else lines, as_json, exit_code)


def _exit_code_of(health: Health) -> int:
    if health.worst(CheckResult.FAILED):
        return GuestUnfitError.exit_code
    if health.frozen:
        return ForeignFreezeError.exit_code
    is_container = health.guest is not None and health.guest.kind is GuestKind.LXC
    return NotConsistentError.exit_code if health.obstacle and not is_container else 0


@main_group.command(short_help="The rescue: thaw guest VMID now.")
@vmid_argument
@common()
@pass_state
def thaw(state: State, vmid: Vmid) -> None:
    """Thaw guest VMID now, over every route, until its agent confirms it. Safe to run on a thawed guest.

    On the guest's own node it works with the whole API down.
    """
    _end_at_once()
    access = state.rescue_access()
    guest = _to_rescue(access, vmid)
    if guest.kind is GuestKind.LXC:
        raise GuestUnfitError(f"{vmid} is a container: it has no guest agent and is never frozen by us")
    report = thaw_now(guest, access, clear_the_way=lambda: _clear_the_way(state, access, vmid))
    notes = _close_windows(state, access, vmid, report)
    number = report.filesystems
    count = "its agent gave no count" if number is None else f"{remedies.count(number)} thawed"
    how = report.how if report.guest_gone or report.from_inside else f"{count}, {report.how}"
    state.finish(
        [
            *(f"warning: {note}" for note in notes),
            f"guest {vmid} is thawed: {how} ({report.attempts} attempt{'s' if report.attempts != 1 else ''})",
        ],
        text.object_json(vmid=vmid, thaw=report, warnings=[*state.warnings, *notes], exit_code=0),
        0,
    )


def _end_at_once() -> None:
    """From here on a signal ends the program where it stands. The rescue commands hold no guest that would need to be
    thawed first, what they write is whole or not there, and whoever presses Ctrl-C in one wants another way, now.
    """

    def end(number: int, _frame: FrameType | None) -> None:
        streams.err(f"ERROR: ended by signal {number}; a guest that was frozen may still be: `safe-snapshot status`")
        os._exit(128 + number)

    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, end)


def _to_rescue(access: Access, vmid: Vmid) -> Guest:
    """The guest: where its agent's socket is on this node nobody else is asked; else as PVE lists it. One that PVE does
    not list is looked for where our open window has it: one host's list is no proof that it is gone.
    """
    here = Guest(vmid, Node(access.local_node), GuestKind.QEMU, running=True)
    if access.socket(here) is not None:
        return here
    try:
        return GuestApi(access.main).find(vmid)
    except GuestRemovedError:
        path = access.config.journal.path
        with suppress(JournalError):
            if path.exists():
                with closing(Journal(path)) as journal:
                    for window in journal.open_windows(vmid):
                        return window.guest
        raise


def _clear_the_way(state: State, access: Access, vmid: Vmid) -> None:
    """End whoever of us stands still, past its deadline, where the agent is. A journal that is broken knows nobody."""
    path = access.config.journal.path
    with suppress(JournalError):
        if path.exists():
            with closing(Journal(path, read_only=True)) as journal:
                for window in journal.open_windows(vmid):
                    end_who_stands_still(window, access.clock.time(), state.me)


def _close_windows(state: State, access: Access, vmid: Vmid, report: ThawReport) -> list[str]:
    """Close what the thaw has settled. A window whose freeze may still come is left open, to a guard: a thaw that was
    confirmed before such a freeze says nothing.
    """
    config, notes = access.config, list[str]()
    if not config.journal.path.exists():
        return notes
    book = JournalBook(lambda: Journal(config.journal.path))
    try:
        for window in book.journal.open_windows(vmid):
            if window.is_foreign:
                trouble = foreign.close(
                    book, window, f"thawed by `safe-snapshot thaw` over {report.route}", state.clock
                )
                notes += [str(trouble)] if trouble else []
                continue
            end_who_stands_still(window, state.clock.time(), state.me)
            if not is_in_progress(window, config, state.clock.time(), state.me):
                late = settle(book, window, report, access)
                if late > 0:
                    notes.append(_hand_over(state, access, window, late))
    except JournalError as error:
        notes.append(str(error))
    return notes


def _hand_over(state: State, access: Access, window: WindowRecord, late: float) -> str:
    still = f"a freeze whose answer was lost may still come, for up to {late / 60:.0f} min"
    try:
        ProcessLauncher(access.config, state.config_path, state.clock).adopt(spec_of(window, access.config))
    except GuardError as error:
        return f"{still}: run `safe-snapshot recover` again and again until then ({error.message})"
    return f"{still}: a guard watches"


@main_group.command(name="recover", short_help="Close windows that were left open.")
@logfmt_option
@common()
@pass_state
def recover_command(state: State) -> None:
    """Close every window that was left open, and look at the guests: thaw what is ours, report what is not.

    For boot, a timer each minute, or by hand. Guests that write are not asked; see docs/safe-snapshot.md for the rest.
    """
    _end_at_once()
    access = state.rescue_access()
    launcher = ProcessLauncher(access.config, state.config_path, state.clock)
    found = recover(access, state.me, lambda: Journal(access.config.journal.path), state.say, launcher.adopt)
    bad = [r for r in found if not r.ok]
    exit_code = StillFrozenError.exit_code if bad else 0
    try:
        with closing(Journal(access.config.journal.path)) as journal:
            problems = silences.keep_watch(journal, access.config, state.warnings, state.clock.time())
            problems += publish(access.config, journal, state.clock)
    except SafeSnapshotError as error:
        problems = [str(error)]
    lines = text.recovered_logfmt(found, problems) if state.as_logfmt else text.recovered_lines(found, problems)
    state.finish(lines, text.recovered_json(found, exit_code, state.warnings), exit_code)


@main_group.command(short_help="List open windows and frozen guests.")
@common()
@pass_state
def status(state: State) -> None:
    """List open windows, guests that are frozen right now, ours or foreign, and guests that nobody could ask.

    Exit code 8: a guest needs help. One of which nobody knows whether it is frozen is named; alone it is no error.
    """
    _end_at_once()
    access = state.rescue_access()
    found = survey(access, state.me)
    exit_code = found.exit_code
    now = state.clock.time()
    warnings = [*state.warnings, *found.round.oddities]
    silent = silences.told_by(access.config.journal.path, access.config, now)
    state.finish(
        [*text.survey_lines(found, now), *(f"warning: {line}" for line in silent)],
        text.object_json(
            windows=found.windows,
            frozen=found.frozen,
            unknown=found.round.unknown,
            lost_windows=found.lost,
            silences=silent,
            error=text.error_object(found.problem),
            exit_code=exit_code,
            **({"warnings": warnings} if warnings else {}),
        ),
        exit_code,
    )


for _command in cli_history.COMMANDS:
    main_group.add_command(adopt(_command))


def main() -> NoReturn:
    """The entry point: no traceback reaches a user, whatever happens."""
    streams.prepare()
    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _on_signal)
    try:
        code = main_group.main(prog_name="safe-snapshot", standalone_mode=False)
        sys.exit(code if isinstance(code, int) else 0)
    except (SafeSnapshotError, InterruptedBySignalError) as failure:
        _fail(failure)
    except click.ClickException as error:
        _wrong_usage(error)
    except (click.Abort, KeyboardInterrupt):
        _fail(InterruptedBySignalError(signal.SIGINT))
    except OSError as error:
        streams.give_up()
        where = f" ({error.filename})" if error.filename else ""
        _fail(SafeSnapshotError(f"input or output failed{where}: {error.strerror or error}"))
    except Exception as bug:  # noqa: BLE001 - the last line of defence; the operator gets one line
        _internal_error(bug)


def _on_signal(number: int, _frame: FrameType | None) -> None:
    raise InterruptedBySignalError(number)


def _asked_for(*names: str) -> bool:
    """Whether one of these options stands on the command line, which could not be understood as a whole."""
    return any(name in sys.argv[1:] for name in names)


def _fail(error: Failure) -> NoReturn:
    if not _asked_for("--json") or streams.out(text.error_json(error)):
        streams.err(f"ERROR: {error}")
    sys.exit(error.exit_code)


def _wrong_usage(error: click.ClickException) -> NoReturn:
    if _asked_for("--json"):
        _fail(UsageError(error.format_message()))
    with contextlib.suppress(OSError, ValueError):
        error.show()
    sys.exit(error.exit_code)


def _internal_error(bug: Exception) -> NoReturn:
    if _asked_for("-v", "--verbose"):
        streams.err("".join(traceback.format_exception(bug)).rstrip())
    _fail(
        SafeSnapshotError(
            f"internal error ({type(bug).__name__}: {bug})",
            remedy="a guest that was frozen has been thawed or has its guard: see `safe-snapshot status`. Run again "
            "with --verbose for a report",
        )
    )


if __name__ == "__main__":
    main()
