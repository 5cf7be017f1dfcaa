"""The guests of a command line: the argument and the options that all commands share, and who is meant by them.

The grammar stands in snapshot/config/selection.py, what is chosen in snapshot/config/choice.py.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import click

from snapshot.base.text import clean, counted
from snapshot.cli.completion import complete_terms, complete_words
from snapshot.cli.line import Decorator, Session
from snapshot.config.choice import EVERY, USUAL, Choice, Fit, choose
from snapshot.config.selection import Selection, Term, TermKind, terms, words
from snapshot.errors import GuestRemovedError, GuestUnfitError, UsageError
from snapshot.model import Guest, Vmid, check_snapshot_name
from snapshot.pve.guests import GuestApi
from snapshot.report.history import Question

if TYPE_CHECKING:
    from snapshot.pve.access import Access

METAVAR = "[GUEST]..."
MISSING = (
    "Missing argument 'VMID': which guests? Vmids, ranges (100-199), names and globs ('web*') or all; "
    "or --tag, --pool, --node"
)


def guests_options(*, required: bool = False) -> Decorator:
    """The argument GUEST..., --tag, --pool, --node and --exclude; the command is called with ``selection``.

    ``required``: a line that says nothing of guests is a wrong one. Else it is up to the command what that means.
    """

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(command)
        def called(*args: Any, **values: Any) -> Any:
            selection = Selection(*(values.pop(f"selected_{name}") for name in Selection._fields))
            if required and selection.is_empty:
                raise click.UsageError(MISSING)
            _check_exclude(selection)
            return command(*args, selection=selection, **values)

        wrapped: Callable[..., Any] = called
        for names, kind, text in reversed(_OPTIONS):
            wrapped = click.option(
                *names,
                multiple=True,
                metavar="WORD",
                callback=_words(kind),
                shell_complete=complete_words(kind),
                help=text,
            )(wrapped)
        return click.argument(
            "selected_guests", metavar=METAVAR, nargs=-1, callback=_words(None), shell_complete=complete_terms
        )(wrapped)

    return decorate


def _check_exclude(selection: Selection) -> None:
    """A usage error for ``all --exclude 100 101``, where 101 is meant to be left out and would be taken."""
    others = [str(term) for term in selection.guests if term.kind is not TermKind.ALL]
    if selection.exclude and others and len(others) < len(selection.guests):
        meant = ",".join([*map(str, selection.exclude), *others])
        raise click.UsageError(
            f"{', '.join(others[:3])} beside `all` means nothing: to leave these out too write `--exclude {meant}`"
        )


def guest_argument() -> Decorator:
    """The argument GUEST, one: a vmid or a name. The command is called with it as ``vmid``, a term; see ``one_of``."""
    return click.argument("vmid", metavar="GUEST", callback=_term, shell_complete=complete_terms)


def _term(_ctx: click.Context, _param: click.Parameter, value: str) -> Term:
    try:
        term = Term.parse(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None
    if term.vmid is None and (term.kind is not TermKind.NAME or term.is_glob):
        raise click.BadParameter(f"{value!r} may be several guests: this takes one, by its vmid or its name")
    return term


def one_of(session: Session, access: Access, term: Term) -> Vmid:
    """The guest's vmid; nobody is asked for one that stands there. Raises as ``resolve``, and UsageError for a name
    that several have.
    """
    if term.vmid is not None:
        return term.vmid
    vmids = resolve(session, access, Selection((term,)), EVERY).vmids
    if len(vmids) > 1:
        raise UsageError(f"{len(vmids)} guests are called {term}", remedy=f"say which: {', '.join(map(str, vmids))}")
    return vmids[0]


_OPTIONS: tuple[tuple[tuple[str, str], TermKind | None, str], ...] = (
    (("--tag", "selected_tags"), TermKind.TAG, "Only guests with this tag; several: with any of them."),
    (("--pool", "selected_pools"), TermKind.POOL, "Only guests in this pool, or in one nested in it."),
    (("--node", "selected_nodes"), TermKind.NODE, "Only guests on this node."),
    (("--exclude", "selected_exclude"), None, "Without these: as GUEST, or tag:, pool:, node: and a word."),
)


def word_behind(selection: Selection) -> str:
    """The name of a snapshot, in a line that could be `qm snapshot`'s: one vmid, one word, and nothing else of guests.
    "" in all other lines.
    """
    words = click.get_current_context().meta.get(_AS_WRITTEN, ())
    if len(words) != 2 or selection != Selection(terms(words)) or len(selection.guests) != 2:
        return ""
    guest, name = selection.guests
    if guest.vmid is None or name.kind is not TermKind.NAME:
        return ""
    try:
        return check_snapshot_name(name.word)
    except ValueError:
        return ""  # it can only be a guest's


_AS_WRITTEN = "snapshot.cli.guests"


def _words(kind: TermKind | None) -> Callable[[click.Context, click.Parameter, tuple[str, ...]], tuple[Term, ...]]:
    def callback(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> tuple[Term, ...]:
        if param.name == "selected_guests":
            ctx.meta[_AS_WRITTEN] = values
        try:
            return terms(values) if kind is None else words(kind, values)
        except ValueError as error:
            if ctx.resilient_parsing:  # for shell completion
                return ()
            raise click.BadParameter(str(error)) from None

    return callback


def resolve(
    session: Session,
    access: Access,
    selection: Selection,
    fit: Fit = USUAL,
    *,
    listing: Sequence[Guest] | None = None,
) -> Choice:
    """Whom ``selection`` means, by one listing of the cluster (``listing``, where one was made already).

    GuestUnfitError when a term names nobody, with what is near it, or when nobody is left; ApiError when PVE cannot be
    asked. What is only worth a word is added to the session's warnings.
    """
    if listing is None:
        api = GuestApi(access.main)
        listing = api.list()
        session.warnings += api.oddities
    choice = choose(selection, listing, functools.cache(access.folds_tags), fit)
    check(choice, listing)
    session.warnings += warnings_of(choice)
    return choice


def vmids_of(
    session: Session,
    access: Access,
    selection: Selection,
    fit: Fit = USUAL,
) -> tuple[Vmid, ...]:
    """As ``resolve``; where the line names vmids alone, nobody is asked: they are taken as they stand."""
    plain = selection.plain
    if plain is None:
        return resolve(session, access, selection, fit).vmids
    if not plain:
        raise GuestUnfitError("no guest is left: all that are named are excluded", remedy="look at --exclude")
    return plain


def past_of(session: Session, selection: Selection) -> Question:
    """The question to the journal about a selection's windows. The journal knows vmids, names and nodes, of guests that
    are gone too; PVE is asked for tags and pools only, which it knows of the present. Raises as ``resolve`` then.
    """
    if selection.is_empty:
        return Question()
    if selection.single is not None:
        return Question(selection.single)
    if not selection.needs_pve:
        return Question(means=selection.means)
    vmids = frozenset(resolve(session, session.access(), selection, EVERY).vmids)
    session.warn_aside()
    return Question(means=lambda guest: guest.vmid in vmids)


def check(choice: Choice, listing: Sequence[Guest]) -> None:
    """GuestUnfitError when something names nobody, or nobody is left."""
    if not listing:
        raise GuestUnfitError(
            "the API lists no guest at all for this token",
            remedy="grant it VM.Audit (docs/privileges.md), or look whether there are guests: `qm list`, `pct list`",
        )
    if choice.unmatched:
        kind = GuestRemovedError if all(one.term.vmid for one in choice.unmatched) else GuestUnfitError
        raise kind(
            _joined(str(one) for one in choice.unmatched),
            remedy="nothing was begun; check the words, and whether this token may see the guest",
        )
    if not choice.guests:
        count = counted(len(choice.left_out), "guest")
        reasons = dict.fromkeys(out.reason for out in choice.left_out)
        raise GuestUnfitError(
            f"no guest is left: {count} left out ({_joined(reasons)})" if choice.left_out else "no guest is left",
            remedy="nothing was begun; check the words",
        )


def warnings_of(choice: Choice) -> list[str]:
    """What is worth a word of a choice that stands."""
    found = [f"--exclude {one.term} leaves nobody out: {one}" for one in choice.idle]
    return found + [clean(f"guest {guest.vmid}: {odd}") for guest, odd in choice.odd_tags]


def _joined(texts: Iterable[str]) -> str:
    """At most three of them."""
    found = list(texts)
    rest = f"; and {len(found) - 3} more" if len(found) > 3 else ""
    return "; ".join(found[:3]) + rest
