"""Standard output and error as a command finds them: closed, full, a pipe that nobody reads, any encoding.

Nothing here raises. A guest must not stay frozen, and a run not end in a traceback, because a line cannot be printed.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
from typing import NamedTuple, TextIO

from snapshot.base.unit import journal_stream

ERROR, WARNING, NOTICE, INFO = 3, 4, 5, 6
"""syslog's. A unit's LogLevelMax= goes by them."""


class Line(NamedTuple):
    """A line that is not for a person, and how much it matters."""

    text: str
    level: int


_closed: list[TextIO] = []
"""What stands in for a stream that was closed from the start: written to by those who do not ask."""


def prepare() -> None:
    """Make the three standard descriptors safe: a closed one would be given to the next file that is opened."""
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number, which is this one
    sys.stdout, sys.stderr = sys.stdout or _nowhere(), sys.stderr or _nowhere()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def out(text: str, level: int | None = None) -> str:
    """Write one line to standard output, now. What went wrong, or ""."""
    return _write(sys.stdout, text, level)


def err(text: str, level: int | None = None) -> str:
    """Write one line to standard error, now. What went wrong, or ""."""
    return _write(sys.stderr, text, level)


def give_up() -> None:
    """After somebody else failed to write: what is still in the buffers goes nowhere, silently."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            _divert(stream)


def _nowhere() -> TextIO:
    stream = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - for the life of the process
    _closed.append(stream)
    return stream


def _write(stream: TextIO, text: str, level: int | None) -> str:
    if stream in _closed:
        return "it is closed"
    try:
        if is_the_journal(stream):
            # What sd-daemon(3) calls a prefix: journald takes it off, and each line needs its own.
            prefix = f"<{_level_of(text) if level is None else level}>"
            text = prefix + text.replace("\n", f"\n{prefix}")
        stream.write(f"{text}\n")
        stream.flush()
    except BrokenPipeError:
        _divert(stream)  # whoever reads has gone, as `head` does: he has seen what he wanted
    except (OSError, ValueError) as error:
        _divert(stream)
        return getattr(error, "strerror", None) or str(error)
    return ""


def is_the_journal(stream: TextIO) -> bool:
    """Whether systemd connected the stream to its journal, and nobody has connected it to something else since."""
    wanted = journal_stream()
    try:
        found = os.fstat(stream.fileno()) if wanted else None
    except (OSError, ValueError):
        return False
    return found is not None and wanted == f"{found.st_dev}:{found.st_ino}"


def share_a_terminal() -> bool:
    """Whether standard output and standard error are one and the same terminal."""
    try:
        out, err = (os.fstat(stream.fileno()) for stream in (sys.stdout, sys.stderr))
    except (OSError, ValueError):
        return False
    return sys.stdout.isatty() and out.st_rdev == err.st_rdev


def _level_of(text: str) -> int:
    """Of a sentence: what is wrong says so first."""
    return ERROR if text.startswith("ERROR") else WARNING if text.startswith("warning") else INFO


def _divert(stream: TextIO) -> None:
    """What is still in the buffer goes nowhere: the interpreter would fail on it once more at its end."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
