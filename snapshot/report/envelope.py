"""The one JSON object of every command: a frame that all share, around keys of the command's own.

Whatever is printed as JSON is built here. docs/json-schema.json describes it, docs/json.md explains it.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from snapshot.errors import Failure, InterruptedBySignalError, SafeSnapshotError
from snapshot.model import Upid

if TYPE_CHECKING:
    from snapshot.take.request import Result

VERSION = 2
"""Raised when a key changes its meaning or goes; new keys do not raise it."""


@dataclass(frozen=True)
class Envelope:
    """What came of a command: its own keys, and an error wherever the exit code is not 0."""

    command: str | None
    """None where the command line does not tell which."""
    data: Mapping[str, object] = field(default_factory=lambda: MappingProxyType({}))
    """The command's own keys: all of them, or none where it ended before it had anything to tell."""
    warnings: tuple[str, ...] = ()
    error: Failure | None = None

    @property
    def exit_code(self) -> int:
        """0, or the error's."""
        return self.error.exit_code if self.error is not None else 0

    def render(self) -> str:
        """The object, for the eye too."""
        return json.dumps(plain({**self._head(), **self.data, **self._tail()}), indent=2, ensure_ascii=True)

    def stream(self, key: str, items: Iterable[object], write: Callable[[str], object]) -> int:
        """Write the object with a list ``key`` that need not fit into memory; the exit code.

        Nothing is written before the first item was read, so an error until then is the caller's. One that comes later
        ends the list, and stands behind it: what was written is an object whatever happens.
        """
        frame, rest = self, iter(items)
        first = list(itertools.islice(rest, 1))
        write(f"{json.dumps(plain({**self._head(), **self.data}))[:-1]}, {json.dumps(key)}: [")
        try:
            for piece in _separated(itertools.chain(first, rest)):
                write(piece)
        except (SafeSnapshotError, InterruptedBySignalError) as error:
            frame = replace(self, error=error)
        write(f"\n], {json.dumps(plain(frame._tail()))[1:]}\n")
        return frame.exit_code

    def _head(self) -> dict[str, object]:
        return {"version": VERSION, "command": self.command}

    def _tail(self) -> dict[str, object]:
        return {
            "warnings": list(dict.fromkeys(self.warnings)),
            "error": error_data(self.error),
            "exit_code": self.exit_code,
        }


def result_data(result: Result) -> dict[str, object]:
    """The own keys of `take`."""
    return {
        "vmid": result.vmid,
        "guest": result.guest,
        "snapshot": result.name,
        "snapshot_exists": result.snapshot_exists,
        "policy": result.policy,
        "plan": result.plan or None,
        "checks": result.checks,
        "window": {
            "id": result.window_id,
            **result.times._asdict(),
            "window_seconds": result.times.window_seconds,
        },
        "freeze": result.freeze,
        "proof": result.proof,
        "thaw": result.thaw,
        "upid": result.upid,
        "task": result.task,
        "verdict": result.verdict,
        "disk": result.disk,
    }


def error_data(error: Failure | None) -> dict[str, object] | None:
    """The key ``error``, of a command and of one guest among many."""
    if error is None:
        return None
    return {"code": error.code, "message": error.message, "remedy": error.remedy, "exit_code": error.exit_code}


def _separated(items: Iterable[object]) -> Iterator[str]:
    separator = "\n"
    for item in items:
        yield separator + json.dumps(plain(item))
        separator = ",\n"


def plain(value: object) -> object:
    """``value`` as JSON knows it."""
    if isinstance(value, Upid):
        return value.text
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return plain(value._asdict())
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if isinstance(value, Path):
        return str(value)
    return value
