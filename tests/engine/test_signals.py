"""Ctrl-C, SIGTERM and SIGHUP at every step of a run: the real process, caught in each of its requests in turn.

The node delays one request; while it does, the process gets the signal. Whatever the step: the guest is thawed before
the process ends, the exit code is 128 + n, the message says whether there is a snapshot, and the journal's window is
closed unless a late freeze is possible.
"""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.engine import kit
from tests.json_schema import follows_the_schema
from tests.lab.guest.base import pid_is_alive
from tests.lab.guest.scripted import ScriptedGuest
from tests.lab.node.node import GuestSpec
from tests.lab.site import Run, Site, wait_for

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
DELAY = 1.5


@dataclass(frozen=True)
class Step:
    """One request of a run: the nth (from 1) whose path ends so. ``after`` delays its answer instead of the request."""

    method: str
    path: str
    nth: int = 1
    after: bool = False

    def __str__(self) -> str:
        return f"{self.method} {self.path}{f' ({self.nth})' if self.nth > 1 else ''}{' answer' if self.after else ''}"


AGENT = "/agent/"
STEPS = (
    Step("GET", "/cluster/resources"),
    Step("GET", "/qemu/100/config"),
    Step("GET", "/status/current"),
    Step("GET", "/feature"),
    Step("GET", "/qemu/100/snapshot"),
    Step("GET", "/access/permissions"),
    Step("GET", "/pending"),
    Step("GET", f"{AGENT}info"),
    Step("POST", f"{AGENT}fsfreeze-status"),
    Step("GET", "/cluster/status"),
    Step("GET", "/cluster/status", nth=2),  # the guard's own, while it is armed
    Step("POST", f"{AGENT}fsfreeze-freeze"),
    Step("POST", f"{AGENT}fsfreeze-freeze", after=True),
    Step("POST", "/qemu/100/snapshot"),
    Step("POST", "/qemu/100/snapshot", after=True),
    Step("GET", "/status"),
    Step("GET", "/status", after=True),
    Step("POST", f"{AGENT}fsfreeze-status", nth=2),
    Step("POST", f"{AGENT}fsfreeze-thaw"),
    Step("POST", f"{AGENT}fsfreeze-thaw", after=True),
    Step("POST", f"{AGENT}fsfreeze-status", nth=3),
    Step("GET", "/log"),
    Step("PUT", "/snapshot/s1/config"),
    Step("PUT", "/snapshot/s1/config", after=True),
)
PATTERNS = {"/status": "/tasks/.*/status$", "/log": "/tasks/.*/log$"}


def hold(lab: Site, step: Step, seconds: float = DELAY) -> str:
    """Delay this request; returns the pattern of its path."""
    pattern = PATTERNS.get(step.path, f"{step.path}$")
    when = "after" if step.after else "before"
    lab.node.fault(pattern, "delay", method=step.method, nth=step.nth, delay=seconds, when=when)
    return pattern


def caught(lab: Site, number: int, *arguments: str) -> tuple[int, str]:
    """Start a run, send the signal once the delayed request has arrived, and wait for its end: exit code and stderr."""
    process = lab.start("100", "--name", "s1", *arguments)
    assert wait_for(lambda: lab.node.fault_hits() > 0 or process.poll() is not None, 20)
    assert process.poll() is None, process.communicate()
    time.sleep(0.05)
    process.send_signal(number)
    _, stderr = process.communicate(timeout=60)
    assert not lab.guest.is_frozen(), f"the process has ended, the guest is frozen\n{stderr}"
    assert "Traceback" not in stderr
    assert "internal error" not in stderr
    return process.returncode, stderr


def check_the_end(lab: Site, stderr: str, number: int) -> None:
    assert f"ended by signal {number} ({signal.Signals(number).name})" in stderr
    check_the_snapshot(lab, stderr)
    check_the_journal(lab)


def check_the_snapshot(lab: Site, stderr: str) -> None:
    """The message is true, or says that PVE is still at work."""
    assert wait_for(lambda: not lab.node.running_tasks(), 20)
    there = "s1" in kit.snapshots(lab)
    if "the snapshot s1 is there" in stderr:
        assert there
        assert "verdict pending" not in kit.description(lab), "its description is final"
    elif "there is no snapshot of this run" in stderr:
        assert not there
    else:
        assert "PVE may still be at work on the snapshot s1" in stderr
        assert "listsnapshot 100" in stderr


def check_the_journal(lab: Site) -> None:
    """Closed, or open because an unanswered freeze may still come: then its guard is there, and closes it."""
    if not lab.journal_path.exists() or not lab.windows():
        return
    found = kit.window(lab)
    if found.freeze_outcome == "unknown":
        assert kit.closes(lab)
    else:
        assert found.closed_at is not None
    guard = found.guard_pid
    assert guard is None or wait_for(lambda: not pid_is_alive(guard), 10), "no guard stays behind"


@pytest.mark.parametrize(("step", "number"), list(zip(STEPS, itertools.cycle(SIGNALS), strict=False)), ids=str)
def test_a_signal_at_any_step_thaws_first_and_says_what_is_left(lab: Site, step: Step, number: signal.Signals) -> None:
    lab.write_config(freeze={"late_freeze_seconds": 1})
    hold(lab, step)
    exit_code, stderr = caught(lab, number)
    assert exit_code == 128 + number, stderr
    check_the_end(lab, stderr, number)


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["require", "prefer", "never"])
@pytest.mark.parametrize("number", SIGNALS, ids=str)
@pytest.mark.parametrize("step", STEPS, ids=str)
def test_every_signal_at_every_step_with_every_policy(lab: Site, step: Step, number: int, policy: str) -> None:
    if policy == "never" and AGENT in step.path:
        pytest.skip("no agent call with this policy")
    if policy == "never" and step.path in ("/pending", "/cluster/status"):
        pytest.skip("no guard with this policy")
    lab.write_config(freeze={"late_freeze_seconds": 1})
    hold(lab, step)
    exit_code, stderr = caught(lab, number, "--policy", policy)
    assert exit_code == 128 + number, stderr
    check_the_end(lab, stderr, number)


def test_a_second_ctrl_c_does_not_tear_the_thaw_apart(lab: Site) -> None:
    hold(lab, Step("POST", "/agent/fsfreeze-thaw"))
    process = lab.start("100", "--name", "s1")
    assert wait_for(lambda: lab.node.fault_hits() > 0, 20)
    for _ in range(5):
        process.send_signal(signal.SIGINT)
        time.sleep(0.05)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130, stderr
    assert not lab.guest.is_frozen()
    assert "Traceback" not in stderr
    check_the_end(lab, stderr, signal.SIGINT)


def test_a_signal_before_the_freeze_leaves_no_window_open(lab: Site) -> None:
    """It was held back while the guard was being armed. No freeze was sent, so nothing is unknown."""
    hold(lab, Step("GET", "/cluster/status", nth=2))
    exit_code, stderr = caught(lab, signal.SIGTERM)
    assert exit_code == 143, stderr
    assert not lab.node.requests("fsfreeze-freeze")
    found = kit.window(lab)
    assert (found.freeze_outcome, found.failure_reason) == (None, "interrupted")
    assert found.closed_at is not None


@pytest.mark.parametrize("carried_out", [True, False])
def test_a_signal_in_the_freeze_leaves_the_window_to_the_guard_unless_the_freeze_was_seen_to_be_undone(
    lab: Site, guest: ScriptedGuest, carried_out: bool
) -> None:
    """The agent is still freezing when the owner goes: the thaw is retried. Or the freeze is on its way still."""
    lab.write_config(freeze={"late_freeze_seconds": 600})
    if carried_out:
        guest.set_knob("freeze_sleep", 1.0)
    else:
        lab.node.fault("fsfreeze-freeze", "hang")
    process = lab.start("100", "--name", "s1")
    assert kit.reaches(lab, "fsfreeze-freeze")
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130, stderr
    assert "the guest is thawed" in stderr
    assert not guest.is_frozen()
    found = kit.window(lab)
    assert found.guard_pid is not None
    assert found.closed_at is None or carried_out
    if carried_out:
        assert kit.closes(lab)
    assert wait_for(lambda: pid_is_alive(found.guard_pid or 0) is not carried_out)


def test_a_signal_while_a_lost_snapshot_is_looked_for(lab: Site) -> None:
    lab.node.fault("/qemu/100/snapshot$", "drop", method="POST", when="before")
    process = lab.start("100", "--name", "s1")
    assert wait_for(lambda: sum(r.method == "GET" for r in lab.node.requests("/qemu/100/snapshot")) > 2, 20)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130, stderr
    assert "there is no snapshot of this run" in stderr
    check_the_journal(lab)


def test_a_signal_while_an_unproven_snapshot_is_removed(lab: Site, guest: ScriptedGuest) -> None:
    guest.set_knob("thaw_exit", 1)
    lab.node.fault("/snapshot/s1$", "delay", method="DELETE", delay=DELAY, when="before")
    exit_code, stderr = caught(lab, signal.SIGTERM, "--policy", "require")
    assert exit_code == 143, stderr
    assert "PVE may still be at work on the snapshot s1" in stderr
    assert kit.window(lab).verdict == "unknown"


def test_a_signal_while_the_guest_of_an_earlier_run_is_healed(lab: Site, guest: ScriptedGuest) -> None:
    """The thaw that heals is not torn apart either."""
    lab.write_config(freeze={"foreign": "thaw"})
    guest.ask("guest-fsfreeze-freeze")
    kit.seen_frozen(lab, 900)
    hold(lab, Step("POST", "/agent/fsfreeze-thaw"))
    exit_code, stderr = caught(lab, signal.SIGINT)
    assert exit_code == 130, stderr
    assert "there is no snapshot of this run" in stderr


def test_a_signal_while_the_task_works_on_says_that_pve_is_still_at_it(lab: Site) -> None:
    lab.node.set(task_delays={"before": 15.0})
    process = lab.start("100", "--name", "s1")
    assert wait_for(lambda: bool(lab.node.running_tasks()), 20)
    assert kit.reaches(lab, "/tasks/")
    process.send_signal(signal.SIGTERM)
    assert wait_for(lambda: not lab.guest.is_frozen(), 8), "thawed at once, not at the end of the task"
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 143, stderr
    assert "PVE may still be at work on the snapshot s1" in stderr


def test_a_signal_ends_a_run_of_a_guest_that_is_off(lab: Site, guest: ScriptedGuest) -> None:
    guest.stop()
    lab.node.fault("/tasks/", "delay", delay=DELAY)
    process = lab.start("100", "--name", "s1")
    assert wait_for(lambda: lab.node.fault_hits() > 0, 20)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130, stderr
    assert "the snapshot s1 is there" in stderr
    check_the_journal(lab)


def test_a_signal_ends_a_run_of_a_container(lab: Site) -> None:
    lab.node.add_guest(GuestSpec(200, kind="lxc"))
    lab.node.fault("/lxc/200/snapshot$", "delay", method="POST", delay=DELAY)
    process = lab.start("200", "--name", "s1")
    assert wait_for(lambda: lab.node.fault_hits() > 0, 20)
    process.send_signal(signal.SIGHUP)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 129, stderr


@pytest.mark.parametrize("words", [("check", "100"), ("status",), ("thaw", "100")], ids=str)
@pytest.mark.parametrize("number", SIGNALS, ids=str)
def test_a_signal_ends_the_other_commands_with_one_line(lab: Site, words: tuple[str, ...], number: int) -> None:
    lab.node.fault("/cluster/resources", "hang")
    process = lab.start(*words)
    assert wait_for(lambda: lab.node.fault_hits() > 0, 20)
    process.send_signal(number)
    _, stderr = process.communicate(timeout=8)
    assert process.returncode == 128 + number, stderr
    (line,) = stderr.splitlines()
    assert line.startswith(f"ERROR: ended by signal {number}")
    # A rescue that is broken off has not said whether the guest is frozen.
    assert ("may still be" in line) is (words[0] != "check")


_INTERRUPTED_IMPORT = """
import os, signal, sys

class CtrlC:
    def find_spec(self, name, path=None, target=None):
        if name == "click":
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, CtrlC())
sys.argv = ["/usr/bin/safe-snapshot", "status"]
from snapshot.entry import main
main()
"""


def test_ctrl_c_while_the_program_is_still_starting_is_no_traceback() -> None:
    done = subprocess.run(
        [sys.executable, "-I", "-c", _INTERRUPTED_IMPORT],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (-signal.SIGINT, "")


def test_nohup_goes_on_after_a_hangup(lab: Site) -> None:
    """SIGHUP that is ignored at the start stays ignored."""
    hold(lab, Step("GET", "/pending"), seconds=0.5)
    process = subprocess.Popen(
        ["sh", "-c", 'trap "" HUP; exec "$@"', "sh", *lab.command("100", "--name", "s1")],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert wait_for(lambda: lab.node.fault_hits() > 0, 20)
    process.send_signal(signal.SIGHUP)
    stdout, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "filesystem-consistent" in stdout


def state_of(process: subprocess.Popen[str]) -> str:
    """The letter in /proc: T is stopped."""
    return Path(f"/proc/{process.pid}/stat").read_text().rpartition(") ")[2][0]


def test_ctrl_z_stops_a_run_only_when_its_guest_is_thawed(lab: Site) -> None:
    """A stopped owner thaws nothing: the guest would be frozen until the guard's deadline, half a minute."""
    hold(lab, Step("POST", "/qemu/100/snapshot", after=True), seconds=0.8)
    process = lab.start("100", "--name", "s1", process_group=0)  # a group of its own, as a shell gives its jobs
    assert wait_for(lambda: lab.node.fault_hits() > 0, 20)
    assert lab.guest.is_frozen()
    process.send_signal(signal.SIGTSTP)
    assert wait_for(lambda: not lab.guest.is_frozen(), 10)
    assert wait_for(lambda: state_of(process) == "T", 10), "the terminal's wish is forgotten"
    process.send_signal(signal.SIGCONT)
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 0, stderr
    assert "filesystem-consistent" in stdout


def test_ctrl_c_in_a_terminal_reaches_the_whole_group_and_the_guard_is_not_in_it(lab: Site) -> None:
    """The terminal sends SIGINT to the foreground process group: the guard has a session of its own."""
    hold(lab, Step("POST", "/agent/fsfreeze-thaw"))
    process = lab.start("100", "--name", "s1", start_new_session=True)
    assert wait_for(lambda: lab.node.fault_hits() > 0, 20)
    os.killpg(process.pid, signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130, stderr
    assert kit.window(lab).guard_cause is None, "the guard had nothing to do"


def test_the_json_object_of_a_run_that_was_ended_by_a_signal(lab: Site) -> None:
    lab.node.fault("/qemu/100/snapshot$", "delay", method="POST", delay=DELAY)
    process = lab.start("--json", "100", "--name", "s1")
    assert wait_for(lambda: lab.node.fault_hits() > 0, 20)
    process.send_signal(signal.SIGTERM)
    stdout, stderr = process.communicate(timeout=60)
    run = Run(process.returncode, stdout, stderr, 0.0)
    assert run.json["exit_code"] == process.returncode == 143
    assert follows_the_schema(run.json)["error"]["code"] == "interrupted"
    assert stderr == ""
