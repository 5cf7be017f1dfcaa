"""Which label came when, which did not, and who was left out: the journal's table, `status` and the metrics."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from snapshot.config.labels import PERIODS
from snapshot.config.settings import Config, JournalConfig, MetricsConfig
from snapshot.journal.labelruns import (
    LEFT_OUT_SECONDS,
    label_runs,
    label_silences,
    limit_seconds,
    note_expected,
    note_run,
    note_seen,
    overdue_since,
)
from snapshot.journal.looks import GuestLook
from snapshot.journal.store import Journal
from snapshot.metrics import exposition
from snapshot.model import Vmid
from tests.unit.kit import GUEST, START

DAY = 86400.0
OTHER = GUEST._replace(vmid=Vmid(101), name="db")
LOOKS = {
    guest.id: GuestLook(guest.id, guest.vmid, guest.node, guest.name, running=True, seen_at=START)
    for guest in (GUEST, OTHER)
}


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    with contextlib.closing(Journal(tmp_path / "journal.sqlite")) as found:
        yield found


def told(journal: Journal, now: float) -> list[str]:
    return [silence.key for silence in label_silences(journal, LOOKS, now)]


def value(journal: Journal, name: str, now: float) -> list[str]:
    text = exposition.render(
        journal, Config(metrics=MetricsConfig(), journal=JournalConfig(journal.path)), now
    ).decode()
    return [line.removeprefix(name) for line in text.splitlines() if line.startswith(f"{name}{{")]


@pytest.mark.parametrize("label", PERIODS)
def test_every_period_has_a_limit_with_some_slack(label: str) -> None:
    assert limit_seconds(label) > 0
    assert limit_seconds("hourly") == 3600 + 1800
    assert limit_seconds("daily") == 1.25 * DAY


def test_of_a_word_that_is_no_period_nothing_is_expected(journal: Journal) -> None:
    note_expected(journal, [(GUEST, "before_patches")], START, 0.0)
    assert told(journal, START + 1000 * DAY) == []


def test_a_label_that_a_tag_asks_for_is_missed_after_its_period_and_the_slack(journal: Journal) -> None:
    note_expected(journal, [(GUEST, "daily")], START, 0.0)
    assert told(journal, START + 1.2 * DAY) == []
    assert told(journal, START + 1.3 * DAY) == ["label-missed:qemu/100:daily"]
    note_run(journal, "daily", START + 1.3 * DAY, [GUEST], [])
    assert told(journal, START + 2.5 * DAY) == []
    (missed,) = label_silences(journal, LOOKS, START + 2.6 * DAY)
    assert missed.since_at == START + 1.3 * DAY
    assert "guest 100 (web) on pve1: its tag asks for daily snapshots" in missed.line


def test_one_that_no_tag_asks_for_any_more_is_not_missed(journal: Journal) -> None:
    note_expected(journal, [(GUEST, "daily"), (GUEST, "weekly")], START, 0.0)
    note_expected(journal, [(GUEST, "weekly")], START + DAY, 0.0)
    assert told(journal, START + 5 * DAY) == []
    note_expected(journal, [(GUEST, "daily"), (GUEST, "weekly")], START + 5 * DAY, 0.0)
    assert told(journal, START + 6 * DAY) == [], "a tag that comes back has its whole period"
    assert told(journal, START + 6.3 * DAY) == ["label-missed:qemu/100:daily"]


def test_one_that_another_node_took_is_not_missed(journal: Journal) -> None:
    note_expected(journal, [(GUEST, "daily")], START, 0.0)
    note_seen(journal, "daily", GUEST, START + DAY)
    assert told(journal, START + 2 * DAY) == []
    note_seen(journal, "daily", GUEST, START)
    assert label_runs(journal)[0].last_at == START + DAY, "an older one is no news"


def test_a_guest_that_is_not_here_any_more_is_not_missed_here(journal: Journal) -> None:
    note_expected(journal, [(GUEST, "daily")], START, 0.0)
    assert list(label_silences(journal, {}, START + 9 * DAY)) == []


def test_who_was_left_out_is_told_with_the_reason_until_a_run_comes_to_it(journal: Journal) -> None:
    note_run(journal, "daily", START, [OTHER], [(GUEST, "the guest is locked\n(backup)")])
    (left,) = label_silences(journal, LOOKS, START + 60)
    assert left.key == "label-left-out:qemu/100:daily"
    assert left.line.endswith("left it out: the guest is locked (backup)")
    (elsewhere,) = label_silences(journal, {}, START + 60)
    assert elsewhere.look is not None, "an alarm names the guest, wherever it is"
    assert elsewhere.look.vmid == 100
    note_run(journal, "weekly", START + 100, [GUEST], [])
    assert told(journal, START + 120) == ["label-left-out:qemu/100:daily"], "another label is another matter"
    note_run(journal, "daily", START + 200, [GUEST], [])
    assert told(journal, START + 220) == []


def test_who_was_left_out_for_good_is_not_told_for_ever(journal: Journal) -> None:
    note_run(journal, "daily", START, [], [(GUEST, "locked")])
    assert told(journal, START + LEFT_OUT_SECONDS - 1)
    assert not told(journal, START + LEFT_OUT_SECONDS + 1)


def test_the_metrics_say_what_the_alerts_need(journal: Journal) -> None:
    note_expected(journal, [(GUEST, "daily")], START, 0.0)
    note_run(journal, "daily", START + 60, [GUEST], [(OTHER, "locked")])
    now, guest = START + 100, '{id="qemu/100",label="daily",node="pve1",vmid="100"}'
    other = guest.replace("100", "101")
    (last,) = value(journal, "pve_fsfreeze_label_last_timestamp_seconds", now)
    assert last.startswith(guest)
    assert float(last.split()[-1]) == START + 60
    assert value(journal, "pve_fsfreeze_label_limit_seconds", now) == [f"{guest} 108000.0"]
    assert len(value(journal, "pve_fsfreeze_label_expected_since_timestamp_seconds", now)) == 1
    assert value(journal, "pve_fsfreeze_label_left_out", now) == [f"{guest} 0.0", f"{other} 1.0"]
    later = now + 31 * DAY
    assert len(value(journal, "pve_fsfreeze_label_left_out", later)) == 1, "what nobody has news of is forgotten"


def test_nothing_is_written_while_nothing_changes(journal: Journal) -> None:
    """The minute's look asks each minute."""
    note_expected(journal, [(GUEST, "daily")], START, 0.0)
    before = journal.path.read_bytes()
    note_expected(journal, [(GUEST, "daily")], START + 60, 0.0)
    assert journal.path.read_bytes() == before


def test_what_is_long_gone_is_forgotten(journal: Journal) -> None:
    note_run(journal, "daily", START, [GUEST], [])
    note_expected(journal, [(OTHER, "daily")], START + 40 * DAY, START + 10 * DAY)
    assert [run.id for run in label_runs(journal)] == ["qemu/101"]


def test_an_odd_row_is_left_out(journal: Journal) -> None:
    note_run(journal, "daily", START, [GUEST, OTHER], [])
    with contextlib.closing(sqlite3.connect(journal.path)) as db:
        db.execute("UPDATE label_runs SET last_at = 'long ago' WHERE vmid = 100")
        db.commit()
    assert [run.vmid for run in label_runs(journal)] == [101]
    assert overdue_since(label_runs(journal)[0], START + 9 * DAY) is None
