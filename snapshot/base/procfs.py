"""Processes as /proc shows them. Standard library only, and little of it: the hook's phases ask too."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import NamedTuple

BOOT_ID_FILE = Path("/proc/sys/kernel/random/boot_id")

TICKS = os.sysconf("SC_CLK_TCK")
"""In a second: what process_start counts in, from this machine's boot on, whatever its clock is set to."""


class ProcessIdentity(NamedTuple):
    """Which process this is: a pid alone is given to others again, within this boot and after it.

    Read where a program starts, and an argument from there on, as the clock is.
    """

    pid: int
    start: int
    """See process_start; 0 where /proc does not tell."""
    boot_id: str

    @classmethod
    def own(cls) -> ProcessIdentity:
        """Who we are. Never raises."""
        pid = os.getpid()
        return cls(pid, process_start(pid) or 0, boot_id())


def call_process(name: str) -> None:
    """Give this process the name that ``ps`` and a keeper of the agent's seat see (15 bytes). Never raises."""
    with contextlib.suppress(OSError):
        Path("/proc/self/comm").write_text(name, encoding="ascii")


def boot_id() -> str:
    """This boot's id: a window of an earlier boot of this machine has no living owner or guard."""
    try:
        return BOOT_ID_FILE.read_text(encoding="ascii").strip()
    except OSError:
        return ""


def process_start(pid: int, proc: Path = Path("/proc")) -> int | None:
    """Field 22 of /proc/<pid>/stat, or None when there is no such process."""
    fields = _stat(pid, proc)
    return int(fields[19]) if fields else None


def process_lives(pid: int | None, start: int | None, proc: Path = Path("/proc")) -> bool:
    """Whether this very process runs; one that is dead and only waits for its parent to notice does not."""
    fields = _stat(pid, proc) if pid is not None else None
    return fields is not None and int(fields[19]) == start and fields[0] not in ("Z", "X")


def _stat(pid: int, proc: Path) -> list[str] | None:
    """The fields of /proc/<pid>/stat from the third on: the state comes first."""
    try:
        fields = (proc / str(pid) / "stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    return fields if len(fields) > 19 and fields[19].isdigit() else None
