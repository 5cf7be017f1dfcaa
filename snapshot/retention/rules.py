"""Which rule holds for which label of a guest, and what a run does with them once its snapshot is taken."""

from __future__ import annotations

from collections.abc import Callable

from snapshot.config.labels import labels_of
from snapshot.model import Guest
from snapshot.retention.keep import Rule
from snapshot.retention.prune import Pruned, PruneTools, Rules, prune


def rules_of(guest: Guest, rule: Rule | None, label: str, folds_tags: Callable[[], bool] = lambda: True) -> Rules:
    """The rules by label. A ``rule`` of the command line is that of ``label``, or of the snapshots without one.

    Else the guest's own tags say it (``snap-daily-7``), for all its labels or for ``label`` alone.
    """
    if rule is not None:
        return {label: rule}
    found = labels_of(guest.tags, folds_tags).labels
    return {one.name: Rule(last=one.keep) for one in found if label in ("", one.name)}


def prune_after(guest: Guest, label: str, rule: Rule | None, tools: PruneTools) -> Pruned:
    """For a run that has just taken a snapshot with ``label`` of ``guest``: remove what its rule does not keep.

    Without a ``rule`` the guest's tag of that label counts; without either nothing is removed. A snapshot without a
    label is pruned by a rule of the command line alone. Raises nothing of ours; what goes wrong stands in ``error``.
    """
    if rule is None and not label:
        return Pruned(guest)
    rules = rules_of(guest, rule, label, tools.access.folds_tags)
    return prune(guest, rules, tools) if rules else Pruned(guest)
