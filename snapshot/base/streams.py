"""Standard output and error as a command finds them: closed, full, a pipe that nobody reads, any encoding.

Nothing here raises. A guest must not stay frozen, and a run not end in a traceback, because a line cannot be printed.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
from typing import TextIO

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


def out(text: str) -> str:
    """Write one line to standard output, now. What went wrong, or ""."""
    return _write(sys.stdout, text)


def err(text: str) -> str:
    """Write one line to standard error, now. What went wrong, or ""."""
    return _write(sys.stderr, text)


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


def _write(stream: TextIO, text: str) -> str:
    if stream in _closed:
        return "it is closed"
    try:
        stream.write(f"{text}\n")
        stream.flush()
    except (OSError, ValueError) as error:
        _divert(stream)
        return getattr(error, "strerror", None) or str(error)
    return ""


def _divert(stream: TextIO) -> None:
    """What is still in the buffer goes nowhere: the interpreter would fail on it once more at its end."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
