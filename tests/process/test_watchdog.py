"""What systemd's watchdog hears of a guard's process: a word as long as its loop moves, and none when that hangs.

What systemd does then is in test_systemd.py.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from snapshot.base import detached
from snapshot.config import reading
from snapshot.guard.link import GuardSpec, watchdog_seconds
from tests.lab.guest.scripted import ScriptedGuest
from tests.lab.site import Site, wait_for
from tests.process.processes import guarded_site, kill

# The guard's own main. Its loop looks up more often than usual, and hangs where it is told to, its other threads alive.
_GUARD = """
import selectors, sys
from pathlib import Path
from snapshot.base import watchdog
from snapshot.guard import __main__ as guard, background, inbox
watchdog.SELDOM_SECONDS = 0.0
background.LOOK_SECONDS = inbox.LOOK_SECONDS = 0.02
hang, hangs = Path(sys.argv[1]), Path(sys.argv[2])
class Selector(selectors.DefaultSelector):
    def select(self, timeout=None):
        while hang.exists():
            hangs.touch()
        return super().select(timeout)
selectors.DefaultSelector = Selector
sys.exit(guard.main(sys.argv[3:]))
"""


class Armed:
    """An armed guard, its owner's end of the connection, and the socket that it takes for systemd's."""

    def __init__(self, process: subprocess.Popen[bytes], owner: socket.socket, systemd: socket.socket) -> None:
        self.process = process
        self.owner = owner
        self.systemd = systemd

    def tell(self, op: str) -> None:
        self.owner.sendall(json.dumps({"op": op}).encode() + b"\n")

    def words(self) -> list[str]:
        """What has come since the last look."""
        found = []
        with contextlib.suppress(BlockingIOError):
            while True:
                found.append(self.systemd.recv(4096).decode())
        return found

    def moves(self) -> None:
        """Wait until it has said so some times more."""
        self.words()
        heard: list[str] = []

        def has_said_so() -> bool:
            heard.extend(self.words())
            return len(heard) >= 5

        assert wait_for(has_said_so, 60)
        assert set(heard) == {"WATCHDOG=1"}


@contextlib.contextmanager
def armed(lab: Site, tmp_path: Path) -> Iterator[Armed]:
    """A guard for guest 100, armed by this process."""
    address = detached.new_address("0" * 32)
    spec = GuardSpec("0" * 32, 100, "pve1", "guest100", "snapshot", 60, 60, 5, os.getpid(), 0)
    options = ["--spec", spec.to_json(), "--socket", address, "--config", str(lab.config_path)]
    told = [str(tmp_path / "hang"), str(tmp_path / "hangs")]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd, detached.listen(address) as listener:
        systemd.bind(str(tmp_path / "notify"))
        systemd.setblocking(False)
        process = subprocess.Popen(
            [sys.executable, "-c", _GUARD, *told, *options],
            env={**detached.ENVIRONMENT, "NOTIFY_SOCKET": systemd.getsockname()},
        )
        listener.settimeout(60)
        owner, _ = listener.accept()
        with owner:
            assert json.loads(detached.read_line(owner))["op"] == "armed"
            try:
                yield Armed(process, owner, systemd)
            finally:
                kill(process.pid)
                process.wait(60)


def test_a_guard_says_its_limit_and_that_it_moves_in_each_part_of_its_work(tmp_path: Path) -> None:
    with guarded_site(ScriptedGuest) as (lab, timeline), armed(lab, tmp_path) as guard:
        limit = watchdog_seconds(reading.load(lab.config_path))
        assert guard.words()[0] == f"READY=1\nWATCHDOG=1\nWATCHDOG_USEC={int(limit * 1e6)}"
        guard.moves()  # nothing is at risk yet
        guard.tell("freezing")
        assert lab.guest.ask("guest-fsfreeze-freeze") == 1
        guard.moves()
        lab.node.fault("fsfreeze-thaw", "drop", times=3)
        guard.owner.shutdown(socket.SHUT_RDWR)
        assert wait_for(lambda: not timeline.is_frozen())
        guard.moves()  # it watches for a late freeze


def test_a_guard_whose_loop_hangs_says_nothing_any_more(tmp_path: Path) -> None:
    """A word from a thread of its own would go on: one that hangs is never started again then."""
    with guarded_site(ScriptedGuest) as (lab, _), armed(lab, tmp_path) as guard:
        guard.moves()
        (tmp_path / "hang").touch()
        assert wait_for((tmp_path / "hangs").exists, 60)
        guard.words()
        time.sleep(1)  # fifty times as long as between two words before
        assert guard.words() == []
