"""Proxmox VE's own words for its commands, and whether a command of the pages keeps to them.

The words are data in pve_options.json, taken from Proxmox VE's own modules by pve_options.pl. To take them anew, on a
node or where its modules are: ``python -m tests.docs.options paths | perl pve_options.pl >all.json``, then ``python -m
tests.docs.options all.json``.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.docs.said import COMMANDS_OF_MESSAGES
from tests.docs.written import PVE, by

TABLE = Path(__file__).with_name("pve_options.json")
HOW = "tests/docs/options.py says how to take it anew"
OWN_FORMATS = {"agent", "fleecing", "prune-backups"}
MOST_CHOICES = 40
NAMED = [*by(PVE), *COMMANDS_OF_MESSAGES]
USUAL = {
    "qm": "config delsnapshot guest list listsnapshot migrate move-disk pending rollback shutdown snapshot start",
    "pct": "config delsnapshot list listsnapshot pending rollback set shutdown snapshot start",
    "pvesm": "list path status",
    "pvesr": "disable enable list run schedule-now status",
    "pvenode": "task",
    "ha-manager": "config set status",
    "pveum": "acl role user",
    "pvecm": "status updatecerts",
}
"""Kept beside what the pages show today: what an operator's page is likely to name next."""


def name_of(words: Sequence[str], commands: dict[str, Any]) -> str:
    """The longest beginning of the words that is a command's name; empty where there is none."""
    names = (" ".join(words[:count]) for count in range(len(words), 0, -1))
    return next((name for name in names if name in commands), "")


def alias_of(name: str, commands: dict[str, Any]) -> str:
    """What an alias stands for: it counts from the program, or from the group that it stands in."""
    words = name.split()
    return next(
        full for above in (words[:1], words[:-1]) if (full := " ".join([*above, commands[name]["alias"]])) in commands
    )


def api_word(words: Sequence[str]) -> str:
    """What pvesh asks of which path, with the same names in each; empty for what is no call."""
    if words[0] != "pvesh" or len(words) < 3:
        return ""
    path = re.sub(r"^/nodes/[^/]+", "/nodes/pve1", words[2])
    path = re.sub(r"/(backup|tasks)/[^/]+", r"/\1/x", path)
    return f"{words[1]} {path}"


def problem(words: Sequence[str], is_whole: bool, table: dict[str, Any]) -> str:
    """What Proxmox VE would not understand, empty where it understands all."""
    commands = table["commands"]
    name = name_of(words, commands)
    if not name:
        return f"there is no such command: {' '.join(words)} ({TABLE.name} has those of the pages, {HOW})"
    found = commands[name]
    if "alias" in found:
        words = [*alias_of(name, commands).split(), *words[len(name.split()) :]]
        name = name_of(words, commands)
        found = commands[name]
    rest = list(words[len(name.split()) :])
    options = set(found["options"])
    if words[0] == "pvesh":
        if (word := api_word(words)) not in table["api"]:
            return f"nothing in the API: {word} ({HOW})"
        options |= set(table["api"][word])
    arguments: list[str] = []
    while rest:
        word = rest.pop(0)
        if not word.startswith("--"):
            arguments.append(word)
            continue
        option, _, value = word[2:].partition("=")
        if option not in options:
            return f"{name} has no option --{option}"
        if not value and rest and not rest[0].startswith("--"):
            value = rest.pop(0)
        if fault := _wrong_value(option, value, found, table):
            return f"{name} --{option}: {fault}"
    if len(arguments) > len(found["arguments"]) and name != "vzdump":
        return f"{name} takes {found['arguments']}, not {arguments}"
    if is_whole and len(arguments) < found["needed"]:
        return f"{name} needs {found['arguments']}"
    for argument, value in zip(found["arguments"], arguments, strict=False):
        if fault := _wrong_value(argument, value, found, table):
            return f"{name}: {fault}"
    return ""


def _wrong_value(option: str, value: str, found: dict[str, Any], table: dict[str, Any]) -> str:
    choices = found.get("choices", {}).get(option)
    if choices and value and value not in choices:
        return f"{value} is none of {choices}"
    keys = table["formats"].get(option)
    wrong = [part for part in value.split(",") if "=" in part and part.split("=")[0] not in keys] if keys else []
    return f"{wrong} is none of {keys}" if wrong else ""


def trimmed(everything: dict[str, Any]) -> dict[str, Any]:
    """What the pages need of all that there is."""
    commands = everything["commands"]
    wanted = {name_of(command.words, commands) for command in NAMED} - {""}
    for program, usual in USUAL.items():
        wanted |= {name for name in commands if name.startswith(tuple(f"{program} {word}" for word in usual.split()))}
    wanted |= {alias_of(name, commands) for name in wanted if "alias" in commands[name]}
    kept = {name: dict(commands[name]) for name in sorted(wanted)}
    for found in kept.values():
        few = {key: words for key, words in found.get("choices", {}).items() if len(words) <= MOST_CHOICES}
        if found.pop("choices", None) is not None and few:
            found["choices"] = few
    formats = {name: everything["formats"][name] for name in sorted(OWN_FORMATS)}
    return {"commands": kept, "formats": formats, "api": everything["api"]}


def main() -> None:
    """``paths``: what pvesh is asked for, for pve_options.pl. Else a file of it, which is trimmed and kept."""
    if sys.argv[1] == "paths":
        print(*sorted({word for command in NAMED if (word := api_word(command.words))}), sep="\n")
        return
    table = trimmed(json.loads(Path(sys.argv[1]).read_text("utf-8")))
    old = json.loads(TABLE.read_text("utf-8")) if TABLE.exists() else {}
    rows = [f'"read_in": {json.dumps(old.get("read_in", ""))}']
    for part, words in table.items():
        lines = ",\n".join(f"  {json.dumps(name)}: {json.dumps(value)}" for name, value in words.items())
        rows.append(f'"{part}": {{\n{lines}\n}}')
    TABLE.write_text("{\n" + ",\n".join(rows) + "\n}\n", "utf-8")


if __name__ == "__main__":
    main()
