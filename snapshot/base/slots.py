"""Slots: at most so many processes of ours at once, on one machine, whoever started them.

A slot is a locked file. The kernel gives the lock back when its holder ends, however that ends, so none is ever lost.
Where no such file can be had there is no limit: a folder that cannot be written to must not cost anybody a snapshot.
Nobody stands in a queue that another one could hold up by being stopped (Ctrl-Z): all look from time to time, the more
often the longer they wait, and who comes while others wait takes no short cut. Standard library only.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from snapshot.base.clock import Clock
from snapshot.base.files import open_own_folder

FOLDER = "slots"
"""Beside the journal."""

SLOWEST_SECONDS, QUICKEST_SECONDS = 0.2, 0.02
"""How often one who waits looks: at first, and at last."""

_FLAGS = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK


class Slot:
    """A slot of ours until ``release``, or until this process ends; or none, where there is no limit.

    A child that is forked (and does not begin another program) has it too, until both have let go of it.
    """

    def __init__(self, descriptor: int = -1, problem: str = "") -> None:
        self._descriptor = descriptor
        self.problem = problem
        """Why there is no limit; "" where there is one."""

    @property
    def is_held(self) -> bool:
        """Whether somebody else has to wait for it."""
        return self._descriptor >= 0

    def release(self) -> None:
        """Let go of it. Again: nothing."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.release()


class Slots:
    """``count`` slots of a ``name``, which is part of a file's name, in a folder that nobody else can enter."""

    def __init__(self, folder: Path, name: str, count: int, clock: Clock, *, quickest: bool = False) -> None:
        """``quickest``: they are held for moments, so all look often from the start."""
        self._folder = folder
        self._name = name
        self._count = max(1, count)
        self._clock = clock
        self._slowest = QUICKEST_SECONDS if quickest else SLOWEST_SECONDS

    def take(
        self,
        limit_seconds: float,
        *,
        waits: Callable[[], object] = lambda: None,
        sleep: Callable[[float], None] | None = None,
    ) -> Slot:
        """A slot. TimeoutError when none is free within ``limit_seconds``.

        ``waits`` is called once, before the first sleep. ``sleep`` replaces the clock's own; what it raises comes
        through, and no slot is kept then.
        """
        try:
            files = self._open()
        except OSError as error:
            return Slot(problem=f"{self._folder} cannot be used ({error.strerror or error})")
        try:
            return Slot(self._wait(files, limit_seconds, waits, sleep or self._clock.sleep))
        finally:
            for descriptor in files:
                os.close(descriptor)

    def _open(self) -> list[int]:
        """The slots' files, and at the end that of those who wait."""
        opened: list[int] = []
        folder = open_own_folder(self._folder)
        try:
            for number in (*range(self._count), "waiting"):
                opened.append(os.open(f"{self._name}-{number}.lock", _FLAGS, 0o600, dir_fd=folder))
        except OSError:
            for descriptor in opened:
                os.close(descriptor)
            raise
        finally:
            os.close(folder)
        return opened

    def _wait(
        self, files: list[int], limit_seconds: float, waits: Callable[[], object], sleep: Callable[[float], None]
    ) -> int:
        """The descriptor of a slot that is ours now; it is no longer among ``files``."""
        *slots, waiting = files
        started = now = self._clock.monotonic()
        if _locks(waiting, fcntl.LOCK_EX):  # nobody waits
            fcntl.flock(waiting, fcntl.LOCK_UN)
            if (found := _first_free(slots)) is not None:
                return _without(files, found)
        is_queued = has_told = False
        while (left := started + limit_seconds - now) > 0:
            is_queued = is_queued or _locks(waiting, fcntl.LOCK_SH)
            if not has_told:
                waits()
            has_told = True
            sleep(min(left, max(QUICKEST_SECONDS, self._slowest / (1.0 + now - started))))
            if (found := _first_free(slots)) is not None:
                return _without(files, found)
            now = self._clock.monotonic()
        raise TimeoutError(f"none of {self._count} was free within {limit_seconds:g} s")


def _first_free(slots: list[int]) -> int | None:
    """One that was free and is ours now."""
    return next((slot for slot in slots if _locks(slot, fcntl.LOCK_EX)), None)


def _locks(descriptor: int, how: int) -> bool:
    """Whether the lock is ours. A file system that knows no locks sets no limit."""
    try:
        fcntl.flock(descriptor, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        pass
    return True


def _without(files: list[int], found: int) -> int:
    files.remove(found)
    return found
