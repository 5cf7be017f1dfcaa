"""Freeze windows with an own command that misbehaves, as ratios to those without one, in one run on one guest."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Sequence

from tests.bench.kinds import backup, ours, overlay, with_own_command
from tests.bench.table import show
from tests.bench.windows import newest
from tests.lab.fixtures import real_available
from tests.lab.guest.real import RealGuest
from tests.lab.guest.scripted import ScriptedGuest
from tests.lab.site import Site, site

WITHOUT = "no own command"
COMMANDS = {
    WITHOUT: "",
    "one that sleeps {sleep:g} s": "sleep {sleep:g}",
    "one that fails": "exit 3",
    "one that floods 100 MB": "yes a line of it | head -c 100000000",
    "one whose daemon keeps its pipes": "sleep 5 &",
    "one that is not root's": "exit 0",
}
"""What each does right before the freeze, and once more when the verdict stands."""

WAYS: dict[str, Callable[[Site, str], str]] = {
    "vzdump-hook, owner hook": lambda lab, _: backup(lab, "hook"),
    "vzdump-hook, owner vzdump": lambda lab, _: backup(lab, "vzdump"),
    "safe-snapshot on the guest's node": lambda lab, name: ours(lab, name, "pve1", "prefer"),
}


def main(runs: int, settings: Sequence[str] = (), sleep: float = 20.0) -> None:
    """Measure and print, a table for each way to freeze. Interleaved, so that a busy moment of the machine hits every
    command alike. ``sleep``: the seconds that the sleeping one sleeps before the freeze.
    """
    real = real_available()
    names = {kind: kind.format(sleep=sleep) for kind in COMMANDS}
    found: dict[str, dict[str, list[float]]] = {way: {name: [] for name in names.values()} for way in WAYS}
    verdicts = {way: {name: Counter[str]() for name in names.values()} for way in WAYS}
    failures: list[str] = []
    with site(RealGuest if real else ScriptedGuest) as lab:
        overlay(lab, settings)
        for number, (way, take), (position, kind) in itertools.product(range(runs), WAYS.items(), enumerate(COMMANDS)):
            before, name = len(lab.guest.windows()), names[kind]
            try:
                _take(lab, kind, sleep, lambda take=take, snapshot=f"b{number}k{position}": take(lab, snapshot))  # type: ignore[misc]
            except RuntimeError as error:  # the others are worth measuring all the same
                failures.append(f"{way}, {name}: {error}")
                continue
            found[way][name] += lab.guest.windows()[before : before + 1]
            verdicts[way][name][newest(lab)[1]] += 1
    what = "real guest under TCG" if real else "scripted guest (no QEMU here)"
    for way in WAYS:
        show(f"{way}: windows by the guest's record ({what})", "ms", found[way], verdicts=verdicts[way])
    for text in failures:
        print(f"FAILED: {text}")


def _take(lab: Site, kind: str, sleep: float, take: Callable[[], str]) -> None:
    if kind == WITHOUT:
        take()
        return
    body = COMMANDS[kind].format(sleep=sleep)
    text = f'#!/bin/sh\ncase "$1" in before-freeze|verdict) {body};; esac\n'
    with_own_command(lab, text, take, 0o775 if "root" in kind else 0o755)
