"""The one line of ``doctor --monitor``, and its exit status, by the Monitoring Plugins' guidelines."""

from __future__ import annotations

from collections.abc import Iterable

from snapshot.base.text import clean

EXIT_OK, EXIT_WARNING, EXIT_CRITICAL, EXIT_UNKNOWN = range(4)
_STATES = ("OK", "WARNING", "CRITICAL", "UNKNOWN")
MOST_TEXT = 240
"""Of the monitor's line, without its figures: pagers cut more off."""


def monitor_text(status: int, text: str, figures: Iterable[str] = ()) -> str:
    """The line. A bar ends the text, so there is none in it."""
    shown = clean(text.replace("|", "/"), MOST_TEXT)
    return " | ".join(filter(None, [f"SAFE-SNAPSHOT {_STATES[status]} - {shown}", " ".join(figures)]))
