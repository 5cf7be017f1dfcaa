"""One guest's backup as a source of events: vzdump's task log is followed as it grows, and its worker's life with it.

What a line means stands in wordings.py, where lines come from in lines.py, what is made of the events in hold/.
"""

from __future__ import annotations

import os
import select
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from snapshot.base.clock import Clock
from snapshot.base.procfs import process_start
from snapshot.window.parts import WindowBrokenError
from snapshot.words import Word
from vzdump_hooks.tasklog.lines import LogSource
from vzdump_hooks.tasklog.wordings import LogEvent, LogReader

CATCH_UP_SECONDS = 2.0
"""How long the log may take to show the guest's start, which vzdump wrote before our first phase. A job on a terminal
writes into a pipe that another process copies to the log."""


WHOLE_BACKUP_START = (
    LogEvent.FREEZE_ISSUED,
    LogEvent.BACKUP_STARTING,
    LogEvent.THAW_ISSUED,
    LogEvent.POINT_IN_TIME,
)
"""Before 9.1.7 vzdump does not say that it is about to send its QMP command, only that it has returned."""


class LogEvidence(NamedTuple):
    """What vzdump's log said, in order, from the guest's start to the point in time."""

    events: tuple[LogEvent, ...] = ()

    def saw(self, *events: LogEvent) -> bool:
        """Whether any of ``events`` was logged."""
        return any(event in self.events for event in events)

    def in_order(self, *events: LogEvent) -> bool:
        """Whether all of ``events`` were logged, in this order."""
        rest: Iterable[LogEvent] = iter(self.events)
        return all(any(found is wanted for found in rest) for wanted in events)

    @property
    def is_whole(self) -> bool:
        """Whether vzdump froze, sent its QMP command and thawed, in this order."""
        says_so = self.saw(LogEvent.BACKUP_STARTING)
        return self.in_order(*(e for e in WHOLE_BACKUP_START if says_so or e is not LogEvent.BACKUP_STARTING))


class WorkerDiedError(WindowBrokenError):
    """The vzdump worker is gone."""


class WorkerLife:
    """The vzdump worker's life, by its pidfd."""

    def __init__(self, pid: int, start: int) -> None:
        self._poller = select.poll()
        self._dead = False
        try:
            self._poller.register(os.pidfd_open(pid), select.POLLIN)
        except OSError:
            self._dead = True
        # After the pidfd is open: a pid that is used again meanwhile shows here.
        self._dead = self._dead or process_start(pid) != start

    def is_dead(self, wait_seconds: float = 0.0) -> bool:
        """Whether it has died, waiting for so long at most. A dead worker does not wait."""
        if not self._dead and self._poller.poll(wait_seconds * 1000):
            self._dead = True
        return self._dead


class BackupFollower:
    """One guest's events from the first source that can be read; from the next one when it no longer can."""

    def __init__(self, vmid: int, sources: Sequence[LogSource], worker: WorkerLife, clock: Clock) -> None:
        self._reader = LogReader(vmid)
        self._sources = list(sources)
        self._worker = worker
        self._clock = clock
        self._read_at = 0.0
        self._waiting: list[LogEvent] = []
        self._seen: list[LogEvent] = []

    @property
    def evidence(self) -> LogEvidence:
        """The events that were handed out so far."""
        return LogEvidence(tuple(self._seen))

    def catch_up(self) -> bool:
        """Read what is there already. False: the guest's start is not in the log, so nothing can be followed."""
        clock = self._clock
        deadline = clock.monotonic() + CATCH_UP_SECONDS
        while self._sources:
            more = self._read()
            if more:
                continue
            # An end is that of an earlier backup of this guest in the same job (`vzdump 100 100`): ours is yet to come.
            if self._reader.begun and LogEvent.GUEST_DONE not in self._waiting:
                return True
            if clock.monotonic() >= deadline:
                return False
            clock.sleep(self._sources[0].pause_seconds if self._sources else 0.0)
        return False

    def next(self, seconds: float) -> LogEvent | None:
        """The next event, None after about ``seconds``. WorkerDiedError when the worker is gone and its log read.

        The log is read no more often than its source likes, however often this is called.
        """
        pause = self._sources[0].pause_seconds if self._sources else seconds
        now = self._clock.monotonic()
        if not self._waiting and now >= self._read_at:
            self._read_at = now + pause
            self._read()
        if not self._waiting and self._worker.is_dead(min(seconds, pause)):
            while self._read():
                pass
            if not self._waiting:
                raise WorkerDiedError("the vzdump worker died", Word.BACKUP_FAILED)
        if not self._waiting:
            return None
        event = self._waiting.pop(0)
        self._seen.append(event)
        return event

    def wait(self, seconds: float) -> None:
        """Wait, where there is no log to follow. WorkerDiedError when the worker is gone."""
        if self._worker.is_dead(seconds):
            raise WorkerDiedError("the vzdump worker died", Word.BACKUP_FAILED)

    def has_logged(self, event: LogEvent) -> bool:
        """Whether vzdump has logged ``event`` by now, handed out or not."""
        while self._read():
            pass
        return event in self._waiting or event in self._seen

    def _read(self) -> bool:
        """Read once; whether there was anything. A source that fails makes room for the next, the last one stays."""
        lines = self._sources[0].lines() if self._sources else []
        if lines is None:
            if len(self._sources) > 1:
                self._sources.pop(0)
                self._reader.restart()
                self._waiting.clear()
                return True
            return False
        for line in lines:
            event = self._reader.read(line)
            if event is LogEvent.GUEST_BEGUN:
                self._waiting.clear()
            elif event is not None:
                self._waiting.append(event)
        return bool(lines)
