"""The minute's look at labels, on a lab node: what tags ask for, and what PVE has of it."""

from __future__ import annotations

import contextlib
import time

import pytest

from snapshot.journal.labelruns import LabelRun, label_runs
from snapshot.journal.store import Journal
from tests.lab.guest.scripted import ScriptedGuest
from tests.lab.site import Site, site
from tests.retention.kit import plant

DAY = 86400.0


def looked(lab: Site) -> list[LabelRun]:
    run = lab.safe_snapshot("recover")
    assert run.exit_code == 0, run
    with contextlib.closing(Journal(lab.journal_path)) as journal:
        return label_runs(journal)


def backdate(lab: Site, days: float) -> None:
    """The tag has been there for so long."""
    with contextlib.closing(Journal(lab.journal_path)) as journal, journal.transaction("written") as db:
        db.execute("UPDATE label_runs SET expected_since_at = ?", (time.time() - days * DAY,))


@pytest.mark.parametrize("is_known", [True, False], ids=["by us", "by another node"])
def test_a_label_is_called_missed_only_where_pve_lists_none_either(is_known: bool) -> None:
    with site(ScriptedGuest) as lab:
        lab.node.set_config(100, tags="prod;snap-daily-7;snap-patches-3")
        assert [(run.label, run.last_at) for run in looked(lab)] == [("daily", None), ("patches", None)]
        backdate(lab, 2)
        plant(lab, 40, label="daily", mark="not ours")
        plant(lab, 40, label="weekly")
        assert looked(lab)[0].last_at is None
        said = lab.safe_snapshot("status").stdout
        assert "its tag asks for daily snapshots, and it has none yet" in said
        plant(lab, 20, label="daily", is_known=is_known)
        found = looked(lab)[0]
        assert found.last_at is not None
        assert time.time() - found.last_at > 19 * 3600
        assert "its tag asks for" not in lab.safe_snapshot("status").stdout
        asked = len(lab.node.requests("/qemu/100/snapshot"))
        looked(lab)
        assert len(lab.node.requests("/qemu/100/snapshot")) == asked, "PVE is asked only while a label is overdue"
        lab.node.set_config(100, tags="prod")
        assert [run.expected_since_at for run in looked(lab) if run.label == "daily"] == [None]
