"""What makes a process of ours hard to kill and quiet: locked memory, a low OOM score, a log that never blocks."""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import resource
import socket
from pathlib import Path

MCL_CURRENT, MCL_FUTURE = 1, 2
OOM_SCORE_ADJUST = "-900"

SYSLOG_SOCKET = Path("/dev/log")
_FACILITY_DAEMON = 3
_SEVERITIES = ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6))


def harden() -> None:
    """Locked memory and a low OOM score, where allowed: whoever thaws must be the last to go."""
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(OOM_SCORE_ADJUST, encoding="ascii")
    # With a limit, locking what is yet to come would make a later allocation fail, which is worse than a page fault.
    limit, _ = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    is_unlimited = os.geteuid() == 0 or limit == resource.RLIM_INFINITY
    flags = MCL_CURRENT | MCL_FUTURE if is_unlimited else MCL_CURRENT
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None, use_errno=True).mlockall(flags)


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
