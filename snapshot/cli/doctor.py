"""``safe-snapshot doctor``: what is wrong with this installation and its guests. Changes nothing."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from snapshot.base import streams
from snapshot.cli.guests import guests_options, vmids_of
from snapshot.cli.line import Seconds, Session, common, end_at_once, pass_session
from snapshot.config import reading
from snapshot.config.choice import EVERY
from snapshot.config.selection import Selection
from snapshot.config.settings import DEFAULT_PATH
from snapshot.doctor.examine import WITHIN_SECONDS, Surroundings, examine
from snapshot.doctor.findings import Severity
from snapshot.doctor.rounds import CUT_SECONDS
from snapshot.errors import ConfigError, FindingsError
from snapshot.model import Vmid
from snapshot.pve.access import open_access
from snapshot.report import doctor as report

MONITOR_SECONDS = 45.0
"""Nagios gives a service check 60 s by default."""


@click.command(short_help="What is wrong with this installation and its guests?")
@guests_options()
@click.option("--monitor", is_flag=True, help="One line for Nagios and CheckMK, exit status 0 to 3.")
@click.option(
    "--within",
    type=Seconds(1),
    metavar="SECONDS",
    help=f"Ask nothing later than this ({WITHIN_SECONDS:.0f}; with --monitor {MONITOR_SECONDS:.0f}), and wait for no "
    f"answer {CUT_SECONDS:.0f} s later.",
)
@common()
@pass_session
def doctor(session: Session, selection: Selection, monitor: bool, within: float | None) -> None:
    """Look at the installation and at every guest (or each GUEST): what is wrong, what a snapshot and a backup of
    each can be worth at best and why, and the command that mends it. Freezes nothing and changes nothing.

    Exit code 0: well, or notes alone. 14: errors or warnings. With --monitor 0 to 3, as Nagios takes them.
    """
    end_at_once("nothing was frozen or changed")
    _check_may_look(session.config_path or DEFAULT_PATH)
    if session.config_path is not None and not session.config_path.exists():
        raise ConfigError(f"the configuration {session.config_path} does not exist", remedy="see contrib/config.toml")
    began_at = session.clock.monotonic()
    vmids = _vmids(session, selection)
    progress = show_progress if not (monitor or session.is_quiet or session.as_json) else lambda done, of: None
    found = examine(
        session.config_path,
        Surroundings(session.clock, session.me, progress=progress, is_root=os.geteuid() == 0),
        vmids,
        within_seconds=within if within is not None else (MONITOR_SECONDS if monitor else WITHIN_SECONDS),
    )
    if monitor:
        streams.out(report.monitor_line(found, session.clock.monotonic() - began_at))
        sys.exit(report.monitor_status(found))
    counts = report.counts(found)
    bad = [one for one in found.findings if one.severity is not Severity.NOTE]
    session.finish(
        report.lines(found, named=bool(vmids), verbose=session.is_verbose, terse=session.is_quiet),
        {"installation": found.looks, "guests": found.guests, "counts": counts},
        error=FindingsError(report.closing(found), remedy="each finding has its remedy") if bad else None,
    )


def _vmids(session: Session, selection: Selection) -> tuple[Vmid, ...]:
    """Whom the line names; nobody where it names nobody, and vmids as they stand: those PVE does not list are found."""
    if selection.is_empty:
        return ()
    config, _ = reading.load_lenient(session.config_path)  # what is wrong with it is among the findings
    return selection.plain or vmids_of(session, open_access(config, session.clock), selection, EVERY)


def _check_may_look(path: Path) -> None:
    """ConfigError for somebody who may not read the configuration: what followed would be about who asks."""
    try:
        path.open("rb").close()
    except PermissionError:
        raise ConfigError(
            f"the configuration {path} cannot be read (Permission denied)", remedy="run it as root"
        ) from None
    except OSError:
        pass


def show_progress(done: int, of: int) -> None:
    """How far it is, on a terminal, in one line that is gone afterwards."""
    if of > 1 and sys.stderr.isatty():
        text = f"{done} of {of} guests examined" if done < of else ""
        sys.stderr.write(f"\r{text:<40}" + ("\r" if done == of else ""))
        sys.stderr.flush()
