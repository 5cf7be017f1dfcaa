"""PVE's tasks: waiting for one with little delay and few requests, and what its end says.

On the worker's own node the wait is a poll of its pidfd (the pid stands in the UPID), which costs no request and wakes
at once; elsewhere the status is polled, often at first and ever more sparsely. There, too, the task's own file tells
how it ended when the API does not: a token that is revoked in the middle of a run must not cost its verdict.
"""

from __future__ import annotations

import os
import select
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from snapshot.base import interruption
from snapshot.base.clock import Clock
from snapshot.base.files import open_regular
from snapshot.base.procfs import process_lives, process_start
from snapshot.base.retry import Pace
from snapshot.base.text import clean
from snapshot.errors import ApiDeniedError, ApiError, ApiFailureError, NodeOfflineError
from snapshot.model import Node, Upid
from snapshot.pve.guests import GuestApi
from snapshot.pve.transport import Transport

POLL = Pace(first_seconds=0.01, slowest_seconds=0.5, factor=1.15)
"""A snapshot takes 0.1 to 1 s on local storage, and the interval is part of the freeze window: 10 ms, and a seventh of
the time that has passed. PVE has no request that is answered when a task ends."""

WORKERS_LEFT = 2
"""So many may look at one node as often as POLL says. More of them look more sparsely, or their looks alone would keep
its three pvedaemon workers busy: each costs one of them some ten milliseconds.
"""

POLITE_LOOK = 15
"""Where the looks go on after an error: 80 ms apart, for an API that has trouble."""

OFFLINE_SECONDS = 60.0
"""How long the cluster has to call a task's node offline before nobody waits for its word any more."""

TAIL_BYTES = 1 << 16
"""How much of a task's file is read, from its end: some 500 lines."""


def pace_of(watchers: int) -> Pace:
    """How often each of so many looks that wait for tasks of one node at the same time."""
    first = POLL.first_seconds * max(1.0, watchers / WORKERS_LEFT)
    return Pace(first, max(first, POLL.slowest_seconds), POLL.factor)


class TaskEnd(NamedTuple):
    """How a task ended: PVE's exit status, e.g. ``OK``, ``WARNINGS: 1``, an error's text, ``unexpected status``."""

    exitstatus: str
    log: tuple[str, ...] = ()

    @property
    def succeeded(self) -> bool:
        """PVE did the work, possibly with warnings."""
        return self.exitstatus == "OK" or self.exitstatus.startswith("WARNINGS")


class Tasks:
    """Waits for tasks. ``local_node`` names the node this process runs on, when it does run on one, and
    ``task_folder`` is where that keeps its tasks' files.
    """

    def __init__(
        self, transport: Transport, clock: Clock, local_node: str = "", task_folder: Path | None = None
    ) -> None:
        self._transport = transport
        self._clock = clock
        self._local_node = local_node
        self._task_folder = task_folder

    def wait_for_end(
        self, upid: Upid, deadline: float, alive: Callable[[], None] = lambda: None, pace: Pace = POLL
    ) -> bool:
        """Wait until the task's worker is gone or has reported its end; False at ``deadline`` (monotonic).

        ``alive`` is called between looks and may raise to end the wait. A failing status request is no reason to stop
        looking: the task goes on without it. But ApiDeniedError or ApiFailureError, at once, when no news can come any
        more.
        """
        if upid.node == self._local_node:
            gone = self._wait_for_pid(upid, deadline, alive)
            if gone is not None:
                return gone
        look = 0
        while True:
            alive()
            try:
                if self._status(upid).get("status") == "stopped":
                    return True
            except ApiError as error:
                if self._end_here(upid) is not None:
                    return True
                self._check_permanent(upid, error)
                look = max(look, POLITE_LOOK)
            look += 1
            left = deadline - self._clock.monotonic()
            if left <= 0:
                return False
            self._clock.sleep(min(pace.interval(look), left))

    def end(self, upid: Upid, deadline: float, alive: Callable[[], None] = lambda: None) -> TaskEnd | None:
        """The task's end with its log, asked for until ``deadline``; None when it has not ended by then.

        ``alive``: see wait_for_end. ApiDeniedError or ApiFailureError at once when no news can come any more,
        NodeOfflineError when its node has been offline for OFFLINE_SECONDS.
        """
        look, offline_since = 0, float("inf")
        while True:
            alive()
            try:
                status = self._status(upid)
                if status.get("status") == "stopped":
                    return TaskEnd(clean(str(status.get("exitstatus", "unexpected status"))), self.log(upid))
            except ApiError as error:
                end = self._end_here(upid)
                if end is not None:
                    return end
                self._check_permanent(upid, error)
                now = self._clock.monotonic()
                offline_since = min(offline_since, now) if self._is_offline(upid.node) else float("inf")
                if now - offline_since >= OFFLINE_SECONDS:
                    raise NodeOfflineError(
                        f"its node {upid.node} has been offline for {OFFLINE_SECONDS:g} s",
                        remedy=f"bring {upid.node} back, then look whether the snapshot is there and whole",
                    ) from error
                look = max(look, POLITE_LOOK)
            look += 1
            left = deadline - self._clock.monotonic()
            if left <= 0:
                return None
            self._clock.sleep(min(POLL.interval(look), left))

    def _is_offline(self, node: Node) -> bool:
        try:
            return GuestApi(self._transport).is_offline(node)
        except ApiError:
            return False

    def _status(self, upid: Upid) -> dict[str, object]:
        answer = self._transport.request("GET", f"nodes/{upid.node}/tasks/{_quoted(upid)}/status")
        if not isinstance(answer, dict):
            raise ApiFailureError(f"PVE's answer to a task's status is not an object: {answer!r:.80}", status=200)
        return answer

    def log(self, upid: Upid) -> tuple[str, ...]:
        """What the task has logged so far; nothing when PVE does not say."""
        try:
            answer = self._transport.request(
                "GET", f"nodes/{upid.node}/tasks/{_quoted(upid)}/log", {"start": 0, "limit": 500}
            )
        except ApiError:
            return ()
        if not isinstance(answer, list):
            return ()
        return tuple(clean(str(row.get("t", ""))) for row in answer if isinstance(row, dict))

    def _is_here(self, upid: Upid) -> bool:
        """Whether the task's own file would tell of its end."""
        return self._task_folder is not None and upid.node == self._local_node and self._path(upid).exists()

    def _path(self, upid: Upid) -> Path:
        return (self._task_folder or Path("/")) / upid.log_folder / upid.text

    def _end_here(self, upid: Upid) -> TaskEnd | None:
        """The end by the task's own file (PVE::Tools, upid_read_status); None while its worker lives, or elsewhere.

        Not before the worker's end: an agent's error may look like a last line.
        """
        if not self._is_here(upid) or process_start(upid.pid) == upid.pstart:
            return None
        try:
            with open_regular(self._path(upid)) as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - TAIL_BYTES))
                lines = file.read(TAIL_BYTES).decode(errors="replace").rstrip("\n").split("\n")
        except OSError:
            return None
        last = lines[-1]
        status = last.removeprefix("TASK ").removeprefix("ERROR: ") if last.startswith("TASK ") else "unexpected status"
        return TaskEnd(clean(status), tuple(map(clean, lines)))

    def _check_permanent(self, upid: Upid, error: ApiError) -> None:
        """Raise ``error`` when asking again cannot help: a token that was revoked, a task that PVE does not know."""
        is_final = isinstance(error, ApiFailureError) and error.status in (400, 404, 501)
        if (isinstance(error, ApiDeniedError) or is_final) and not self._is_here(upid):
            raise error

    def _wait_for_pid(self, upid: Upid, deadline: float, alive: Callable[[], None]) -> bool | None:
        """Wait by pidfd; None when that is not possible here (not our node after all, pid reused, no permission)."""
        try:
            descriptor = os.pidfd_open(upid.pid)
        except ProcessLookupError:
            return True  # the worker has ended already
        except OSError:
            return None
        try:
            if process_start(upid.pid) != upid.pstart:
                return None
            poller = select.poll()
            poller.register(descriptor, select.POLLIN)
            while True:
                alive()
                left = deadline - self._clock.monotonic()
                if left <= 0:
                    return False
                if poller.poll(min(left, 0.1) * 1000):
                    return True
                interruption.mind()
        finally:
            os.close(descriptor)


def _quoted(upid: Upid) -> str:
    return quote(upid.text, safe="")


__all__ = ["POLL", "TaskEnd", "Tasks", "pace_of", "process_lives", "process_start"]
