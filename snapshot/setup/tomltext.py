"""A key of a TOML file set in its text: comments, order and everything else stay, and what comes out is read again."""

from __future__ import annotations

import json
import re
import tomllib
from typing import Any

_MARK = "\ufeff"
"""A byte order mark, as some editors put it in front of a file: it stays there."""


def set_key(text: str, table: str, key: str, value: str) -> str | None:
    """The text with ``key`` of ``[table]`` set to a string; None where that cannot be done without a person.

    In the place of the key, else of its commented example, else at the table's beginning, else in a table at the end.
    """
    mark = _MARK if text.startswith(_MARK) else ""
    done = mark + _set(text.removeprefix(mark), table, key, f"{key} = {json.dumps(value, ensure_ascii=False)}")
    return done if _differs_only(text, done, table, key, value) else None


def _set(text: str, table: str, key: str, line: str) -> str:
    lines = text.splitlines(keepends=True)
    begin = next((number for number, one in enumerate(lines, 1) if _header(one) == table), None)
    if begin is None:
        gap = "" if not text else "\n" if text.endswith("\n") else "\n\n"
        return f"{text}{gap}[{table}]\n{line}\n"
    end = next((n for n, one in enumerate(lines[begin:], begin) if _header(one) is not None), len(lines))
    return "".join(_placed(lines, begin, end, key, line))


def _placed(lines: list[str], begin: int, end: int, key: str, line: str) -> list[str]:
    for pattern in (rf"\s*{key}\s*=", rf"\s*#\s*{key}\s*="):
        for number in range(begin, end):
            if re.match(pattern, lines[number]):
                return [*lines[:number], f"{line}\n", *lines[number + 1 :]]
    ended = lines[begin - 1] if lines[begin - 1].endswith("\n") else f"{lines[begin - 1]}\n"
    return [*lines[: begin - 1], ended, f"{line}\n", *lines[begin:]]


def _header(line: str) -> str | None:
    found = re.match(r"\s*\[{1,2}\s*([^\]#]+?)\s*\]", line)
    return found[1] if found else None


def _differs_only(old: str, new: str, table: str, key: str, value: str) -> bool:
    """Whether the two say the same but for this one key."""
    try:
        before, after = _tree(old), _tree(new)
    except (ValueError, RecursionError):
        return False
    held = before.get(table, {})
    return isinstance(held, dict) and after == {**before, table: {**held, key: value}}


def _tree(text: str) -> dict[str, Any]:
    return tomllib.loads(text.removeprefix(_MARK))
