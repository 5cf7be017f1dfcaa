"""Which guests: one grammar for every command that takes guests and for the configuration. Pure: no I/O.

::

    term      = "all" | vmid | vmid "-" vmid | name | "tag:" word | "pool:" word | "node:" word | "label:" word
    name      = a guest's name, or a glob of one (``*``, ``?``, ``[...]``); one of digits alone is a vmid
    word      = as name; a pool stands for those that are nested in it too
    selection = terms, with blanks or commas between them

The guests of a selection are those of any term (all, where there are only options), of these the ones with any of
``tags``, in any of ``pools`` and on any of ``nodes``, without those that any term of ``exclude`` names: exclude wins.
Names know no case, as in DNS; tags fold it where the cluster does (datacenter.cfg, tag-style).
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Iterable, Iterator
from enum import Enum
from typing import NamedTuple

from snapshot.config.labels import check_label, labels_of
from snapshot.model import Guest, Vmid, parse_vmid

_DIGITS = re.compile(r"[0-9]+\Z")
_RANGE = re.compile(r"([0-9]+)-([0-9]+)\Z")
_WORD = re.compile(r"[A-Za-z0-9_*?\[][A-Za-z0-9_.+/*?\[\]!-]*\Z")
"""PVE's own are a part of it: pve-tag, pve-poolid, pve-node and dns-name of PVE::JSONSchema."""
_GLOB = re.compile(r"[*?\[]")
_PEERS = re.compile(r"@(all|pool|tag|node)(?:-(.+))?\Z")
"""As cv4pve-autosnap writes them."""
LONGEST_TERM = 255


class TermKind(Enum):
    """What a term goes by."""

    ALL = "all"
    VMID = "vmid"
    NAME = "name"
    TAG = "tag"
    POOL = "pool"
    NODE = "node"
    LABEL = "label"
    """A tag that opts in to a label: see labels.py."""


PREFIXED = (TermKind.TAG, TermKind.POOL, TermKind.NODE, TermKind.LABEL)


class Term(NamedTuple):
    """One term; ``str`` of it is the term as it is written."""

    kind: TermKind
    word: str = ""
    first: int = 0
    last: int = 0
    """Of a vmid or a range, both ends included."""

    @classmethod
    def parse(cls, text: str) -> Term:
        """From one word without a comma. ValueError, in one line fit for the operator, for anything else."""
        if text == "all":
            return cls(TermKind.ALL)
        if _DIGITS.match(text):
            return cls.of_vmid(parse_vmid(text))
        span = _RANGE.match(text)
        if span is not None:
            return cls._of_range(text, parse_vmid(span[1]), parse_vmid(span[2]))
        prefix, colon, word = text.partition(":")
        if colon:
            return cls._of_prefix(text, prefix, word)
        if not _WORD.match(text) or len(text) > LONGEST_TERM:
            raise ValueError(_refusal(text))
        return cls(TermKind.NAME, text)

    @classmethod
    def of_vmid(cls, vmid: int) -> Term:
        """The term of one guest."""
        return cls(TermKind.VMID, first=vmid, last=vmid)

    @classmethod
    def _of_range(cls, text: str, first: int, last: int) -> Term:
        if first > last:
            raise ValueError(f"{text!r} is a range that ends before it begins: write {last}-{first}")
        return cls(TermKind.VMID, first=first, last=last)

    @classmethod
    def _of_prefix(cls, text: str, prefix: str, word: str) -> Term:
        if prefix not in [kind.value for kind in PREFIXED]:
            raise ValueError(_refusal(text))
        return cls.of_word(TermKind(prefix), word)

    @classmethod
    def of_word(cls, kind: TermKind, word: str) -> Term:
        """``tag:prod`` from its two parts. ValueError as for parse."""
        if kind is TermKind.LABEL:
            return cls(kind, check_label(word))
        if not _WORD.match(word) or len(word) > LONGEST_TERM:
            raise ValueError(f"{word[:40]!r} is not a {kind.value}, nor a glob of one")
        return cls(kind, word)

    @property
    def vmid(self) -> Vmid | None:
        """Of a term that is one vmid."""
        return Vmid(self.first) if self.kind is TermKind.VMID and self.first == self.last else None

    @property
    def is_glob(self) -> bool:
        """Whether its word stands for any that are like it."""
        return _GLOB.search(self.word) is not None

    @property
    def is_numbers(self) -> bool:
        """Whether it goes by vmids alone, so that no guest need be known to tell whom it names."""
        return self.kind in (TermKind.ALL, TermKind.VMID)

    def holds(self, vmid: int) -> bool:
        """Whether a term that goes by numbers names this guest."""
        return self.kind is TermKind.ALL or self.first <= vmid <= self.last

    def matches(self, guest: Guest, folds_tags: Callable[[], bool]) -> bool:
        """Whether it names this guest."""
        if self.is_numbers:
            return self.holds(guest.vmid)
        if self.kind is TermKind.NAME:
            return _is_like(guest.name.lower(), self.word.lower())
        if self.kind is TermKind.NODE:
            return _is_like(guest.node, self.word)
        if self.kind is TermKind.POOL:
            return any(_is_like(pool, self.word) for pool in parents_of(guest.pool))
        if self.kind is TermKind.LABEL:
            return labels_of(guest.tags, folds_tags).named(self.word) is not None
        if any(_is_like(tag, self.word) for tag in guest.tags):
            return True
        return any(_is_like(tag.lower(), self.word.lower()) for tag in guest.tags) and folds_tags()

    def __str__(self) -> str:
        if self.kind is TermKind.ALL:
            return "all"
        if self.kind is TermKind.VMID:
            return f"{self.first}" if self.first == self.last else f"{self.first}-{self.last}"
        return self.word if self.kind is TermKind.NAME else f"{self.kind.value}:{self.word}"


class Selection(NamedTuple):
    """Which guests. Empty: nothing was said of guests; what that means is the command's."""

    guests: tuple[Term, ...] = ()
    tags: tuple[Term, ...] = ()
    pools: tuple[Term, ...] = ()
    nodes: tuple[Term, ...] = ()
    exclude: tuple[Term, ...] = ()

    @classmethod
    def parse(
        cls,
        guests: Iterable[str] = (),
        *,
        tags: Iterable[str] = (),
        pools: Iterable[str] = (),
        nodes: Iterable[str] = (),
        exclude: Iterable[str] = (),
    ) -> Selection:
        """From words, each perhaps several with commas. ValueError, in one line fit for the operator, otherwise."""
        return cls(
            terms(guests),
            words(TermKind.TAG, tags),
            words(TermKind.POOL, pools),
            words(TermKind.NODE, nodes),
            terms(exclude),
        )

    @classmethod
    def of_vmids(cls, vmids: Iterable[int]) -> Selection:
        """Of these guests and no other."""
        return cls(tuple(Term.of_vmid(vmid) for vmid in dict.fromkeys(vmids)))

    @property
    def is_empty(self) -> bool:
        """Whether nothing was said of guests."""
        return not any(self)

    @property
    def single(self) -> Vmid | None:
        """The one guest of a line that names one vmid and says nothing else: it stays as it ever was."""
        plain = self.plain
        return plain[0] if plain is not None and len(plain) == 1 and not self.exclude else None

    @property
    def plain(self) -> tuple[Vmid, ...] | None:
        """The vmids, where only vmids were named: nobody need be asked for them. None for all other selections."""
        found = [term.vmid for term in self.guests]
        if not found or not self.is_numbers:
            return None
        vmids = [vmid for vmid in found if vmid is not None]
        return tuple(vmid for vmid in vmids if self.holds(vmid)) if len(vmids) == len(found) else None

    @property
    def is_numbers(self) -> bool:
        """Whether vmids alone tell who is meant, so that ``holds`` can be asked."""
        return not (self.tags or self.pools or self.nodes) and all(t.is_numbers for t in (*self.guests, *self.exclude))

    def holds(self, vmid: int) -> bool:
        """Whether a selection that goes by numbers means this guest."""
        is_named = not self.guests or any(term.holds(vmid) for term in self.guests)
        return is_named and not any(term.holds(vmid) for term in self.exclude)

    @property
    def needs_pve(self) -> bool:
        """Whether only PVE can tell who is meant: by tags, and by pools."""
        found = (*self.guests, *self.tags, *self.pools, *self.exclude)
        return any(term.kind in (TermKind.TAG, TermKind.POOL, TermKind.LABEL) for term in found)

    def means(self, guest: Guest, folds_tags: Callable[[], bool] = lambda: True) -> bool:
        """Whether this guest is meant; choice.py says why not."""
        options = (self.guests, self.tags, self.pools, self.nodes)
        is_in = all(not option or any(term.matches(guest, folds_tags) for term in option) for option in options)
        return is_in and not any(term.matches(guest, folds_tags) for term in self.exclude)

    def words(self) -> list[str]:
        """The selection as words of a command line."""
        found = [str(term) for term in self.guests]
        for option, wanted in (("--tag", self.tags), ("--pool", self.pools), ("--node", self.nodes)):
            found += [word for term in wanted for word in (option, term.word)]
        return found + [word for term in self.exclude for word in ("--exclude", str(term))]

    def __str__(self) -> str:
        return " ".join(self.words())


def terms(texts: Iterable[str]) -> tuple[Term, ...]:
    """The terms in ``texts``, each once. ValueError as for Term.parse."""
    return tuple(dict.fromkeys(Term.parse(piece) for piece in _pieces(texts)))


def words(kind: TermKind, texts: Iterable[str]) -> tuple[Term, ...]:
    """What an option of its own (``--tag prod``) names: terms without their prefix. ValueError as for Term.parse."""
    return tuple(dict.fromkeys(Term.of_word(kind, piece.removeprefix(f"{kind.value}:")) for piece in _pieces(texts)))


def _pieces(texts: Iterable[str]) -> Iterator[str]:
    for text in texts:
        for piece in text.split(","):
            if not piece:
                raise ValueError(f"{text[:40]!r} has an empty place: a term is missing")
            yield piece


def _is_like(text: str, pattern: str) -> bool:
    return text == pattern or (_GLOB.search(pattern) is not None and fnmatch.fnmatchcase(text, pattern))


def parents_of(pool: str) -> Iterator[str]:
    """A pool, and those that it is nested in: ``prod/db``, ``prod``."""
    while pool:
        yield pool
        pool = pool.rpartition("/")[0]


def _refusal(text: str) -> str:
    """Why a word is no term, and how it would be written; other tools' ways of writing it are known."""
    peer, span = _PEERS.match(text), text.split(":")
    if len(span) == 2 and all(_DIGITS.match(end) for end in span):
        return f"{text[:40]!r} is not a vmid; a range is written {span[0]}-{span[1]}"[:200]
    if text[:1] == "-":
        return f"{text[:40]!r} is not a vmid or a name; guests are left out by --exclude"
    if peer is not None:
        kind, word = peer.groups()
        is_node = kind == "all" and word
        shown = f"node:{word}" if is_node else ("all" if kind == "all" else f"{kind}:{word or '...'}")
        return f"{text[:40]!r} is not a vmid or a name; it is written {shown}"[:200]
    return (
        f"{text[:40]!r} is not a vmid, a range (100-199), a name or a glob of one ('web*'), all, "
        "or one of tag:, pool:, node: and label: with a word behind it"
    )
