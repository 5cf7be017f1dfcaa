"""Every change taken back, the youngest kind first: from the line that calls the hook down to the user and the role."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from snapshot.base import files
from snapshot.base.text import clean, named
from snapshot.config.settings import Config
from snapshot.errors import SafeSnapshotError
from snapshot.journal.file import is_absent
from snapshot.journal.store import Journal
from snapshot.model import GuestKind
from snapshot.pve import vzdumpconf
from snapshot.pve.atwork import running_here
from snapshot.pve.guests import AgentOption, GuestApi
from snapshot.pve.here import options_of
from snapshot.setup import jobs, place, rights, tokens, units
from snapshot.setup.configuring import TEXTFILE
from snapshot.setup.node import Places
from snapshot.setup.plan import SCRIPT_KIND
from snapshot.setup.pve import Pve
from snapshot.setup.record import Entry, Record
from snapshot.setup.step import TakenBack

ORDER = (
    jobs.KIND,
    SCRIPT_KIND,
    place.FILE,
    units.KIND,
    tokens.KIND,
    rights.RIGHT_KIND,
    rights.USER_KIND,
    rights.ROLE_KIND,
    place.FOLDER,
)
"""First what lets backups call us; a user goes before its role, which PVE would leave in its rights."""


def take_back(places: Places, pve: Pve, record: Record, say: Callable[[str], None]) -> list[TakenBack]:
    """Take back what the record says, each entry dropped once that is done; goes on where an earlier one ended.

    ApiError and the like when PVE cannot be asked: what is left then is still in the record.
    """
    done: list[TakenBack] = []
    files.sweep(record.path)  # of a setup that was killed before it had changed anything
    while record.entries:
        entry = _next(record)
        try:
            found = _one(places, pve, record, entry)
        except OSError as error:
            raise SafeSnapshotError(
                f"{entry.name} cannot be taken back ({error.strerror})",
                remedy="mend that, then run `safe-snapshot setup --undo` again: it goes on there",
            ) from None
        done.append(found)
        record.drop(entry)
        say(f"{len(done)} seen to, {len(record.entries)} to go")
        if entry.kind == place.FOLDER and Path(entry.name) == places.state:
            place.take_folder_away(entry)  # not before the record has left it
    return _merged(done)


def check_quiet(config: Config) -> None:
    """SafeSnapshotError while a freeze window is open: its guard may need what would be taken away; and while a backup
    runs: an own script that was called at its start is called at its end too.
    """
    with contextlib.suppress(OSError):
        if any(task.kind == "vzdump" for task in running_here(config.local.task_folder)):
            raise SafeSnapshotError(
                "a backup runs on this node: nothing was changed",
                remedy="wait for its end: `pvenode task list --source active`",
            )
    if is_absent(config.journal.path):
        return
    with closing(Journal(config.journal.path, read_only=True)) as journal:
        vmids = sorted({window.vmid for window in journal.open_windows()})
    if vmids:
        raise SafeSnapshotError(
            f"a freeze window is open (guest {', '.join(map(str, vmids))}): nothing was changed",
            remedy="wait for its end: `safe-snapshot status`",
        )


def unfrozen_guests(config: Config, pve: Pve, places: Places, node: str) -> list[str]:
    """This node's guests that nobody will freeze any more: PVE's own freezing is off, and the configuration had us
    freeze them all the same. ApiError when PVE cannot be asked.
    """
    if not any(rule.ignore_freeze_option for rule in config.guest):
        return []
    api = GuestApi(pve.transport)
    mine = [g for g in api.list() if g.node == node and g.kind is GuestKind.QEMU]
    ours = [g for g in mine if config.for_guest(g.vmid, g.tags, g.pool, api.folds_tags).ignore_freeze_option]
    options = options_of([guest.vmid for guest in ours], places.pve / "qemu-server")
    return [
        named(guest.vmid, guest.name)
        for guest in ours
        if not AgentOption.parse(options.get(guest.vmid, {}).get("agent")).freeze
    ]


def _next(record: Record) -> Entry:
    """Of the youngest kind the newest one."""
    unknown = next((entry.kind for entry in record.entries if entry.kind not in ORDER), None)
    if unknown is not None:
        raise SafeSnapshotError(
            f"{record.path} has a change of a kind that this version does not know ({clean(unknown, 40)})",
            remedy="take it back with the version of vzdump-hooks that made it",
        )
    kind = min((entry.kind for entry in record.entries), key=ORDER.index)
    return [entry for entry in record.entries if entry.kind == kind][-1]


def _one(places: Places, pve: Pve, record: Record, entry: Entry) -> TakenBack:
    match entry.kind:
        case jobs.KIND:
            return jobs.give_back(pve, entry)
        case kind if kind == SCRIPT_KIND:
            hook = os.fsencode(places.hook)
            return place.put_back(entry, lambda now, before: vzdumpconf.without(now, hook, before))
        case place.FILE:
            return place.put_back(entry)
        case units.KIND:
            return units.switch_off(places.systemctl, entry)
        case tokens.KIND:
            return tokens.take_token_back(pve, entry)
        case rights.RIGHT_KIND:
            return rights.take_right_back(pve, entry)
        case rights.USER_KIND:
            return rights.take_user_back(pve, record)
        case rights.ROLE_KIND:
            return rights.take_role_back(pve, entry)
        case _:
            is_state = Path(entry.name) == places.state
            return TakenBack(entry.name) if is_state else place.take_folder_away(entry, TEXTFILE)


def _merged(done: list[TakenBack]) -> list[TakenBack]:
    """One for each thing: what became of it last."""
    return list({found.what: found for found in done}.values())
