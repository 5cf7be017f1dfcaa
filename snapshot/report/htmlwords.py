"""Numbers, instants and sentences as the page has them. All that is foreign is escaped here or by whoever calls."""

from __future__ import annotations

import re
import time
from html import escape

from snapshot.report.history import seconds
from snapshot.report.lengths import DAY_SECONDS

__all__ = ["count", "day", "minute", "percent", "prose", "seconds", "zone"]

_COMMAND = re.compile(r"`([^`]*)`")


def prose(text: str) -> str:
    """``text`` escaped, what stands in backticks as code: fit to be copied."""
    return _COMMAND.sub(r"<code>\1</code>", escape(text))


def percent(part: int, whole: int) -> str:
    """Never 100 % unless it is all of them."""
    if not whole:
        return "-"
    share = 100 * part / whole
    return f"{share:.0f} %" if part in (0, whole) else f"{min(max(share, 0.1), 99.9):.1f} %"


def count(number: int, noun: str) -> str:
    """``1 guest``, ``1,234 guests``."""
    return f"{number:,} {noun}{'s' if number != 1 else ''}"


def width(step_seconds: float) -> str:
    """How much time one column of a picture stands for."""
    if step_seconds < DAY_SECONDS:
        hours = round(step_seconds / 3600)
        return "an hour" if hours == 1 else f"every {hours} hours"
    days = round(step_seconds / DAY_SECONDS)
    return {1: "a day", 7: "a week"}.get(days, f"every {days} days")


def day(instant: float) -> str:
    """A local day."""
    return time.strftime("%Y-%m-%d", time.localtime(instant))


def minute(instant: float) -> str:
    """A local minute."""
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(instant))


def zone(instant: float) -> str:
    """This machine's zone: ``CET (+0100)``."""
    return time.strftime("%Z (%z)", time.localtime(instant))


def ago(span_seconds: float) -> str:
    """How long ago, in the largest unit that says enough."""
    if span_seconds < 120:
        return f"{max(0.0, span_seconds):.0f} s"
    if span_seconds < 7200:
        return f"{span_seconds / 60:.0f} min"
    if span_seconds < 3 * DAY_SECONDS:
        return f"{span_seconds / 3600:.0f} h"
    return f"{span_seconds / DAY_SECONDS:.0f} days"
