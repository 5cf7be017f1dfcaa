"""A process of ours that stands still past its deadline is ended, and no other."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from snapshot.base.hardening import end_if_it_stands_still
from snapshot.base.procfs import process_start
from tests.lab.site import wait_for


@pytest.fixture
def other() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["sleep", "600"]) as process:
        yield process
        process.kill()


def stopped(process: subprocess.Popen[bytes]) -> int:
    """Stop it; its start time."""
    start = process_start(process.pid)
    assert start is not None
    process.send_signal(signal.SIGSTOP)
    assert wait_for(lambda: Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T")
    return start


def test_a_stopped_process_is_ended(other: subprocess.Popen[bytes]) -> None:
    assert end_if_it_stands_still(other.pid, stopped(other))
    assert other.wait(20) == -signal.SIGKILL


def test_a_living_process_is_left_alone_unless_it_is_known_to_be_silent(other: subprocess.Popen[bytes]) -> None:
    start = process_start(other.pid)
    assert not end_if_it_stands_still(other.pid, start)
    assert other.poll() is None
    assert end_if_it_stands_still(other.pid, start, is_silent=True)


def test_another_process_with_the_same_number_is_left_alone(other: subprocess.Popen[bytes]) -> None:
    start = stopped(other)
    assert not end_if_it_stands_still(other.pid, start + 1)
    assert not end_if_it_stands_still(other.pid, start + 1, is_silent=True)
    assert not end_if_it_stands_still(other.pid, None, is_silent=True)
    assert other.poll() is None


def test_a_process_never_ends_itself_and_one_that_is_gone_is_nothing() -> None:
    assert not end_if_it_stands_still(os.getpid(), process_start(os.getpid()), is_silent=True)
    assert not end_if_it_stands_still(None, None, is_silent=True)
    gone = subprocess.Popen(["true"])
    gone.wait()
    assert not end_if_it_stands_still(gone.pid, 1, is_silent=True)
