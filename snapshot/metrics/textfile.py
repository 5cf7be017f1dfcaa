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

from snapshot.clock import Clock

LOCK_LOOK_SECONDS = 0.02
MODE = 0o644
"""node_exporter runs as a user of its own."""


class WaitedTooLongError(OSError):
    """Another writer has held the lock all the time: it hangs, or is stopped."""


@contextlib.contextmanager
def turn(folder: Path, limit_seconds: float, clock: Clock) -> Iterator[int]:
    """Hold ``folder`` for one writer; yields its descriptor. OSError when it cannot be opened or is not let go.

    The lock is on the folder itself (flock), so nothing is left in it, and the kernel takes it back from a dead writer.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        deadline = clock.monotonic() + limit_seconds
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if clock.monotonic() >= deadline:
                    raise WaitedTooLongError(
                        errno.ETIMEDOUT, f"another process has held it for {limit_seconds:g} s"
                    ) from None
                clock.sleep(LOCK_LOOK_SECONDS)
        yield descriptor
    finally:
        os.close(descriptor)


def write(path: Path, content: Callable[[], bytes], limit_seconds: float, clock: Clock) -> None:
    """Replace ``path`` by ``content()`` as one step: temporary file beside it, fsync, rename, mode 0644.

    OSError when that is not possible; the old file is then untouched. What ``content`` raises comes through.
    """
    temporary = f".{path.name}.new"
    with turn(path.parent, limit_seconds, clock) as folder:
        data = content()
        # A writer that was killed may have left its file; in a folder of somebody else it may be a trap instead, so it
        # is never opened, only removed and made anew.
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary, dir_fd=folder)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(temporary, flags, 0o600, dir_fd=folder)
        try:
            try:
                view = memoryview(data)
                while view:
                    view = view[os.write(descriptor, view) :]
                os.fchmod(descriptor, MODE)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            os.rename(temporary, path.name, src_dir_fd=folder, dst_dir_fd=folder)
        except BaseException:  # a signal in between, too: nothing half written is left in a folder of somebody else
            with contextlib.suppress(OSError):
                os.unlink(temporary, dir_fd=folder)
            raise
        os.fsync(folder)
