"""Lines for a console of 80 columns. What has to be copied, a command in backticks, stays in one piece."""

from __future__ import annotations

import re
import textwrap

WIDTH = 80
_COMMAND = re.compile(r"`[^`]*`")
_HELD = "\0"
"""Stands for a space in a command: no text that is shown has one."""


def folded(text: str, first: str = "", further: int | None = None, width: int = WIDTH) -> list[str]:
    """The text behind ``first``, cut between words; later lines are indented by ``further`` (None: as the first is).
    None is wider than ``width`` but for a single word, such as a path, or a single command.
    """
    held = _COMMAND.sub(lambda found: found[0].replace(" ", _HELD), text)
    pieces = textwrap.wrap(
        held,
        width,
        initial_indent=first,
        subsequent_indent=" " * (len(first) if further is None else further),
        break_long_words=False,
        break_on_hyphens=False,
    )
    return [piece.replace(_HELD, " ") for piece in pieces] or [first.rstrip()]
