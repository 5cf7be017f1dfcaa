"""Freeze windows as the guest itself records them, from its freeze hook to its thaw hook, in one run on one guest."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from tests.bench.kinds import kinds, overlay
from tests.bench.table import show
from tests.bench.variants import VARIANTS
from tests.lab.fixtures import real_available
from tests.lab.guest.scripted import ScriptedGuest
from tests.lab.node.settings import Settings
from tests.lab.site import Site, site

NEWEST = Settings.pve_version


def main(
    runs: int,
    variants: Sequence[str] = ("idle",),
    settings: Sequence[str] = (),
    versions: Sequence[str] = (NEWEST,),
) -> None:
    """Measure and print, a table for each of PVE's ``versions`` (of qemu-server) and each variant. ``settings`` are
    laid over the configuration: kinds.overlay.
    """
    for version in versions:
        for name in variants:
            _measure(runs, name, settings, version)


def _measure(runs: int, name: str, settings: Sequence[str], version: str) -> None:
    """Interleaved, so that a busy moment of the machine hits every kind alike."""
    real, variant = real_available(), VARIANTS[name]
    if not real and name != "idle":
        print(f"\n{name}: not measured, it needs a real guest (no QEMU here)")
        return
    with site(variant.make if real else ScriptedGuest, pve_version=version) as lab:
        overlay(lab, settings)
        variant.prepare(lab)
        disks = (lab.guest.drive_node, *getattr(lab.guest, "more_disks", ()))
        ways = {kind: take for kind, take in kinds(lab, disks).items() if kind not in variant.without}
        found: dict[str, list[float]] = {kind: [] for kind in ways}
        verdicts: dict[str, Counter[str]] = {kind: Counter() for kind in ways}
        failures: list[str] = []
        for number in range(runs):
            for position, (kind, take) in enumerate(ways.items()):
                variant.before(lab)
                before, judged = len(lab.guest.windows()), newest(lab)
                try:
                    take(f"b{number}k{position}")
                except RuntimeError as error:  # the others are worth measuring all the same
                    failures.append(f"{kind}: {error}")
                    continue
                found[kind] += lab.guest.windows()[before : before + 1]
                if (last := newest(lab)) != judged:
                    verdicts[kind][last[1]] += 1
        what = f"real guest under TCG, {variant.what}" if real else "scripted guest (no QEMU here)"
        title = f"Freeze windows with PVE {version}, seen from inside the guest ({what})"
        show(title, "ms", found, pve=version, verdicts=verdicts)
        for text in failures:
            print(f"FAILED: {text}")


def newest(lab: Site) -> tuple[str, str]:
    """The newest window of our journal and what it was called; nothing of both where there is none."""
    newest = next(iter(lab.windows()), None) if lab.journal_path.exists() else None
    return ("", "") if newest is None else (newest.id, newest.verdict or "none")
