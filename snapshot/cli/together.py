"""Guests that are frozen as one: which a line means, and what is said of them in the end."""

from __future__ import annotations

import contextlib
import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from snapshot.base.slots import Slot
from snapshot.cli.wishes import GroupWish
from snapshot.config.groups import GroupPolicy, GroupRule
from snapshot.config.naming import free_name
from snapshot.config.selection import Selection
from snapshot.config.settings import Config
from snapshot.errors import ApiError, UsageError
from snapshot.fleet import moment
from snapshot.fleet.groupunit import GroupUnit, Together, unit_of
from snapshot.fleet.outcome import GuestOutcome
from snapshot.model import Guest, Vmid
from snapshot.pve.guests import GuestApi
from snapshot.report import fleet
from snapshot.take.request import Request, Tools

AD_HOC = "together"
"""The name of a group that has none."""


def rule_of(wish: GroupWish, config: Config, selection: Selection) -> tuple[GroupRule, Selection]:
    """The group that is wanted, and its guests. UsageError for a name that the configuration does not know."""
    if wish.group is None:
        policy = GroupPolicy.BEST_EFFORT if wish.best_effort else GroupPolicy.ALL_OR_NONE
        return GroupRule(AD_HOC, policy=policy), selection
    rule = next((one for one in config.group if one.name == wish.group), None)
    if rule is None:
        names = [one.name for one in config.group]
        near = difflib.get_close_matches(wish.group, names, n=1)
        known = f"did you mean {near[0]}?" if near else f"known: {', '.join(names)}" if names else "add a [[group]]"
        raise UsageError(f"the configuration has no group {wish.group!r:.60}", remedy=known)
    if wish.best_effort:
        rule = rule._replace(policy=GroupPolicy.BEST_EFFORT)
    return rule, rule.selection


@dataclass(frozen=True)
class Grouped:
    """One run of a group."""

    together: Together
    unit: GroupUnit
    request: Request
    """For all members: one name, one deadline."""
    tools: Tools
    alone: Mapping[Vmid, Slot]
    """The guests that no other run of this machine begins meanwhile."""

    @classmethod
    def begun(cls, rule: GroupRule, guests: Sequence[Guest], request: Request, label: str, tools: Tools) -> Grouped:
        """Before anybody is asked anything but which names are taken. ``guests``: in the order of their freezes."""
        config, clock = tools.config, tools.clock
        alone = _alone(guests, tools)
        seconds = request.max_window_seconds or rule.max_window_seconds or config.freeze.max_window_seconds
        together = Together.begun(rule.name, rule.policy, seconds)
        name = request.name or _free_name(guests, label, tools)
        unit = unit_of(together, guests, clock, tools.open_journal)
        return cls(together, unit, replace(request, name=name, max_window_seconds=seconds), tools, alone)

    def told(self, outcomes: Sequence[GuestOutcome]) -> fleet.GroupTold:
        """What came of it; what it should not have left is removed first."""
        left = self.unit.clear(outcomes, self.tools)
        for slot in self.alone.values():
            slot.release()
        decision, group = self.unit.leader.decision, self.unit.leader.group
        is_kept = decision.keep if decision is not None else not self.together.all_or_none
        words = decision.words if decision is not None else moment.words(group.members)
        if not is_kept:
            words = f"no snapshot was kept: {group.ended or words}"
        return fleet.GroupTold(
            id=self.together.id,
            name=self.together.name,
            policy=self.together.policy.value,
            vmids=tuple(member.vmid for member in group.members),
            is_kept=is_kept,
            is_one_point_in_time=is_kept and words.startswith(moment.ONE),
            words=words,
            spans=moment.spans(group.members),
            left=tuple(left),
        )


def _alone(guests: Sequence[Guest], tools: Tools) -> dict[Vmid, Slot]:
    """Those that are this run's now. All groups take theirs in one order, so that none has what another one waits for
    while it waits itself; one that stays in use is told by its own worker, as one that is locked.
    """
    found: dict[Vmid, Slot] = {}
    turns, ends_at = tools.access.turns, tools.clock.monotonic() + (tools.wait_seconds or 0.0)
    assert turns is not None
    for vmid in sorted(guest.vmid for guest in guests):
        with contextlib.suppress(TimeoutError):
            found[vmid] = turns.guest(vmid, max(0.0, ends_at - tools.clock.monotonic()), waits=tools.say)
    return found


def _free_name(guests: Sequence[Guest], label: str, tools: Tools) -> str:
    """One name for all that none of their snapshots has. Where PVE does not say, each member's own look does."""
    taken: set[str] = set()
    main = tools.access.main
    with contextlib.suppress(ApiError):
        for guest in guests:
            taken.update(GuestApi(main).snapshots(guest))
    main.close()  # no connection is inherited
    return free_name(tools.config.snapshot.name_prefix, label, tools.clock.time(), taken)
