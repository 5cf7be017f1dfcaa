"""From a plan that fails to the smallest one that still does: fewer faults, then a plainer world."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from tests.campaign.plan import Plan

Failing = Callable[[Plan], list[str]]


def shrink(plan: Plan, failing: Failing) -> Plan:
    """The smallest plan found. ``failing`` runs one and returns what it violates."""
    plan = _fewer_faults(plan, failing)
    plan = _plainer(plan, failing)
    return _fewer_faults(plan, failing)


def _fewer_faults(plan: Plan, failing: Failing) -> Plan:
    """ddmin, with sets as small as ours: leave one out as long as that still fails."""
    again = True
    while again:
        again = False
        for index in range(len(plan.faults)):
            smaller = dataclasses.replace(plan, faults=plan.faults[:index] + plan.faults[index + 1 :])
            if failing(smaller):
                plan, again = smaller, True
                break
    return plan


def _plainer(plan: Plan, failing: Failing) -> Plan:
    """Set back to its default whatever does not matter."""
    plain = Plan(plan.seed)
    for field in dataclasses.fields(Plan):
        if field.name in ("seed", "faults", "pve") or getattr(plan, field.name) == getattr(plain, field.name):
            continue
        candidate = dataclasses.replace(plan, **{field.name: getattr(plain, field.name)})
        if failing(candidate):
            plan = candidate
    for field in dataclasses.fields(plan.pve):
        pve = dataclasses.replace(plan.pve, **{field.name: getattr(plain.pve, field.name)})
        if pve != plan.pve and failing(dataclasses.replace(plan, pve=pve)):
            plan = dataclasses.replace(plan, pve=pve)
    return plan
