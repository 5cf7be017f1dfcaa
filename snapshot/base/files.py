"""Writing the files that we replace, and opening those of others, in folders that may not be ours.

Root writes where others may write too: no name can be guessed, nothing that is there already is opened, and a link that
somebody else made is replaced, never followed. Standard library only.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
from pathlib import Path
from typing import BinaryIO

_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def replace(
    path: Path,
    data: bytes,
    mode: int,
    *,
    alone: bool = False,
    at: float | None = None,
    owner: tuple[int, int] | None = None,
) -> None:
    """Put ``data`` in the place of ``path`` as one step: a new file beside it, fsync, rename.

    OSError when that is not possible; the old file is then untouched. ``alone``: no other writer of ours is at work, so
    what a killed one left is removed. ``at`` is the instant that the file's date says, the present one without;
    ``owner`` the uid and gid that it gets, our own without.
    """
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if alone:
            _sweep(folder, path.name)
        temporary = f".{path.name[:200]}.{os.urandom(8).hex()}.new"
        descriptor = os.open(temporary, _FLAGS, 0o600, dir_fd=folder)
        try:
            try:
                view = memoryview(data)
                while view:
                    view = view[os.write(descriptor, view) :]
                if owner is not None:
                    os.fchown(descriptor, *owner)  # before the mode, which a change of owner may cut
                os.fchmod(descriptor, mode)
                if at is not None:
                    os.utime(descriptor, (at, at))
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            os.rename(temporary, path.name, src_dir_fd=folder, dst_dir_fd=folder)
        except BaseException:  # a signal in between, too: nothing half written is left in a folder of somebody else
            with contextlib.suppress(OSError):
                os.unlink(temporary, dir_fd=folder)
            raise
        os.fsync(folder)
    finally:
        os.close(folder)


def remove(path: Path) -> None:
    """Take a file away for good, with what a killed writer of it left. Its absence is as good. OSError."""
    sweep(path, with_file=True)


def sweep(path: Path, *, with_file: bool = False) -> None:
    """Take away what a killed writer of ``path`` left beside it; no other one is at work. OSError.

    ``with_file``: the file, too, for good.
    """
    try:
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        _sweep(folder, path.name)
        if with_file:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path.name, dir_fd=folder)
            os.fsync(folder)
    finally:
        os.close(folder)


def _sweep(folder: int, name: str) -> None:
    left = re.compile(rf"\.{re.escape(name[:200])}\.[0-9a-f]{{16}}\.new\Z")
    for entry in os.listdir(folder):
        if left.match(entry):
            with contextlib.suppress(OSError):
                os.unlink(entry, dir_fd=folder)


def put(path: Path, data: bytes, mode: int) -> None:
    """Where an operator said: a file is replaced, a pipe or a terminal is written to. OSError when that cannot be done.

    A link is followed where nobody but us can have made it; elsewhere it is replaced like a file.
    """
    follow = _is_ours(path.parent)
    if _is_no_file(path):
        # Opened as it is, without a right to cut it short: what it is by then is seen afterwards.
        descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC | (0 if follow else os.O_NOFOLLOW))
        with os.fdopen(descriptor, "wb", buffering=0) as file:
            found = os.fstat(descriptor)
            is_stream = stat.S_ISFIFO(found.st_mode) or stat.S_ISCHR(found.st_mode)
            if not is_stream or not (follow or found.st_uid in (0, os.geteuid())):
                raise OSError(errno.EINVAL, "it is neither a file nor a pipe of ours")
            view = memoryview(data)
            while view:
                view = view[file.write(view) or 0 :]
        return
    replace(Path(os.path.realpath(path)) if follow else path, data, mode)


def _is_no_file(path: Path) -> bool:
    """Whether something stands there that is no file. One look: between two it may go."""
    try:
        return not stat.S_ISREG(os.stat(path).st_mode)
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            raise
        return False


def stranger_at(path: Path, me: int) -> str:
    """Who may change what stands at ``path``, beside root and the user ``me``, in words; "" when nobody may.

    With the sticky bit (/tmp) everybody may make entries in a folder, and change nobody else's. By numbers: asking for
    a name may hang with the directory service.
    """
    try:
        found = os.stat(path)
    except OSError:
        return ""
    if found.st_uid not in (0, me):
        return f"belongs to uid {found.st_uid}"
    if stat.S_ISDIR(found.st_mode) and found.st_mode & stat.S_ISVTX:
        return ""
    if found.st_mode & stat.S_IWOTH:
        return "can be written by everybody"
    if found.st_mode & stat.S_IWGRP and (me == 0 or found.st_gid != os.getegid()):  # a plain user's own group is his
        return f"can be written by the group {found.st_gid}"
    return ""


def _is_ours(folder: Path) -> bool:
    """Whether nobody but root and this user can make an entry in the folder."""
    try:
        found = os.stat(folder)
    except OSError:
        return False
    return found.st_uid in (0, os.geteuid()) and not found.st_mode & 0o022


def open_regular(path: Path) -> BinaryIO:
    """A regular file to read from. OSError at once for a pipe, a device, a folder: nothing waits for a writer there."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "it is not a regular file")
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def open_own_folder(folder: Path) -> int:
    """Our own folder, closed to everybody else; made where there is none, and the one that it lies in, which is the
    journal's too. OSError where none can be had.
    """
    folder.parent.mkdir(mode=0o750, parents=True, exist_ok=True)  # parents= alone would open it to everybody
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        found = os.fstat(opened)
        if found.st_uid != os.geteuid():
            raise PermissionError(f"{folder} belongs to somebody else")
        if found.st_mode & 0o077:
            os.fchmod(opened, 0o700)
    except OSError:
        os.close(opened)
        raise
    return opened
