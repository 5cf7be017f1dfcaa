"""The guard's records are written in a thread, so that a journal on a hung disk delays no thaw."""

from __future__ import annotations

import contextlib
import queue
from collections.abc import Callable
from typing import Protocol

from snapshot.base.threads import start_thread
from snapshot.base.watchdog import LOOK_SECONDS
from snapshot.guard.seams import Recorder
from snapshot.journal.record import Cause
from snapshot.model import ThawReport

CATCH_UP_SECONDS = 5.0
"""How often what could not be recorded is tried again."""

FINISH_SECONDS = 60.0
"""How long the end of the guard waits for its records: the guest is thawed by then."""


class PatientRecorder(Recorder, Protocol):
    """One that keeps what it cannot write."""

    def catch_up(self) -> None:
        """Try again to write it."""
        ...


class BackgroundRecorder:
    """guard.seams.Recorder that hands everything to another one in a thread, in order. Never blocks, never raises."""

    def __init__(self, behind: PatientRecorder, catch_up_seconds: float = CATCH_UP_SECONDS) -> None:
        self._behind = behind
        self._catch_up_seconds = catch_up_seconds
        self._work: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._is_given_up = False
        self._thread = start_thread("recorder", self._run)

    def intervened(self, cause: Cause, report: ThawReport) -> None:
        """See Recorder."""
        self._work.put(lambda: self._behind.intervened(cause, report))

    def stuck(self, cause: Cause, report: ThawReport) -> None:
        """See Recorder."""
        self._work.put(lambda: self._behind.stuck(cause, report))

    def thawed(self, cause: Cause, report: ThawReport, *, watching_seconds: float) -> None:
        """See Recorder."""
        self._work.put(lambda: self._behind.thawed(cause, report, watching_seconds=watching_seconds))

    def late_freeze(self) -> None:
        """See Recorder."""
        self._work.put(self._behind.late_freeze)

    def left_open(self) -> None:
        """See Recorder."""
        self._work.put(self._behind.left_open)

    def closed(self, *, by_owner: bool) -> None:
        """See Recorder."""
        self._work.put(lambda: self._behind.closed(by_owner=by_owner))

    def finish(self, seconds: float = FINISH_SECONDS, moves: Callable[[], None] = lambda: None) -> None:
        """Wait until everything is recorded, or ``seconds`` have passed: then no further record is made. ``moves`` is
        called every LOOK_SECONDS.
        """
        self._work.put(None)
        while self._thread.is_alive() and seconds > 0 and not self._is_given_up:
            moves()
            self._thread.join(min(seconds, LOOK_SECONDS))
            seconds -= LOOK_SECONDS
        self._is_given_up = True

    def _run(self) -> None:
        is_over = False
        while not is_over:
            try:
                record = self._work.get(timeout=self._catch_up_seconds)
            except queue.Empty:
                record = self._behind.catch_up
            is_over = record is None
            if self._is_given_up:
                return  # whoever comes next has this window
            with contextlib.suppress(Exception):  # one record lost to a bug must not cost the next
                (record or self._behind.catch_up)()
