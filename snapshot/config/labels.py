"""Labels that a guest opts in to by a tag in PVE: ``snap-daily-7`` is the label ``daily``, of which 7 are kept. Pure.

So PVE's web interface is the configuration. A tag that looks like one and makes no sense is told, never left unsaid.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import NamedTuple

PERIODS = ("hourly", "daily", "weekly", "monthly", "yearly")
"""The usual labels, as PVE's prune options call their steps. Any other word is a label too."""

PREFIX = "snap"

LONGEST_LABEL = 16
"""A label stands in a snapshot's name, beside a prefix and a date: PVE takes 40 characters in all."""

MOST_KEPT = 999

_LABEL = re.compile(rf"[a-z][a-z0-9_]{{0,{LONGEST_LABEL - 1}}}\Z")
_KEEP = re.compile(r"[1-9][0-9]{0,2}\Z")
_LOOKS = re.compile(rf"{PREFIX}[-_.+]", re.IGNORECASE)
_ALMOST = re.compile(rf"([a-z]+)[-_.+]?({'|'.join(PERIODS)})[-_.+]?[0-9]+\Z", re.IGNORECASE)
_AS = f"write {PREFIX}-daily-7: a label, and how many to keep"


class Label(NamedTuple):
    """What a guest wants to have kept: the last ``keep`` snapshots with this label."""

    name: str
    keep: int

    @property
    def tag(self) -> str:
        """As it stands among the guest's tags."""
        return f"{PREFIX}-{self.name}-{self.keep}"


class OddTag(NamedTuple):
    """A tag that looks like a label and is not taken as it stands, and why, in words for the operator."""

    tag: str
    why: str

    def __str__(self) -> str:
        return f"tag {self.tag!r}: {self.why}"


class Labels(NamedTuple):
    """What one guest's tags say."""

    labels: tuple[Label, ...] = ()
    """By name, one each."""
    odd: tuple[OddTag, ...] = ()

    def named(self, name: str) -> Label | None:
        """Its label of this name."""
        return next((label for label in self.labels if label.name == name), None)


def check_label(text: str) -> str:
    """``text`` if it is fit for a label; ValueError, fit for the operator, with the rule otherwise."""
    if not _LABEL.match(text):
        raise ValueError(
            f"{text[:40]!r} is not a label: 1 to {LONGEST_LABEL} small letters, digits and '_', a letter first"
        )
    return text


def labels_of(tags: Iterable[str], folds_tags: Callable[[], bool] = lambda: True) -> Labels:
    """The labels among a guest's ``tags``, and the tags that only look like one.

    ``folds_tags`` says whether the cluster's tags know no case (datacenter.cfg, tag-style); it is asked only where that
    makes a difference. Where they do, a label is written in small letters. Of two tags with one label the larger number
    counts, and both are told: what is unclear deletes nothing.
    """
    found: dict[str, Label] = {}
    odd: list[OddTag] = []
    for tag in dict.fromkeys(tags):
        if not _LOOKS.match(tag):
            odd += _almost(tag)
            continue
        if tag != tag.lower() and not folds_tags():
            odd.append(OddTag(tag, f"this cluster's tags know case, and labels are in small letters; {_AS}"))
            continue
        try:
            label = _parse(tag.lower())
        except ValueError as error:
            odd.append(OddTag(tag, str(error)))
            continue
        odd += _doubtful(tag, label, found.get(label.name))
        found[label.name] = max(label, found.get(label.name, label))
    return Labels(tuple(found[name] for name in sorted(found)), tuple(odd))


def _parse(tag: str) -> Label:
    """ValueError with the reason, for one that only looks like it."""
    prefix, _, rest = tag.partition("-")
    name, dash, number = rest.rpartition("-")
    if prefix != PREFIX:
        raise ValueError(f"dashes stand between the parts; {_AS}")
    if not dash:
        missing = "a label is missing" if rest.isdigit() else "how many to keep is missing"
        raise ValueError(f"{missing}; {_AS}")
    if not _KEEP.match(number):
        raise ValueError(f"{number!r} is no number from 1 to {MOST_KEPT}; {_AS}")
    return Label(check_label(name), int(number))


def _doubtful(tag: str, label: Label, earlier: Label | None) -> list[OddTag]:
    """What is said of a tag that counts all the same."""
    if earlier is not None and earlier.keep != label.keep:
        kept = max(earlier.keep, label.keep)
        return [OddTag(tag, f"the guest has {earlier.tag!r} too, so {kept} are kept; remove one of the two")]
    near = _near(label.name, PERIODS, 0.8)
    if near and label.name not in PERIODS:
        return [OddTag(tag, f"taken as a label of its own, {label.name!r}; did you mean {near!r}?")]
    return []


def _almost(tag: str) -> list[OddTag]:
    """``snaps-daily-7``, ``snapdaily7``: a slip of the pen, which would be left out without a word."""
    found = _ALMOST.match(tag)
    if found is None or not _near(found[1].lower(), (PREFIX, "snapshot"), 0.65):
        return []
    return [OddTag(tag, f"it is no label as it stands; {_AS}")]


def _near(word: str, known: Iterable[str], cutoff: float) -> str:
    import difflib  # noqa: PLC0415 - 1.7 ms of every hook phase, for a message

    return next(iter(difflib.get_close_matches(word, list(known), n=1, cutoff=cutoff)), "")
