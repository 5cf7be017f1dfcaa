"""Files and folders on this node: put into place with a way back, byte for byte."""

from __future__ import annotations

import base64
import contextlib
import difflib
import hashlib
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from snapshot.base import files
from snapshot.config.reading import read_file
from snapshot.errors import SafeSnapshotError
from snapshot.setup.record import Entry, Record
from snapshot.setup.step import ChangedMeanwhileError, TakenBack

FILE, FOLDER = "file", "folder"

Mend = Callable[[bytes, bytes | None], bytes | None]
"""Of a file that was changed since, and what it was before setup: what it is without our part; None: not known how."""


def content(path: Path) -> bytes | None:
    """What is in the file; None when it is not there. SafeSnapshotError for what is no file that could be kept."""
    try:
        return read_file(path)[0]
    except FileNotFoundError:
        return None
    except OSError as error:
        raise SafeSnapshotError(
            f"{path} cannot be read ({error.strerror})", remedy="look at it, then run again"
        ) from None


class FileStep(NamedTuple):
    """A file gets other bytes, and keeps its mode and owner; or it is made."""

    path: Path
    """Where no link leads elsewhere."""
    before: bytes | None
    after: bytes
    what: str
    mode: int = 0o644
    """Of one that is made."""
    kind: str = FILE

    def shows(self) -> list[str]:
        """See SetupStep."""
        old, new = ((data or b"").decode(errors="replace").splitlines() for data in (self.before, self.after))
        name = str(self.path)
        made = "/dev/null" if self.before is None else name
        lines = list(difflib.unified_diff(old, new, made, name, n=1, lineterm=""))
        return [*lines, *([f"chmod {self.mode:04o} {name}"] if self.before is None else [])]

    def do(self, record: Record) -> None:
        """See SetupStep. The file that is replaced is the one that the plan was made from, or nothing is done."""
        files.sweep(self.path)
        if content(self.path) != self.before:
            raise ChangedMeanwhileError(str(self.path))
        mode, owner = self.mode, None
        if self.before is not None:
            found = os.stat(self.path)
            mode, owner = stat.S_IMODE(found.st_mode), (found.st_uid, found.st_gid)
        record.add(
            self.kind,
            str(self.path),
            before=None if self.before is None else base64.b64encode(self.before).decode(),
            after=_digest(self.after),
        )
        files.replace(self.path, self.after, mode, alone=True, owner=owner)


def put_back(entry: Entry, mend: Mend = lambda _now, _before: None) -> TakenBack:
    """The file as it was before. One that was changed since is left, but for what ``mend`` knows to be ours in it."""
    path = Path(entry.name)
    files.sweep(path)
    now = content(path)
    before = None if entry.facts["before"] is None else base64.b64decode(entry.facts["before"])
    if now == before:
        return TakenBack(entry.name)
    if now is None:
        return TakenBack(entry.name, "it was removed since")
    wanted = before
    if _digest(now) != entry.facts["after"]:
        mended = mend(now, before)
        if mended is None:
            return TakenBack(entry.name, "it was changed since")
        wanted = mended if mended or before is not None else None
    if wanted is None:
        files.remove(path)
    elif wanted != now:
        found = os.stat(path)
        files.replace(path, wanted, stat.S_IMODE(found.st_mode), alone=True, owner=(found.st_uid, found.st_gid))
    return TakenBack(entry.name)


class FolderStep(NamedTuple):
    """A folder is made."""

    path: Path
    mode: int
    what: str

    def shows(self) -> list[str]:
        """See SetupStep."""
        return [f"install -d -m {self.mode:o} {self.path}"]

    def do(self, record: Record) -> None:
        """See SetupStep."""
        record.add(FOLDER, str(self.path))
        umask = os.umask(0)
        try:
            os.mkdir(self.path, self.mode)
        finally:
            os.umask(umask)


class StateStep(NamedTuple):
    """The state folder, in which the record lies: made before anything can be committed."""

    path: Path

    @property
    def what(self) -> str:
        """See SetupStep."""
        return f"{self.path}: make it, for the journal"

    def shows(self) -> list[str]:
        """See SetupStep."""
        return [f"install -d -m 700 {self.path}"]

    def do(self, record: Record) -> None:
        """See SetupStep."""
        os.mkdir(self.path, 0o700)
        record.add(FOLDER, str(self.path))


def take_folder_away(entry: Entry, ours: str = "") -> TakenBack:
    """A folder that was made, unless something is in it by now but the file ``ours``, which a backup has written."""
    try:
        if ours and os.listdir(entry.name) == [ours]:
            files.remove(Path(entry.name) / ours)
        os.rmdir(entry.name)
    except FileNotFoundError:
        pass
    except OSError:
        with contextlib.suppress(OSError):
            return TakenBack(entry.name, f"{', '.join(sorted(os.listdir(entry.name))[:3])} is in it")
        return TakenBack(entry.name, "it cannot be removed")
    return TakenBack(entry.name)


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
