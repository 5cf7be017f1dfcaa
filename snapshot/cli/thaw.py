"""``safe-snapshot thaw``: the rescue of guests. How it is done stands in snapshot/recovery/byhand.py."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, NoReturn

import click

from snapshot.base.aloud import Aloud
from snapshot.base.text import counted
from snapshot.cli.guests import guests_options, resolve
from snapshot.cli.line import Session, common, end_at_once, pass_session
from snapshot.config.choice import Choice, Fit, Grounds, LeftOut
from snapshot.config.selection import Selection
from snapshot.errors import SafeSnapshotError
from snapshot.guard.link import GuardSpec
from snapshot.model import GuestKind, ThawReport, Vmid
from snapshot.pve.access import Access
from snapshot.recovery.byhand import Rescue, in_hand, rescue
from snapshot.report import many
from snapshot.report.envelope import error_data

AT_ONCE = 8
"""How many guests are thawed at the same time: one that does not answer keeps no other waiting."""


@click.command(short_help="The rescue: thaw these guests now.")
@guests_options(required=True)
@common()
@pass_session
def thaw(session: Session, selection: Selection) -> None:
    """Thaw each GUEST (vmid, range, name, glob, all) now, over every route, until its agent confirms it. Safe to run on
    a thawed guest.

    On the guest's own node it works with the whole API down, for guests that are named by their vmids.
    """
    end_at_once()
    access = session.rescue_access()
    if selection.single is not None:
        _thaw_one(session, access, selection.single)
    _thaw_many(session, access, selection)


def _thaw_one(session: Session, access: Access, vmid: Vmid) -> NoReturn:
    with Aloud(session.say, session.clock) as tell:
        report, warnings = rescue(access, vmid, session.me, session.launcher(access.config).adopt, tell)
    session.finish(
        [*(f"warning: {warning}" for warning in warnings), _line(vmid, report)],
        {"vmid": vmid, "thaw": report},
        warnings=warnings,
    )


def _line(vmid: Vmid, report: ThawReport) -> str:
    number = report.filesystems
    count = "its agent gave no count" if number is None else f"{counted(number, 'filesystem')} thawed"
    how = report.how if report.guest_gone or report.from_inside else f"{count}, {report.how}"
    return f"guest {vmid} is thawed: {how} ({counted(report.attempts, 'attempt')})"


class ThawedGuest(NamedTuple):
    """What became of one guest of several."""

    vmid: Vmid
    thaw: ThawReport | None
    """None where no thaw was confirmed."""
    warnings: tuple[str, ...]
    error: SafeSnapshotError | None


def _thaw_many(session: Session, access: Access, selection: Selection) -> NoReturn:
    vmids, left_out = _chosen(session, access, selection)
    lock = threading.Lock()
    launcher = session.launcher(access.config)

    def adopt(spec: GuardSpec) -> None:
        with lock:
            launcher.adopt(spec)

    def one(vmid: Vmid) -> ThawedGuest:
        try:
            found: Rescue = rescue(access, vmid, session.me, adopt, tell)
        except SafeSnapshotError as error:
            done = ThawedGuest(vmid, None, (), error)
        except Exception as bug:  # noqa: BLE001 - one odd guest must not keep the others frozen
            odd = SafeSnapshotError(f"internal error ({type(bug).__name__}: {bug})")
            done = ThawedGuest(vmid, None, (), odd)
        else:
            done = ThawedGuest(vmid, found.report, tuple(found.warnings), None)
        tell(_told(done))
        return done

    with Aloud(session.say, session.clock) as tell, ThreadPoolExecutor(AT_ONCE, thread_name_prefix="thaw") as pool:
        found = list(pool.map(one, vmids))
    lines = [f"warning: guest {done.vmid}: {warning}" for done in found for warning in done.warnings]
    lines += [_told(done) for done in found]
    told = [out for out in left_out if out.named or out.why is Grounds.WINDOW]
    lines += [f"guest {out.guest.vmid} was left alone: {out.reason}" for out in told]
    thawed = sum(1 for done in found if done.thaw is not None)
    closing = f"{thawed} of {counted(len(found), 'guest')} thawed"
    session.finish(
        [closing] if session.is_quiet else [*lines, closing],
        {
            "guests": [
                {"vmid": done.vmid, "thaw": done.thaw, "warnings": done.warnings, "error": error_data(done.error)}
                for done in found
            ],
            "left_out": left_out,
        },
        error=many.error_of_all([(done.vmid, done.error) for done in found]),
    )


def _told(done: ThawedGuest) -> str:
    return _line(done.vmid, done.thaw) if done.thaw is not None else f"ERROR: guest {done.vmid}: {done.error}"


def _chosen(session: Session, access: Access, selection: Selection) -> tuple[tuple[Vmid, ...], tuple[LeftOut, ...]]:
    """Vmids as they stand, for which nobody is asked: PVE may be down. All else by PVE's listing; a guest whom the line
    does not name is left to a window of ours that is in hand: the rescue of many must not break the others' proofs.
    """
    if selection.plain:
        return selection.plain, ()
    choice: Choice = resolve(session, access, selection, Fit(kinds=(GuestKind.QEMU,)))
    named = {term.vmid for term in selection.guests} | {term.word.lower() for term in selection.guests}
    held = in_hand(access, session.me)
    left = [
        LeftOut(guest, Grounds.WINDOW, "in a window of ours, which thaws it")
        for guest in choice.guests
        if guest.vmid in held and guest.vmid not in named and guest.name.lower() not in named
    ]
    vmids = {out.guest.vmid for out in left}
    return tuple(vmid for vmid in choice.vmids if vmid not in vmids), (*choice.left_out, *left)
