"""What setup has changed on this node, or was about to change: committed to disk before each change.

Whatever dies, the record says what may have been done: a second setup goes on, ``--undo`` takes it back. It holds what
files were before, and no secret.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from snapshot.base import files
from snapshot.base.clock import Clock
from snapshot.config.reading import read_file
from snapshot.errors import SafeSnapshotError

NAME = "setup.json"
VERSION = 1
TURN_SECONDS = 60.0
"""How long to wait for another setup: for one that was killed, until the program that it had started has ended."""
LOOK_SECONDS = 0.1


class Entry(NamedTuple):
    """One change: of what kind, of which thing, and what its end takes to know."""

    kind: str
    name: str
    facts: Mapping[str, Any]


_TEXT, _TEXTS, _PERHAPS = (str,), (list,), (str, type(None))
FACTS: Mapping[str, Mapping[str, tuple[type, ...]]] = {
    "file": {"before": _PERHAPS, "after": _TEXT},
    "script": {"before": _PERHAPS, "after": _TEXT},
    "folder": {},
    "unit": {},
    "token": {"file": _TEXT},
    "role": {"before": (list, type(None)), "privileges": _TEXTS},
    "user": {},
    "right": {},
    "job": {"script": _TEXT},
}
"""What an entry of each kind tells. A kind that is not here is a later version's, and left to it (back.py)."""


def _checked(entry: Entry) -> Entry:
    """The entry. ValueError for one that no setup has written: what it says would be done all the same."""
    wanted = FACTS.get(entry.kind, {}) if isinstance(entry.kind, str) else {}
    texts: list[object] = [entry.kind, entry.name]
    for key, types in wanted.items():
        value = entry.facts.get(key, 0)
        if not isinstance(value, types):
            raise ValueError(f"{key} of a change is odd")
        texts += value if isinstance(value, list) else [value] if value is not None else []
    if not all(isinstance(text, str) and "\0" not in text for text in texts):
        raise ValueError("a name in it is none")
    if entry.kind in ("file", "script", "folder") and not entry.name.startswith("/"):
        raise ValueError("a file in it has no absolute name")
    if "before" in wanted and isinstance(entry.facts["before"], str):
        base64.b64decode(entry.facts["before"], validate=True)
    return entry


class Record:
    """The entries, oldest first. Every change of them is on disk when the call returns; OSError when it is not."""

    def __init__(self, path: Path, entries: list[Entry]) -> None:
        self.path = path
        self.entries = entries

    @classmethod
    def open(cls, path: Path) -> Record:
        """The record as the last setup left it. SafeSnapshotError when it cannot be read as one."""
        try:
            raw, _ = read_file(path)
            tree = json.loads(raw)
            if tree["version"] != VERSION:
                raise ValueError(f"its version is {tree['version']!r:.20}")
            entries = [_checked(Entry(e["kind"], e["name"], dict(e["facts"]))) for e in tree["entries"]]
        except FileNotFoundError:
            entries = []
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise SafeSnapshotError(
                f"what an earlier setup has changed cannot be read in {path} ({error})",
                remedy="nothing was changed now; move the file away to begin anew, without a way back",
            ) from None
        return cls(path, entries)

    def add(self, kind: str, name: str, **facts: object) -> None:
        """Commit what is about to be done."""
        self.entries.append(Entry(kind, name, facts))
        self._commit()

    def drop(self, entry: Entry) -> None:
        """Commit that this change is no more. The file goes with the last one."""
        self.entries.remove(entry)
        self._commit()

    def find(self, kind: str, name: str | None = None) -> Entry | None:
        """The newest entry of that kind and name."""
        found = (e for e in reversed(self.entries) if e.kind == kind and name in (None, e.name))
        return next(found, None)

    def _commit(self) -> None:
        if not self.entries:
            files.remove(self.path)
            return
        tree = {"version": VERSION, "entries": [entry._asdict() for entry in self.entries]}
        files.replace(self.path, json.dumps(tree, indent=1).encode(), 0o600, alone=True)


@contextlib.contextmanager
def turn(folder: Path, clock: Clock) -> Iterator[int]:
    """The only setup on this node meanwhile. SafeSnapshotError when another one is at work and does not end.

    ``folder`` is any that is always there: nothing is written to it. The descriptor is the lock; a program that
    inherits it holds the turn until it has ended, whatever became of us.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        deadline = clock.monotonic() + TURN_SECONDS
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if clock.monotonic() >= deadline:
                    raise SafeSnapshotError(
                        "another `safe-snapshot setup` is at work on this node", remedy="wait for its end"
                    ) from None
                clock.sleep(LOOK_SECONDS)
        yield descriptor
    finally:
        os.close(descriptor)
