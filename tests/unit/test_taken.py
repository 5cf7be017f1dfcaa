"""What a run is told whose guest another one has in hand: who that is, and what it does."""

from __future__ import annotations

import pytest

from snapshot.base.clock import iso
from snapshot.base.procfs import ProcessIdentity
from snapshot.journal.rows import taken
from tests.unit.kit import record

ME = ProcessIdentity.own()
LIVES = {"owner_pid": ME.pid, "owner_pid_start": ME.start, "snapshot_name": "s1"}
OURS = f"guest 100 is in our own freeze window since {iso(record().intent_at)}"
GONE = {"owner_pid": ME.pid, "owner_pid_start": 0, "guard_pid": 77}
LOST = {**LIVES, "guard_pid": 77, "freeze_outcome": "unknown", "verdict": "unknown"}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {**LIVES, "state": "armed"},
            f"{OURS}, held by process {ME.pid} (snapshot s1, armed)",
        ),
        (
            {**LIVES, "state": "thawed", "thawed_at": 5.0},
            f"another run is still at work on guest 100, which it has thawed: process {ME.pid} (snapshot s1, thawed)",
        ),
        (
            {**LIVES, "snapshot_name": None, "state": "frozen"},
            f"{OURS}, held by process {ME.pid} (a backup, frozen)",
        ),
        (
            {**LIVES, "snapshot_name": None, "source": "drill", "state": "frozen"},
            f"{OURS}, held by process {ME.pid} (a drill, frozen)",
        ),
        (
            {**GONE, "state": "armed"},
            f"{OURS}, held by process 77: the guard of a run that is gone, which sees to the thaw",
        ),
        (
            {**GONE, "state": "unknown", "thawed_at": 5.0},
            "guest 100 is thawed, but a freeze of an earlier run may still come: its guard (pid 77) would "
            "take a new one for it and thaw",
        ),
        (
            {
                **LIVES,
                "guard_pid": 77,
                "state": "unknown",
                "thawed_at": 5.0,
                "freeze_outcome": "unknown",
                "verdict": "unknown",
            },
            "guest 100 is thawed, but an earlier freeze whose answer was lost may still come: its guard (pid 77) would "
            "take a new one for it and thaw",
        ),
    ],
    ids=["window", "thawed", "backup", "drill", "dead", "died", "lost"],
)
def test_who_has_the_guest_is_told_as_what_it_is(values: dict[str, object], message: str) -> None:
    error = taken(record("w1", **values))
    assert error.message == message
    assert error.remedy.startswith("wait until it is over: `safe-snapshot status` shows it")
