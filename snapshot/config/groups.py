"""``[[group]]``: guests that belong together, and what becomes of all when one of them cannot follow. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from enum import Enum
from typing import NamedTuple

from snapshot.config.selection import Selection
from snapshot.model import Guest

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,39}\Z")


class GroupPolicy(Enum):
    """What becomes of the others when one guest of a group cannot follow."""

    ALL_OR_NONE = "all-or-none"
    BEST_EFFORT = "best-effort"


class GroupRule(NamedTuple):
    """``[[group]]``: guests that are frozen, snapshotted and thawed together, by `safe-snapshot --group NAME`.

    They are frozen one after the other: in the order of the terms in ``guests``, and by vmid where one names several.
    Put whoever asks another guest for something in front of that one.
    """

    name: str = ""
    """Letters, digits, ``-``, ``_`` and ``.``, at most 40."""
    guests: tuple[str, ...] = ()
    """As on the command line: vmids, ranges, names and globs, ``all``, or a word behind ``tag:``, ``pool:``, ``node:``.
    Empty: all that ``tag`` and ``pool`` leave."""
    tag: str = ""
    """Of these only those with this tag."""
    pool: str = ""
    """Of these only those in this pool, or in one nested in it."""
    policy: GroupPolicy = GroupPolicy.ALL_OR_NONE
    """``all-or-none``: when one cannot follow, the snapshots of the others are removed again. ``best-effort``: they are
    kept, each with a verdict of its own."""
    max_window_seconds: float | None = None
    """From the first freeze on, for all of them together. By default that of [freeze]."""

    @property
    def selection(self) -> Selection:
        """Who is meant. ValueError, fit for the operator, for a word that is none."""
        tags, pools = filter(None, (self.tag,)), filter(None, (self.pool,))
        return Selection.parse(self.guests, tags=tags, pools=pools)


def problem(rule: GroupRule, earlier: Iterable[GroupRule]) -> str:
    """What is wrong with a table; "" when nothing is."""
    if not NAME.match(rule.name):
        return f"{rule.name!r:.60} is not a name: letters, digits, '-', '_' and '.', at most 40"
    if any(other.name == rule.name for other in earlier):
        return f"there is a group {rule.name!r} already"
    try:
        return "" if not rule.selection.is_empty else "it names nobody: it needs guests, tag or pool"
    except ValueError as error:
        return str(error)


def in_order(selection: Selection, guests: Sequence[Guest]) -> list[Guest]:
    """The guests in the order of the terms that name them, and by vmid."""

    def place(guest: Guest) -> tuple[int, int]:
        named = (n for n, term in enumerate(selection.guests) if term.matches(guest, lambda: True))
        return next(named, len(selection.guests)), guest.vmid

    return sorted(guests, key=place)
