"""Foreign text made fit to be shown. Standard library only."""

from __future__ import annotations


def clean(text: str, limit: int = 300) -> str:
    """Foreign text made fit for one line: printable (no controls, no bidi marks, no half characters), single spaces, at
    most ``limit`` characters. What lies far behind the limit is not even looked at.
    """
    text = text[: 4 * limit + 4096]
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


def counted(number: int | None, noun: str) -> str:
    """``1 guest``, ``3 guests``."""
    return f"{number} {noun}{'s' if number != 1 else ''}"


def named(vmid: int, name: str) -> str:
    """``100 (web1)``, or ``100`` where nobody has said the name."""
    return f"{vmid} ({name})" if name else f"{vmid}"
