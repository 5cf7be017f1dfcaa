"""What a command prints, as lines under its name, and no more of it than a log can bear."""

from __future__ import annotations

from collections.abc import Callable

from snapshot.base.text import clean

MOST_LINES = 500
MOST_BYTES = 64 * 1024
LONGEST_LINE = 400


class Output:
    """Cuts bytes into lines and says each as ``name: line``. What is past the limits is counted and thrown away."""

    def __init__(self, name: str, say: Callable[[str], None]) -> None:
        self._name = name
        self._say = say
        self._lines = 0
        self._bytes = 0
        self._dropped = 0
        self._rest = b""

    def feed(self, data: bytes) -> None:
        """More of it, as it comes."""
        taken = data[: MOST_BYTES - self._bytes] if self._lines < MOST_LINES else b""
        self._bytes += len(taken)
        self._dropped += len(data) - len(taken)
        *lines, self._rest = (self._rest + taken).replace(b"\r", b"\n").split(b"\n")  # as vzdump cuts them
        for line in lines:
            self._tell(line)

    def end(self) -> None:
        """The last line may have no end; and how much was not shown."""
        self._tell(self._rest)
        self._rest = b""
        if self._dropped:
            self._say(f"{self._name}: {self._dropped} more bytes of its output are not shown")

    def _tell(self, line: bytes) -> None:
        text = clean(line.decode(errors="replace"), LONGEST_LINE)
        if not text:
            return
        if self._lines >= MOST_LINES:
            self._dropped += len(line)
            return
        self._lines += 1
        self._say(f"{self._name}: {text}")
