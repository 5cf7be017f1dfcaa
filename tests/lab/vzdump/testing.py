"""For tests of hooks: a small shell hook that records how vzdump called it, and jobs on short time limits."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.lab.vzdump.job import VzdumpJob
from tests.lab.vzdump.options import JobOptions, Limits

# The backup job is looked at more often than once a second; PVE's own limits stay as they are.
QUICK = Limits(poll=0.05)
# For guests that are known not to answer: three seconds of ping would teach nothing.
IMPATIENT = Limits(poll=0.05, ping=0.3)

_SCRIPT = """#!/bin/sh
here='{folder}/calls'
number=$(ls "$here" | wc -l)
call=$here/$(printf %03d "$number")
mkdir "$call"
cat /proc/$$/environ >"$call/environment"
printf '%s\\n' "$@" >"$call/arguments"
{body}
"""


@dataclass(frozen=True)
class Call:
    """One call of the hook. ``environment`` is the whole of it, values with surrogate escapes."""

    arguments: tuple[str, ...]
    environment: dict[str, str]
    folder: Path

    @property
    def phase(self) -> str:
        return self.arguments[0]


class RecordingHook:
    """A hook script in ``folder``. ``body`` is shell that runs after the recording, with the phase as ``$1``."""

    def __init__(self, folder: Path, body: str = "") -> None:
        self.folder = folder
        (folder / "calls").mkdir(parents=True)
        self.path = folder / "hook"
        self.path.write_text(_SCRIPT.format(folder=folder, body=body))
        self.path.chmod(0o755)

    @property
    def calls(self) -> list[Call]:
        found = []
        for folder in sorted((self.folder / "calls").iterdir()):
            raw = (folder / "environment").read_bytes().decode("utf-8", "surrogateescape")
            environment = dict(pair.split("=", 1) for pair in raw.removesuffix("\0").split("\0"))
            found.append(Call(tuple((folder / "arguments").read_text().splitlines()), environment, folder))
        return found

    @property
    def phases(self) -> list[str]:
        return [call.phase for call in self.calls]

    def call(self, phase: str) -> Call:
        """The first call of a phase. Raises LookupError."""
        for call in self.calls:
            if call.phase == phase:
                return call
        raise LookupError(f"the hook was never called for {phase}; there were: {self.phases}")


@dataclass(frozen=True)
class Bench:
    """A node's root and the guests' sockets, both in short temporary folders."""

    root: Path
    run: Path

    def hook(self, body: str = "") -> RecordingHook:
        number = len(list(self.root.glob("hook-*")))
        return RecordingHook(self.root / f"hook-{number}", body)

    def job(self, hook: RecordingHook | None = None, **options: Any) -> VzdumpJob:
        """A job for guest 100, not started, unless ``options`` (fields of JobOptions) say otherwise."""
        script = str(hook.path) if hook is not None else None
        defaults = JobOptions(self.root, self.run, (100,), script, limits=QUICK)
        return VzdumpJob(dataclasses.replace(defaults, **options))
