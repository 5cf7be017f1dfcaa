"""What the disks in a snapshot say, as lines for a person and as JSON."""

from __future__ import annotations

from collections.abc import Mapping

from snapshot.base.text import clean
from snapshot.disk.verify import Verified
from snapshot.disk.word import FilesystemWord
from snapshot.model import Guest

_WIDTH = 80


def verified_lines(guest: Guest, snapshot: str, found: Verified) -> list[str]:
    """A block for each filesystem, then the word of all; no line longer than 80 columns."""
    lines: list[str] = []
    for one in found.filesystems:
        name = clean(f"{one.where}{f' ({one.kind})' if one.kind else ''}", 60)
        lines += [f"{name}: {_word(one)}", *_wrapped(one.reason)]
    return [*lines, f"guest {guest.vmid} {clean(snapshot, 40)}: {found.word.word.value}"]


def verified_data(guest: Guest, snapshot: str, found: Verified) -> Mapping[str, object]:
    """JSON's keys."""
    return {
        "guest": guest,
        "snapshot": snapshot,
        "word": found.word.word,
        "reason": clean(found.word.reason),
        "filesystems": [
            {
                "where": clean(one.where, 160),
                "kind": one.kind,
                "word": one.word,
                "reason": clean(one.reason),
                "set_aside": one.is_set_aside,
            }
            for one in found.filesystems
        ],
    }


def _word(one: FilesystemWord) -> str:
    return "set aside" if one.is_set_aside else one.word.value


def _wrapped(text: str) -> list[str]:
    lines, line = [], " "
    for word in clean(text).split():
        if len(line) + 1 + len(word) > _WIDTH and line.strip():
            lines.append(line)
            line = " "
        line = f"{line} {word[: _WIDTH - 3]}"
    return [*lines, line]
