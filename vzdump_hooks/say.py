"""A line into vzdump's log, which is our standard output. Idle phases load this file: it imports nothing that costs."""

from __future__ import annotations

import os
import sys

PREFIX = "vzdump-hook: "
LONGEST_LINE = 500


def say(text: str) -> None:
    """One line into vzdump's log: printable ASCII-safe text, whatever names a guest or storage may have."""
    line = "".join(c if c.isprintable() else " " for c in text)
    line = line if len(line) <= LONGEST_LINE else line[: LONGEST_LINE - 3] + "..."
    if sys.stdout is None:  # closed before we were started
        return
    try:
        sys.stdout.write(PREFIX + line.encode("ascii", "backslashreplace").decode("ascii") + "\n")
        sys.stdout.flush()
    except (OSError, ValueError):
        # Nobody reads us any more; the backup is not concerned. Python would complain again at its exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
