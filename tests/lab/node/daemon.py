"""pvedaemon in the lab: exactly three worker processes a node, each busy with one call at a time.

The front (pveproxy) hands a call to a free worker and may stop waiting for it; the worker goes on until the call is
done, as on a real node. Workers are processes, so a hung agent call blocks nobody but its worker, and the tasks that
they fork are theirs.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import time
from pathlib import Path
from typing import Any

from tests.lab.node.host import Host
from tests.lab.node.ops import Answer, load_all, perform
from tests.lab.node.tasks import call_process, process_start

WORKERS = 3
_MAX_LINE = 1 << 24
_MAX_DESCRIPTORS = 4096


class Daemon:
    """The workers of one node, as the front uses them."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._idle: asyncio.Queue[_Worker] = asyncio.Queue()
        self._busy = self._most_busy = self._calls = 0
        self._full_since: float | None = None
        self._longest_full = self._longest_wait = 0.0

    def start(self) -> None:
        """Fork the workers: before there is an event loop, so that a fork copies little."""
        self._forked = [_Worker.fork(self._root) for _ in range(WORKERS)]

    async def open(self) -> None:
        """Take the workers into the running event loop."""
        for worker in self._forked:
            await worker.open()
            self._idle.put_nowait(worker)

    async def call(self, method: str, template: str, values: dict[str, Any], user: str) -> Answer:
        """Wait for a free worker and let it do the call. ``acted_at`` says when it began (time.monotonic)."""
        came_at = time.monotonic()
        worker = await self._idle.get()
        self._begins(came_at)
        try:
            answer = await worker.ask({"method": method, "template": template, "values": values, "user": user})
        except (OSError, asyncio.IncompleteReadError, ValueError):
            worker.close()
            worker = _Worker.fork(self._root)
            await worker.open()
            answer = {"status": 596, "message": "Unexpected end-of-file", "errors": None, "front": True}
        finally:
            self._ends()
            self._idle.put_nowait(worker)
        return answer

    def _begins(self, came_at: float) -> None:
        now = time.monotonic()
        self._calls += 1
        self._busy += 1
        self._most_busy = max(self._most_busy, self._busy)
        self._longest_wait = max(self._longest_wait, now - came_at)
        if self._busy == WORKERS:
            self._full_since = now

    def _ends(self) -> None:
        self._longest_full = max(self._longest_full, self._full())
        self._full_since = None
        self._busy -= 1

    def _full(self) -> float:
        return time.monotonic() - self._full_since if self._full_since is not None else 0.0

    def seen(self) -> dict[str, float]:
        """How its workers were taken up so far: see LabNode.workers."""
        return {
            "calls": self._calls,
            "most_busy": self._most_busy,
            "longest_full": max(self._longest_full, self._full()),
            "longest_wait": self._longest_wait,
        }


class _Worker:
    def __init__(self, pid: int, channel: socket.socket) -> None:
        self.pid = pid
        self._channel = channel
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    @classmethod
    def fork(cls, root: Path) -> _Worker:
        ours, theirs = socket.socketpair()
        pid = os.fork()
        if pid == 0:
            call_process("pvedaemon worker")
            try:
                _serve(root, theirs.detach())
            finally:
                os._exit(0)
        theirs.close()
        started = process_start(pid)
        with (root / "lab" / "workers").open("a") as known:
            known.write(f"{pid} {started[0] if started else 0}\n")
        return cls(pid, ours)

    async def open(self) -> None:
        self._reader, self._writer = await asyncio.open_connection(sock=self._channel, limit=_MAX_LINE)

    async def ask(self, job: dict[str, Any]) -> Answer:
        assert self._reader
        assert self._writer
        self._writer.write(json.dumps(job).encode() + b"\n")
        answer: Answer = json.loads(await self._reader.readuntil(b"\n"))
        return answer

    def close(self) -> None:
        if self._writer:
            self._writer.close()


def _serve(root: Path, descriptor: int) -> None:
    """A worker's life: jobs from its socket until the server is gone; then it ends, a running job first."""
    os.closerange(3, descriptor)
    os.closerange(descriptor + 1, _MAX_DESCRIPTORS)
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    load_all()
    host = Host(root)

    def reap(number: int, frame: object) -> None:
        """A task has ended: note it in the list of active tasks, as pvedaemon does."""
        ended = False
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                ended = True
        except ChildProcessError:
            pass
        if ended:
            host.tasks.refresh()

    signal.signal(signal.SIGCHLD, reap)
    with socket.socket(fileno=descriptor) as channel, channel.makefile("rwb") as stream:
        for line in stream:
            job = json.loads(line)
            began = time.monotonic()
            answer = perform(host, job["method"], job["template"], job["values"], job["user"])
            answer |= {"acted_at": began, "acted_until": time.monotonic()}
            try:
                stream.write(json.dumps(answer).encode() + b"\n")
                stream.flush()
            except OSError:
                return
