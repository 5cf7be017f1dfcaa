"""Workers, in real processes: what they say, what becomes of them, and of their signals."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PRELUDE = """
import os, signal, sys, time
from snapshot.errors import InterruptedBySignalError
from snapshot.fleet.link import Link
from snapshot.base.host import BROKEN
from snapshot.fleet.worker import Workers, prepare
def say(*words):
    print(*words, flush=True)
def fork(work):
    workers = Workers(lambda order, link, gate: work(link, gate))
    worker = workers.begin({})
    worker.workers = workers
    return worker
def heard(worker):
    '''Everything until the worker ends, and how it ended.'''
    said = []
    try:
        while True:
            message = worker.link.wait(60)
            assert message is not None, "a worker hangs"
            said.append(message)
    except EOFError:
        return said, worker.reap()
def wait_for(worker, op):
    while True:
        message = worker.link.wait(60)
        assert message is not None, "a worker hangs"
        if message["op"] == op:
            return message
prepare()
"""


def run(script: str) -> list[str]:
    """What a parent with workers says."""
    done = subprocess.run(
        [sys.executable, "-c", PRELUDE + script], capture_output=True, text=True, cwd=ROOT, check=False, timeout=120
    )
    assert done.stderr == ""
    assert done.returncode == 0
    return done.stdout.splitlines()


def test_a_worker_says_what_it_has_to_say_and_ends() -> None:
    script = """
def work(link, gate):
    print("nobody sees this")
    link.tell("say", line="one", at=1.5)
    link.tell_whole("result", data="x" * 100_000)
said, status = heard(fork(work))
say([m["op"] for m in said], said[0]["line"], len(said[1]["data"]), status)
"""
    assert run(script) == ["['say', 'result'] one 100000 0"]


def test_the_words_of_a_worker_that_left_ours_unread_are_not_lost() -> None:
    script = """
def work(link, gate):
    link.wait(60)
    link.tell_whole("result", data=1)
worker = fork(work)
for _ in range(3):
    worker.link.tell("go")
say(heard(worker))
"""
    assert run(script) == ["([{'op': 'result', 'data': 1}], 0)"]


def test_a_worker_that_is_killed_is_an_end_with_its_signal() -> None:
    script = """
def work(link, gate):
    link.tell("say", line="here")
    time.sleep(600)
worker = fork(work)
wait_for(worker, "say")
os.kill(worker.pid, signal.SIGKILL)
say(heard(worker))
"""
    assert run(script) == ["([], -9)"]


def test_an_error_in_a_worker_is_its_own_and_reaches_no_terminal() -> None:
    script = """
def work(link, gate):
    raise ValueError("a bug")
say(heard(fork(work)) == ([], BROKEN))
say("the parent goes on")
"""
    assert run(script) == ["True", "the parent goes on"]


def test_the_end_of_one_worker_is_seen_while_a_later_one_lives() -> None:
    """A later worker that kept the parent's end of an earlier one open would hide the parent's death from it."""
    script = """
def first(link, gate):
    link.tell("say", line="up")
    while link.wait(60) is not None:
        pass
def second(link, gate):
    link.tell("say", line=str(len(os.listdir("/proc/self/fd"))))
one = fork(first)
alone = int(heard(fork(second))[0][0]["line"])
others = [fork(first) for _ in range(3)]
among = int(wait_for(fork(second), "say")["line"])
say(among - alone)
one.link.close()
say(one.reap() != 0)
for worker in others:
    worker.signal(signal.SIGKILL)
"""
    assert run(script) == ["0", "True"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda n: n.name)
def test_a_signal_waits_for_the_gate_of_a_worker(number: signal.Signals) -> None:
    script = f"""
def work(link, gate):
    link.tell("say", line="closed")
    while gate.pending is None:
        time.sleep(0.01)
    link.tell("say", line="the thaw is done")
    try:
        with gate.open():
            link.tell("say", line="never")
    except InterruptedBySignalError as error:
        link.tell("say", line=str(error.exit_code))
worker = fork(work)
wait_for(worker, "say")
worker.signal({int(number)})
say([m["line"] for m in heard(worker)[0]])
"""
    assert run(script) == [f"['the thaw is done', '{128 + number}']"]


def test_a_signal_that_comes_while_a_worker_starts_is_not_lost() -> None:
    """Nor does it end the worker as if nobody had handlers: it is held back until the gate is there."""
    script = """
def work(link, gate):
    try:
        while True:
            with gate.open():
                time.sleep(0.01)
    except InterruptedBySignalError as error:
        link.tell_whole("say", line=str(error.exit_code))
found = set()
for _ in range(20):
    worker = fork(work)
    worker.signal(signal.SIGTERM)
    said, status = heard(worker)
    found.add((*[m["line"] for m in said], status))
say(found)
"""
    assert run(script) == ["{('143', 0)}"]


def test_what_a_terminal_sends_reaches_the_parent_alone() -> None:
    """Ctrl-C goes to the process group of the foreground: a worker gets it from its parent, once."""
    script = """
def work(link, gate):
    link.tell("say", line=str(os.getpgrp() == os.getpid()))
worker = fork(work)
say(os.getpgid(worker.pid) == worker.pid, wait_for(worker, "say")["line"])
"""
    assert run(script) == ["True True"]


def test_a_worker_whose_parent_is_gone_begins_no_window_and_finishes_the_one_it_is_in(tmp_path: Path) -> None:
    """Outside of a window the parent's end is a signal, inside it is none until the guest is thawed."""
    told = tmp_path / "told"
    script = (
        f"""
def write(text):
    with open({str(told)!r}, "a") as file:
        file.write(text)
"""
        + """
def work(link, gate):
    with gate.unstoppable():
        link.tell("say", line="in it")
        link.wait(60)
        while not link.is_closed:
            time.sleep(0.01)
        with gate.open():
            write("the window goes on ")
    with gate.open():
        write("so does what follows it ")
    try:
        with gate.unstoppable():
            write("a second window begins")
    except InterruptedBySignalError as error:
        write(f"ended by {error.signal_number}")
worker = fork(work)
wait_for(worker, "say")
worker.link.tell("go")
worker.link.close()
worker.workers.dismiss()
"""
    )
    assert run(script) == []
    assert told.read_text() == "the window goes on so does what follows it ended by 1"


def test_a_worker_is_not_stopped_by_a_terminal(tmp_path: Path) -> None:
    script = """
def work(link, gate):
    link.tell("say", line="up")
    with gate.unstoppable():
        link.tell("say", line="in it")
        link.wait(60)
    link.tell("say", line="out")
worker = fork(work)
wait_for(worker, "say")
worker.signal(signal.SIGTSTP)
worker.link.tell("go")
say([m["line"] for m in heard(worker)[0] if m["op"] == "say"])
"""
    assert run(script)[-1].endswith("'out']")


def test_a_parent_that_does_not_read_keeps_no_worker_waiting(tmp_path: Path) -> None:
    script = (
        f"""
full = {str(tmp_path / "full")!r}
"""
        + """
def work(link, gate):
    lost = 0
    while link.tell("say", line="x" * 1000):
        lost += 1
        if lost > 100_000:
            os._exit(3)
    open(full, "x").close()
    link.wait(60)
    link.tell_whole("result", data=1)
worker = fork(work)
while not os.path.exists(full):
    time.sleep(0.01)
worker.link.tell("go")
said, status = heard(worker)
say(said[-1]["op"], status)
"""
    )
    assert run(script) == ["result 0"]


def test_up_to_eight_have_a_process_each_and_more_share_them() -> None:
    """The least busy takes the next one, and who has nothing to do is asked before a new one is made."""
    script = """
from collections import Counter
def do(order, link, gate):
    link.tell("say", pid=os.getpid())
    link.wait(60)
    link.tell_whole("result", data=order["n"])
workers = Workers(do)
made = [workers.begin({"n": n}) for n in range(20)]
pids = [wait_for(worker, "say")["pid"] for worker in made]
say(pids == [worker.pid for worker in made], sorted(Counter(pids).values()), len(set(pids[:8])))
for worker in made:
    worker.link.tell("go")
say({heard(worker)[1] for worker in made})
again = [workers.begin({"n": n}) for n in range(8)]
say({worker.pid for worker in again} == set(pids))
"""
    assert run(script) == ["True [2, 2, 2, 2, 3, 3, 3, 3] 8", "{0}", "True"]


def test_the_end_of_a_process_is_that_of_all_who_share_it_and_of_nobody_else() -> None:
    script = """
def do(order, link, gate):
    link.tell("say", pid=os.getpid())
    link.wait(60)
workers = Workers(do)
made = [workers.begin({}) for _ in range(16)]
for worker in made:
    wait_for(worker, "say")
os.kill(made[0].pid, signal.SIGKILL)
theirs = [worker for worker in made if worker.pid == made[0].pid]
say([heard(worker) for worker in theirs])
others = [worker for worker in made if worker not in theirs]
more = workers.begin({})
say(more.pid not in {worker.pid for worker in made}, "nobody begins in a dead one")
for worker in (*others, more):
    worker.link.tell("go")
say({heard(worker)[1] for worker in others}, heard(more)[1])
"""
    assert run(script) == ["[([], -9), ([], -9)]", "True nobody begins in a dead one", "{0} 0"]


def test_one_that_is_killed_between_its_choice_and_its_order_costs_nobody() -> None:
    script = """
from snapshot.base.host import Host
def do(order, link, gate):
    link.tell_whole("result", data=order["n"])
workers = Workers(do)
first = workers.begin({"n": 1})
heard(first)
looks = Host.has_ended
def and_then_it_is_killed(host):
    found = looks(host)
    os.kill(host.pid, signal.SIGKILL)
    os.waitid(os.P_PID, host.pid, os.WEXITED | os.WNOWAIT)
    Host.has_ended = looks
    return found
Host.has_ended = and_then_it_is_killed
worker = workers.begin({"n": 2})
said, status = heard(worker)
say(worker.pid != first.pid, said[0]["data"], status)
"""
    assert run(script) == ["True 2 0"]


def test_a_guest_leaves_nothing_behind_in_a_process_that_goes_on() -> None:
    """What refers to itself is collected at its end: else the memory of a run grows with its guests."""
    script = """
import weakref
class Cycle:
    pass
left = []
def do(order, link, gate):
    link.tell_whole("result", alive=sum(one() is not None for one in left))
    cycle = Cycle()
    cycle.itself = cycle
    left.append(weakref.ref(cycle))
workers = Workers(do)
for _ in range(4):
    worker = workers.begin({})
    said, status = heard(worker)
    say(said[0]["alive"], status)
"""
    assert run(script) == ["0 0"] * 4


def test_the_words_name_no_signal_twice() -> None:
    """os.kill of a worker that is reaped already would hit a stranger."""
    script = """
worker = fork(lambda link, gate: None)
heard(worker)
worker.signal(signal.SIGKILL)
say(worker.status)
"""
    assert run(script) == ["0"]
    assert os.getpid() > 0
