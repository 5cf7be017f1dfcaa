"""Which rule holds for which label of a guest, and what a run does with them once its snapshot is taken."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

from snapshot.config.labels import labels_of
from snapshot.config.naming import SnapshotName
from snapshot.model import Guest, VerdictKind
from snapshot.pve.snapshots import Snapshot, Tree
from snapshot.retention.keep import Rule
from snapshot.retention.ours import Candidate
from snapshot.retention.plan import plan
from snapshot.retention.prune import Pruned, PruneTools, Rules, look, prune


def rules_of(guest: Guest, rule: Rule | None, label: str, folds_tags: Callable[[], bool] = lambda: True) -> Rules:
    """The rules by label. A ``rule`` of the command line is that of ``label``, or of the snapshots without one.

    Else the guest's own tags say it (``snap-daily-7``), for all its labels or for ``label`` alone.
    """
    if rule is not None:
        return {label: rule}
    found = labels_of(guest.tags, folds_tags).labels
    return {one.name: Rule(last=one.keep) for one in found if label in ("", one.name)}


def overruled(guest: Guest, rules: Rules, folds_tags: Callable[[], bool] = lambda: True) -> tuple[str, ...]:
    """A line for each rule of the command line that says something else than the guest's own tag of its label."""
    tags = {one.name: one for one in labels_of(guest.tags, folds_tags).labels if one.name in rules}
    return tuple(
        f"the line's {rules[name]} goes before the guest's tag {tag.tag}"
        for name, tag in tags.items()
        if rules[name] != Rule(last=tag.keep)
    )


def prune_after(guest: Guest, label: str, rule: Rule | None, tools: PruneTools) -> Pruned:
    """For a run that has just taken a snapshot with ``label`` of ``guest``: remove what its rule does not keep.

    Without a ``rule`` the guest's tag of that label counts; without either nothing is removed. A snapshot without a
    label is pruned by a rule of the command line alone. Raises nothing of ours; what goes wrong stands in ``error``.
    """
    rules = _of_run(guest, label, rule, tools)
    if not rules:
        return Pruned(guest)
    done = prune(guest, rules, tools)
    return replace(done, warnings=(*overruled(guest, rules, tools.access.folds_tags), *done.warnings))


class Coming(NamedTuple):
    """A snapshot that is to be taken, and what it is expected to be worth."""

    name: str
    label: str
    verdict: VerdictKind


def look_ahead(guest: Guest, coming: Coming, rule: Rule | None, tools: PruneTools) -> Pruned:
    """What ``prune_after`` would remove once ``coming`` is there: ``pending`` of what is returned.

    Changes nothing. Raises nothing of ours; what goes wrong stands in ``error``.
    """
    name, label, verdict = coming
    rules = _of_run(guest, label, rule, tools)
    if not rules:
        return Pruned(guest)
    now = look(guest, rules, tools)
    found = [row.found for row in now.rows]
    if SnapshotName.parse(name, tools.access.config.snapshot.name_prefix) is not None:  # else it does not count
        at = max([int(tools.clock.time()), *(one.snapshot.taken_at for one in found)])
        found.append(Candidate(Snapshot(name, "", "", at), label, verdict=verdict))
    tree = Tree({one.snapshot.name: one.snapshot for one in found}, parent=name)
    then = plan(guest, tree, found, rules)
    rows = (was if was.found.left is not None else will for was, will in zip(now.rows, then, strict=False))
    told = overruled(guest, rules, tools.access.folds_tags)
    return Pruned(guest, tuple(rows), error=now.error, warnings=told)


def _of_run(guest: Guest, label: str, rule: Rule | None, tools: PruneTools) -> Rules:
    """What a run with ``label`` prunes by; empty: it prunes nothing."""
    return {} if rule is None and not label else rules_of(guest, rule, label, tools.access.folds_tags)
