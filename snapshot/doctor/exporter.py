"""The node_exporters that run on this machine, and the folders where they look for textfiles. Reads; judges nothing.

The doctor and the setup go by the same answer, since one says what the other has done.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePath
from typing import NamedTuple

MOST_BYTES = 256 << 10
DEBIANS_FOLDER = "/var/lib/prometheus/node-exporter"
"""What Debian's prometheus-node-exporter reads when nobody tells it; any other node_exporter reads no folder then."""
_DEBIANS_NAME = "prometheus-node-exporter"
_TEXTFILE = "collector.textfile"
_DIRECTORY = f"{_TEXTFILE}.directory"
_PATTERN = frozenset("*?[\\")
"""What makes a name a pattern to Go's filepath.Glob, by which node_exporter looks since 1.3.0."""


class RunningExporter(NamedTuple):
    """A node_exporter that runs."""

    pid: int
    folders: tuple[str, ...] = ()
    """Those that its textfile collector reads, or patterns of such; none where that is off or was given no folder."""
    is_elsewhere: bool | None = False
    """Whether its root is another than ours, as in a container: what it calls a folder is not ours. A service that
    systemd shields has mounts of its own, and our root. None: not known, since who is not root may not look.
    """
    is_off: bool = False
    """Whether its textfile collector is switched off."""

    def reads(self, folder: Path) -> bool | None:
        """Whether it reads this folder of ours; None: not known."""
        if self.is_elsewhere or not any(_matches(folder, named) for named in self.folders):
            return False
        return True if self.is_elsewhere is False else None

    @property
    def folder(self) -> Path | None:
        """One that can be written to by the name that it was given; None where there is none."""
        if self.is_elsewhere is not False:
            return None
        fit = (name for name in self.folders if name.startswith("/") and name.isprintable() and not is_pattern(name))
        return next(map(Path, fit), None)


def is_pattern(folder: str) -> bool:
    """Whether it names folders by a pattern."""
    return not _PATTERN.isdisjoint(folder)


def running(proc: Path = Path("/proc")) -> tuple[RunningExporter, ...] | None:
    """Those that run, by pid; None where nobody can tell: /proc shows not even the first process. Raises nothing."""
    if _words(proc / "1") is None:
        return None
    try:
        pids = sorted(int(name) for name in os.listdir(proc) if name.isascii() and name.isdigit())
    except OSError:
        return None
    return tuple(found for pid in pids if (found := _look(proc, pid)) is not None)


def _look(proc: Path, pid: int) -> RunningExporter | None:
    argv = _words(proc / str(pid))
    if not argv or "node_exporter" not in os.path.basename(argv[0]).replace("-", "_"):
        return None
    flags = [word.lstrip("-") if word.startswith("-") else "" for word in argv]
    is_off = f"no-{_TEXTFILE}" in flags or ("collector.disable-defaults" in flags and _TEXTFILE not in flags)
    folders = () if is_off else tuple(dict.fromkeys(_folders(argv, flags)))
    return RunningExporter(pid, folders, _is_elsewhere(proc, pid), is_off)


def _words(process: Path) -> list[str] | None:
    """A process's command line; empty for the kernel's own."""
    try:
        with (process / "cmdline").open("rb") as file:
            raw = file.read(MOST_BYTES)
    except OSError:
        return None
    return [os.fsdecode(word) for word in raw.removesuffix(b"\0").split(b"\0")] if raw else []


def _is_elsewhere(proc: Path, pid: int) -> bool | None:
    try:
        return not os.path.samefile(proc / str(pid) / "root", proc / "self/root")
    except OSError:
        return None


def _folders(argv: Sequence[str], flags: Sequence[str]) -> Iterator[str]:
    """As kingpin takes them: ``--flag=value`` and ``--flag value``, with one dash before 0.16, several by now."""
    named = [
        after if flag == _DIRECTORY else flag.partition("=")[2]
        for flag, after in zip(flags, [*argv[1:], ""], strict=True)
        if flag.partition("=")[0] == _DIRECTORY
    ]
    if not named and os.path.basename(argv[0]) == _DEBIANS_NAME:
        named = [DEBIANS_FOLDER]
    yield from filter(None, named)


def _matches(folder: Path, named: str) -> bool:
    """Name by name, as Go's filepath.Glob does: a ``*`` matches no slash."""
    return named.startswith("/") and PurePath(folder).match("/" + named.lstrip("/").replace("[^", "[!"))
