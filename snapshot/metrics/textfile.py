"""One file that readers never see torn or empty, in a folder that may not be ours. Standard library only.

Writers take turns: the lock is held from before the content is rendered until the file is in place, so that an older
rendering never replaces a newer one and no counter goes back.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from snapshot.base import files
from snapshot.base.clock import Clock

LOCK_LOOK_SECONDS = 0.02
MODE = 0o644
"""node_exporter runs as a user of its own."""

_LOCK_FLAGS = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC


class WaitedTooLongError(OSError):
    """Another writer has held the lock all the time: it hangs, or is stopped."""


@contextlib.contextmanager
def turn(lock: Path | None, limit_seconds: float, clock: Clock) -> Iterator[None]:
    """Hold ``lock`` for one writer. WaitedTooLongError when it is not let go.

    The lock is a file that nobody else can open (in the state folder, mode 0600): whoever can open a file can hold it.
    Where it cannot be made (a full or read-only disk) the turn is not waited for: late metrics are better than none.
    """
    try:
        descriptor = -1 if lock is None else os.open(lock, _LOCK_FLAGS, 0o600)
    except OSError:
        descriptor = -1
    try:
        deadline = clock.monotonic() + limit_seconds
        while descriptor >= 0:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if clock.monotonic() >= deadline:
                    raise WaitedTooLongError(
                        errno.ETIMEDOUT, f"another process has held {lock} for {limit_seconds:g} s"
                    ) from None
                clock.sleep(LOCK_LOOK_SECONDS)
        yield
    finally:
        if descriptor >= 0:
            os.close(descriptor)


def write(
    path: Path, content: Callable[[], bytes], limit_seconds: float, clock: Clock, lock: Path | None = None
) -> None:
    """Replace ``path`` by ``content()`` as one step, readable for everybody.

    OSError when that is not possible; the old file is then untouched. What ``content`` raises comes through. A file
    that another writer has begun to render since we were called holds what we have to say: it is left at that.
    """
    called_at = clock.time()
    with turn(lock, limit_seconds, clock):
        now = clock.time()
        if called_at < _date(path) <= now:
            return
        files.replace(path, content(), MODE, alone=True, at=now)


def _date(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
