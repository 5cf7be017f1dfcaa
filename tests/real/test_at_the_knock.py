"""Freezing at the knock, judged by the disk: freezes that are short, near PVE's patience, and past it."""

from __future__ import annotations

import contextlib
import time
import uuid
from collections.abc import Iterator

import pytest

from snapshot.journal.store import Journal
from tests.lab.fixtures import real_guest
from tests.lab.guest.oracle import judge
from tests.lab.site import Site, site, wait_for
from tests.unit.kit import record

pytestmark = [pytest.mark.real, pytest.mark.slow]

CONSISTENT = "filesystem-consistent"
HANGS = 120.0


@pytest.fixture(scope="module")
def lab() -> Iterator[Site]:
    with site(real_guest) as found:
        found.on_the_node()
        found.write_config(freeze={"at_the_knock": True})
        yield found


def seed(lab: Site) -> None:
    """The guest's last three freezes were short, whatever this module's last one was."""
    with contextlib.closing(Journal(lab.journal_path)) as journal:
        for _ in range(3):
            at = time.time()
            one = record(f"old-{uuid.uuid4().hex}", at=at, closed_at=at, state="thawed", freeze_outcome="acknowledged")
            journal.begin(one._replace(freezing_seconds=0.2))


def was_at_the_knock(lab: Site) -> bool:
    """Whether the first thing asked of PVE since the requests were forgotten was the snapshot, and no freeze."""
    asked = [
        r for r in lab.node.requests() if r.method == "POST" and r.path.endswith(("/snapshot", "/fsfreeze-freeze"))
    ]
    return bool(asked) and asked[0].path.endswith("/snapshot")


def is_over(lab: Site) -> bool:
    return all(one.closed_at is not None for one in lab.windows())


@pytest.mark.parametrize("policy", ["prefer", "require"])
@pytest.mark.parametrize(("freeze_seconds", "times"), [(0.1, 20), (1.0, 20), (2.5, 20), (3.5, 10), (10.0, 6)], ids=str)
def test_no_word_is_better_than_the_disk(
    lab: Site, freeze_seconds: float, times: int, policy: str, capsys: pytest.CaptureFixture[str]
) -> None:
    said = clean = knocked = 0
    lab.guest.set_knob("freeze_sleep", freeze_seconds)
    for number in range(times):
        seed(lab)
        lab.node.forget_requests()
        name = f"f{int(freeze_seconds * 10)}{policy[0]}{number}"
        run = lab.safe_snapshot("100", "--name", name, "--policy", policy, "--json", timeout=HANGS)
        assert not lab.guest.is_frozen(), run
        assert wait_for(lambda: is_over(lab), HANGS)
        there = name in lab.node.config(100).snapshots
        assert there or run.exit_code != 0, run
        assert policy == "prefer" or there == (run.exit_code == 0), run
        is_clean = there and judge(lab.guest.disk, name, lab.guest.fs).consistent
        is_said = (run.json.get("verdict") or {}).get("kind") == CONSISTENT
        assert is_clean or not is_said, run
        said, clean, knocked = said + is_said, clean + is_clean, knocked + was_at_the_knock(lab)
    assert knocked > times / 2, f"{knocked} of {times} were at the knock: an agent that is slow to seat us is no reason"
    with capsys.disabled():
        what = f"{said} of {times} called consistent, {clean} clean on the disk, {knocked} at the knock"
        print(f"\nfreeze of {freeze_seconds:g} s, {policy}: {what}")
