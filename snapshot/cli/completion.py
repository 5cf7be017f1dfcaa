"""Shell completion of guests: what PVE lists within a short time, and nothing otherwise. Never a word, never a wait."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, TypeVar

import click
from click.shell_completion import CompletionItem

from snapshot.base.aside import Aside
from snapshot.base.clock import SystemClock
from snapshot.base.late import late
from snapshot.cli.line import Session
from snapshot.config import reading
from snapshot.config.labels import labels_of
from snapshot.config.selection import PREFIXED, TermKind, parents_of
from snapshot.model import Guest, Vmid
from snapshot.pve.guests import GuestApi

if TYPE_CHECKING:
    from snapshot.pve.access import open_access
else:  # the HTTPS library, which the name of a command or an option needs not
    open_access = late("snapshot.pve.access:open_access")

WITHIN_SECONDS = 1.5
"""For the listing, everything included: somebody sits there with a finger on Tab."""

T = TypeVar("T")
Completer = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]


def complete_terms(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Vmids, names and ``all``; behind ``tag:`` and its like the words of that kind. The last one of a comma list."""
    before, comma, last = incomplete.rpartition(",")
    prefix, colon, word = last.partition(":")
    kind = next((kind for kind in PREFIXED if colon and kind.value == prefix), None)
    guests = listed(ctx)
    if kind is not None:
        found = [CompletionItem(f"{prefix}:{one}") for one in _words(kind, guests) if one.startswith(word)]
    else:
        found = [item for guest in guests for item in _of_guest(guest) if item.value.startswith(last)]
        found += [CompletionItem("all")] if "all".startswith(last) else []
    for item in found:
        item.value = f"{before}{comma}{item.value}"
    return found


def complete_words(kind: TermKind | None) -> Completer:
    """The words of one kind, for an option of its own; None: terms."""
    if kind is None:
        return complete_terms

    def complete(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        before, comma, last = incomplete.rpartition(",")
        found = [word for word in _words(kind, listed(ctx)) if word.startswith(last)]
        return [CompletionItem(f"{before}{comma}{word}") for word in found]

    return complete


def listed(ctx: click.Context) -> Sequence[Guest]:
    """Every guest that PVE lists in time. Empty for whatever else may happen."""
    return _asked(ctx, lambda api: api.list())


def snapshots_listed(ctx: click.Context) -> Sequence[str]:
    """The names of the snapshots of the guest that the line has named. Empty for whatever else may happen."""
    vmid = ctx.params.get("vmid")
    return _asked(ctx, lambda api: tuple(sorted(api.snapshots(api.find(Vmid(int(str(vmid))))))))


def _asked(ctx: click.Context, question: Callable[[GuestApi], tuple[T, ...]]) -> Sequence[T]:
    session = ctx.find_object(Session)
    path = session.config_path if session is not None else None

    def ask() -> tuple[T, ...]:
        config, _ = reading.load_lenient(path)
        return question(GuestApi(open_access(config, SystemClock()).main))

    try:
        return Aside(ask, "completion").result(WITHIN_SECONDS)
    except Exception:  # noqa: BLE001 - whatever it is, a shell's line is no place for it
        return ()


def _of_guest(guest: Guest) -> Iterable[CompletionItem]:
    yield CompletionItem(str(guest.vmid), help=guest.name or None)
    if guest.name:
        yield CompletionItem(guest.name, help=f"{guest.id} on {guest.node}")


def _words(kind: TermKind, guests: Iterable[Guest]) -> list[str]:
    found: set[str] = set()
    for guest in guests:
        found.update(
            {
                TermKind.TAG: guest.tags,
                TermKind.POOL: tuple(parents_of(guest.pool)),
                TermKind.NODE: (guest.node,),
                TermKind.LABEL: tuple(label.name for label in labels_of(guest.tags).labels),
            }[kind]
        )
    return sorted(found)
