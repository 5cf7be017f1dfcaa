"""safe-snapshot as a process that is forked from one which has imported it, instead of started anew.

Such a run is a process of its own, with its own streams, signals, folder and exit status, and from ``snapshot.entry``
on it is the program itself; what it leaves out is the interpreter's start and the imports: four fifths of the
processor time of a ``check``. The guards and workers that it starts are started as ever. What comes before ``main``
(the script, the imports, ``-I``) has tests of its own, which start the program: Site.start, Site.command.

Only the tests ask for it (tests/conftest.py): what is measured by tests/bench is started.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import pkgutil
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from tests.lab.node.tasks import call_process

_MAX_MESSAGE = 65536
_MAX_DESCRIPTORS = 4096
_CHUNK = 65536
_ONE = threading.Lock()
"""Two threads of a test make one zygote."""
_ROOT = Path(__file__).resolve().parents[2]


# ------------------------------------------------------------------ the test's side


class Zygote:
    """The process that runs are forked from: one a test process, started with the first run."""

    _instance: Zygote | None = None

    def __init__(self, environment: dict[str, str]) -> None:
        self._owner = os.getpid()
        self._orders, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:  # all three: what a stream can do is found out at the interpreter's start, and a file could more
            self._process = subprocess.Popen(
                [sys.executable, "-c", "from tests.lab.forked import zygote; zygote()"],
                cwd=_ROOT,
                stdin=theirs.fileno(),
                stdout=theirs.fileno(),
                stderr=theirs.fileno(),
                env=environment,
            )

    @classmethod
    def get(cls, environment: dict[str, str]) -> Zygote:
        """The one of this process. It ends with it: its orders then end."""
        with _ONE:
            one = cls._instance
            if one is None or one._owner != os.getpid() or one._process.poll() is not None:
                one = cls._instance = cls(environment)
            return one

    def run(self, argv: list[str], timeout: float) -> tuple[int, str, str]:
        """Run the program to its end: its exit code (negative: the signal that killed it) and both streams.

        subprocess.TimeoutExpired when it takes longer, after it has been killed.
        """
        ends = [os.pipe() for _ in range(3)]  # standard output, standard error, what the zygote says of it
        mask = os.umask(0o022)
        os.umask(mask)
        order = {"argv": argv, "folder": os.getcwd(), "umask": mask}
        try:
            socket.send_fds(self._orders, [json.dumps(order).encode()], [theirs for _, theirs in ends])
        finally:
            for _, theirs in ends:
                os.close(theirs)
        try:
            out, err, said = _read_all([ours for ours, _ in ends], argv, timeout)
        finally:
            for ours, _ in ends:
                os.close(ours)
        if len(words := said.split()) != 2:
            raise RuntimeError(f"the zygote of safe-snapshot has died: {self._last_words()}")
        return int(words[1]), out.decode(), err.decode()

    def _last_words(self) -> str:
        """What it wrote to its streams."""
        self._orders.settimeout(1.0)
        words = b""
        with contextlib.suppress(OSError):
            while part := self._orders.recv(_MAX_MESSAGE):
                words += part
        return words.decode(errors="replace")


def _read_all(ends: list[int], argv: list[str], timeout: float) -> list[bytes]:
    """What comes out of each, until all have ended."""
    deadline = time.monotonic() + timeout
    found = {end: bytearray() for end in ends}
    waiting = select.poll()
    for end in ends:
        waiting.register(end, select.POLLIN)
    still = set(ends)
    while still:
        ready = waiting.poll(max(0.0, deadline - time.monotonic()) * 1000)
        for end, _ in ready:
            if chunk := os.read(end, _CHUNK):
                found[end] += chunk
            else:
                waiting.unregister(end)
                still.remove(end)
        if not ready and time.monotonic() >= deadline:
            out, err, said = (bytes(found[end]) for end in ends)
            if len(said.split()) == 1:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(said), signal.SIGKILL)
            raise subprocess.TimeoutExpired(argv, timeout, out, err)
    return [bytes(found[end]) for end in ends]


# ---------------------------------------------------------------- the zygote's side


def zygote() -> None:
    """Wait on standard input (a unix socket) for orders, fork a run for each, and say how it ended."""
    entry = importlib.import_module("snapshot.entry")
    commands = importlib.import_module("snapshot.cli")
    for module in pkgutil.iter_modules(commands.__path__, "snapshot.cli."):
        importlib.import_module(module.name)
    gc.collect()
    gc.freeze()
    if (run := _serve()) is not None:  # only in a run
        _become(run)
        entry.main()


def _serve() -> dict[str, Any] | None:
    """None at the end of the orders; in a forked run: its order, with its streams."""
    orders = socket.socket(fileno=os.dup(0))
    woken, wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake)
    waiting = select.poll()
    waiting.register(orders, select.POLLIN)
    waiting.register(woken, select.POLLIN)
    runs: dict[int, int] = {}
    while True:
        for ready, _ in waiting.poll():
            if ready == woken:
                with contextlib.suppress(BlockingIOError):
                    os.read(woken, _CHUNK)
                _tell_ends(runs)
                continue
            data, streams, _, _ = socket.recv_fds(orders, _MAX_MESSAGE, 3)
            if not data:
                return None
            if (pid := os.fork()) == 0:
                signal.set_wakeup_fd(-1)
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                signal.signal(signal.SIGINT, signal.default_int_handler)
                orders.detach()
                return {**json.loads(data), "streams": streams[:2]}
            if not _say(streams[2], f"{pid} "):
                os.kill(pid, signal.SIGKILL)
            runs[pid] = streams[2]
            for stream in streams[:2]:
                os.close(stream)


def _tell_ends(runs: dict[int, int]) -> None:
    with contextlib.suppress(ChildProcessError):
        while (found := os.waitpid(-1, os.WNOHANG))[0]:
            end = runs.pop(found[0])
            _say(end, str(os.waitstatus_to_exitcode(found[1])))
            os.close(end)


def _say(end: int, text: str) -> bool:
    """Whether its test still listens: it may have given up."""
    try:
        os.write(end, text.encode())
    except BrokenPipeError:
        return False
    return True


def _become(run: dict[str, Any]) -> None:
    """What a process has that was started by itself: its streams and nothing else, its name, folder and arguments."""
    out, err = run["streams"]
    null = os.open(os.devnull, os.O_RDONLY)
    for number, stream in enumerate((null, out, err)):
        os.dup2(stream, number)
    os.closerange(3, _MAX_DESCRIPTORS)
    os.umask(run["umask"])
    os.chdir(run["folder"])
    sys.argv = run["argv"]
    sys.path.remove("")
    call_process(Path(sys.argv[0]).name[:15])
