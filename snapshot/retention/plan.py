"""What would become of a guest's snapshots: each with its label's rule, or with the reason why it is left. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from snapshot.base.clock import local_time
from snapshot.model import Guest
from snapshot.pve.snapshots import Tree
from snapshot.retention.keep import Decision, Local, Point, Rule, decide
from snapshot.retention.ours import Candidate, Left

NO_RULE = "no rule for it"


class Outlook(NamedTuple):
    """One snapshot, and what becomes of it."""

    found: Candidate
    keeps: bool
    why: str
    """The option that keeps it, or the sentence that says why it is left."""
    left: Left | None = None
    """Why it is left where the rule does not decide, or is not followed."""
    remedy: str = ""

    @property
    def name(self) -> str:
        """The snapshot's."""
        return self.found.snapshot.name


def plan(
    guest: Guest, tree: Tree, found: Sequence[Candidate], rules: Mapping[str, Rule], local: Local = local_time
) -> list[Outlook]:
    """A row for each of ``found``, in its order. ``rules`` are by label; a label without one keeps all that it has.

    A snapshot to which the guest was rolled back is not removed while the guest stands on it, whatever the rule says.
    Those that are left do not count: what is none of ours takes no place of ours.
    """
    decisions: dict[str, Decision] = {}
    for label in {one.label for one in found if one.left is None}:
        # The newest first: of two of one second PVE's count takes the one that it meets first.
        group = [one for one in reversed(found) if one.left is None and one.label == label]
        points = [Point(one.snapshot.taken_at, one.verdict.is_consistent) for one in group]
        rule = rules.get(label)
        made = [Decision(True, NO_RULE)] * len(group) if rule is None else decide(points, rule, local)
        decisions |= {one.snapshot.name: decision for one, decision in zip(group, made, strict=True)}
    return [_row(guest, tree, one, decisions) for one in found]


def _row(guest: Guest, tree: Tree, one: Candidate, decisions: Mapping[str, Decision]) -> Outlook:
    if one.left is not None:
        return Outlook(one, True, one.left.sentence, one.left, one.remedy)
    keeps, why = decisions[one.snapshot.name]
    newest = max(other.taken_at for other in tree.snapshots.values())
    if not keeps and tree.parent == one.snapshot.name and one.snapshot.taken_at < newest:
        hint = f"it goes once another was taken: `safe-snapshot {guest.vmid}`"
        return Outlook(one, True, Left.ROLLED_BACK.sentence, Left.ROLLED_BACK, hint)
    return Outlook(one, keeps, why)
