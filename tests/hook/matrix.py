"""``make hook-matrix``: every owner, mode, storage kind, way of starting and age of PVE, judged by the disk itself.

A cell is right when the verdict is the one that this kind of backup has to get, the ext4 oracle on the backup's image
does not contradict it, the guest is thawed, and the task ended OK. With owner ``vzdump`` the verdict may be ``unknown``
where the agent was not seen frozen in time: it is counted, and never taken for good.
"""

from __future__ import annotations

import argparse
import itertools
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.hook.kit import QUICK_LIMITS, hook_site, newest
from tests.lab.fixtures import why_no_real
from tests.lab.guest.base import Guest
from tests.lab.guest.oracle import judge_image
from tests.lab.guest.real import RealGuest
from tests.lab.guest.scripted import ScriptedGuest
from tests.lab.site import Site, wait_for
from tests.lab.vzdump.options import STORAGE_KINDS
from tests.lab.vzdump.power import Verb, power_server
from tests.lab.vzdump.testing import QUICK

OWNERS = ("hook", "vzdump")
VERSIONS = ("8.4.0", "9.0.30", "9.1.8", "9.2.6")
"""Before 9.0.23 a refused freeze leaves no line, before 9.1.6 a refused thaw; since 9.1.10 the frozen are skipped."""


@dataclass(frozen=True)
class Cell:
    """One kind of backup."""

    owner: str
    mode: str
    storage: str
    terminal: bool
    version: str

    def __str__(self) -> str:
        where = "terminal" if self.terminal else "background"
        return f"{self.owner:6} {self.mode:8} {self.storage:8} {where:10} {self.version}"

    @property
    def expected(self) -> frozenset[str]:
        """The verdicts that are right."""
        if self.mode == "stop":
            return frozenset({"offline"})
        if self.mode == "suspend":
            return frozenset({"crash-consistent"})
        return frozenset({"filesystem-consistent"} | ({"unknown"} if self.owner == "vzdump" else set()))


@dataclass(frozen=True)
class Outcome:
    """What became of one backup; ``wrong`` is "" when it was right."""

    cell: Cell
    verdict: str
    wrong: str
    window_seconds: float | None


def cells() -> list[Cell]:
    """All of them. In mode suspend and stop nothing is frozen: the oldest and the newest PVE do."""
    frozen = itertools.product(OWNERS, ["snapshot"], STORAGE_KINDS, (False, True), VERSIONS)
    others = itertools.product(OWNERS, ["suspend", "stop"], STORAGE_KINDS, (False, True), (VERSIONS[0], VERSIONS[-1]))
    return [Cell(*values) for values in (*frozen, *others)]


def sample() -> list[Cell]:
    """Each owner with each version, over all storage kinds and both ways of starting; and the other modes."""
    kinds = itertools.cycle(itertools.product(STORAGE_KINDS, (False, True)))
    found = [Cell(owner, "snapshot", *next(kinds), version) for owner in OWNERS for version in VERSIONS]
    return [*found, Cell("hook", "suspend", "file", False, "9.2.6"), Cell("hook", "stop", "pbs", True, "9.2.6")]


@contextmanager
def matrix_site(*, real: bool) -> Iterator[Site]:
    """One guest that can be switched off and on by a backup in mode stop."""
    with hook_site(RealGuest if real else ScriptedGuest, limits=dict(QUICK_LIMITS)) as lab:

        def power(verb: Verb, vmid: int) -> None:
            _switch(lab.guests[vmid], verb)

        with power_server(lab.run / "power", power):
            yield lab


def _switch(guest: Guest, verb: Verb) -> None:
    """A clean shutdown writes everything out and unmounts; the lab's guest has no init that would do it."""
    if verb == "start":
        guest.start_again() if isinstance(guest, RealGuest) else guest.start()
        return
    if isinstance(guest, RealGuest):
        guest.shell("kill -9 $(cat /run/lab/writer.pid); sleep 0.1; umount /data || { sleep 1; umount /data; }")
    guest.stop()


def run_cell(lab: Site, cell: Cell) -> Outcome:
    """One backup, judged."""
    lab.settings["hook"] = {"owner": cell.owner}
    options = {
        "mode": cell.mode,
        "storage_kind": cell.storage,
        "terminal": cell.terminal,
        "qemu_server_version": cell.version,
        "limits": QUICK,
        "power_socket": lab.run / "power",
    }
    with lab.vzdump(100, **options) as job:
        result = job.wait()
    window = newest(lab)
    wrong = []
    if not result.ok:
        wrong.append(f"the task ended {result.exitstatus}")
    if window.upid != result.upid:
        wrong.append("no verdict of this job")
    if window.verdict not in cell.expected:
        wrong.append(f"{window.verdict}: {window.reason}")
    archive = result.guests[100].archive if 100 in result.guests else None
    if archive is None:
        wrong.append("no archive")
    else:
        wrong += _contradiction(lab, cell, window.verdict, archive)
        archive.unlink()
    if not wait_for(lambda: not lab.guest.is_frozen(), 5.0):
        wrong.append("still frozen")
    if wrong:
        wrong += ["", *result.log_lines]
    return Outcome(cell, window.verdict or "none", "\n".join(wrong), window.window_seconds)


def _contradiction(lab: Site, cell: Cell, verdict: str | None, archive: Path) -> list[str]:
    """What the disk says against the verdict. A scripted disk knows whether it was frozen, and not if it was off."""
    if cell.mode == "stop" and isinstance(lab.guest, ScriptedGuest):
        return []
    judgement = judge_image(archive, "ext4")
    is_good = verdict in ("filesystem-consistent", "offline")
    # A paused guest's journal has to be replayed: the oracle can say no, too.
    agrees = judgement.consistent if is_good else not (cell.mode == "suspend" and judgement.consistent)
    return [] if agrees else [f"the disk says: {judgement.evidence}"]


def run(repeat: int, *, real: bool, chosen: Sequence[Cell], seed: int) -> int:
    """The campaign; the number of wrong outcomes. The order is shuffled, so that no cell has the quiet moments."""
    order = [cell for cell in chosen for _ in range(repeat)]
    random.Random(seed).shuffle(order)
    verdicts: Counter[tuple[str, str, str]] = Counter()
    wrong: list[Outcome] = []
    windows: dict[tuple[str, str], list[float]] = {}
    began = time.monotonic()
    with matrix_site(real=real) as lab:
        for number, cell in enumerate(order, 1):
            outcome = run_cell(lab, cell)
            verdicts[cell.owner, cell.mode, outcome.verdict] += 1
            if cell.mode == "snapshot" and outcome.window_seconds is not None:
                windows.setdefault((cell.owner, cell.version), []).append(outcome.window_seconds)
            if outcome.wrong:
                wrong.append(outcome)
                print(f"WRONG {cell}\n{outcome.wrong}\n", flush=True)
            if number % 50 == 0:
                print(f"{number}/{len(order)} after {time.monotonic() - began:.0f} s, {len(wrong)} wrong", flush=True)
    print(f"\n{len(order)} backups of {len(chosen)} kinds, {repeat} each, {len(wrong)} wrong; seed {seed}")
    for (owner, mode, verdict), count in sorted(verdicts.items()):
        print(f"  owner {owner:6} mode {mode:8} {verdict:22} {count}")
    for (owner, version), lengths in sorted(windows.items()):
        middle = sorted(lengths)[len(lengths) // 2]
        print(
            f"  window, owner {owner:6} {version:7} median {middle * 1000:.0f} ms, worst {max(lengths) * 1000:.0f} ms"
        )
    return len(wrong)


def main() -> int:
    """0 when every backup was right."""
    parser = argparse.ArgumentParser(prog="make hook-matrix ARGS=...", description=__doc__)
    parser.add_argument("--repeat", type=int, default=10, help="backups of each kind (default 10)")
    parser.add_argument("--scripted", action="store_true", help="scripted guests instead of real ones")
    parser.add_argument("--only", default="", help="kinds whose name contains this")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--sites", type=int, default=1, help="that many sites side by side")
    options = parser.parse_args()
    if not options.scripted and (why := why_no_real()):
        print(f"there are no real guests here: {why}")
        return 1
    if options.sites > 1:
        return _side_by_side(options)
    chosen = [cell for cell in cells() if options.only in " ".join(str(cell).split())]
    return 1 if run(options.repeat, real=not options.scripted, chosen=chosen, seed=options.seed) else 0


def _side_by_side(options: argparse.Namespace) -> int:
    """The same in several processes, each with its share of the repeats."""
    shares = [options.repeat // options.sites + (n < options.repeat % options.sites) for n in range(options.sites)]
    command = [sys.executable, "-m", "tests.hook.matrix", "--only", options.only]
    command += ["--scripted"] if options.scripted else []
    processes = [
        subprocess.Popen([*command, "--repeat", str(share), "--seed", str(options.seed + n)], cwd=Path.cwd())
        for n, share in enumerate(shares)
        if share
    ]
    return max(process.wait() for process in processes)


if __name__ == "__main__":
    sys.exit(main())
