"""What becomes of a window whose processes are gone once its guest is thawed."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from snapshot.config import Config
from snapshot.journal import Journal, WindowRecord
from snapshot.model import ThawReport
from snapshot.pve.routes import Access
from snapshot.recording import JournalBook
from snapshot.recovery import settle
from tests.campaign.kit import ManualClock
from tests.unit.kit import record

THAWED = ThawReport(confirmed=True, attempts=1, filesystems=1, route="route")


def settled(tmp_path: Path, window: WindowRecord, report: ThawReport) -> tuple[float, WindowRecord]:
    clock = ManualClock()
    access = Access(Config(), clock, None, "")
    with contextlib.closing(Journal(tmp_path / "journal.sqlite")) as journal:
        window = window._replace(intent_at=clock.time() - 600.0)
        journal.begin(window)
        late = settle(JournalBook(lambda: journal), window, report, access)
        found = journal.get(window.id)
    assert found is not None
    return late, found


@pytest.mark.parametrize("guest_gone", [False, True], ids=["thawed", "the guest is off"])
def test_a_window_whose_freeze_may_still_come_stays_open(tmp_path: Path, guest_gone: bool) -> None:
    """PVE may hold the freeze, and carry it out when the guest is on again."""
    late, found = settled(tmp_path, record(state="armed"), THAWED._replace(filesystems=0, guest_gone=guest_gone))
    assert late == pytest.approx(3000.0)
    assert (found.state, found.closed_at) == ("unknown", None)
    assert found.thawed_at is not None


@pytest.mark.parametrize(
    ("values", "report"),
    [
        ({"state": "armed", "freeze_outcome": "acknowledged"}, THAWED),
        ({"state": "armed"}, THAWED),
        ({"state": "idle"}, THAWED),
    ],
    ids=["the freeze was answered", "the thaw counted it", "no guard was armed"],
)
def test_a_window_whose_freeze_cannot_come_any_more_is_closed(
    tmp_path: Path, values: dict[str, str], report: ThawReport
) -> None:
    late, found = settled(tmp_path, record(**values), report)
    assert late == 0.0
    assert found.state == "thawed"
    assert found.closed_at is not None
