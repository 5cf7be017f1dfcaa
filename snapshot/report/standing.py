"""How things stand when the page is made, as the journal of this machine knows it: whose guest may be frozen, who has
not been guarded for too long or never was, and where this machine stands.

Nobody is asked: no API, no agent. The minute's recovery asks, and the journal remembers.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from snapshot.base.procfs import ProcessIdentity
from snapshot.base.text import clean
from snapshot.config.settings import Config, local_node
from snapshot.journal.living import is_in_progress
from snapshot.journal.looks import GuestLook
from snapshot.journal.reader import JournalReader
from snapshot.journal.record import WindowRecord, may_be_frozen
from snapshot.journal.silences import found_silent, last_runs, run_limit_seconds
from snapshot.model import Guest, GuestKind, Node, Vmid
from snapshot.notify.alarms import HEADS, TODO
from snapshot.pve import here, remedies
from snapshot.recovery.overdue import in_vain, needs_help
from snapshot.report.history import Question, plain

MOST_LISTED = 25
"""So many guests of one kind of silence are told in words; all of them have a flag in the table of guests."""


class Place(NamedTuple):
    """Where the page comes from."""

    node: str
    """Empty: this machine is no node of PVE's."""
    cluster: str | None
    """Empty: the node is in none. None: not known."""
    machine: str
    host: str
    """The API's host, as configured."""


class Stuck(NamedTuple):
    """A guest that may be frozen and needs somebody."""

    guest: str
    name: str
    node: str
    since_at: float | None
    why: str
    remedy: str


class InHand(NamedTuple):
    """A guest in an open window that somebody alive sees to, and in time; or a window that was only not closed."""

    guest: str
    node: str
    since_at: float
    what: str


class Missing(NamedTuple):
    """What should have happened and did not, of one kind."""

    runbook: str
    head: str
    remedy: str
    guests: tuple[GuestLook, ...]
    """Whose it is; none: this machine's, and ``lines`` say it."""
    lines: tuple[str, ...]
    """What the journal says, a line each, of the first MOST_LISTED."""
    number: int


class KnownGuest(NamedTuple):
    """A guest that this machine looks at, whether a run ever came to it or not."""

    look: GuestLook
    last_run_at: float | None
    limit_seconds: float
    """How old its last run may get; 0: none is expected."""


@dataclass(frozen=True)
class Standing:
    """Everything the page shows of now."""

    place: Place
    stuck: tuple[Stuck, ...]
    in_hand: tuple[InHand, ...]
    missing: tuple[Missing, ...]
    known: Mapping[str, KnownGuest]
    """By the guest's id; those that were seen at the last look."""
    looked_at: float | None
    """When the last look was; None: never."""
    is_part: bool
    """Only some guests were asked for."""


def standing(
    config: Config, question: Question, me: ProcessIdentity, now: float, members_file: Path = here.MEMBERS_FILE
) -> Standing:
    """How things stand for the guests that are asked for. JournalError when the journal cannot be read."""
    with closing(JournalReader(config.journal.path)) as journal:
        looks = {key: look for key, look in journal.looks().items() if _is_asked(look, question)}
        windows = [w for w in journal.open_windows(question.vmid) if _means(w.guest, question)]
        lost = journal.lost_windows()
        silent = [found for found in found_silent(journal, config, now) if _is_asked(found.look, question)]
        runs = last_runs(journal)
    in_need = {w.id for w in windows if needs_help(w, config, now, me)}
    frozen = [w for w in windows if w.id in in_need and may_be_frozen(w)]
    stuck = [_stuck(w, now, is_alive=is_in_progress(w, config, now, me)) for w in frozen]
    missing: dict[str, list[tuple[GuestLook | None, str]]] = {}
    for found in silent:
        missing.setdefault(found.runbook, []).append((found.look, found.line))
    return Standing(
        place=_place(config, members_file),
        stuck=(*sorted(stuck, key=lambda one: one.since_at or 0.0), *map(_lost, lost)),
        in_hand=tuple(_in_hand(w, is_left=w.id in in_need) for w in windows if w not in frozen),
        missing=tuple(_missing(runbook, found) for runbook, found in sorted(missing.items(), key=_order)),
        known={key: KnownGuest(look, runs.get(key), run_limit_seconds(look, config)) for key, look in looks.items()},
        looked_at=max((look.seen_at for look in looks.values()), default=None),
        is_part=question.vmid is not None or question.means is not None,
    )


def _order(found: tuple[str, object]) -> int:
    """What is wrong with the machine first, for it may be the cause of the rest; then who may be frozen."""
    return list(HEADS).index(found[0]) if found[0] in HEADS else -1


def _place(config: Config, members_file: Path) -> Place:
    node = local_node(config)
    machine = clean(os.uname().nodename, 80)
    return Place(node, here.cluster_name(members_file) if node else None, machine, config.api.host)


def _is_asked(look: GuestLook | None, question: Question) -> bool:
    """Whether a look is at a guest that is asked for. What is about no guest is told always."""
    if look is None:
        return True
    kind = GuestKind.LXC if look.id.startswith("lxc/") else GuestKind.QEMU
    return _means(Guest(Vmid(look.vmid), Node(look.node), kind, look.name), question)


def _means(guest: Guest, question: Question) -> bool:
    return (question.vmid is None or guest.vmid == question.vmid) and (question.means is None or question.means(guest))


def _stuck(window: WindowRecord, now: float, *, is_alive: bool) -> Stuck:
    """A window that needs somebody. ``is_alive``: somebody of ours sees to it, in vain."""
    where = f"on {window.node}"
    if window.is_foreign:
        why = "frozen by somebody else, for longer than that may last"
        remedy = f"`safe-snapshot status` {where}: who is at work on it? `safe-snapshot thaw {window.vmid}` thaws it"
    elif is_alive:
        why, remedy = in_vain(window, now), f"{where}: {remedies.of_stuck(window.vmid, window.thaw_detail)}"
    else:
        why = f"its window was left open ({window.state}), and nobody sees to it"
        remedy = f"`safe-snapshot recover` {where}, or `safe-snapshot thaw {window.vmid}`"
    since_at = window.frozen_at if window.frozen_at is not None else window.intent_at
    name = plain(window.guest_name)
    return Stuck(window.guest.id, name, window.node, since_at, why, f"{remedy}; docs/runbooks/guest-still-frozen.md")


def _lost(window_id: str) -> Stuck:
    why = f"the open window {window_id[:8]} does not say whose it is"
    return Stuck("any guest", "", "this node", None, why, "`safe-snapshot recover` looks at every one")


def _in_hand(window: WindowRecord, *, is_left: bool) -> InHand:
    if is_left:
        what = "was left open, with its guest thawed or never frozen: `safe-snapshot recover` closes it"
    elif window.is_foreign:
        what = "frozen by somebody else, not for too long yet"
    else:
        what = f"in a window of ours ({window.state}), which somebody alive sees to"
    return InHand(window.guest.id, window.node, window.intent_at, what)


def _missing(runbook: str, found: list[tuple[GuestLook | None, str]]) -> Missing:
    guests = tuple(look for look, _ in found if look is not None)
    vmid, node = (str(guests[0].vmid), guests[0].node) if guests else ("", "this machine")
    remedy = TODO.get(runbook, "").format(vmid=vmid, node=node)
    return Missing(
        runbook,
        HEADS.get(runbook, "something is missing on this machine"),
        f"for each, as for {vmid}: {remedy}" if len(guests) > 1 else remedy,
        guests,
        tuple(plain(line) for _, line in found[:MOST_LISTED]),
        len(found),
    )
