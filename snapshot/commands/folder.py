"""Which files of the folder ``hooks.d`` are commands, which are none, and which are refused and why.

They run as root: nobody else may be able to put one there, to change one, or to lead one elsewhere. Standard library
only: a backup's phases load this.
"""

from __future__ import annotations

import os
import shlex
import stat
import string
from pathlib import Path
from typing import NamedTuple

from snapshot.base.files import stranger_at
from snapshot.base.text import clean

NAME = "hooks.d"
"""It stands beside the configuration file, wherever that is."""

_LETTERS = frozenset(string.ascii_letters + string.digits + "_-.")
"""What run-parts(8) takes, and a dot: PVE's own example is called vzdump-hook-script.pl, and one that is passed over
because of its name would be missed by nobody until it is needed."""

MOST = 100
"""Nobody has so many of his own: a folder with more is something else, copied to the wrong place, say. Each would be
called eleven times a backup, or stand in its log as refused."""

_MOST_SHOWN = 10
"""Of what is passed over."""

_LEFTOVERS = ("~", ".bak", ".old", ".orig", ".rej", ".save", ".swp", ".sample", ".disabled")
_PACKAGERS = (".dpkg-", ".ucf-", ".rpm")


class Command(NamedTuple):
    """One executable of the folder. ``refused``: why it is not run, and what to do; "" when it is."""

    name: str
    path: str
    refused: str = ""


def beside(config_path: Path) -> Path:
    """The folder that belongs to a configuration file."""
    return config_path.parent / NAME


def find(folder: Path, me: int) -> list[Command]:
    """The commands in the order of their names, for the user ``me``; a missing folder has none. Raises nothing.

    A folder that others may write to, or with more than MOST, has one entry, refused, which stands for all in it.
    """
    try:
        found = os.lstat(folder)
        why = _unfit_folder(found, folder, me)
        if why:
            return [Command(folder.name, str(folder), why)]
        with os.scandir(folder) as entries:
            names = sorted(entry.name for entry in entries if not _is_passed_over(entry.name))
    except FileNotFoundError:
        return []
    except OSError as error:
        return [Command(folder.name, str(folder), f"it cannot be read ({error.strerror})")]
    commands = [command for name in names if (command := _command(folder, name, me)) is not None]
    if len(commands) > MOST:
        why = f"it has {len(commands)} executables, and {MOST} at most are called: take out what is no command of yours"
        return [Command(folder.name, str(folder), why)]
    return commands


def refused_lines(config_path: Path, me: int) -> list[str]:
    """A line for each command that is not run, with the mend."""
    found = find(beside(config_path), me)
    return [f"own command {command.name} is not run: {command.refused}" for command in found if command.refused]


def called_line(config_path: Path, me: int) -> str:
    """The commands that are called, and what is passed over beside them, for who looks for his own; "" where the folder
    is missing, empty, or refused as a whole.
    """
    folder = beside(config_path)
    found = {command.name: command.refused for command in find(folder, me)}
    if NAME in found:
        return ""
    try:
        names = sorted(clean(entry.name, 100) for entry in os.scandir(folder) if not entry.name.startswith("."))
    except OSError:
        return ""
    called = [name for name, refused in found.items() if not refused]
    passed = [name for name in names if name not in found]
    more = f" and {len(passed) - _MOST_SHOWN} more" if len(passed) > _MOST_SHOWN else ""
    others = f"; passed over: {', '.join(passed[:_MOST_SHOWN])}{more}" if passed else ""
    return f"own commands, in this order: {', '.join(called) or 'none'}{others}" if names else ""


def counts(name: str) -> bool:
    """Whether an executable of that name would be a command."""
    return not _is_passed_over(name) and _LETTERS.issuperset(name)


def _is_passed_over(name: str) -> bool:
    """What editors and package managers leave behind, and what is hidden."""
    return name.startswith(".") or name.endswith(_LEFTOVERS) or any(mark in name for mark in _PACKAGERS)


def _unfit_folder(found: os.stat_result, folder: Path, me: int) -> str:
    if not stat.S_ISDIR(found.st_mode):
        return "it is not a folder: make it one (a link to one is not taken)"
    return _strangers(found, folder, me) or _strangers_above(folder, me)


def _strangers_above(folder: Path, me: int) -> str:
    """Who may rename a folder on the way to this one puts another in its place: between our look and the start too."""
    path = Path(os.path.abspath(folder))
    for above in dict.fromkeys((*path.parents, *Path(os.path.realpath(path)).parents)):
        why = stranger_at(above, me)
        if why:
            name = shlex.quote(clean(str(above)))
            mend = f"`chmod go-w {name}`" if not why.startswith("belongs") else "keep the configuration elsewhere"
            return f"{clean(str(above))} above it {why}, who may put another folder in its place: {mend}"
    return ""


def _command(folder: Path, name: str, me: int) -> Command | None:
    """The entry of that name as a command; None when it is none: a folder, or what nobody may execute."""
    path = folder / name
    try:
        found = os.lstat(path)
        if stat.S_ISLNK(found.st_mode):
            target = os.path.realpath(path)
            if os.path.dirname(target) != os.path.realpath(folder):
                return _refused(path, f"it is a link out of its folder ({clean(target)}): put the program itself there")
            found = os.stat(target)
    except OSError as error:
        return _refused(path, f"it cannot be looked at ({error.strerror}): mend it or take it away")
    if stat.S_ISDIR(found.st_mode) or not found.st_mode & 0o111:
        return None
    if not _LETTERS.issuperset(name):  # first: what follows may repeat it
        return _refused(path, "its name may have ASCII letters, digits, '_', '-' and '.' alone: rename it")
    if not stat.S_ISREG(found.st_mode):
        return _refused(path, "it is not a regular file: take it away")
    why = _strangers(found, path, me)
    return _refused(path, why) if why else Command(name, str(path))


def _refused(path: Path, why: str) -> Command:
    return Command(clean(path.name, 100), str(path), why)


def _strangers(found: os.stat_result, path: Path, me: int) -> str:
    """Who else could change it, by numbers, and the mend; "" when nobody could but root and us."""
    name = shlex.quote(str(path))
    if found.st_uid not in (0, me):
        return f"it belongs to uid {found.st_uid}: `chown {me or 'root'} {name}` once you know what it does"
    if found.st_mode & 0o022:
        return f"others than its owner may write to it: `chmod go-w {name}` once you know what it does"
    return ""
