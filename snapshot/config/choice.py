"""Whom a selection means among the guests that PVE lists, who is left out and why, and what names nobody. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from enum import Enum
from typing import NamedTuple

from snapshot.config.labels import OddTag, labels_of
from snapshot.config.selection import Selection, Term, TermKind, parents_of
from snapshot.model import Guest, GuestKind, Vmid

NEAR = 10
"""How far a vmid may be from one that is there, to be near it."""
MOST_NEAR = 3


class Grounds(Enum):
    """Why a guest that a term names is left out all the same."""

    EXCLUDED = "excluded"
    TAG = "tag"
    POOL = "pool"
    NODE = "node"
    TEMPLATE = "template"
    KIND = "kind"
    WINDOW = "window"
    """Found by `thaw` alone: who has the guest frozen thaws it."""


class LeftOut(NamedTuple):
    """A guest that is left out, with the reason in words."""

    guest: Guest
    why: Grounds
    reason: str
    named: bool = False
    """The line names it, by its vmid or its whole name: whoever did so will wonder."""


class Unmatched(NamedTuple):
    """A term that names no guest, and what is near it, as it would be written."""

    term: Term
    near: tuple[str, ...] = ()

    def __str__(self) -> str:
        kind, word = self.term.kind, self.term.word
        is_glob = self.term.is_glob
        what = {
            TermKind.ALL: "PVE lists no guest at all",
            TermKind.VMID: f"guest {self.term} does not exist in this cluster"
            if self.term.vmid
            else f"no guest has a vmid in {self.term}",
            TermKind.NAME: f"no guest's name is {'like ' if is_glob else ''}{word!r}",
            TermKind.TAG: f"no guest has a tag {'like ' if is_glob else ''}{word!r}",
            TermKind.POOL: f"no guest is in a pool {'like ' if is_glob else ''}{word!r}",
            TermKind.NODE: f"no guest is on a node {'like ' if is_glob else ''}{word!r}",
            TermKind.LABEL: f"no guest opts in to the label {word!r} (by a tag like snap-{word}-7)",
        }[kind]
        return f"{what}; near it: {', '.join(self.near)}" if self.near else what


class Fit(NamedTuple):
    """What a command can do something with; the rest is left out with the reason."""

    kinds: tuple[GuestKind, ...] = tuple(GuestKind)
    templates: bool = False


USUAL = Fit()
"""Every guest but a template."""
EVERY = Fit(templates=True)
"""For what only looks: nobody is left out but by the selection itself."""


class Choice(NamedTuple):
    """What came of a selection."""

    guests: tuple[Guest, ...] = ()
    """By vmid."""
    left_out: tuple[LeftOut, ...] = ()
    """By vmid: those that a term names and that are left out all the same."""
    unmatched: tuple[Unmatched, ...] = ()
    """Terms and options that name nobody: an error."""
    idle: tuple[Unmatched, ...] = ()
    """Terms of ``exclude`` that name nobody: worth a word, no more. The guest may be gone."""
    odd_tags: tuple[tuple[Guest, OddTag], ...] = ()
    """Tags of chosen guests (of all, where the selection goes by labels) that only look like a label."""

    @property
    def vmids(self) -> tuple[Vmid, ...]:
        """Of the chosen guests."""
        return tuple(guest.vmid for guest in self.guests)


def choose(
    selection: Selection,
    listing: Iterable[Guest],
    folds_tags: Callable[[], bool] = lambda: True,
    fit: Fit = USUAL,
) -> Choice:
    """Whom ``selection`` means among ``listing``: every guest that PVE lists, each once.

    Neither the order of the terms nor that of the listing changes anything. ``folds_tags`` as in GuestRule.matches.
    """
    ordered = sorted(listing, key=lambda guest: (guest.vmid, str(guest)))
    known = list({guest.vmid: guest for guest in reversed(ordered)}.values())[::-1]
    chosen: list[Guest] = []
    left_out: list[LeftOut] = []
    for guest in known:
        if selection.guests and not _any(selection.guests, guest, folds_tags):
            continue
        out = _left_out(selection, guest, folds_tags, fit)
        if out is None:
            chosen.append(guest)
        else:
            left_out.append(out)
    wanted = (*selection.guests, *selection.tags, *selection.pools, *selection.nodes)
    goes_by_labels = any(term.kind is TermKind.LABEL for term in (*selection.guests, *selection.exclude))
    told = known if goes_by_labels else chosen
    return Choice(
        tuple(chosen),
        tuple(left_out),
        _naming_nobody(wanted, known, folds_tags),
        _naming_nobody(selection.exclude, known, folds_tags),
        tuple((guest, odd) for guest in told for odd in labels_of(guest.tags, folds_tags).odd),
    )


def _any(terms: Sequence[Term], guest: Guest, folds_tags: Callable[[], bool]) -> bool:
    return any(term.matches(guest, folds_tags) for term in terms)


def _left_out(selection: Selection, guest: Guest, folds_tags: Callable[[], bool], fit: Fit) -> LeftOut | None:
    """Grounds a guest that a term names is left out, or None. Exclude stands first: it wins."""
    named = any(_names(term, guest) for term in selection.guests)
    by = next((term for term in selection.exclude if term.matches(guest, folds_tags)), None)
    if by is not None:
        return LeftOut(guest, Grounds.EXCLUDED, f"--exclude {by}", named)
    for why, option in (
        (Grounds.TAG, selection.tags),
        (Grounds.POOL, selection.pools),
        (Grounds.NODE, selection.nodes),
    ):
        if option and not _any(option, guest, folds_tags):
            return LeftOut(guest, why, f"not {_WHERE[why]} {' or '.join(term.word for term in option)}", named)
    if guest.template and not fit.templates:
        return LeftOut(guest, Grounds.TEMPLATE, "a template", named)
    if guest.kind not in fit.kinds:
        return LeftOut(
            guest, Grounds.KIND, f"a {'container' if guest.kind is GuestKind.LXC else 'virtual machine'}", named
        )
    return None


_WHERE = {Grounds.TAG: "tagged", Grounds.POOL: "in the pool", Grounds.NODE: "on the node"}


def _names(term: Term, guest: Guest) -> bool:
    is_name = term.kind is TermKind.NAME and term.word.lower() == guest.name.lower()
    return term.vmid == guest.vmid or is_name


def _naming_nobody(
    terms: Sequence[Term], known: Sequence[Guest], folds_tags: Callable[[], bool]
) -> tuple[Unmatched, ...]:
    return tuple(
        Unmatched(term, _near(term, known))
        for term in dict.fromkeys(terms)
        if not any(term.matches(guest, folds_tags) for guest in known)
    )


def _near(term: Term, known: Sequence[Guest]) -> tuple[str, ...]:
    """What was perhaps meant, as it would be written."""
    if term.kind is TermKind.ALL:
        return ()
    if term.kind is TermKind.VMID:
        below = [guest.vmid for guest in known if 0 < term.first - guest.vmid <= NEAR][-1:]
        above = [guest.vmid for guest in known if 0 < guest.vmid - term.last <= NEAR][:1]
        alike = _alike(str(term), [str(guest.vmid) for guest in known], 0.7) if term.vmid else ()
        return tuple(dict.fromkeys((*map(str, (*below, *above)), *alike)))[:MOST_NEAR]
    word = term.word
    near = _alike(word, _CANDIDATES[term.kind](known))
    if term.kind is not TermKind.NAME:
        return near
    others = [
        f"{kind.value}:{found}"
        for kind in (TermKind.TAG, TermKind.POOL, TermKind.NODE)
        for found in sorted(set(_CANDIDATES[kind](known)))
        if found.lower() == word.lower()
    ]
    return (*others, *near)[:MOST_NEAR]


def _alike(word: str, candidates: Iterable[str], cutoff: float = 0.55) -> tuple[str, ...]:
    import difflib  # noqa: PLC0415 - 1.7 ms of every hook phase, for a message

    by_folded = {text.lower(): text for text in sorted(set(candidates)) if text}
    found = difflib.get_close_matches(word.lower().strip("*?"), list(by_folded), n=MOST_NEAR, cutoff=cutoff)
    return tuple(by_folded[text] for text in found)


_CANDIDATES: dict[TermKind, Callable[[Sequence[Guest]], Iterable[str]]] = {
    TermKind.NAME: lambda known: ["all", *(guest.name for guest in known), *(str(guest.vmid) for guest in known)],
    TermKind.TAG: lambda known: [tag for guest in known for tag in guest.tags],
    TermKind.POOL: lambda known: [pool for guest in known for pool in parents_of(guest.pool)],
    TermKind.NODE: lambda known: [guest.node for guest in known],
    TermKind.LABEL: lambda known: [label.name for guest in known for label in labels_of(guest.tags).labels],
}
