"""What a line wants of many guests: ``--group NAME`` and ``--together``, and how long ``--wait`` is.

Only words: what is done for them stands in many.py and together.py, which one guest does not load.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, NamedTuple

import click

from snapshot.cli.line import Decorator
from snapshot.config.selection import Selection
from snapshot.errors import UsageError

_SPAN = re.compile(r"([0-9]+(?:\.[0-9]+)?)([smh]?)\Z")
_SECONDS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}
LONGEST_WAIT = 86400.0


def span_option(_ctx: click.Context, _param: click.Parameter, value: str | None) -> float | None:
    """A time in seconds, from ``90``, ``90s``, ``10m`` or ``2h``; 0: not at all."""
    if value is None:
        return None
    found = _SPAN.match(value)
    seconds = float(found[1]) * _SECONDS[found[2]] if found else -1.0
    if not 0 <= seconds <= LONGEST_WAIT:
        raise click.BadParameter(f"{value!r} is not a time: 90s, 10m, 2h, at most 24h")
    return seconds


class GroupWish(NamedTuple):
    """What the command line says of a group."""

    group: str | None = None
    together: bool = False
    best_effort: bool = False

    @property
    def is_there(self) -> bool:
        """Whether it wants one."""
        return self.group is not None or self.together


def group_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """--group, --together and --best-effort."""
    options: tuple[Decorator, ...] = (
        click.option(
            "--group", metavar="NAME", help="A [[group]] of the configuration: its guests at one point in time."
        ),
        click.option("--together", is_flag=True, help="These guests at one point in time, frozen in this order."),
        click.option(
            "--best-effort",
            is_flag=True,
            help="Of a group whose guests do not all follow, keep the snapshots of the others.",
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


def refuse_odd(wish: GroupWish, selection: Selection, *, vmstate: bool) -> None:
    """UsageError for what makes no sense together."""
    if wish.best_effort and not wish.is_there:
        raise UsageError("--best-effort is about a group", remedy="give --group NAME or --together with it")
    if wish.group is not None and (wish.together or not selection.is_empty):
        raise UsageError("--group names the guests already", remedy="leave the guests and --together out")
    if wish.is_there and vmstate:
        raise UsageError(
            "a guest whose RAM is saved is not frozen, and so is in no group", remedy="leave --vmstate out"
        )
