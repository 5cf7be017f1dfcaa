"""What a guard is made of: nothing inherited, a session of its own, memory that stays, and no detour before a thaw."""

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

import pytest

from snapshot.base import detached
from snapshot.guard.link import GuardSpec
from snapshot.pve.backlog import TRUSTED
from tests.lab.guest.scripted import ScriptedGuest
from tests.lab.site import Site, wait_for
from tests.process.processes import guarded_site, guards, held, hold_frozen, is_alive, kill, the_guard


@contextlib.contextmanager
def frozen(lab: Site, **options: object) -> Iterator[subprocess.Popen[str]]:
    """A run that holds guest 100 frozen during the block."""
    hold_frozen(lab)
    with lab.start("100", **options) as owner:
        held(lab)
        yield owner
        owner.kill()


def descriptors(pid: int) -> dict[str, str]:
    """What a process has open."""
    folder = Path(f"/proc/{pid}/fd")
    return {path.name: os.readlink(path) for path in folder.iterdir()}


def test_a_guard_inherits_no_descriptor(tmp_path: Path) -> None:
    with guarded_site(ScriptedGuest) as (lab, _), (tmp_path / "parents").open("w") as marker:
        os.set_inheritable(marker.fileno(), True)
        with frozen(lab, pass_fds=(marker.fileno(),)) as owner:
            targets = descriptors(the_guard(lab))
            inherited = descriptors(owner.pid).values()
    assert any("parents" in target for target in inherited)
    assert {targets[fd] for fd in "012"} == {"/dev/null"}
    rest = {target.split(":")[0] for fd, target in targets.items() if fd not in "012"}
    # The owner's socket, the API's connection; the pipe for signals; the selector, pidfds.
    own = {target for target in rest if target.startswith((str(lab.journal_path.parent / "guards"), "/proc/"))}
    assert rest - own <= {"socket", "pipe", "anon_inode"}, targets
    assert len(own) == 2, "its claim, and its owner as it shows in /proc"
    assert len(targets) <= 12, targets


def test_a_guard_is_known_by_its_name() -> None:
    """The owner's seat lets it pass."""
    with guarded_site(ScriptedGuest) as (lab, _), frozen(lab) as owner:
        names = [Path(f"/proc/{pid}/comm").read_text().strip() for pid in (the_guard(lab), owner.pid)]
    assert names == ["fsfreeze-guard", "safe-snapshot"]
    assert all(name.startswith(TRUSTED) for name in names)


def test_a_guard_has_a_session_of_its_own_and_survives_its_owners_group() -> None:
    with guarded_site(ScriptedGuest) as (lab, timeline):
        with frozen(lab, start_new_session=True) as owner:
            guard = the_guard(lab)
            assert os.getsid(guard) == guard != os.getsid(owner.pid)
            os.killpg(owner.pid, 9)
        assert is_alive(guard)
        assert wait_for(lambda: not timeline.is_frozen())


def test_a_guard_is_the_last_to_go_where_that_is_allowed() -> None:
    lower = "echo -900 >/proc/self/oom_score_adj"
    may = subprocess.run(["sh", "-c", lower], stderr=subprocess.DEVNULL, check=False).returncode == 0
    usual = Path("/proc/self/oom_score_adj").read_text().strip()
    with guarded_site(ScriptedGuest) as (lab, _), frozen(lab):
        score = Path(f"/proc/{the_guard(lab)}/oom_score_adj").read_text().strip()
    assert score == ("-900" if may else usual)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may lock memory without a limit")
def test_a_guard_stays_in_memory() -> None:
    with guarded_site(ScriptedGuest) as (lab, _), frozen(lab):
        lines = Path(f"/proc/{the_guard(lab)}/status").read_text().splitlines()
    status = dict(line.split(":", 1) for line in lines)
    assert int(status["VmLck"].split()[0]) >= int(status["VmRSS"].split()[0]) > 0


def test_a_guard_keeps_nobody_waiting_who_reads_its_owners_output() -> None:
    with guarded_site(ScriptedGuest) as (lab, _):
        lab.node.fault("fsfreeze-freeze", "drop")
        run = lab.safe_snapshot("100", "--policy", "require", timeout=30)  # reads both streams to their end
        assert run.exit_code == 11
        assert guards(lab)  # and the guard lives on


# The guard's own main, with every audited event noted in memory and written down at the end.
_AUDITED = """
import json, sys, time
events = []
sys.addaudithook(lambda name, args: events.append((time.monotonic(), name, repr(args)[:200])))
from snapshot.guard import __main__ as guard
try:
    guard.main(sys.argv[2:])
finally:
    seen = list(events)
    with open(sys.argv[1], "w") as file:
        json.dump(seen, file)
"""


def test_nothing_is_imported_or_written_between_the_decision_and_the_first_thaw(tmp_path: Path) -> None:
    """The whole process watched by an audit hook: its owner's end comes at one instant, the request at another."""
    record = tmp_path / "events"
    with guarded_site(ScriptedGuest) as (lab, timeline):
        address = detached.new_address("0" * 32)
        spec = GuardSpec("0" * 32, 100, "pve1", "guest100", "snapshot", 60, 60, 5, os.getpid(), 0)
        options = ["--spec", spec.to_json(), "--socket", address, "--config", str(lab.config_path)]
        with detached.listen(address) as listener:
            process = subprocess.Popen(
                [sys.executable, "-c", _AUDITED, str(record), *options], env=detached.ENVIRONMENT
            )
            listener.settimeout(20)
            owner, _ = listener.accept()
        assert json.loads(detached.read_line(owner))["op"] == "armed"
        owner.sendall(b'{"op":"freezing"}\n')
        assert lab.guest.ask("guest-fsfreeze-freeze") == 1
        time.sleep(5.5)  # past pveproxy's idle limit: the connection that was opened ahead is gone
        decided_at = time.monotonic()
        owner.shutdown(socket.SHUT_RDWR)
        owner.close()
        assert wait_for(lambda: not timeline.is_frozen())
        requested_at = lab.node.requests("fsfreeze-thaw")[0].at
        kill(process.pid, with_signal=15)
        process.wait(20)
    between = [(name, what) for at, name, what in json.loads(record.read_text()) if decided_at < at < requested_at]
    assert between, "the audit hook saw nothing at all"
    names = {name for name, _ in between}
    assert "import" not in names, between
    assert not any(name.startswith(("sqlite3", "subprocess", "os.", "shutil", "tempfile")) for name in names), between
    opened = [what for name, what in between if name == "open"]
    assert not [what for what in opened if _writes(what)], opened
    assert not any("/dev/log" in what for _, what in between), between


def _writes(arguments: str) -> bool:
    """Whether an ``open`` event's (path, mode, flags) is for writing."""
    flags = int(arguments.rstrip(")").rpartition(",")[2])
    return bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_TRUNC))
