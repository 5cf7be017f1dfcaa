"""Who waits at a unix socket, in their order, and whose processes they are, as the kernel says.

The kernel's sock_diag (sock_diag(7), linux/unix_diag.h) names the listener of a path by the file it is bound to, and
the connections that it has not accepted yet by the inodes of the sockets that made them: ``socket:[inode]`` among the
descriptors of a process.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

TRUSTED = ("pve", "task UPID:", "vzdump", "qm", "safe-snapshot", "fsfreeze-guard")
"""How the names of processes begin that leave the agent again: PVE's daemons, workers and commands give it time limits,
and so do ours.
"""

_SOCK_DIAG_BY_FAMILY = 20
_REQUEST, _DUMP = 0x001, 0x300
_ERROR, _DONE = 2, 3
_LISTENING = 1 << 10
_SHOW_FILE_AND_QUEUE = 2 | 8
_FILE, _QUEUE = 1, 3
_HEADER = struct.Struct("=IHHII")
_QUESTION = struct.Struct("=BBHIIIII")
_ANSWER = struct.Struct("=BBBBIII")
_ATTRIBUTE = struct.Struct("=HH")
_BYTES = 1 << 17
_SECONDS = 1.0


def listener_at(path: Path) -> int | None:
    """The socket that listens at ``path``; None when there is none, and where the kernel does not say."""
    with contextlib.suppress(OSError, struct.error):
        file = path.stat()
        device = os.major(file.st_dev) << 20 | os.minor(file.st_dev)  # as the kernel keeps it
        wanted = struct.pack("=II", file.st_ino & 0xFFFFFFFF, device)
        return next((inode for inode, found in _ask(0) if found.get(_FILE) == wanted), None)
    return None


def waiting(listener: int) -> list[int] | None:
    """The sockets that ``listener`` has not accepted yet, the first first; 0 for one that is gone. None when it does
    not listen any more, and where the kernel does not say.
    """
    with contextlib.suppress(OSError, struct.error):
        for _, found in _ask(listener):
            queue = found.get(_QUEUE, b"")
            return list(struct.unpack(f"={len(queue) // 4}I", queue))
    return None


def is_trusted(client: int, processes: Path = Path("/proc")) -> bool:
    """Whether a socket is one of a process of PVE's or of ours, or nobody's any more."""
    # The youngest first: a task's worker has just been started.
    pids = sorted((int(name) for name in os.listdir(processes) if name.isdigit()), reverse=True)
    return client == 0 or any(_has(processes / str(pid), f"socket:[{client}]") for pid in pids)


def _has(process: Path, wanted: str) -> bool:
    """Whether a trusted process has a descriptor of what is ``wanted``."""
    with contextlib.suppress(OSError):
        if (process / "comm").read_text(errors="replace").startswith(TRUSTED):
            return any(_target(descriptor) == wanted for descriptor in (process / "fd").iterdir())
    return False


def _target(descriptor: Path) -> str:
    try:
        return os.readlink(descriptor)
    except OSError:  # closed meanwhile
        return ""


def _ask(inode: int) -> Iterator[tuple[int, dict[int, bytes]]]:
    """Every listening unix socket, or the one of ``inode``: its inode, and its attributes. Raises OSError."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 4) as kernel:
        kernel.settimeout(_SECONDS)
        question = _QUESTION.pack(socket.AF_UNIX, 0, 0, _LISTENING, inode, _SHOW_FILE_AND_QUEUE, 0xFFFFFFFF, 0xFFFFFFFF)
        flags = _REQUEST | (0 if inode else _DUMP)
        kernel.send(_HEADER.pack(_HEADER.size + len(question), _SOCK_DIAG_BY_FAMILY, flags, 1, 0) + question)
        while True:
            data, at = kernel.recv(_BYTES), 0
            while at < len(data):
                size, kind, *_ = _HEADER.unpack_from(data, at)
                if kind in (_ERROR, _DONE):
                    return
                yield _parsed(data[at + _HEADER.size : at + size])
                at += _aligned(size)
            if inode:
                return


def _parsed(answer: bytes) -> tuple[int, dict[int, bytes]]:
    attributes, at = {}, _ANSWER.size
    while at < len(answer):
        size, kind = _ATTRIBUTE.unpack_from(answer, at)
        attributes[kind] = answer[at + _ATTRIBUTE.size : at + size]
        at += _aligned(size)
    return _ANSWER.unpack_from(answer)[4], attributes


def _aligned(size: int) -> int:
    return (size + 3) & ~3
