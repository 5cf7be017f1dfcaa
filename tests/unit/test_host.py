"""A forked process that is sent on errands: orders, their ends, signals, descriptors, and the end of either side."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from pathlib import Path

from snapshot.base.host import BROKEN
from snapshot.base.threads import STACK_BYTES

PRELUDE = """
import os, select, signal, socket, sys, time
from snapshot.base.host import BROKEN, Calling, Errand, fork

def all_ended(host, count):
    found = {}
    while len(found) < count:
        select.select([host], [], [])
        found |= host.ended()
    return sorted(found.items())
"""


def run(program: str, timeout: float = 60.0) -> str:
    """What it prints: a fork of a test runner would take the runner's threads along."""
    done = subprocess.run(
        [sys.executable, "-c", PRELUDE + program], check=False, capture_output=True, text=True, timeout=timeout
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_each_order_has_its_own_thread_and_its_own_status() -> None:
    """Orders of one host wait for each other here: they run at the same time."""
    found = run("""
reading, writing = socket.socketpair()
def work(errand):
    if errand.order == b"first":
        os.read(errand.descriptor, 1)
        return 3
    os.write(errand.descriptor, b"x")
    return 0
host = fork(Calling(work, ()))
host.order(1, b"first", reading.fileno())
host.order(2, b"second", writing.fileno())
print(all_ended(host, 2))
host.dismiss()
print(host.reap())
""")
    assert found == "[(1, 3), (2, 0)]\n0"


def test_an_exception_costs_its_own_order() -> None:
    found = run("""
def work(errand):
    if errand.order == b"bad":
        raise SystemExit("no")
    return 0
host = fork(Calling(work, ()))
host.order(1, b"bad")
print(all_ended(host, 1))
host.order(2, b"good")
print(all_ended(host, 1))
""")
    assert found == f"[(1, {BROKEN})]\n[(2, 0)]"


def test_a_signal_reaches_every_errand_and_those_that_come_later() -> None:
    found = run("""
def work(errand):
    os.write(errand.descriptor, b"x") if errand.descriptor >= 0 else None
    assert errand.signals.wait(60)
    return errand.signals.pending
ours, theirs = socket.socketpair()
host = fork(Calling(work, (signal.SIGTERM, signal.SIGINT)))
host.order(1, b"", theirs.fileno()); host.order(2, b"", theirs.fileno())
ours.recv(1); ours.recv(1)
os.kill(host.pid, signal.SIGTERM)
print(all_ended(host, 2))
os.kill(host.pid, signal.SIGINT)
host.order(3, b"")
print(all_ended(host, 1))
""")
    assert found == f"[(1, {int(signal.SIGTERM)}), (2, {int(signal.SIGTERM)})]\n[(3, {int(signal.SIGTERM)})]"


def test_a_signal_that_interrupts_an_errand_reaches_them_all() -> None:
    """The kernel chooses the thread, and Python handles it in the main one, which waits for orders."""
    found = run("""
import threading
def work(errand):
    if errand.order:
        time.sleep(0.3)  # the main thread waits by then
        signal.pthread_kill(threading.get_ident(), signal.SIGTERM)
    return errand.signals.pending if errand.signals.wait(20) else 0
host = fork(Calling(work, (signal.SIGTERM,)))
host.order(1, b"")
host.order(2, b"is interrupted")
print(all_ended(host, 2))
""")
    assert found == f"[(1, {int(signal.SIGTERM)}), (2, {int(signal.SIGTERM)})]"


def test_an_order_for_which_there_is_no_room_costs_itself_alone() -> None:
    found = run("""
import resource
def work(errand):
    if errand.order == b"first":
        os.read(errand.descriptor, 1)
    if errand.order:
        room = 3 if errand.order == b"fill" else 1024
        resource.setrlimit(resource.RLIMIT_NOFILE, (room, 1024))
    return 0
ours, theirs = socket.socketpair()
host = fork(Calling(work, ()))
host.order(1, b"first", theirs.fileno())
host.order(2, b"fill")
print(all_ended(host, 1))
host.order(3, b"")
print(all_ended(host, 1))
ours.send(b"x")
print(all_ended(host, 1))
host.order(4, b"")
print(all_ended(host, 1))
""")
    assert found == f"[(2, 0)]\n[(3, {BROKEN})]\n[(1, 0)]\n[(4, 0)]"


def test_all_threads_of_a_host_have_small_stacks() -> None:
    """A size that whoever starts a thread sets, and sets back, is another one's for a moment."""
    found = run("""
import threading
def work(errand):
    time.sleep(0.3)  # whoever started this thread is done by then
    return threading.stack_size() >> 16
host = fork(Calling(work, ()))
host.order(1, b"")
print(all_ended(host, 1))
""")
    assert found == f"[(1, {STACK_BYTES >> 16})]"


def test_all_threads_of_a_host_share_one_heap(tmp_path: Path) -> None:
    """As glibc tells it (malloc_info(3)); one for each would cost megabytes."""
    told = tmp_path / "heaps"
    run(f"""
import ctypes
libc = ctypes.CDLL(None)
libc.fopen.restype = ctypes.c_void_p
def work(errand):
    kept = [bytes(100_000)]
    if errand.order:
        file = ctypes.c_void_p(libc.fopen({os.fsencode(told)!r}, b"w"))
        libc.malloc_info(0, file)
        libc.fclose(file)
    errand.signals.wait(0 if errand.order else 600)
    return 0
host = fork(Calling(work, (signal.SIGTERM,)))
for number in range(3):
    host.order(number, b"")
host.order(3, b"tell")
all_ended(host, 1)
""")
    assert told.read_text().count("<heap nr=") == 1


def test_a_host_that_is_killed_is_seen_and_named() -> None:
    found = run("""
host = fork(Calling(lambda errand: errand.signals.wait(600), (signal.SIGTERM,)))
host.order(1, b"")
os.kill(host.pid, signal.SIGKILL)
select.select([host], [], [])
try:
    host.ended()
except EOFError:
    print(host.reap())
""")
    assert found == f"{-signal.SIGKILL}"


def test_one_that_is_killed_before_it_has_read_an_order_ends_that_one_too() -> None:
    """Whoever waits for its end, or at the other end of what came with it, sees it."""
    found = run("""
host = fork(Calling(lambda errand: errand.signals.wait(600), (signal.SIGTERM,)))
os.kill(host.pid, signal.SIGSTOP)
os.waitid(os.P_PID, host.pid, os.WSTOPPED | os.WNOWAIT)
ours, theirs = socket.socketpair()
host.order(1, b"", theirs.fileno())
theirs.close()
os.kill(host.pid, signal.SIGKILL)
ours.settimeout(30)
print(ours.recv(1), host.end_of(1))
""")
    assert found == f"b'' {-signal.SIGKILL}"


def test_it_outlives_whoever_forked_it_until_its_last_order_has_ended() -> None:
    """And ends then: nobody can order anything more."""
    reading, writing = os.pipe2(os.O_CLOEXEC)
    with subprocess.Popen(
        [
            sys.executable,
            "-c",
            PRELUDE
            + f"""
def work(errand):
    while os.getppid() == parent:
        time.sleep(0.01)
    os.write(errand.descriptor, b"done")
    return 0
parent = os.getpid()
host = fork(Calling(work, ()))
host.order(1, b"", {writing})
os.kill(parent, signal.SIGKILL)
""",
        ],
        pass_fds=[writing],
    ) as parent:
        os.close(writing)
        parent.wait(60)
    told = []
    while not told or told[-1]:
        assert select.select([reading], [], [], 60)[0]
        told.append(os.read(reading, 10))
    assert told == [b"done", b""], "its last order, and then its own end"
    os.close(reading)


def test_nothing_but_memory_is_inherited() -> None:
    found = run("""
inherited = socket.socketpair()
inode = os.fstat(inherited[0].fileno()).st_ino
def work(errand):
    return any(os.stat(f"/proc/self/fd/{number}").st_ino == inode for number in os.listdir("/proc/self/fd")
        if os.path.exists(f"/proc/self/fd/{number}"))
host = fork(Calling(work, ()))
earlier = fork(Calling(work, ()))
earlier.order(1, b"")
print(all_ended(earlier, 1))
os.kill(host.pid, signal.SIGKILL)
select.select([host], [], [])
print(host.reap())
""")
    assert found == f"[(1, 0)]\n{-signal.SIGKILL}"


def test_where_there_is_no_room_for_a_thread_the_other_end_of_a_descriptor_sees_it() -> None:
    """A worker's parent hears of its end by that alone: it would wait for ever."""
    found = run("""
from snapshot.base import host as module
def no_room(name, run):
    raise RuntimeError("can't start new thread")
def begin():
    module.start_thread = no_room
ours, theirs = socket.socketpair()
host = fork(Calling(lambda errand: 0, (), begin=begin))
host.order(1, b"", theirs.fileno())
theirs.close()
ours.settimeout(30)
print(all_ended(host, 1), ours.recv(1))
""")
    assert found == f"[(1, {BROKEN})] b''"
