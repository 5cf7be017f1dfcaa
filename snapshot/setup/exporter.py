"""The node_exporter that runs on this machine, and the folder where it looks for textfiles."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

_FLAG = "--collector.textfile.directory"
DEBIAN = Path("/var/lib/prometheus/node-exporter")
_PROGRAMS = {"node_exporter": None, "prometheus-node-exporter": DEBIAN}
"""Its names, and where it looks when nothing is said: Debian's has a folder built in, the upstream's looks nowhere."""


class NodeExporter(NamedTuple):
    """A node_exporter that runs. ``folder``: None when it reads no textfiles, or none that we could write."""

    pid: int
    folder: Path | None


def running(proc: Path = Path("/proc")) -> NodeExporter | None:
    """The one that runs, one that reads textfiles before another; None when none does. Raises nothing."""
    found = [exporter for name in _pids(proc) if (exporter := _look(proc, name)) is not None]
    return next((one for one in found if one.folder is not None), found[0] if found else None)


def _pids(proc: Path) -> list[str]:
    try:
        return [name for name in os.listdir(proc) if name.isascii() and name.isdigit()]
    except OSError:
        return []


def _look(proc: Path, pid: str) -> NodeExporter | None:
    try:
        words = (proc / pid / "cmdline").read_bytes().decode(errors="surrogateescape").split("\0")
        program = os.path.basename(words[0])
        if program not in _PROGRAMS:
            return None
        elsewhere = os.readlink(proc / pid / "ns/mnt") != os.readlink(proc / "self/ns/mnt")
    except OSError:
        return None
    folder = _PROGRAMS[program]
    for number, word in enumerate(words):
        name, equals, value = word.partition("=")
        if name == _FLAG:
            folder = Path(value if equals else "".join(words[number + 1 : number + 2]))
    usable = folder is not None and folder.is_absolute() and str(folder).isprintable() and not elsewhere
    return NodeExporter(int(pid), folder if usable else None)
