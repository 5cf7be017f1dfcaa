"""Lines that a thread of its own says: a terminal that stands still (Ctrl-S), or a pipe that nobody reads, keeps nobody
from work.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Self

from snapshot.base.clock import Clock
from snapshot.base.threads import start_thread

PATIENCE_SECONDS = 1.0
"""How long the end waits for what is not said yet."""


class Aloud:
    """Says each line with the instant at which it came. The thread is started by the first of them."""

    def __init__(self, say: Callable[[str, float], None], clock: Clock) -> None:
        self._say = say
        self._clock = clock
        self._lines: queue.SimpleQueue[tuple[str, float] | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def __call__(self, line: str, at: float | None = None) -> None:
        """Say it soon: nobody waits for a reader."""
        self._lines.put((line, self._clock.monotonic() if at is None else at))
        with self._lock:
            self._thread = self._thread or start_thread("aloud", self._run)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_args: object) -> None:
        if self._thread is not None:
            self._lines.put(None)
            self._thread.join(PATIENCE_SECONDS)

    def _run(self) -> None:
        while (line := self._lines.get()) is not None:
            self._say(*line)
