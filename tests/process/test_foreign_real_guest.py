"""Freezes by others on a real guest: a task of PVE's that is killed in its freeze, and one whose thaw fails.

Both leave the guest frozen, and PVE says nothing but a line in a task's log: `recover`, each minute, is who notices.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from snapshot.base.procfs import process_start
from tests.lab.fixtures import real_guest
from tests.lab.site import Site, site, wait_for

pytestmark = pytest.mark.real

LOSES_ITS_THAW = """
import socket, sys, time
with socket.socket(socket.AF_UNIX) as agent:
    agent.connect(sys.argv[1])
    agent.sendall(b'{"execute": "guest-fsfreeze-freeze"}\\n')
    agent.recv(4096)
print("frozen", flush=True)
if sys.argv[2] == "works on":
    time.sleep(600)
"""
"""What PVE's clone and replication do (QemuServer, Agent.pm): freeze, let go of the agent, work; but no thaw."""


@pytest.fixture
def lab() -> Iterator[Site]:
    with site(real_guest) as found:
        (found.run / "tasks").mkdir()
        found.settings |= {
            "local": {"task_folder": str(found.run / "tasks")},
            "freeze": {"foreign_limit_seconds": 0.5, "max_window_seconds": 0.5, "freeze_timeout_seconds": 0.5},
            "thaw": {"owner_limit_seconds": 5},
        }
        found.on_the_node()
        assert found.safe_snapshot("recover").exit_code == 0
        yield found


@contextlib.contextmanager
def freezing(lab: Site, then: str) -> Iterator[subprocess.Popen[str]]:
    """Somebody who freezes the guest, and who will not thaw it."""
    argv = [sys.executable, "-c", LOSES_ITS_THAW, str(Path(lab.run) / "100.qga"), then]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as worker:
        try:
            assert worker.stdout is not None
            assert worker.stdout.readline() == "frozen\n"
            yield worker
        finally:
            worker.kill()


def test_a_guest_whose_thaw_got_lost_with_somebody_elses_task_is_thawed_or_an_alarm(lab: Site) -> None:
    # Replication is no task. Its thaw failed, and it has ended.
    with freezing(lab, "ends") as worker:
        worker.wait(30)
    assert lab.guest.is_frozen()
    lab.safe_snapshot("recover")
    time.sleep(0.5)
    found = lab.safe_snapshot("recover")
    assert found.exit_code == 8, found
    assert "GUEST 100 IS FROZEN, by somebody else" in found.stdout
    assert lab.safe_snapshot("thaw", "100").exit_code == 0
    assert not lab.guest.is_frozen()

    lab.settings["freeze"]["foreign"] = "thaw"
    lab.write_config()
    with freezing(lab, "works on") as clone:
        start = process_start(clone.pid)
        assert start is not None
        upid = f"UPID:pve1:{clone.pid:08X}:{start:08X}:{int(time.time()):08X}:qmclone:100:root@pam:"
        (lab.run / "tasks" / "active").write_text(f"{upid} 0\n")
        found = lab.safe_snapshot("recover")
        assert found.exit_code == 0, found
        assert lab.guest.is_frozen()
        clone.kill()
    # The longest window that another machine may hold: 0.5 + 5 + 15 s.
    assert wait_for(lambda: lab.safe_snapshot("recover").exit_code == 0 and not lab.guest.is_frozen(), 60)
    assert all(window.closed_at is not None for window in lab.windows())
    assert lab.safe_snapshot("status").exit_code == 0
