"""What explains a freeze by somebody else, and for how long."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from snapshot.config.settings import Config
from snapshot.errors import ApiDeniedError
from snapshot.pve.access import Access
from snapshot.pve.atwork import at_work
from snapshot.recovery import foreign
from tests.unit.kit import GUEST, VirtualClock


@pytest.mark.parametrize(
    ("work", "is_lost", "limit", "after"),
    [
        ("", False, 300.0, 300.0),
        ("", True, 300.0, 0.0),
        ("vzdump", False, 300.0, foreign.AT_WORK_LIMIT_SECONDS),
        ("vzdump", True, 300.0, foreign.AT_WORK_LIMIT_SECONDS),
        ("vzdump", False, 3600.0, 3600.0),
    ],
)
def test_a_task_explains_a_freeze_for_a_while_and_not_for_ever(
    work: str, is_lost: bool, limit: float, after: float
) -> None:
    """A backup that lost its thaw goes on for hours."""
    settings = Config().for_guest(100)._replace(foreign_limit_seconds=limit)
    assert foreign.deadline_of(1000.0, settings, work, is_lost=is_lost) == 1000.0 + after


class Pve:
    """As much of PVE as is asked who is at work."""

    name = "https://pve1:8006"

    def __init__(self, tasks: object, replication: object) -> None:
        self.tasks = tasks
        self.replication = replication

    def request(
        self, method: str, path: str, params: Mapping[str, object] | None = None, *, timeout_seconds: float = 10.0
    ) -> object:
        answer = {"nodes/pve1/tasks": self.tasks, "nodes/pve1/replication": self.replication}[path]
        if isinstance(answer, Exception):
            raise answer
        return answer

    def close(self) -> None:
        pass


def task(kind: str, vmid: str, **values: object) -> dict[str, object]:
    return {"upid": f"UPID:pve1:00001234:00005678:6A000000:{kind}:{vmid}:root@pam:", **values}


@pytest.mark.parametrize(
    ("tasks", "replication", "lock", "work"),
    [
        ([], [{"guest": 100, "pid": 4711}], "", "replication"),
        ([], [{"guest": "100", "pid": "4711"}], "", "replication"),
        ([], [{"guest": 100}, {"guest": 101, "pid": 4711}], "", ""),
        ([task("qmclone", "100")], [], "", "qmclone"),
        ([task("qmclone", "100", endtime=1.0), task("qmclone", "101")], [], "", ""),
        ([task("vzdump", "")], [], "backup", "vzdump"),
        ([task("vzdump", "")], [], "", ""),
        (ApiDeniedError("Permission check failed", status=403), "nonsense", "", ""),
    ],
)
def test_who_is_at_work_on_a_guest_of_another_node(tasks: object, replication: object, lock: str, work: str) -> None:
    access = Access(Config(), VirtualClock(), Pve(tasks, replication), "")
    assert at_work(access, GUEST._replace(lock=lock)) == work
