"""The gate for INT, TERM and HUP, in real processes: held back where an interruption would do harm."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from snapshot.base.signals import SIGNALS, NoGate

ROOT = Path(__file__).resolve().parents[2]
PRELUDE = """
import os, signal, sys, time
from snapshot.errors import InterruptedBySignalError
from snapshot.base.signals import SignalGate
gate = SignalGate()
def say(text):
    print(text, flush=True)
def wait():
    '''Until the parent has sent its signal and says so.'''
    sys.stdin.readline()
"""


def run(script: str, *numbers: int, before: Callable[[], object] | None = None) -> tuple[int, list[str], str]:
    """A process with a gate; each ``ready`` it says is answered with the next of ``numbers`` and a line."""
    with subprocess.Popen(
        [sys.executable, "-c", PRELUDE + script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        preexec_fn=before,  # noqa: PLW1509 - what a parent does that ignores a signal for us
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        said: list[str] = []
        left = list(numbers)
        for line in process.stdout:
            said.append(line.strip())
            if line == "ready\n":
                process.send_signal(left.pop(0))
                with contextlib.suppress(BrokenPipeError):
                    os.write(process.stdin.fileno(), b"\n")
        assert process.stderr is not None
        errors = process.stderr.read()
    return process.returncode, said, errors


@pytest.mark.parametrize("number", SIGNALS, ids=lambda n: n.name)
def test_a_signal_inside_the_gate_interrupts_at_once(number: signal.Signals) -> None:
    script = """
try:
    with gate.open():
        say("ready")
        time.sleep(60)
except InterruptedBySignalError as error:
    say("interrupted")
    sys.exit(error.exit_code)
"""
    assert run(script, number) == (128 + number, ["ready", "interrupted"], "")


@pytest.mark.parametrize("number", SIGNALS, ids=lambda n: n.name)
def test_a_signal_outside_the_gate_is_held_back_until_the_next_opening(number: signal.Signals) -> None:
    script = """
say("ready")
wait()
for _ in range(1000):
    pass
say("the thaw is done")
try:
    with gate.open():
        say("never")
except InterruptedBySignalError as error:
    sys.exit(error.exit_code)
"""
    assert run(script, number) == (128 + number, ["ready", "the thaw is done"], "")


def test_a_second_signal_does_not_tear_the_cleaning_up_apart() -> None:
    script = """
try:
    try:
        with gate.open():
            say("ready")
            time.sleep(60)
    finally:
        say("ready")
        wait()  # the first signal's line
        wait()
        say("thawed")
except InterruptedBySignalError as error:
    sys.exit(error.exit_code)
"""
    code, said, errors = run(script, signal.SIGTERM, signal.SIGINT)
    assert (code, errors) == (128 + signal.SIGTERM, "")
    assert said == ["ready", "ready", "thawed"]


def test_a_signal_between_two_openings_is_seen_at_the_second() -> None:
    script = """
with gate.open():
    say("first")
say("ready")
wait()
try:
    with gate.open():
        say("never")
except InterruptedBySignalError as error:
    say("second")
"""
    assert run(script, signal.SIGHUP) == (0, ["first", "ready", "second"], "")


def test_an_error_inside_the_gate_closes_it() -> None:
    script = """
try:
    with gate.open():
        raise KeyError
except KeyError:
    pass
say("ready")
wait()
say("held back" if gate.pending == signal.SIGTERM else "lost")
"""
    assert run(script, signal.SIGTERM) == (0, ["ready", "held back"], "")


def test_a_signal_that_our_parent_ignores_for_us_stays_ignored() -> None:
    script = """
with gate.open():
    say("ready")
    wait()
    say("not ended")
"""

    def ignore() -> None:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

    assert run(script, signal.SIGHUP, before=ignore) == (0, ["ready", "not ended"], "")


def test_ctrl_z_is_held_back_until_the_end_and_not_forgotten() -> None:
    script = """
handler = signal.getsignal(signal.SIGTSTP)
with gate.unstoppable():
    os.kill(os.getpid(), signal.SIGTSTP)
    say("goes on")
    early = signal.SIGTSTP in signal.sigpending()
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTSTP})
say("wanted" if signal.SIGTSTP in signal.sigpending() and not early else "forgotten")
say("back" if signal.getsignal(signal.SIGTSTP) is handler else "lost")
"""
    assert run(script) == (0, ["goes on", "wanted", "back"], "")


def test_ctrl_z_that_our_parent_ignores_for_us_stays_ignored() -> None:
    script = """
signal.signal(signal.SIGTSTP, signal.SIG_IGN)
with gate.unstoppable():
    os.kill(os.getpid(), signal.SIGTSTP)
    say(signal.getsignal(signal.SIGTSTP).name)
say("goes on")
"""
    assert run(script) == (0, ["SIG_IGN", "goes on"], "")


def test_the_earlier_handlers_come_back() -> None:
    script = """
gate.restore()
say("ready")
time.sleep(60)
"""
    code, said, _ = run(script, signal.SIGTERM)
    assert (code, said) == (-signal.SIGTERM, ["ready"])


def test_a_gate_for_those_who_handle_no_signals_changes_none() -> None:
    before = [signal.getsignal(number) for number in SIGNALS]
    with NoGate().open():
        assert [signal.getsignal(number) for number in SIGNALS] == before
