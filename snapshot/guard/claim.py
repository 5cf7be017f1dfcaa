"""One window, one guard: a locked file in a folder that nobody else can enter.

The kernel gives the lock back when its holder ends, however that ends. The file is made when the first guard is armed,
before any freeze, so a disk that is full by the time a second one is started does not matter. Where no such file can be
made there is no claim, and a guard goes on without: two that thaw are better than none. Standard library only.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path
from typing import NamedTuple

from snapshot.base.files import open_own_folder
from snapshot.base.procfs import ProcessIdentity

TRIES = 5
"""A file that its holder removes while we open it is opened anew; more often than this nobody has seen."""

_FLAGS = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK


class Holder(NamedTuple):
    """The process that holds a claim; zeros when its file does not say."""

    pid: int = 0
    pid_start: int = 0


class Claim:
    """The lock on a window that this process holds until it lets go or ends, or nothing where no lock can be had."""

    def __init__(self, path: Path | None = None, descriptor: int = -1) -> None:
        self._path = path
        self._descriptor = descriptor

    @property
    def is_held(self) -> bool:
        """Whether nobody else can have it."""
        return self._descriptor >= 0

    def release(self) -> None:
        """The window has ended: remove the file, and those that killed guards have left. Never raises."""
        if self._path is None or not self.is_held:
            return
        with contextlib.suppress(OSError):
            folder = open_own_folder(self._path.parent)
            try:
                os.unlink(self._path.name, dir_fd=folder)
                for name in os.listdir(folder):
                    _remove_unlocked(folder, name)
            finally:
                os.close(folder)
        self.let_go()

    def let_go(self) -> None:
        """Another guard of this window may follow. The end of the process does the same. Never raises."""
        if self.is_held:
            os.close(self._descriptor)
            self._descriptor = -1


def take(folder: Path, window_id: str, me: ProcessIdentity | None = None) -> Claim | Holder:
    """The claim on a window, or who has it. Never raises."""
    try:
        opened = open_own_folder(folder)
    except OSError:
        return Claim()
    try:
        return _take(opened, folder / f"{window_id}.lock", me or ProcessIdentity.own())
    except OSError:
        return Claim()
    finally:
        os.close(opened)


def _take(folder: int, path: Path, me: ProcessIdentity) -> Claim | Holder:
    for _ in range(TRIES):
        descriptor = _open_file(folder, path.name)
        is_ours = False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            is_ours = _is_still(folder, path.name, descriptor)  # else its holder has ended its window, and removed it
            if is_ours:
                _write(descriptor, me)
                return Claim(path, descriptor)
        except BlockingIOError:
            return _read(descriptor)
        finally:
            if not is_ours:
                os.close(descriptor)
    return Claim()


def _open_file(folder: int, name: str) -> int:
    try:
        return os.open(name, os.O_RDWR | os.O_CREAT | _FLAGS, 0o600, dir_fd=folder)
    except OSError:
        return os.open(name, os.O_RDONLY | _FLAGS, dir_fd=folder)  # read-only by now: made by an earlier guard


def _is_still(folder: int, name: str, descriptor: int) -> bool:
    """Whether the name still means the file that was locked."""
    try:
        named, opened = os.stat(name, dir_fd=folder, follow_symlinks=False), os.fstat(descriptor)
    except OSError:
        return False
    return (named.st_dev, named.st_ino) == (opened.st_dev, opened.st_ino)


def _write(descriptor: int, me: ProcessIdentity) -> None:
    """Write who holds it, for others to read: the kernel does not say whose a lock is."""
    with contextlib.suppress(OSError):
        os.pwrite(descriptor, f"{me.pid:<10} {me.start:<20}\n".encode(), 0)


def _read(descriptor: int) -> Holder:
    try:
        pid, start = os.pread(descriptor, 64, 0).split()
        return Holder(int(pid), int(start))
    except (OSError, ValueError):
        return Holder()


def _remove_unlocked(folder: int, name: str) -> None:
    """A file that nobody holds: its guard was killed, and its window is over or taken over without a file by now."""
    with contextlib.suppress(OSError):
        descriptor = os.open(name, os.O_RDONLY | _FLAGS, dir_fd=folder)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.unlink(name, dir_fd=folder)
        finally:
            os.close(descriptor)
