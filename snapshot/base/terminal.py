"""What the environment says of the terminal. Read here alone: it changes how something looks, and nothing else."""

from __future__ import annotations

import os

RED, YELLOW, GREEN, PLAIN = "\x1b[31m", "\x1b[33m", "\x1b[32m", "\x1b[0m"
"""ECMA-48: what every terminal of today understands that is not dumb."""


def is_dumb() -> bool:
    """Whether it knows no more than lines (terminfo's ``dumb``), or nobody says what it knows."""
    return os.environ.get("TERM", "") in ("", "dumb", "unknown")


def refuses_colour() -> bool:
    """Whether the operator wants none (no-color.org): set to anything but nothing."""
    return os.environ.get("NO_COLOR", "") != ""
