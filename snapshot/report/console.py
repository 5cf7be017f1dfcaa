"""Lines for a person: folded to the width of a console, with colours on a terminal that knows them.

What is for a program (JSON, logfmt, a monitor's line) does not come here. In systemd's journal a line stays whole.
"""

from __future__ import annotations

import re
import sys
from typing import TextIO

from snapshot.base import streams, terminal
from snapshot.base.terminal import GREEN, PLAIN, RED, YELLOW
from snapshot.report.folded import folded

NARROWEST = 40
"""No line is folded to fewer columns."""

_MARGIN = re.compile(r".{0,12}?\S  (?=\S)|( *)")
"""What stands in front of a line's text: a check's mark, a time, a vmid, blanks."""

_COLOURS = (
    (RED, re.compile(r"^ *(ERROR|Error|FAILED|NO FREEZE|NOT POSSIBLE|NOT FREEZABLE|FROZEN)(?=[: ])")),
    (RED, re.compile(r"\b(NOT DONE|NOT KNOWN|LEFT OPEN|BROKEN|IS FROZEN|is FROZEN|MAY STILL BE FROZEN)\b")),
    (YELLOW, re.compile(r"^ *(warning)(?=[: ])")),
    (YELLOW, re.compile(r"(?:(?<=: )|(?<=  ))(crash-consistent|unknown)(?=:|$|  )")),
    (GREEN, re.compile(r"^ *(ok)(?=  )|^(ready)(?=:)")),
    (
        GREEN,
        re.compile(r"(?:(?<=: )|(?<=  ))((?:application|filesystem)-consistent|offline|memory)(?=:|$|  |, frozen)"),
    ),
)


def out(text: str, level: int | None = None) -> str:
    """Write a line to standard output, now. What went wrong, or ""."""
    return streams.out(shown(text, sys.stdout), level)


def err(text: str) -> str:
    """Write a line to standard error, now. What went wrong, or ""."""
    return streams.err(shown(text, sys.stderr))


def shown(text: str, stream: TextIO) -> str:
    """The text as it is written to ``stream``."""
    if streams.is_the_journal(stream):
        return text
    lines = [piece for line in text.split("\n") for piece in lines_of(line, stream)]
    return "\n".join(map(painted, lines) if knows_colours(stream) else lines)


def lines_of(line: str, stream: TextIO) -> list[str]:
    """The line in pieces that fit into ``stream``, the further ones below its text."""
    width = max(NARROWEST, terminal.size(stream)[0])
    if len(line) <= width:
        return [line]
    margin = _MARGIN.match(line)
    assert margin is not None
    further = len(margin[0]) if margin[1] is None else len(margin[0]) + 4
    return folded(line, further=further, width=width)


def knows_colours(stream: TextIO) -> bool:
    """Whether it is a terminal with colours, and nobody refuses them."""
    return stream.isatty() and not terminal.is_dumb() and not terminal.refuses_colour()


def painted(line: str) -> str:
    """The word that matters in colour."""
    for colour, words in _COLOURS:
        found = words.search(line)
        if found is not None:
            begin, end = found.span(found.lastindex or 0)
            return f"{line[:begin]}{colour}{line[begin:end]}{PLAIN}{line[end:]}"
    return line
