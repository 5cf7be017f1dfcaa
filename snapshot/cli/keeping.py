"""What is to be kept, on a command line: PVE's prune options by their names, and the label that they are about."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import click

from snapshot.cli.line import Decorator
from snapshot.config.labels import check_label
from snapshot.retention.keep import Rule

_PERIODS = {"hourly": "hours", "daily": "days", "weekly": "weeks", "monthly": "months", "yearly": "years"}


def keep_options() -> Decorator:
    """--keep, --keep-last, -hourly, -daily, -weekly, -monthly, -yearly and --keep-all.

    The command is called with ``rule``, None where none of them is given.
    """

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(command)
        def called(*args: Any, **values: Any) -> Any:
            given = {name: values.pop(f"keep_{name}") for name in Rule._fields}
            rule = _rule(values.pop("keep"), values.pop("keep_all"), given)
            return command(*args, rule=rule, **values)

        wrapped: Callable[..., Any] = click.option(
            "--keep-all", is_flag=True, help="Keep all of them, as PVE does where no number is above 0."
        )(called)
        for name, periods in reversed(_PERIODS.items()):
            wrapped = _number(f"--keep-{name}", f"Keep the newest of each of the last N {periods} with one.")(wrapped)
        wrapped = _number("--keep-last", "The same, as PVE calls it.")(wrapped)
        return _number("--keep", "Keep the last N.")(wrapped)

    return decorate


def label_option(text: str) -> Decorator:
    """--label, as a label or ""."""
    return click.option("--label", default="", callback=_label, metavar="LABEL", help=text)


def _number(name: str, text: str) -> Decorator:
    return click.option(name, type=click.IntRange(min=0), metavar="N", help=text)


def _label(_ctx: click.Context, _param: click.Parameter, value: str) -> str:
    if not value:
        return ""
    try:
        return check_label(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


def _rule(keep: int | None, keep_all: bool, given: dict[str, int | None]) -> Rule | None:
    """As PVE checks them (PVE::Storage::Plugin, validate_prune_backups)."""
    if keep is not None and given["last"] is not None:
        raise click.UsageError("--keep and --keep-last are one option: give it once")
    given["last"] = given["last"] if keep is None else keep
    numbers = {name: number for name, number in given.items() if number is not None}
    if keep_all and any(numbers.values()):
        raise click.UsageError("--keep-all cannot be set together with other options")
    return Rule(**numbers) if numbers or keep_all else None
