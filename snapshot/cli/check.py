"""``safe-snapshot check``: the examination of guests, and nothing else."""

from __future__ import annotations

import functools
import os
from typing import NamedTuple, NoReturn

import click

from snapshot.cli.doctor import show_progress
from snapshot.cli.guests import guests_options, resolve
from snapshot.cli.line import Session, common, pass_session
from snapshot.commands import folder
from snapshot.config.choice import Choice
from snapshot.config.selection import Selection
from snapshot.config.settings import DEFAULT_PATH
from snapshot.doctor import rounds
from snapshot.doctor.examine import WITHIN_SECONDS
from snapshot.doctor.rounds import Limit, Patient
from snapshot.errors import ForeignFreezeError, GuestUnfitError, NotConsistentError, SafeSnapshotError
from snapshot.journal import silences
from snapshot.model import Guest, GuestKind, Health, Vmid
from snapshot.preflight.preflight import Known, Preflight, Wish, found_frozen, with_windows
from snapshot.pve.access import Access
from snapshot.pve.guests import GuestApi
from snapshot.report import many, text
from snapshot.report.envelope import error_data


@click.command(short_help="Can these guests be frozen, and what is missing?")
@guests_options(required=True)
@common()
@pass_session
def check(session: Session, selection: Selection) -> None:
    """Look at each GUEST (vmid, range, name, glob, all): can it be frozen, and what is missing? Changes nothing.

    Exit code 0: ready, or a container, or shut down. 6: it cannot be frozen. 4: it cannot be snapshotted at all. 13: it
    is frozen right now. Of several guests the worst.
    """
    access = session.access()
    if selection.single is not None:
        _check_one(session, access, selection.single)
    _check_many(session, access, selection)


def _check_one(session: Session, access: Access, vmid: Vmid) -> NoReturn:
    def wish(guest: Guest) -> Wish:
        return Wish(ignore_freeze_option=access.settings_for(guest).ignore_freeze_option)

    health = with_windows(Preflight(access).examine(vmid, details=True, wish=wish), access, session.me)
    lines = text.health_lines(health)
    lines[-1:] = [*_of_the_installation(session, access), *lines[-1:]]
    session.finish(
        lines[-1:] if session.is_quiet else lines,
        {"guest": health.guest, "checks": health.checks, "facts": health.facts, "frozen": health.frozen},
        error=_error_of(health),
    )


def _of_the_installation(session: Session, access: Access) -> list[str]:
    """What is to be said whoever the guests are: warnings of the session, and a line on own commands."""
    session.warnings += silences.folder_lines(access.config)
    session.warnings += silences.config_lines(access.config, session.config_path)
    session.warnings += folder.refused_lines(session.config_path or DEFAULT_PATH, os.geteuid())
    called = folder.called_line(session.config_path or DEFAULT_PATH, os.geteuid())
    return [f"  {called}"] if called else []


class CheckedGuest(NamedTuple):
    """One guest of several, examined."""

    guest: Guest
    health: Health
    error: SafeSnapshotError | None


def _check_many(session: Session, access: Access, selection: Selection) -> NoReturn:
    api = GuestApi(access.main)
    listing = {listed.guest.vmid: listed for listed in api.listing()}
    session.warnings += api.oddities
    choice = resolve(session, access, selection, listing=[listed.guest for listed in listing.values()])
    folds_tags = functools.cache(access.folds_tags)
    patients = []
    for guest in choice.guests:
        listed = listing[guest.vmid]
        known = Known(is_listed_off=listed.status == "stopped", wants_facts=True)
        settings = access.config.for_guest(guest.vmid, guest.tags, guest.pool, folds_tags)
        patients.append(Patient(listed, known, settings))
    examine = rounds.preflight(access)
    progress = (lambda done, of: None) if session.is_quiet or session.as_json else show_progress
    limit = Limit.begun(WITHIN_SECONDS, session.clock)
    found: list[CheckedGuest] = []
    for one in rounds.examine_all(access, patients, examine, limit, progress):
        if one.health is None:
            error = one.error or SafeSnapshotError(f"not examined: {one.why_not}")
            found.append(CheckedGuest(one.guest, Health(one.guest, ()), error))
        else:
            health = with_windows(one.health, access, session.me)
            found.append(CheckedGuest(health.guest or one.guest, health, _error_of(health)))
    installation = _of_the_installation(session, access)
    session.explain([line for one in found for line in (f"guest {one.guest.vmid}", *text.health_lines(one.health))])
    lines = [*many.table(_rows(session, found, choice)), *installation]
    session.finish(
        [*([] if session.is_quiet else lines), _closing(found, choice)],
        {"guests": [_data(one) for one in found], "left_out": choice.left_out},
        error=many.error_of_all([(one.guest.vmid, one.error) for one in found]),
    )


def _rows(session: Session, found: list[CheckedGuest], choice: Choice) -> list[many.GuestLine]:
    rows = (
        many.GuestLine(
            one.guest, text.health_lines(one.health)[-1] if one.health.checks else f"NOT EXAMINED: {one.error}"
        )
        for one in found
    )
    return many.all_rows(rows, choice, verbose=session.is_verbose)


def _closing(found: list[CheckedGuest], choice: Choice) -> str:
    def number(*kinds: type[SafeSnapshotError]) -> int:
        return sum(1 for one in found if isinstance(one.error, kinds))

    well = [one.health for one in found if one.error is None]
    containers = sum(1 for health in well if health.obstacle is not None)
    unproven = sum(1 for health in well if health.obstacle is None and text.is_proof_missing(health))
    of_kinds = [
        (unproven, "unknown at best"),
        (containers, "container" if containers == 1 else "containers"),
        *((number(kind), what) for kind, what in _COUNTED),
    ]
    rest = len(found) - len(well) - sum(count for count, _ in of_kinds[2:])
    return many.closing([(len(well) - containers - unproven, "ready"), *of_kinds, (rest, "not examined")], choice)


_COUNTED = (
    (ForeignFreezeError, "FROZEN"),
    (NotConsistentError, "cannot be frozen"),
    (GuestUnfitError, "cannot be snapshotted"),
)


def _data(one: CheckedGuest) -> dict[str, object]:
    health = one.health
    return {
        "guest": one.guest,
        "checks": health.checks,
        "facts": health.facts,
        "frozen": health.frozen,
        "error": error_data(one.error),
    }


def _error_of(health: Health) -> SafeSnapshotError | None:
    """What keeps the guest from being frozen; a container never is, and needs no freeze."""
    if health.failure is not None:
        return GuestUnfitError(health.failure.message, remedy=health.failure.remedy)
    if health.frozen:
        return found_frozen(health)
    is_container = health.guest is not None and health.guest.kind is GuestKind.LXC
    if health.obstacle is not None and not is_container:
        return NotConsistentError(health.obstacle.message, remedy=health.obstacle.remedy)
    return None
