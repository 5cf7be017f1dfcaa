"""A failure's first series stands at 0 for two scrapes: what appears with 1 has not increased for Prometheus."""

from __future__ import annotations

from pathlib import Path

import pytest

from snapshot.journal.store import Journal
from tests.metrics.conftest import World, samples

FAILURES = "pve_fsfreeze_failures_total"
SCRAPE = 60.0


@pytest.fixture
def scraped(world: World) -> World:
    world.config = world.config._replace(metrics=world.config.metrics._replace(scrape_interval_seconds=SCRAPE))
    return world


def _in_the_file(world: World, name: str = FAILURES) -> float | None:
    found = [value for (one, _), value in samples(world.textfile.read_text()).items() if one == name]
    return found[0] if found else None


def _published(world: World, name: str = FAILURES) -> float | None:
    """What the textfile has after a publication, and that the exporter says the same."""
    assert world.publish() == []
    assert world.value(name) == _in_the_file(world, name)
    return _in_the_file(world, name)


def test_a_first_failure_is_zero_for_two_scrapes_and_then_one(scraped: World) -> None:
    scraped.good_run()
    assert _published(scraped) is None
    scraped.failed_run()
    scraped.clock.now += 500
    assert scraped.value(FAILURES) == 0, "an exporter that is scraped before anything was published"
    assert _published(scraped) == 0
    scraped.clock.now += 2 * SCRAPE - 1
    assert _published(scraped) == 0
    scraped.clock.now += 1
    assert _published(scraped) == 1


def test_a_second_failure_of_the_kind_is_shown_at_once_and_one_of_another_kind_is_not(scraped: World) -> None:
    scraped.failed_run(reason="refused")
    scraped.publish()
    scraped.clock.now += 1000
    scraped.publish()
    scraped.failed_run(reason="refused")
    scraped.failed_run(reason="unknown")
    scraped.publish()
    assert scraped.value(FAILURES, reason="refused") == 2
    assert scraped.value(FAILURES, reason="unknown") == 0


def test_what_a_guard_did_first_begins_at_zero_too(scraped: World) -> None:
    name = "pve_fsfreeze_guard_thaws_total"
    scraped.end(scraped.armed(), guard_cause="deadline")
    assert _published(scraped, name) == 0
    scraped.clock.now += 2 * SCRAPE
    assert _published(scraped, name) == 1


def test_the_stamps_do_not_stay(scraped: World) -> None:
    def stamps() -> int:
        return sum(row.name.startswith("_new:") for row in scraped.journal.series())

    scraped.failed_run()
    scraped.publish()
    assert stamps() == 1
    scraped.clock.now += 1000
    scraped.publish()
    assert stamps() == 0
    scraped.failed_run()
    assert stamps() == 0


def test_a_series_of_an_older_version_does_not_go_back_to_zero(scraped: World) -> None:
    scraped.failed_run()
    with scraped.journal.transaction("written") as db:
        db.execute("DELETE FROM series WHERE name LIKE '_new:%'")  # it knew no stamps
    assert _published(scraped) == 1


def test_a_clock_that_was_put_back_keeps_no_failure_out_of_sight(scraped: World) -> None:
    scraped.failed_run()
    scraped.publish()
    scraped.clock.now -= 100_000
    assert _published(scraped) == 1


def test_a_journal_that_cannot_be_written_is_published_all_the_same(scraped: World, tmp_path: Path) -> None:
    scraped.failed_run()
    scraped.journal.close()
    scraped.journal = Journal(scraped.config.journal.path, read_only=True)
    assert scraped.publish() == []
    assert _in_the_file(scraped) == 0
