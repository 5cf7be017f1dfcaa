"""Many guests at once, as ratios: the run to the ideal, a window in the crowd to one alone, memory, PVE's workers.

The ideal is the work divided by the limit: a guest's time in a run of one at a time, times the guests, by so many at
once. What the machine that measures has to compute is part of the run, and not of the ideal: where the lab's guests,
its node and our processes take up all its processors, the ratio says that.
"""

from __future__ import annotations

import json
import statistics
import time
from collections import Counter
from typing import Any

from snapshot.model import VerdictKind
from tests.lab.crowd import FIRST, MemoryWatch, Sample, crowd
from tests.lab.site import Run, Site

ALONE = 6
"""Guests of the run that goes one at a time."""


def main(guests: int, nodes: int, at_once: int, task_seconds: float, *, kills_a_node: bool = False) -> dict[str, Any]:
    """Measure, and print."""
    names = tuple(f"pve{number}" for number in range(1, nodes + 1))
    began = time.monotonic()
    with crowd(guests, names, task_delays={"inside": task_seconds}) as lab:
        print(f"{guests} guests on {nodes} nodes are there after {time.monotonic() - began:.0f} s")
        lab.settings["fleet"] = {
            "at_once": at_once,
            "at_once_per_node": -(-at_once // nodes),
            "at_once_per_storage": at_once,
        }
        lab.write_config()
        one, several = _alone(lab, 1), _alone(lab, ALONE)
        each = (several.seconds - one.seconds) / (ALONE - 1)
        held_alone = statistics.median(_held(lab))
        lab.node.forget_requests()
        known = {window.id for window in lab.windows()}
        watch = MemoryWatch(lab)
        watch.start()
        run = lab.start("--json", "all", "--at-once", str(at_once))
        started = time.monotonic()
        if kills_a_node:
            while len(lab.windows()) - len(known) < guests / 2 and run.poll() is None:
                time.sleep(0.5)
            lab.node.set_node_online(names[-1], False)
            print(f"{names[-1]} died after {time.monotonic() - started:.0f} s")
        out, err = run.communicate()
        took, samples = time.monotonic() - started, watch.end()
        ideal = one.seconds - each + each * guests / at_once
        found = {
            "guests": guests,
            "at_once": at_once,
            "alone_seconds": each,
            "ideal_seconds": ideal,
            "wall_seconds": took,
            "wall_to_ideal": took / ideal,
            "held": _crowded(_held(lab, known), held_alone),
            "memory": _memory(samples),
            "workers": {name: seen.__dict__ for name, seen in lab.node.workers().items()},
            "outcomes": _outcomes(out, err, names),
            "frozen": sum(guest.is_frozen() for guest in lab.guests.values()),
        }
    print(json.dumps(found, indent=1))
    return found


def _alone(lab: Site, count: int) -> Run:
    guests = [str(vmid) for vmid in range(FIRST, FIRST + count)]
    run = lab.safe_snapshot("--json", *guests, "--at-once", "1", timeout=600)
    assert run.exit_code == 0, run.text
    return run


def _held(lab: Site, before: set[str] | None = None) -> list[float]:
    windows = [window for window in lab.windows() if window.id not in (before or set())]
    return sorted(w.thawed_at - w.frozen_at for w in windows if w.frozen_at and w.thawed_at)


def _crowded(held: list[float], alone: float) -> dict[str, float]:
    parts = {"median": statistics.median(held), "p95": held[int(len(held) * 0.95)], "max": held[-1]}
    return {"alone": alone, **parts, **{f"{name}_to_alone": value / alone for name, value in parts.items()}}


def _memory(samples: list[Sample]) -> dict[str, Any]:
    peak = max(samples, key=lambda sample: sample.total_mb)
    steady = [sample.total_mb for sample in samples[len(samples) // 4 : -len(samples) // 4 or None]]
    half = len(steady) // 2
    return {
        "peak_mb": peak.total_mb,
        "at_the_peak": {name: f"{count}: {peak.pss_mb[name]:.0f} MB" for name, count in peak.processes.items()},
        "second_quarter_mb": statistics.mean(steady[:half]) if half else peak.total_mb,
        "third_quarter_mb": statistics.mean(steady[half:]) if half else peak.total_mb,
    }


def _outcomes(out: str, err: str, nodes: tuple[str, ...]) -> dict[str, dict[str, int]]:
    """By node: how many of each verdict, and of each error's word."""
    try:
        told = json.loads(out)["guests"]
    except (ValueError, KeyError):
        raise AssertionError(out[-2000:] + err[-2000:]) from None
    found = {name: Counter[str]() for name in nodes}
    for one in told:
        verdict = one.get("verdict")
        kind = verdict.get("kind") if isinstance(verdict, dict) else verdict
        word = (one.get("error") or {}).get("code") or kind or VerdictKind.UNKNOWN.value
        found[one.get("node") or nodes[one["vmid"] % len(nodes)]][str(word)] += 1
    return {name: dict(count) for name, count in found.items()}
