"""The node's own API token: made, its secret put into its file, and nowhere else."""

from __future__ import annotations

import codecs
from pathlib import Path
from typing import NamedTuple

from snapshot.base import files
from snapshot.errors import ReplyLostError, SafeSnapshotError
from snapshot.setup import place
from snapshot.setup.accounts import USER
from snapshot.setup.pve import Pve
from snapshot.setup.record import Entry, Record
from snapshot.setup.rights import join
from snapshot.setup.step import TakenBack

KIND = "token"
MODE = 0o600


def token_id(name: str) -> str:
    """As the API and the token file have it."""
    return f"{USER}!{name}"


def holds(path: Path, name: str) -> bool:
    """Whether the file has this token's secret."""
    return (place.content(path) or b"").removeprefix(codecs.BOM_UTF8).startswith(f"{token_id(name)}=".encode())


class TokenStep(NamedTuple):
    """A token of this node's own. One whose secret nobody has is made anew."""

    pve: Pve
    name: str
    file: Path
    node: str

    @property
    def what(self) -> str:
        """See SetupStep."""
        return f"token {token_id(self.name)}: make it; its secret goes into {self.file}"

    @property
    def _path(self) -> str:
        return f"access/users/{USER}/token/{self.name}"

    @property
    def _params(self) -> dict[str, object]:
        return {"privsep": 0, "comment": f"safe-snapshot setup on {self.node}"}

    def shows(self) -> list[str]:
        """See SetupStep."""
        return [f"{self.pve.shown('POST', self._path, self._params)}   # the secret: into {self.file}, mode 0600"]

    def do(self, record: Record) -> None:
        """See SetupStep."""
        files.sweep(self.file)
        user = self.pve.accounts.user(USER)
        join(record, user)
        if record.find(KIND, self.name) is None:
            record.add(KIND, self.name, file=str(self.file))
        if user is not None and self.name in user.tokens:
            self.pve.change("DELETE", self._path)
        secret = self._new_secret()
        files.replace(self.file, f"{token_id(self.name)}={secret}\n".encode(), MODE, alone=True)

    def _new_secret(self) -> str:
        """The one time that PVE tells it. What it printed is in no message: the secret may be in it."""
        try:
            answer = self.pve.change("POST", self._path, self._params)
        except ReplyLostError:
            answer = None
        secret = answer.get("value") if isinstance(answer, dict) else None
        if not isinstance(secret, str) or not secret.isascii() or not secret.isprintable() or " " in secret:
            raise SafeSnapshotError(
                f"{self.pve.program} did not tell the secret of the token {token_id(self.name)}",
                remedy="run setup again: it makes the token anew",
            )
        return secret


def choose_name(node: str, taken: frozenset[str], ours: str | None) -> str:
    """Of the token: the one of an earlier setup here, else one that nobody has."""
    names = [ours, f"hooks-{node}", *(f"hooks-{node}-{number}" for number in range(2, len(taken) + 3))]
    return next(name for name in names if name and (name == ours or name not in taken))


def take_token_back(pve: Pve, entry: Entry) -> TakenBack:
    """The token goes, and its file when nothing else was put into it."""
    what, path = f"token {token_id(entry.name)}", Path(entry.facts["file"])
    files.sweep(path)
    user = pve.accounts.user(USER)
    if user is not None and entry.name in user.tokens:
        pve.change("DELETE", f"access/users/{USER}/token/{entry.name}")
    if place.content(path) is not None:
        if not holds(path, entry.name):
            return TakenBack(what, f"{path} has another one by now, and stays")
        files.remove(path)
    return TakenBack(what)
