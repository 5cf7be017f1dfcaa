"""What we say, and PVE and the agent as the lab plays them, and the package: every text of the sources."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from tests.docs.written import PVE, ROOT, Command, filled, pieces

SPEAKERS = ("snapshot", "vzdump_hooks", "tests/lab", "contrib/debian")
"""Who says them: we, PVE and the agent as the lab plays them, and the package."""


def said() -> Iterator[str]:
    """Every text of the sources; what is filled in stands as a line feed."""
    for folder in SPEAKERS:
        for path in sorted((ROOT / folder).rglob("*")):
            if path.suffix == ".py":
                for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                    if isinstance(node, ast.JoinedStr):
                        yield "".join(
                            str(part.value) if isinstance(part, ast.Constant) else "\n" for part in node.values
                        )
                    elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                        yield node.value
            elif folder == "contrib/debian" and path.is_file():
                yield path.read_text("utf-8")


TEXTS = list(said())


def _commands() -> Iterator[Command]:
    for text in TEXTS:
        for span in re.findall(r"`([^`]+)`", text):
            line = filled(re.sub(r"\n|\{[\w.]+\}", "100", re.sub(r"( --[\w -]+) \n$", r"\1", span)))
            if line.split(" ", maxsplit=1)[0] in PVE and " " in line:
                for words in pieces(line):
                    if words[0] in PVE and words[1:2] != ["x"]:
                        yield Command("a message", line, tuple(words), is_whole=False)


COMMANDS_OF_MESSAGES = list({command.words: command for command in _commands()}.values())
"""Proxmox VE's commands that messages and remedies name; what is filled in is 100."""
