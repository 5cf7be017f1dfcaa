"""The system's own commands in the pages: those that make files do it, and the units and tags that others name exist.

What neither makes a file nor names a unit (``apt``, ``chronyc``, ``findmnt``, ...) is not run: see test_commands.py.
"""

from __future__ import annotations

import fnmatch
import re
import subprocess
import tomllib
from pathlib import Path

import pytest

from tests.docs.written import COMMANDS, PAGES, ROOT, Command, by

MAKES_FILES = {"install", "ln", "echo", "chmod", "touch"}
PACKAGED = {"/usr/share/vzdump-hooks/systemd": "contrib/systemd/sample"}
"""Where the package puts what a command copies."""
OTHERS_UNITS = {"pvedaemon", "pveproxy", "pve-cluster", "chrony", "qemu-guest-agent"}
OURS_AT_WORK = {"vzdump-hooks-guard-100-x-1", "vzdump-hooks-guards-1", "vzdump-hooks-holder-100-x"}
"""Units that live as long as a window; their names' beginnings are the launcher's."""
TAGS = {"vzdump-hooks-guard", "vzdump-hooks-holder", "fsfreeze-deadman"}
ABSOLUTE = re.compile(r"(?<![\w./])/(?!dev/)[\w@.*/-]+")
LINES = sorted({one.line for one in by(MAKES_FILES) if one.is_whole})


def unit_files() -> set[str]:
    return {path.name for path in (ROOT / "contrib/systemd").rglob("*") if path.suffix in (".service", ".timer")}


def is_there(unit: str) -> bool:
    """Whether a unit of this name, or one that a pattern names, exists."""
    plain = re.sub(r"@[\w-]*\.", "@.", unit)
    known = unit_files() | {name.partition(".")[0] for name in unit_files()} | OTHERS_UNITS | OURS_AT_WORK
    return plain in known or any(fnmatch.fnmatch(name, unit) for name in known)


@pytest.mark.parametrize("line", LINES)
def test_a_command_that_makes_files_makes_them(line: str, tmp_path: Path) -> None:
    """Below a folder in place of the root, with the files there that it takes."""
    root = tmp_path / "root"
    for installed, checkout in PACKAGED.items():
        (root / installed[1:]).parent.mkdir(parents=True, exist_ok=True)
        (root / installed[1:]).symlink_to(ROOT / checkout)
    *taken, made = ABSOLUTE.findall(line)
    assert len(taken) + 1 == len(re.findall(r"(?<![\w.])/(?!dev/)", line)), "this machine's own files are left alone"
    for name in taken:
        if "*" not in name and not (root / name[1:]).exists():
            (root / name[1:]).parent.mkdir(parents=True, exist_ok=True)
            (root / name[1:]).touch()
    (root / made[1:] if made.endswith("/") else (root / made[1:]).parent).mkdir(parents=True, exist_ok=True)
    there = ABSOLUTE.sub(lambda found: f"{root}{found[0]}", line)
    done = subprocess.run(["bash", "-euc", there], cwd=ROOT, input="", capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = root / made[1:]
    assert any(found.iterdir()) if made.endswith("/") else found.exists()


@pytest.mark.parametrize("command", by({"systemctl", "journalctl"}), ids=str)
def test_a_unit_that_a_page_names_is_there(command: Command) -> None:
    words = list(command.words[1:])
    named = []
    for option in ("-t", "-u"):
        while option in words:
            at = words.index(option)
            named.append((option, words[at + 1]))
            del words[at : at + 2]
    if command.program == "systemctl":
        named += [("-u", word) for word in words[1:] if not word.startswith("-") and word not in ("KILL",)]
    for option, name in named:
        assert name in TAGS if option == "-t" else is_there(name), f"{name}: neither ours nor known"


def test_the_tags_are_those_that_are_logged_with() -> None:
    sources = "".join(path.read_text("utf-8") for path in (ROOT / "snapshot").rglob("*.py"))
    sources += "".join(path.read_text("utf-8") for path in (ROOT / "vzdump_hooks").rglob("*.py"))
    sources += (ROOT / "contrib/guest/fsfreeze-deadman").read_text("utf-8")
    for tag in TAGS:
        assert tag in sources


def test_the_package_that_a_page_installs_is_the_one_that_is_built() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]
    named = {name for page in PAGES for name in re.findall(r"vzdump-hooks_[\w.]+\.deb", page.read_text("utf-8"))}
    assert named == {f"vzdump-hooks_{version}_all.deb"}
    assert any(command.words[:2] == ("apt", "install") for command in COMMANDS)
