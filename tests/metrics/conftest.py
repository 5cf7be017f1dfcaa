"""A journal to play with, and what it says in Prometheus' format."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from snapshot.config.settings import Config, JournalConfig, MetricsConfig
from snapshot.journal.record import WindowRecord
from snapshot.journal.store import Journal
from snapshot.metrics import exposition, publish

DAY = 86400.0
START = 1_790_000_000.0
"""When stories begin: an arbitrary instant."""


class StandingClock:
    """Time that moves when it is told to."""

    def __init__(self) -> None:
        self.now = START

    def time(self) -> float:
        return self.now

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def record(window: str, vmid: int, at: float) -> WindowRecord:
    """The intent of an ordinary window."""
    return WindowRecord(
        id=window,
        vmid=vmid,
        node="pve1",
        kind="qemu",
        guest_name=f"guest-{vmid}",
        source="snapshot",
        owner="snapshot",
        state="idle",
        intent_at=at,
        deadline_at=at + 30,
        owner_pid=1,
        owner_pid_start=1,
        boot_id="",
    )


class World:
    """A journal, a clock and the metrics that come of them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clock = StandingClock()
        self.config = Config(
            journal=JournalConfig(path=folder / "state" / "journal.sqlite"),
            # What is counted is to be seen at once; that a new series stands at 0 first is test_newcounters.py's.
            metrics=MetricsConfig(textfile=folder / "metrics" / "vzdump_hooks.prom", scrape_interval_seconds=0.0),
        )
        (folder / "metrics").mkdir(parents=True)
        self.journal = Journal(self.config.journal.path)
        self._ids = (f"{number:032x}" for number in itertools.count(1))

    @property
    def textfile(self) -> Path:
        assert self.config.metrics.textfile is not None
        return self.config.metrics.textfile

    def intent(self, vmid: int = 100, **values: object) -> str:
        """Begin a window; its id."""
        window = record(next(self._ids), vmid, self.clock.now)
        window = window._replace(**values)  # type: ignore[arg-type]
        self.journal.begin(window)
        return window.id

    def armed(self, vmid: int = 100, **values: object) -> str:
        """Begin a window and arm its guard."""
        window = self.intent(vmid, **values)
        self.journal.update(window, state="armed", guard_pid=2, guard_pid_start=2)
        return window

    def end(self, window: str, seconds: float = 0.3, **values: object) -> str:
        """End a window well, unless ``values`` say otherwise."""
        self.clock.now += seconds
        good: dict[str, object] = {
            "state": "thawed",
            "freeze_outcome": "acknowledged",
            "filesystems_frozen": 2,
            "filesystems_thawed": 2,
            "frozen_at": self.clock.now - seconds / 2,
            "thawed_at": self.clock.now,
            "freezing_seconds": seconds / 3,
            "held_seconds": seconds / 3,
            "thawing_seconds": seconds / 3,
            "window_seconds": seconds,
            "thaw_attempts": 1,
            "verdict": "filesystem-consistent",
            "reason": "2 filesystems frozen",
            "closed_at": self.clock.now,
        }
        self.journal.update(window, **{**good, **values})
        return window

    def good_run(self, vmid: int = 100, seconds: float = 0.3, **values: object) -> str:
        """A whole window that went well."""
        return self.end(self.armed(vmid, **values), seconds)

    def failed_run(self, vmid: int = 100, stage: str = "freeze", reason: str = "refused", **values: object) -> str:
        """A whole window that failed."""
        return self.end(
            self.armed(vmid, **values), verdict="crash-consistent", failure_stage=stage, failure_reason=reason
        )

    def publish(self) -> list[str]:
        return publish.publish(self.config, self.journal, self.clock)

    def text(self) -> str:
        return exposition.render(self.journal, self.config, self.clock.now).decode()

    def samples(self) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
        return samples(self.text())

    def value(self, name: str, **labels: str) -> float | None:
        """The one sample of ``name`` with at least ``labels``; None when there is none."""
        found = [
            value for (n, pairs), value in self.samples().items() if n == name and labels.items() <= dict(pairs).items()
        ]
        assert len(found) <= 1, f"{name} {labels} is not one sample: {found}"
        return found[0] if found else None


def samples(text: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """An exposition as {(name, sorted labels): value}."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path)
    yield world
    world.journal.close()
