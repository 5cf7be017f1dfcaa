"""At most so many at once: with real processes, for it is the kernel that keeps count."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from snapshot.base.clock import SystemClock
from snapshot.base.slots import Slot, Slots
from snapshot.errors import InterruptedBySignalError
from tests.unit.kit import VirtualClock

FOR_HANGS = 120.0
HOLD = """
import sys; from pathlib import Path; from snapshot.base.clock import SystemClock; from snapshot.base.slots import Slots
slot = Slots(Path(sys.argv[1]), "window", int(sys.argv[2]), SystemClock()).take(
    float(sys.argv[3]), waits=lambda: print("waits", flush=True)
)
print(slot.is_held, flush=True); sys.stdin.readline()
"""
COUNT = """
import os, sys, time; from pathlib import Path
from snapshot.base.clock import SystemClock; from snapshot.base.slots import Slots
folder = Path(sys.argv[1])
with Slots(folder, "window", int(sys.argv[2]), SystemClock()).take(float(sys.argv[3])):
    mine = folder.parent / f"in-{os.getpid()}"
    mine.touch()
    print(len(list(folder.parent.glob("in-*"))), flush=True)
    time.sleep(0.02)
    mine.unlink()
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "state" / "slots"


def started(folder: Path, script: str, count: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", script, str(folder), str(count), str(FOR_HANGS)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


@contextmanager
def other(folder: Path, count: int) -> Iterator[subprocess.Popen[str]]:
    with started(folder, HOLD, count) as process:
        try:
            yield process
        finally:
            process.kill()


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def slots(folder: Path, count: int, clock: VirtualClock | None = None) -> Slots:
    return Slots(folder, "window", count, clock or VirtualClock())


def test_there_are_so_many_slots_and_no_more(folder: Path) -> None:
    with other(folder, 2) as first, other(folder, 2) as second:
        assert [line(first), line(second)] == ["True", "True"]
        clock = VirtualClock()
        with pytest.raises(TimeoutError, match="none of 2 was free within 60 s"):
            slots(folder, 2, clock).take(60.0)
        assert clock.now == pytest.approx(60.0)
        with slots(folder, 3).take(0.0) as third:
            assert third.is_held


def test_a_holder_that_is_killed_leaves_its_slot_to_who_waits(folder: Path) -> None:
    with other(folder, 1) as holder:
        assert line(holder) == "True"
        with other(folder, 1) as waiting:
            assert line(waiting) == "waits"
            holder.kill()
            assert line(waiting) == "True"


def test_who_gives_it_back_has_it_no_more_and_who_ends_neither(folder: Path) -> None:
    with slots(folder, 1).take(0.0) as slot:
        assert slot.is_held
        with pytest.raises(TimeoutError):
            slots(folder, 1).take(0.0)
    assert not slot.is_held
    with other(folder, 1) as process:
        assert line(process) == "True"
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
        process.wait()
    assert slots(folder, 1).take(0.0).is_held


def test_forty_processes_are_never_more_than_three_at_once_and_all_have_their_turn(folder: Path) -> None:
    processes = [started(folder, COUNT, 3) for _ in range(40)]
    said = [process.communicate()[0].strip() for process in processes]
    assert [process.returncode for process in processes] == [0] * 40
    assert max(map(int, said)) <= 3


def test_one_that_is_stopped_while_it_waits_holds_nobody_up(folder: Path) -> None:
    with other(folder, 1) as holder:
        assert line(holder) == "True"
        with other(folder, 1) as stopped, other(folder, 1) as waiting:
            assert line(stopped) == line(waiting) == "waits"
            stopped.send_signal(signal.SIGSTOP)
            holder.kill()
            assert line(waiting) == "True"


def test_who_comes_while_others_wait_takes_no_short_cut(folder: Path) -> None:
    with other(folder, 1) as holder:
        assert line(holder) == "True"
        with other(folder, 1) as waiting:
            assert line(waiting) == "waits"
            waiting.send_signal(signal.SIGSTOP)
            os.waitid(os.P_PID, waiting.pid, os.WSTOPPED)
            holder.kill()
            holder.wait()
            told: list[str] = []
            assert slots(folder, 1).take(1.0, waits=lambda: told.append("waits")).is_held
            assert told, "it took the free slot at once, in front of one who waits"


def test_the_longer_one_waits_the_more_often_one_looks(folder: Path) -> None:
    clock = VirtualClock()
    with slots(folder, 1).take(0.0), pytest.raises(TimeoutError):
        slots(folder, 1, clock).take(60.0)
    assert clock.slept[0] == pytest.approx(0.2)
    assert clock.slept[-2] == pytest.approx(0.02)
    assert sorted(clock.slept[:-1], reverse=True) == clock.slept[:-1]


def test_a_signal_amid_the_wait_comes_through_and_keeps_nothing(folder: Path) -> None:
    def interrupted(_seconds: float) -> None:
        held.release()
        raise InterruptedBySignalError(2)

    before = len(os.listdir("/proc/self/fd"))
    held = slots(folder, 1).take(0.0)
    with pytest.raises(InterruptedBySignalError):
        slots(folder, 1).take(10.0, sleep=interrupted)
    with slots(folder, 1).take(0.0) as slot:
        assert slot.is_held
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_program_that_is_started_meanwhile_has_no_part_in_it(folder: Path) -> None:
    with ExitStack() as stack:
        with slots(folder, 1).take(0.0):
            process = subprocess.Popen(["sleep", "600"], close_fds=False)
            stack.callback(process.wait)
            stack.callback(process.kill)
        assert slots(folder, 1).take(0.0).is_held


def test_where_no_folder_can_be_had_there_is_no_limit_and_it_says_why(folder: Path) -> None:
    folder.parent.mkdir()
    folder.write_text("")
    held: list[Slot] = [slots(folder, 1).take(0.0) for _ in range(3)]
    assert not any(slot.is_held for slot in held)
    assert held[0].problem == f"{folder} cannot be used (Not a directory)"
    held[0].release()


def test_two_names_in_one_folder_are_counted_apart(folder: Path) -> None:
    with slots(folder, 1).take(0.0) as window, Slots(folder, "call", 1, SystemClock()).take(0.0) as call:
        assert window.is_held
        assert call.is_held
