"""Three real guests whose writers exchange numbers: across their snapshots no effect is without its cause.

Each number is written by one guest only when another has the one before it safely on its disk: the test relays them. So
a snapshot that holds a number while another guest's lacks the one before is of another point in time.
"""

from __future__ import annotations

import contextlib
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab import packages
from tests.lab.fixtures import real_guest
from tests.lab.guest.oracle import judge
from tests.lab.guest.real import RealGuest
from tests.lab.site import Site, site, wait_for

pytestmark = pytest.mark.real

TIMES = 20
VMIDS = (100, 101, 102)
LATE_SECONDS = 1.0
"""How long the last guest's own hook takes before anything is frozen: meanwhile the exchange goes on, unless the guests
that are frozen already stay so.
"""
BLOCKED_SECONDS = 120.0
"""A bound for hangs only: a write waits for its guest's thaw."""


class Exchange:
    """Numbers from guest to guest, each written when the one before is on its disk."""

    def __init__(self, guests: list[RealGuest]) -> None:
        self._guests = guests
        self.last = -1
        """The number that was written last."""
        self._stops = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.error: BaseException | None = None

    def __enter__(self) -> Exchange:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stops.set()
        self._thread.join(BLOCKED_SECONDS)

    def _run(self) -> None:
        try:
            while not self._stops.is_set():
                number = self.last + 1
                writer = self._guests[number % len(self._guests)]
                writer.shell(f"echo {number} >>/data/words", timeout=BLOCKED_SECONDS)
                self.last = number
        except BaseException as error:  # noqa: BLE001 - told by the test
            self.error = error

    def goes_on(self) -> bool:
        """Whether each guest has written a few more numbers."""
        least = self.last + 3 * len(self._guests)
        return wait_for(lambda: self.last >= least or self.error is not None, BLOCKED_SECONDS) and self.error is None


@pytest.fixture(scope="module")
def lab() -> Iterator[Site]:
    """Three guests on one node."""
    with site(*[real_guest] * len(VMIDS)) as found:
        guests(found)[-1].set_knob("freeze_sleep", LATE_SECONDS)
        yield found


def guests(lab: Site) -> list[RealGuest]:
    """The three."""
    found = list(lab.guests.values())
    assert all(isinstance(guest, RealGuest) for guest in found)
    return found  # type: ignore[return-value]


def words_in(disk: Path, snapshot: str) -> list[int]:
    """The numbers that a snapshot holds, without a replay of its journal: it was frozen."""
    with tempfile.TemporaryDirectory() as folder:
        raw = Path(folder) / "raw"
        packages.run(
            "qemu-img", "convert", "-U", "-f", "qcow2", "-l", f"snapshot.name={snapshot}", "-O", "raw", disk, raw
        )
        return [int(line) for line in packages.run("debugfs", "-R", "cat /words", raw).split()]


def effects_without_cause(lab: Site, snapshot: str) -> list[int]:
    """The numbers that are missing though a later one is there."""
    found = {guest.vmid: set(words_in(guest.disk, snapshot)) for guest in guests(lab)}
    newest = max(max(numbers, default=-1) for numbers in found.values())
    assert newest >= 0, "nothing was exchanged"
    return [n for n in range(newest + 1) if n not in found[VMIDS[n % len(VMIDS)]]]


def taken_together(lab: Site, exchange: Exchange, name: str) -> None:
    """One group while the exchange goes on, judged by the disks."""
    assert exchange.goes_on(), exchange.error
    run = lab.safe_snapshot(*map(str, VMIDS), "--together", "--name", name, "--json", timeout=2 * BLOCKED_SECONDS)
    assert run.exit_code == 0, run
    assert run.json["group"]["is_one_point_in_time"], run
    assert effects_without_cause(lab, name) == []
    assert all(judge(guest.disk, name, guest.fs).consistent for guest in guests(lab))
    assert exchange.goes_on(), exchange.error


@contextlib.contextmanager
def exchanging(lab: Site) -> Iterator[Exchange]:
    """The guests begin anew with their numbers."""
    for guest in guests(lab):
        guest.shell("rm -f /data/words; : >/data/words")
    with Exchange(guests(lab)) as found:
        yield found


def test_across_the_snapshots_no_effect_is_without_its_cause(lab: Site) -> None:
    with exchanging(lab) as exchange:
        taken_together(lab, exchange, "together")


@pytest.mark.slow
@pytest.mark.parametrize("number", range(TIMES))
def test_no_effect_is_without_its_cause_twenty_of_twenty(lab: Site, number: int) -> None:
    lab.settings.setdefault("local", {})["node"] = "pve1" if number % 2 else ""  # by socket, by API
    lab.write_config()
    with exchanging(lab) as exchange:
        taken_together(lab, exchange, f"together{number}")


def test_snapshots_one_after_the_other_hold_effects_without_their_causes(lab: Site) -> None:
    """What the test above would see, could it see nothing."""
    with exchanging(lab) as exchange:
        assert exchange.goes_on(), exchange.error
        for vmid in VMIDS:
            run = lab.safe_snapshot(str(vmid), "--name", "apart", "--policy", "require", timeout=2 * BLOCKED_SECONDS)
            assert run.exit_code == 0, run
            assert exchange.goes_on(), exchange.error
        assert effects_without_cause(lab, "apart")
