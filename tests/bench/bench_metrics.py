"""What metrics cost on an old journal: a million windows of 500 guests against one thousand, and against none.

Measured in one run as ratios: rendering, publishing, the journal's own work in a run (intent to closing), and the
hook's phases as processes. ``python -m tests.bench.bench_metrics`` with --windows for a smaller one.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from snapshot.base.clock import SystemClock
from snapshot.config.settings import Config, JournalConfig, MetricsConfig
from snapshot.journal.store import Journal
from snapshot.metrics import exposition, publish
from tests.bench.table import show
from tests.lab.site import BIN
from tests.metrics import fleet
from tests.metrics.conftest import DAY, record

GUESTS = 500
SMALL, BIG = 1_000, 1_000_000
LIMIT = 2.0
"""Rendering a million windows may cost at most so much of what a thousand cost."""

PHASES = (
    ("job-start",),
    ("backup-start", "snapshot", "100"),
    ("post-restart", "stop", "100"),
    ("log-end", "snapshot", "100"),
)
PHASES_TITLE = "The hook's phases (processes)"
ENVIRONMENT = {"LC_ALL": "C", "LVM_SUPPRESS_FD_WARNINGS": "1", "STOREID": "local", "VMTYPE": "qemu"}


def main(runs: int, windows: int = BIG) -> dict[str, float]:
    """Measure and print; the ratios of the medians, big to small (of the hook's phases: to none)."""
    ratios: dict[str, float] = {}
    with tempfile.TemporaryDirectory(prefix="bench-metrics-") as name:
        folder = Path(name)
        sizes = {"an empty journal": 0, f"{SMALL:,} windows": SMALL, f"{windows:,} windows": windows}
        places = {title: _make(folder / str(count), count) for title, count in sizes.items()}
        works: dict[str, Callable[[_Place], float]] = {
            "Rendering the metrics": _render,
            "Publishing the textfile": _publish,
            "A run's writes to the journal": _one_run,
            PHASES_TITLE: _phases,
        }
        for title, work in works.items():
            found: dict[str, list[float]] = {place: [] for place in places}
            for _ in range(max(3, runs // 3)):
                for place, where in places.items():  # in turn: what else the machine does hits all of them
                    found[place].append(work(where))
            show(f"{title}: {GUESTS} guests", "ms", found)
            medians = [sorted(values)[len(values) // 2] for values in found.values()]
            # What every backup waits for is held against a journal with nothing in it, the rest against a young one.
            ratios[title] = medians[2] / medians[0 if work is _phases else 1]
        for where in places.values():
            where.journal.close()
    verdict = "within" if ratios["Rendering the metrics"] <= LIMIT else "OVER"
    print(
        f"rendering {windows:,} windows against {SMALL:,}: {ratios['Rendering the metrics']:.2f}, {verdict} {LIMIT:g}"
    )
    print(f"the hook's phases with {windows:,} windows against none: {ratios[PHASES_TITLE]:.2f}, to be about 1")
    return ratios


class _Place:
    """A journal of some size, with its configuration."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config_path = folder / "config.toml"
        self.config = Config(
            journal=JournalConfig(path=folder / "journal.sqlite"),
            metrics=MetricsConfig(textfile=folder / "vzdump_hooks.prom"),
        )
        self.journal = Journal(self.config.journal.path)
        self.numbers = itertools.count()


def _make(folder: Path, windows: int) -> _Place:
    folder.mkdir()
    place = _Place(folder)
    place.config_path.write_text(
        f'[journal]\npath = "{place.config.journal.path}"\n[metrics]\ntextfile = "{place.config.metrics.textfile}"\n'
        # Nothing listens there: the phases' own cost is measured, not an API's.
        '[api]\nhost = "127.0.0.1"\nport = 1\n'
    )
    if windows:
        runs = windows // GUESTS
        # The last run is always of today: guests whose last run is long ago are forgotten and would cost nothing.
        fleet.fill(place.journal, GUESTS, runs, time.time(), span=min(365, runs) * DAY, project=False)
    return place


def _timed(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _render(place: _Place) -> float:
    return _timed(lambda: exposition.render(place.journal, place.config, time.time()))


def _publish(place: _Place) -> float:
    def work() -> None:
        problems = publish.publish(place.config, place.journal, SystemClock())
        if problems:
            raise RuntimeError("\n".join(problems))

    return _timed(work)


def _one_run(place: _Place) -> float:
    window = f"bench-{next(place.numbers)}"

    def work() -> None:
        now = time.time()
        place.journal.begin(record(window, 100, now))
        place.journal.update(window, state="armed", guard_pid=1)
        place.journal.update(window, state="thawed", window_seconds=0.3, thaw_attempts=1, freeze_outcome="acknowledged")
        place.journal.update(window, verdict="filesystem-consistent", closed_at=now + 1)

    return _timed(work)


def _phases(place: _Place) -> float:
    def work() -> None:
        for arguments in PHASES:
            with contextlib.suppress(subprocess.TimeoutExpired):
                subprocess.run(
                    [BIN / "vzdump-hook", "--config", place.config_path, *arguments],
                    env=ENVIRONMENT,
                    stdin=subprocess.DEVNULL,
                    capture_output=True,
                    timeout=60,
                    check=False,
                )

    return _timed(work)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=15)
    parser.add_argument("--windows", type=int, default=BIG)
    options = parser.parse_args()
    main(options.runs, options.windows)
