"""The command ``safe-snapshot``: its commands in one group, and how whatever fails leaves the program."""

from __future__ import annotations

import io
import os
import signal
import sys
import traceback
from types import FrameType
from typing import NoReturn

import click

from snapshot.base import streams
from snapshot.base.procfs import call_process
from snapshot.base.signals import SIGNALS
from snapshot.cli import bash
from snapshot.cli.commands import COMMANDS, LateCommands
from snapshot.cli.group import VmidFirstGroup
from snapshot.cli.line import EXIT_CODES, Session, common
from snapshot.errors import Failure, InterruptedBySignalError, SafeSnapshotError, UsageError
from snapshot.report import console
from snapshot.report.monitor import EXIT_UNKNOWN, monitor_text


@click.group(
    cls=VmidFirstGroup,
    commands=LateCommands(COMMANDS),
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
    safe-snapshot setup                 from the package to guarded backups
    safe-snapshot doctor                what is wrong, what is a backup worth?
    safe-snapshot 100                   take a snapshot of guest 100
    safe-snapshot 100 before-upgrade    the same, and its name is yours
    safe-snapshot 100 --policy require  only if it is proven consistent
    safe-snapshot check 100             can guest 100 be frozen?
    safe-snapshot check all --tag prod  can each of these be?
    safe-snapshot status                open windows and frozen guests
    safe-snapshot thaw 100              the rescue: thaw guest 100 now
    safe-snapshot history               what became of each freeze

    docs/ in a message: /usr/share/doc/vzdump-hooks, where the package puts it.
    """
    ctx.ensure_object(Session)


def main() -> NoReturn:
    """The entry point: no traceback reaches a user, whatever happens."""
    streams.prepare()
    call_process("safe-snapshot")  # isolated, we are the interpreter by name
    bash.offer()
    session = Session()
    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _on_signal)
    try:
        code = main_group.main(prog_name="safe-snapshot", standalone_mode=False, obj=session)
        sys.exit(code if isinstance(code, int) else 0)
    except (SafeSnapshotError, InterruptedBySignalError) as failure:
        _fail(session, failure)
    except click.ClickException as error:
        _wrong_usage(session, error)
    except (click.Abort, KeyboardInterrupt):
        _fail(session, InterruptedBySignalError(signal.SIGINT))
    except OSError as error:
        streams.give_up()
        where = f" ({error.filename})" if error.filename else ""
        mend = "run it as root" if isinstance(error, PermissionError) and os.geteuid() != 0 else ""
        _fail(session, SafeSnapshotError(f"input or output failed{where}: {error.strerror or error}", remedy=mend))
    except Exception as bug:  # noqa: BLE001 - the last line of defence; the operator gets one line
        _internal_error(session, bug)


def _on_signal(number: int, _frame: FrameType | None) -> None:
    raise InterruptedBySignalError(number)


def _asked_for(*names: str) -> bool:
    """Whether one of these options stands on the command line, which could not be understood as a whole."""
    return any(name in sys.argv[1:] for name in names)


def _fail(session: Session, error: Failure) -> NoReturn:
    if _asked_for("--monitor"):
        streams.out(monitor_text(EXIT_UNKNOWN, str(error)))
        sys.exit(EXIT_UNKNOWN)
    if not _asked_for("--json") or streams.out(session.envelope({}, error=error).render()):
        console.err(f"ERROR: {error}")
    sys.exit(error.exit_code)


def _wrong_usage(session: Session, error: click.ClickException) -> NoReturn:
    if _asked_for("--json", "--monitor"):
        _fail(session, UsageError(error.format_message()))
    text = io.StringIO()
    error.show(text)
    console.err(text.getvalue().rstrip("\n"))
    sys.exit(error.exit_code)


def _internal_error(session: Session, bug: Exception) -> NoReturn:
    if _asked_for("-v", "--verbose"):
        streams.err("".join(traceback.format_exception(bug)).rstrip())
    _fail(
        session,
        SafeSnapshotError(
            f"internal error ({type(bug).__name__}: {bug})",
            remedy="a guest that was frozen has been thawed or has its guard: see `safe-snapshot status`. Run again "
            "with --verbose for a report",
        ),
    )


if __name__ == "__main__":
    main()
