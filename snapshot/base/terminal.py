"""What the environment says of the terminal. Read here alone: it changes how something looks, and nothing else."""

from __future__ import annotations

import os
import termios
from typing import TextIO

RED, YELLOW, GREEN, PLAIN = "\x1b[31m", "\x1b[33m", "\x1b[32m", "\x1b[0m"
"""ECMA-48: what every terminal of today understands that is not dumb."""


def size(stream: TextIO) -> tuple[int, int]:
    """Columns and rows of the terminal that ``stream`` is; 80 by 24 where it is none, COLUMNS where that is set.

    shutil looks at standard output, whatever is written to: that may be a pipe.
    """
    try:
        rows, columns = termios.tcgetwinsize(stream.fileno())
    except (OSError, ValueError, termios.error):
        rows = columns = 0
    said = os.environ.get("COLUMNS", "")[:5]
    return int(said) if said.isdecimal() and int(said) else columns or 80, rows or 24


def is_dumb() -> bool:
    """Whether it knows no more than lines (terminfo's ``dumb``), or nobody says what it knows."""
    return os.environ.get("TERM", "") in ("", "dumb", "unknown")


def refuses_colour() -> bool:
    """Whether the operator wants none (no-color.org): set to anything but nothing."""
    return os.environ.get("NO_COLOR", "") != ""
