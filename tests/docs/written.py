"""The command lines that the pages show, taken apart: whose program it is, and its words.

A line is a command where its first word is a program of the table below: in a block of code, or as a piece of code in a
sentence. What stands behind three blanks or a ``#`` explains it. ``<vmid>`` and the like stand for something of the
reader's. A block that is marked ``sh`` holds commands and nothing else.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted(ROOT.glob("docs/**/*.md"))]

OURS = {"safe-snapshot", "vzdump-hook"}
PVE = {"qm", "pct", "vzdump", "pvesh", "pveum", "pvecm", "pvesm", "pvesr", "ha-manager", "pvenode", "pve8to9"}
"""Proxmox VE's own: they need a node. Their options are checked against PVE's own tables: pve_options.json."""
SYSTEM = {
    "apt", "cat", "chmod", "chronyc", "dpkg", "du", "echo", "eval", "findmnt", "for", "fsfreeze", "fsutil", "grep",
    "install", "journalctl", "ln", "ls", "lvs", "make", "mv", "pveversion", "python3", "rm", "sed", "setsebool", "sh",
    "sqlite3", "systemctl", "systemd-analyze", "systemd-run", "tail", "timedatectl", "touch", "vssadmin", "zfs",
}  # fmt: skip
"""The system's: a shell must understand the line, no more is tested."""
STANDS_FOR = {
    "vmid": "100",
    "node": "pve1",
    "storage": "local",
    "name": "s1",
    "user": "guard@pve",
    "group": "shop",
    "snapshot": "s1",
}


@dataclass(frozen=True)
class Command:
    """One command of a page."""

    page: str
    line: str
    """The whole line that it stands in, without what explains it."""
    words: tuple[str, ...]
    is_whole: bool
    """It stands in a block: nothing is left out."""

    @property
    def program(self) -> str:
        """The first word."""
        return self.words[0]

    def __str__(self) -> str:
        return f"{self.page}: {' '.join(self.words)}"


def filled(line: str) -> str:
    """With something in the place of each ``<...>``."""
    return re.sub(r"<([a-z ]+)>", lambda found: STANDS_FOR.get(found[1], "x"), line)


def explained(line: str) -> str:
    """The line without its prompt and without what explains it."""
    line = re.sub(r"^ *[#$] (?=[a-z])", "", line).strip()
    return re.split(r"   +|\s+# ", line)[0]


def pieces(line: str) -> list[list[str]]:
    """The words of each command of a line: ``a && b`` has two."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    lexer.commenters = ""
    found: list[list[str]] = [[]]
    for word in lexer:
        if word and not word.strip("&|;"):
            found.append([])
        else:
            found[-1].append(word)
    return [words for words in found if words]


def blocks(text: str) -> list[tuple[str, list[str]]]:
    """The blocks of code of a page, each with its mark: fenced ones, and the indented ones of the runbooks."""
    fenced = re.findall(r"(?ms)^ *```(\w*)\n(.*?)^ *```", text)
    indented = re.findall(r"(?m)^\n((?: {4,}\S.*\n)+)", re.sub(r"(?ms)^ *```.*?^ *```", "", text))
    return [(mark, body.splitlines()) for mark, body in [*fenced, *(("", one) for one in indented)]]


def spans(text: str) -> list[str]:
    """The pieces of code in its sentences."""
    return re.findall(r"(?<!`)`([^`\n]+)`(?!`)", re.sub(r"(?ms)^ *```.*?^ *```", "", text))


def is_command(line: str) -> bool:
    """Whether a line begins with a program that is known."""
    return line.split(" ", maxsplit=1)[0] in OURS | PVE | SYSTEM


def commands_of(page: Path) -> list[Command]:
    """All commands of a page, in no order."""
    text, name = page.read_text("utf-8"), str(page.relative_to(ROOT))
    lines = [(explained(line), True) for mark, body in blocks(text) if mark in ("", "sh") for line in body]
    lines += [(span, False) for span in spans(text) if " " in span]
    found = []
    for line, is_whole in lines:
        if is_command(line):
            plain = filled(line)
            found += [Command(name, plain, tuple(words), is_whole) for words in pieces(plain)]
    return found


COMMANDS = [command for page in PAGES for command in commands_of(page)]


def by(programs: set[str]) -> list[Command]:
    """Those of these programs, each line of words once."""
    unique = {command.words: command for command in COMMANDS if command.program in programs}
    return list(unique.values())
