"""A window whose owner lives past its deadline: until when it is left to its owner, and what its end is called."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from snapshot.base.procfs import ProcessIdentity
from snapshot.config.settings import Config
from snapshot.journal.book import JournalBook
from snapshot.journal.living import ALIVE_MARGIN_SECONDS
from snapshot.journal.record import WindowRecord
from snapshot.journal.store import Journal
from snapshot.recovery.overdue import needs_help
from snapshot.recovery.settle import close_recovered
from tests.campaign.kit import ManualClock
from tests.unit.kit import record


def armed(owner: ProcessIdentity) -> WindowRecord:
    return record(state="armed", owner_pid=owner.pid, owner_pid_start=owner.start, boot_id=owner.boot_id)


@pytest.mark.parametrize(
    ("late", "told"), [(0.0, False), (ALIVE_MARGIN_SECONDS - 0.001, False), (ALIVE_MARGIN_SECONDS, True)]
)
def test_a_living_owner_is_believed_for_a_margin_past_its_deadline(late: float, told: bool) -> None:
    me = ProcessIdentity.own()
    window = armed(me)
    somebody = me._replace(pid=me.pid + 1)
    assert needs_help(window, Config(), window.deadline_at + late, somebody) == told


@pytest.mark.parametrize("lives", [True, False])
def test_an_owner_that_was_given_up_is_called_dead_only_where_it_is(tmp_path: Path, lives: bool) -> None:
    me = ProcessIdentity.own()
    window = armed(me if lives else me._replace(start=me.start + 1))  # another process had the number
    with contextlib.closing(Journal(tmp_path / "journal.sqlite")) as journal:
        journal.begin(window)
        assert close_recovered(JournalBook(lambda: journal), window, None, ManualClock()) is None
        found = journal.get(window.id)
    assert found is not None
    assert found.closed_at is not None
    assert found.failure_reason == ("deadline" if lives else "owner-died")
    assert found.reason is not None
    assert found.reason.startswith("its owner had not closed it by its deadline" if lives else "its owner died")
