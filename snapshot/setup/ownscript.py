"""A script that vzdump has called so far: what it is, and its copy in the folder of own commands."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from snapshot.base.files import open_regular
from snapshot.base.text import clean
from snapshot.commands.folder import counts
from snapshot.setup.place import FileStep

MOST_BYTES = 16 << 20
"""Of a script: one that is larger is moved by hand."""

MODE = 0o755


class OwnScript(NamedTuple):
    """A script as vzdump would find it now."""

    name: str
    """As it is configured, fit to be shown."""
    data: bytes | None = None
    """None: there is none, or none that can be moved; ``problem`` says which."""
    problem: str = ""
    notes: tuple[str, ...] = ()

    @property
    def can_be_replaced(self) -> bool:
        """Whether ours may stand in its place: it is copied, or vzdump could not have called it either."""
        return not self.problem


def look(name: bytes) -> OwnScript:
    """The script of that name."""
    shown = clean(name.decode(errors="replace"), 200)
    if not name.startswith(b"/") or b"\0" in name:
        return OwnScript(shown, problem="it is no absolute path: move it by hand")
    path = Path(os.fsdecode(name))
    try:
        with open_regular(path) as file:
            data = file.read(MOST_BYTES + 1)
    except FileNotFoundError:
        return OwnScript(shown, notes=(f"{shown} does not exist: no backup with it could begin",))
    except OSError as error:
        return OwnScript(shown, problem=f"it cannot be read ({error.strerror})")
    if len(data) > MOST_BYTES:
        return OwnScript(shown, problem="it is too large to be a script: move it by hand")
    if b"vzdump-hook" in data.replace(b"vzdump-hook-script", b""):
        return OwnScript(
            shown, problem="it calls vzdump-hook itself, and what it does behind that is done with the guest frozen"
        )
    notes = []
    if b"got unknown phase" in data:
        notes.append(
            f"{shown} fails in phases that it does not know: docs/commands.md#phases has the line that mends it"
        )
    if not os.access(path, os.X_OK):
        notes.append(f"{shown} could not be executed, so no backup with it could begin; its copy can be")
    return OwnScript(shown, data, notes=tuple(notes))


def copy_of(script: OwnScript, folder: Path, planned: Sequence[FileStep]) -> FileStep | None:
    """Its copy in the folder of own commands; None where the same stands there, or is planned to."""
    assert script.data is not None
    there = {step.path: step.after for step in planned if step.path.parent == folder}
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if path.is_file() and path.stat().st_size <= MOST_BYTES:
            there.setdefault(path, path.read_bytes())
    if any(data == script.data and counts(path.name) for path, data in there.items()):
        return None
    name = re.sub(r"[^A-Za-z0-9_.-]", "-", os.path.basename(script.name))
    names = (f"10-{name}{end}" for end in ("", "-hook", *(f"-{number}" for number in range(2, len(there) + 4))))
    path = next(folder / one for one in names if counts(one) and folder / one not in there)
    return FileStep(path, None, script.data, f"{path}: a copy of {script.name}", MODE)
