"""/etc/vzdump.conf as PVE reads it (PVE::JSONSchema, parse_config), and its ``script:``. Every other byte stays.

A line is what stands between line feeds; white space around it does not count, a ``#`` in front makes it a comment, and
of two lines with one key the last one counts.
"""

from __future__ import annotations

import re

_SPACE = b" \t\r\f\v"
_LINE = re.compile(rb"[^\n]*\n|[^\n]+")
_SCRIPT = re.compile(rb"(?P<key>[ \t\r\f\v]*script:[ \t\r\f\v]*)(?P<value>[^\n]*?)(?P<rest>[ \t\r\f\v]*\n?)\Z")


def script(raw: bytes) -> bytes:
    """The script of the file; empty when there is none: vzdump takes an empty one, and 0, for none too."""
    at = _last(_lines(raw))
    value = b"" if at is None else _parts(_lines(raw)[at])["value"]
    return b"" if value == b"0" else value


def with_script(raw: bytes, path: bytes) -> bytes:
    """The same file with this script: in the line that counts now, else in a line of its own at the end."""
    lines = _lines(raw)
    at = _last(lines)
    if at is None:
        end = b"" if not raw or raw.endswith(b"\n") else b"\n"
        return raw + end + b"script: " + path + b"\n"
    parts = _parts(lines[at])
    key = parts["key"] if parts["key"][-1:] in _SPACE else parts["key"] + b" "
    lines[at] = key + path + parts["rest"]
    return b"".join(lines)


def without(raw: bytes, ours: bytes, before: bytes | None) -> bytes | None:
    """A file that others have changed since, without our script: with the one that ``before`` had, or without any.
    None when it does not name ours any more.
    """
    if script(raw) != ours:
        return None
    lines, earlier = _lines(raw), _lines(before or b"")
    had = _last(earlier)
    if had is not None:
        return with_script(raw, _parts(earlier[had])["value"])
    at = _last(lines)
    return b"".join(line for number, line in enumerate(lines) if number != at)


def _lines(raw: bytes) -> list[bytes]:
    return _LINE.findall(raw)


def _last(lines: list[bytes]) -> int | None:
    found = [number for number, line in enumerate(lines) if _SCRIPT.match(line)]
    return found[-1] if found else None


def _parts(line: bytes) -> dict[str, bytes]:
    found = _SCRIPT.match(line)
    assert found is not None
    return found.groupdict()
