"""What a guard or holder does to its own process: locked memory, a low OOM score, a log that never blocks.

Also here: killing another process of ours that is stopped and keeps everybody else from the agent's socket.
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import resource
import select
import signal
import socket
from pathlib import Path

from snapshot.base.procfs import call_process, process_start

MCL_CURRENT, MCL_FUTURE, MCL_ONFAULT = 1, 2, 4
MADV_POPULATE_READ = 22
"""mman-common.h; since Linux 5.14."""

OOM_SCORE_ADJUST = "-900"

ENDING_SECONDS = 1.0
"""How long the end of a killed process is waited for. One in an uninterruptible wait may take longer."""

SYSLOG_SOCKET = Path("/dev/log")
_FACILITY_DAEMON = 3
_SEVERITIES = ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6))


def harden(name: str, *, is_forked: bool = False) -> None:
    """A name, locked memory and a low OOM score, where allowed: whoever thaws must be the last to go.

    ``is_forked``: from a process that has locked all that we share with it. To lock it as usual would copy it; so every
    page is fetched as it is, and locked where it lies. What is written to is copied then, and stays.
    """
    call_process(name)
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(OOM_SCORE_ADJUST, encoding="ascii")
    # With a limit, locking what is yet to come would make a later allocation fail, which is worse than a page fault.
    limit, _ = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    is_unlimited = os.geteuid() == 0 or limit == resource.RLIM_INFINITY
    flags = MCL_CURRENT | MCL_FUTURE if is_unlimited else MCL_CURRENT
    with contextlib.suppress(OSError, AttributeError, ValueError):
        libc = ctypes.CDLL(None, use_errno=True)
        if is_forked:
            _fetch_all(libc)
            flags |= MCL_ONFAULT
        libc.mlockall(flags)


def _fetch_all(libc: ctypes.CDLL) -> None:
    """Every page that this process can read is in memory, and in its page tables, and none is copied for that."""
    for line in Path("/proc/self/maps").read_text(encoding="utf-8").splitlines():
        start, end = (int(address, 16) for address in line.split(maxsplit=1)[0].split("-"))
        libc.madvise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), MADV_POPULATE_READ)


class Witnessed:
    """Another process of ours, as it shows in /proc. Opened ahead: later looks open nothing, and meet no other one.

    One that is gone, or that has another start time, is gone. Nothing raises.
    """

    def __init__(self, pid: int | None, start: int | None) -> None:
        self._pidfd = self._stat = -1
        if pid is None or pid == os.getpid():
            return
        with contextlib.suppress(OSError):
            self._pidfd = os.pidfd_open(pid)
            if process_start(pid) == start:  # the descriptor holds the number: it cannot become another's now
                self._stat = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)

    def is_gone(self) -> bool:
        """Whether it has ended."""
        return self._state() in ("", "Z", "X")

    def end_if_it_stands_still(self, *, is_silent: bool = False) -> bool:
        """See the function of that name."""
        # A debugger stops a process for a moment (state t): it moves.
        if self._state() != "T" and not (is_silent and not self.is_gone()):
            return False
        try:
            signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
            # At its end its connections are closed, and whoever waits behind them has the agent.
            ended = select.poll()
            ended.register(self._pidfd, select.POLLIN)
            return bool(ended.poll(ENDING_SECONDS * 1000))
        except OSError:
            return False

    def close(self) -> None:
        """Let go of it."""
        for descriptor in (self._pidfd, self._stat):
            if descriptor >= 0:
                os.close(descriptor)
        self._pidfd = self._stat = -1

    def _state(self) -> str:
        """The third field of its stat, "" when it is gone (the read fails with ESRCH)."""
        try:
            fields = os.pread(self._stat, 1024, 0).rpartition(b")")[2].split()
        except OSError:
            return ""
        return fields[0].decode() if fields else ""


def end_if_it_stands_still(pid: int | None, start: int | None, *, is_silent: bool = False) -> bool:
    """SIGKILL to this very process if it is stopped, or as the caller knows ``is_silent``; True when it has ended.

    For a process of ours that is past its deadline and may sit on the agent's socket: QEMU serves one client at a time,
    so everybody else waits behind it for as long as it stands still. A stopped process (SIGSTOP) shows by itself. One
    that hangs on a disk or in swap does not: ``is_silent`` says that no word came from it for longer than one attempt
    of its may take. A living one that moves is never ended, nor are we. Takes ENDING_SECONDS at most.
    """
    with contextlib.closing(Witnessed(pid, start)) as process:
        return process.end_if_it_stands_still(is_silent=is_silent)


def open_log(name: str = "vzdump-hooks-guard") -> logging.Logger:
    """Syslog (journald listens there too), as ``key=value``; nowhere when there is none."""
    logging.raiseExceptions = False
    log = logging.getLogger(name)
    log.setLevel(logging.INFO)
    log.propagate = False
    log.handlers = [SyslogHandler(name) if SYSLOG_SOCKET.exists() else logging.NullHandler()]
    return log


class SyslogHandler(logging.Handler):
    """A datagram to /dev/log that is dropped rather than waited for.

    logging.handlers.SysLogHandler waits while the log's daemon is hung or its disk is: then a guard would stand still
    between two thaws because of a line of text.
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        self._ident = f"{name}[{os.getpid()}]"

    def emit(self, record: logging.LogRecord) -> None:
        """See logging.Handler."""
        severity = next((number for level, number in _SEVERITIES if record.levelno >= level), 7)
        line = f"<{_FACILITY_DAEMON << 3 | severity}>{self._ident}: {record.getMessage()}"
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as connection:
            connection.setblocking(False)
            connection.connect(str(SYSLOG_SOCKET))
            connection.send(line.encode(errors="replace"))
